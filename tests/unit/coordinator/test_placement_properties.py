"""Placement: all of a job's nodes or none, never more than a node has, by priority, and always a sentence."""

from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.jobs.placement import Capacity, Request, place
from node_agent.runner.accelerators import chosen
from node_agent.runner.devices import Gpu

GIB = 1 << 30
PLACES = ("FR", "DE", "KE", "BR")
SEATS = [(f"m{member}", f"m{member}-{node}") for member in range(6) for node in range(2)]


@st.composite
def nodes(draw):
    return [
        Capacity(
            member=member,
            node=node,
            jurisdiction=PLACES[int(member[1:]) % len(PLACES)],
            connected=draw(st.booleans() | st.just(True)),
            gpus=tuple(draw(st.lists(st.sampled_from([8 * GIB, 16 * GIB, 80 * GIB]), max_size=4))),
            cpus=draw(st.integers(0, 8)),
            memory=draw(st.integers(0, 8)) * GIB,
            slices=tuple(draw(st.lists(st.sampled_from([10 * GIB, 20 * GIB]), max_size=3))),
        )
        for member, node in draw(st.lists(st.sampled_from(SEATS), unique=True))
    ]


@st.composite
def requests(draw):
    count = draw(st.integers(0, 5))
    least = [draw(st.integers(3, 5)) for _ in range(count)]
    return [
        Request(
            job=f"job-{sequence}",
            priority=draw(st.integers(-1, 1)),
            sequence=sequence,
            gpus=draw(st.integers(0, 2)),
            gpu_memory=draw(st.sampled_from([0, 16 * GIB])),
            cpus=draw(st.integers(1, 4)),
            memory=draw(st.integers(0, 4)) * GIB,
            min_members=least[sequence],
            max_members=least[sequence] + draw(st.integers(0, 3)),
            min_jurisdictions=draw(st.integers(1, 3)),
            consented=tuple(draw(st.lists(st.sampled_from(SEATS), unique=True))),
        )
        for sequence in range(count)
    ]


@settings(deadline=None, max_examples=200)
@given(nodes(), requests())
def test_a_job_gets_all_that_it_asks_for_or_nothing(offered, asked):
    decision = place(offered, asked)
    where = {(node.member, node.node): node for node in offered}
    for request in asked:
        seats = decision.placements.get(request.job)
        assert seats is None or seats
        if not seats:
            continue
        assert set(seats) <= set(request.consented)
        assert all(where[seat].connected for seat in seats)
        assert max(Counter(member for member, _node in seats).values()) == 1
        assert list(seats) == sorted(seats)
        assert request.min_members <= len(seats) <= request.max_members
        assert len({where[seat].jurisdiction for seat in seats}) >= request.min_jurisdictions


@settings(deadline=None, max_examples=200)
@given(nodes(), requests())
def test_no_node_is_asked_for_more_than_it_has(offered, asked):
    decision = place(offered, asked)
    by_job = {request.job: request for request in asked}
    for node in offered:
        here = [by_job[job] for job, seats in decision.placements.items() if (node.member, node.node) in seats]
        assert sum(request.cpus for request in here) <= node.cpus
        assert sum(request.memory for request in here) <= node.memory
        wanted = [(request.gpu_memory, request.gpus > 1) for request in here for _ in range(request.gpus)]
        assert fit([need for need, _ in wanted], node.gpus + node.slices)
        assert fit([need for need, several in wanted if several], node.gpus), "two slices do not make two GPUs"


def fit(wanted, held):
    most = sorted(held, reverse=True)
    return len(wanted) <= len(most) and all(a <= b for a, b in zip(sorted(wanted, reverse=True), most, strict=False))


@settings(deadline=None, max_examples=300)
@given(nodes(), requests(), st.randoms(use_true_random=False))
def test_a_node_finds_the_cards_that_the_coordinator_counted(offered, asked, random):
    """The coordinator counts, and names none; each node chooses by itself, in the order in which jobs start there."""
    decision = place(offered, asked)
    by_job = {request.job: request for request in asked}
    for node in offered:
        sizes = [(size, False) for size in node.gpus] + [(size, True) for size in node.slices]
        random.shuffle(sizes)
        cards = [Gpu(index, "X", size, is_slice=part) for index, (size, part) in enumerate(sizes)]
        taken = set()
        for job, seats in decision.placements.items():
            request = by_job[job]
            if (node.member, node.node) in seats and request.gpus:
                got = chosen(cards, taken, request.gpus, request.gpu_memory)
                assert len(got) == request.gpus
                taken |= set(got)


@settings(deadline=None, max_examples=200)
@given(nodes(), requests())
def test_every_job_has_one_sentence(offered, asked):
    decision = place(offered, asked)
    assert set(decision.explanations) == {request.job for request in asked}
    for request in asked:
        sentence = decision.explanations[request.job]
        assert sentence
        assert "\n" not in sentence
        assert sentence.startswith("runs" if request.job in decision.placements else "waits")


@settings(deadline=None, max_examples=200)
@given(nodes(), requests())
def test_nothing_later_or_lower_changes_what_goes_first(offered, asked):
    """Priority, then first come: a job's placement is the same whatever stands behind it."""
    order = sorted(asked, key=lambda request: (-request.priority, request.sequence))
    whole = place(offered, asked).placements
    for end in range(1, len(order) + 1):
        ahead = place(offered, order[:end]).placements
        job = order[end - 1].job
        assert ahead.get(job) == whole.get(job)


@settings(deadline=None, max_examples=100)
@given(nodes(), requests(), st.randoms(use_true_random=False))
def test_the_order_of_the_lists_does_not_matter(offered, asked, random):
    before = place(offered, asked)
    random.shuffle(offered)
    random.shuffle(asked)
    assert place(offered, asked) == before


@settings(deadline=None, max_examples=200)
@given(nodes(), requests())
def test_a_job_that_nothing_could_run_holds_nobody_up(offered, asked):
    possible = [request for request in asked if place(offered, [request]).placements]
    assert place(offered, asked).placements == place(offered, possible).placements


def three(cpus):
    return [Capacity(f"m{place}", f"m{place}-0", PLACES[place], True, (), cpus, GIB) for place in range(3)]


def asking(name, sequence, cpus, gpus=0):
    return Request(name, 0, sequence, gpus, 0, cpus, 0, 3, 3, 1, tuple((f"m{n}", f"m{n}-0") for n in range(3)))


def test_a_job_for_which_nodes_are_busy_keeps_its_place_and_one_that_is_too_large_does_not():
    busy, idle = three(1), three(2)
    for large, lack in (
        (asking("large", 0, 3), "2 of 3 free CPUs"),
        (asking("large", 0, 1, gpus=1), "0 of 1 free GPUs that fit"),
    ):
        decision = place(busy, [large, asking("small", 1, 1)], idle)
        assert set(decision.placements) == {"small"}
        assert f"0 could take it even with nothing else running (m0-0 has {lack}" in decision.explanations["large"]
    decision = place(busy, [asking("next", 0, 2), asking("small", 1, 1)], idle)
    assert decision.placements == {}
    assert "0 can take it now (m0-0 has 1 of 2 free CPUs" in decision.explanations["next"]
    assert "m0-0 is kept for a job before it" in decision.explanations["small"]


def test_the_first_of_two_that_do_not_fit_together_goes_ahead():
    offered = [Capacity(f"m{place}", f"m{place}-0", PLACES[place], True, (), 2, GIB) for place in range(3)]
    consented = tuple((node.member, node.node) for node in offered)
    asked = [
        Request(name, priority, sequence, 0, 0, 2, 0, 3, 3, 1, consented)
        for sequence, (name, priority) in enumerate([("first", 0), ("second", 0), ("urgent", 1)])
    ]
    assert set(place(offered, asked).placements) == {"urgent"}
    assert set(place(offered, asked[:2]).placements) == {"first"}
    assert "waits" in place(offered, asked).explanations["first"]


def test_each_pair_of_missing_members_is_named():
    names = ["a", "b", "c", "d"]
    for gone in combinations(names, 2):
        offered = [Capacity(name, f"{name}-0", "FR", name not in gone, (), 1, GIB) for name in names]
        request = Request("job", 0, 0, 0, 0, 1, 0, 3, 4, 1, tuple((name, f"{name}-0") for name in names))
        sentence = place(offered, [request]).explanations["job"]
        assert all(f"{name}-0" in sentence for name in gone)
