"""Each accelerator of a node serves one job at a time, and a job gets those that are large enough."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import Unavailable
from node_agent.runner.accelerators import Accelerators, chosen
from node_agent.runner.devices import Gpu

GIB = 1 << 30
CARDS = (Gpu(0, "H100", 80 * GIB), Gpu(1, "T4", 16 * GIB), Gpu(2, "H100", 80 * GIB))


@given(
    sizes=st.lists(st.sampled_from([8, 16, 80]), max_size=6),
    taken=st.sets(st.integers(0, 5)),
    count=st.integers(1, 4),
    least=st.sampled_from([0, 16, 80]),
)
def test_a_job_gets_all_that_it_asks_for_from_what_is_free_or_nothing(sizes, taken, count, least):
    gpus = [Gpu(index, "X", size * GIB) for index, size in enumerate(sizes)]
    got = chosen(gpus, taken, count, least * GIB)
    fitting = [size for index, size in enumerate(sizes) if index not in taken and size >= least]
    assert len(got) == (count if len(fitting) >= count else 0)
    assert not set(got) & taken
    assert sorted(sizes[index] for index in got) == sorted(fitting)[: len(got)]


def test_two_jobs_never_hold_the_same_card_and_the_larger_cards_go_to_those_who_need_them():
    async def story():
        node = Accelerators(lambda: CARDS, patience_seconds=5)
        assert await node.lend(b"small", 1, 0) == (1,)
        assert await node.lend(b"small", 1, 0) == (1,)  # a worker that is started again keeps its card
        assert await node.lend(b"large", 1, 40 * GIB) == (0,)
        assert await node.lend(b"none", 0, 0) == ()
        waits = asyncio.create_task(node.lend(b"both", 2, 40 * GIB))
        await asyncio.wait({waits}, timeout=0.05)
        assert not waits.done()
        node.take_back(b"small")  # too small to help
        await asyncio.wait({waits}, timeout=0.05)
        assert not waits.done()
        node.take_back(b"large")
        assert await waits == (0, 2)

    asyncio.run(story())


def test_cards_that_stay_taken_or_are_gone_are_said():
    async def story():
        here = list(CARDS)
        node = Accelerators(lambda: here, patience_seconds=0.05)
        with pytest.raises(Unavailable, match="The 4 GPUs that the job was given are not free"):
            await node.lend(b"many", 4, 0)
        assert await node.lend(b"job", 3, 0) == (0, 1, 2)
        with pytest.raises(Unavailable, match="not free on this node"):
            await node.lend(b"other", 1, 0)
        node.take_back(b"job")
        here.clear()
        with pytest.raises(Unavailable, match="not free on this node"):
            await node.lend(b"other", 1, 0)

    asyncio.run(story())
