"""What README, how-to pages and runbooks tell people to type does what they say: typed word for word, in one federation.

The federation is the tutorial's, and each page goes on where the ones that it needs have left it. A line that cannot be run here
is named, with the reason; a line that is neither run nor named fails, and so does a name that no page has any more.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.e2e.commands import eventually
from tests.e2e.forks import Forks
from tests.e2e.runs import TINY, watch
from tests.e2e.walks import ROOT, Page, Walk, founded, log_in
from tests.pages import fences, without_fences
from tests.unit.repo.test_commands_in_pages import INLINE, KNOWN, PLACES, typed

METRICS_REFUSED = (
    "metrics.service.type: LoadBalancer would publish /metrics without TLS. "
    "Leave ClusterIP, and let metrics.from say who scrapes."
)
ENGINE = "no container engine where the tests run; tests/images replays the steps"
CLUSTER = "no cluster where the tests run; tests/helm renders the charts and runs the containers' commands"
ROOT_ONLY = "needs root, and changes the machine"
INDEX = "installs everything anew from the package index; tests/unit/repo/test_locked_versions.py checks the lock"


def submit(walk: Walk, name: str, **spec: object) -> None:
    """Ana submits one more job of this name."""
    body = {"app": "./task", "dataSet": "digits", "rounds": 1, **spec}
    document = {"apiVersion": "concord/v1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": body}
    (walk.folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    walk.told(f"concord apply -f {name}.yaml --home lead")


def in_a_month(_walk: Walk) -> str:
    return f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"


def proposal(walk: Walk) -> str:
    """What the members were asked last."""
    listed = json.loads(walk.told("concord proposals --home officer-br -o json"))
    return str(listed[0]["proposal"])[:6]


def vote(walk: Walk, *members: str) -> None:
    asked = proposal(walk)
    for member in members:
        walk.told(f"concord vote --home officer-{member} {asked} yes")


def digest_of(walk: Walk, name: str = "digits") -> str:
    with walk.client() as client:
        return client.job(name).digest.hex()


def waits_for_votes(walk: Walk) -> None:
    submit(walk, "digits", gates={"quality": [{"figure": "eval_acc", "atLeast": 0.1}]}, release={"approval": "members"})
    with walk.client() as client:
        watch(client, "digits", until=lambda job: "approve" in job.reason)


def others_approve(walk: Walk) -> None:
    for member in ("ke", "in"):
        walk.told(f"concord release approve digits --home officer-{member}")
    with walk.client() as client:
        watch(client, "digits")


def data_of_fr(walk: Walk) -> None:
    (walk.folder / "data" / "fr").symlink_to("br")


def policy_of_fr(walk: Walk) -> None:
    """As Brazil's; in every policy France is a place that a job may come from."""
    for member in ("br", "ke", "in", "fr"):
        text = (walk.folder / "node-br" / "policy.yaml").read_text().replace("[BR, KE, IN]", "[BR, KE, IN, FR]")
        (walk.folder / f"node-{member}" / "policy.yaml").write_text(text)
    settings = walk.folder / "node-fr" / "node.yaml"
    said = yaml.safe_load(settings.read_text()) | {"consent": "person", "deciders": ["officer", "deputy"]}
    settings.write_text(yaml.safe_dump(said))


def two_jobs_ask_fr(walk: Walk) -> None:
    """One that goes on for long, and one that fr denies; studies are allowed from now on."""
    for member in ("br", "ke", "in", "fr"):
        policy = walk.folder / f"node-{member}" / "policy.yaml"
        allowed = "rules:\n  study: {maxRuns: 20, maxRounds: 220, maxBytes: 20Gi}\n"
        policy.write_text(policy.read_text().replace("rules:\n", allowed, 1))
    for name, least in (("digits", 3), ("lungs", 4)):
        submit(walk, name, app=str(TINY), rounds=400, runConfig={"pause": 0.5}, participants={"minMembers": least})
    asked(walk, "digits", "lungs")


def asked(walk: Walk, *names: str) -> None:
    eventually(lambda: set(names) <= {each["name"] for each in inbox(walk)})


def inbox(walk: Walk) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(walk.told("concord-node inbox --home node-fr -o json"))["questions"]
    return listed


def runs(walk: Walk) -> None:
    with walk.client() as client:
        watch(client, "digits", until=lambda job: job.rounds_closed >= 1)


def study_granted(walk: Walk) -> None:
    asked(walk, "digits-search")
    walk.told("concord-node grant digits-search --home node-fr")
    eventually(lambda: "fr:granted" in walk.told("concord get studies --home lead"))


def order(walk: Walk) -> str:
    """The one that was given last and stands."""
    return full_order(walk)[:6]


def full_order(walk: Walk) -> str:
    listed = json.loads(walk.told("concord get halts --home lead -o json"))
    return str(listed[0]["digest"])


def fr_is_in(walk: Walk) -> None:
    walk.await_start("node-fr")
    log_in(walk, "fr")


def hearts(walk: Walk) -> None:
    (walk.folder / "data" / "hearts.csv").write_text("age,sex,chol\n63,1,233\n41,0,\n")


def unused_ticket(walk: Walk) -> None:
    """The node has joined by now; what is in its way is asked as before."""
    (walk.folder / "fr-ticket.json").unlink(missing_ok=True)
    walk.told("concord-coordinator ticket --home coordinator --member fr --node fr-1 --out fr-ticket.json")


def unused_ticket_of_the_lead(walk: Walk) -> None:
    walk.told("concord-coordinator ticket --home coordinator --lead ana --out lead-ticket.json")


def decided_with_the_coordinator_stopped(walk: Walk) -> None:
    vote(walk, "ke", "fr")
    walk.stop("coordinator")


def restored_node_is_in(walk: Walk) -> None:
    """With all other nodes: none took the restored coordinator for another."""
    walk.await_start("node-ke-restored")

    def connected() -> set[str]:
        listed = json.loads(walk.told("concord get nodes --home officer-br -o json"))
        return {each["member"] for each in listed if each["connected"]}

    eventually(lambda: {"br", "ke", "fr"} <= connected())
    for member in ("br", "ke-restored", "fr"):
        assert "witness.stopped" not in (walk.folder / f"node-{member}.log").read_text()


def in_the_place_of_the_old_ones(walk: Walk) -> None:
    for old, new in (("coordinator", "restored"), ("node-ke", "node-ke-restored")):
        shutil.rmtree(walk.folder / old)
        (walk.folder / old).symlink_to(new)


def new_node_is_told_what_stands(walk: Walk) -> None:
    """Also orders that were given under a key of before: without them it would have no lease."""
    walk.start("node-in-2")
    log = walk.folder / "node-in-2.log"
    eventually(lambda: any("halt.taken" in line and "lead ana" in line for line in log.read_text().splitlines()))
    assert "lease.not-renewed" not in log.read_text()


def under_the_old_names(walk: Walk) -> None:
    """Other pages go on with what is new."""
    for name in ("officer-in", "lead"):
        if (walk.folder / f"{name}-2").exists():
            (walk.folder / name).rename(walk.folder / f"{name}-old")
            (walk.folder / f"{name}-2").rename(walk.folder / name)


def hub_in_postgresql(walk: Walk) -> None:
    """The page's statements at a server, and its settings with the server's socket."""
    walk.stop("there")  # whose address the page has
    server = walk.server()
    for statement in next(
        fence.text for fence in fences(page_text("postgresql")) if fence.language == "sql"
    ).splitlines():
        server.psql("postgres", statement)
    (walk.folder / "db-password").touch(mode=0o600)
    (walk.folder / "db-password").write_text("…\n")
    with (walk.folder / "hub" / "coordinator.yaml").open("a") as settings:
        settings.write(f"database: postgresql://atlas@/atlas?host={server.root}\n")
        settings.write(f"database_password_file: {walk.folder / 'db-password'}\n")


def moved_to_postgresql(walk: Walk) -> None:
    """The state of the coordinator that the members have moved away from, and its log, stand at the server."""
    with (walk.folder / "coordinator" / "coordinator.yaml").open("a") as settings:
        settings.write(f"database: postgresql://atlas@/atlas?host={walk.server().root}\n")
        settings.write(f"database_password_file: {walk.folder / 'db-password'}\n")
    said = walk.type("concord-coordinator doctor --home coordinator").out
    (database,) = [line for line in said.splitlines() if " database: " in line]
    assert database.startswith("ok "), said
    assert "postgresql" in database
    assert " 0 entries" not in database


def page_text(name: str) -> str:
    return (ROOT / "docs" / "how-to" / f"{name}.md").read_text()


def node_is_in_again(walk: Walk) -> None:
    """Under the moved coordinator, whose log goes on as the old one's."""
    walk.start("node-br")
    listed = json.loads(walk.told("concord get nodes --home officer-br -o json"))
    assert [each["member"] for each in listed if each["connected"]] == ["br"]
    assert "witness.stopped" not in (walk.folder / "node-br.log").read_text()


PAGES = [
    Page(
        "README.md",
        elsewhere={"make demo": "tests/e2e/test_demo.py"},
        samples={
            "round  phase       cohort            loss     accuracy   MB up   seconds": "of a run; tests/e2e/test_demo.py",
            "$ concord apply -f job.yaml": "tests/e2e/test_readme.py",
        },
    ),
    Page("docs/how-to/write-a-task.md"),
    Page(
        "docs/how-to/curves.md",
        elsewhere={
            "tensorboard*": "a server for a browser; tests/unit/client/test_curves.py reads the event files",
            "concord watch digits --mlflow*": "MLflow takes half a minute to make its database; tests/unit/client/test_curves.py",
        },
        needs=("write-a-task",),
    ),
    Page(
        "docs/how-to/release.md",
        before={"concord release show": waits_for_votes, "concord release list": others_approve},
        ends_with={"concord verify release --roll roll.json --recalls recall.json": 6},
        needs=("write-a-task",),
    ),
    Page("docs/how-to/audit.md", stands_for={"3f9c21": lambda walk: digest_of(walk)[:6]}, needs=("release",)),
    Page("docs/how-to/policy.md", needs=("write-a-task",)),
    Page("docs/how-to/sandbox.md", elsewhere={"sudo install*": ROOT_ONLY, "sudo apparmor_parser*": ROOT_ONLY}),
    Page("docs/how-to/observe.md"),
    Page("docs/how-to/lock-versions.md", elsewhere={"python3.11 -m venv*": INDEX, "/tmp/lock/bin/python*": INDEX}),
    Page("docs/how-to/images.md", elsewhere=dict.fromkeys(("skopeo*", "podman*", "docker*", "export*"), ENGINE)),
    Page(
        "docs/how-to/kubernetes.md",
        elsewhere={"helm*": CLUSTER, "kubectl*": CLUSTER},
        before={
            "concord member sign-node": lambda walk: shutil.copy(
                walk.folder / "br-request.json", walk.folder / "request.json"
            )
        },
        samples={METRICS_REFUSED: "tests/helm"},
    ),
    Page(
        "docs/how-to/join.md",
        stands_for={"3f9a2c": proposal},
        before={
            "concord roll fetch": lambda walk: vote(walk, "ke"),
            "concord-node data add digits": data_of_fr,
            "concord-node run": policy_of_fr,
            "concord-node status": fr_is_in,
        },
        needs=("write-a-task", "release", "audit"),
    ),
    Page(
        "docs/how-to/describe-data.md",
        before={"concord-node data add hearts": hearts},
        answers={"concord-node data publish": "y\n"},
        needs=("write-a-task", "join"),
    ),
    Page(
        "docs/how-to/privacy.md",
        before={"concord-node data add scans": lambda walk: (walk.folder / "data" / "scans").mkdir()},
        samples={"scans  unit member, delta 1e-06, epsilon of 8": "after one job; tests/e2e/test_privacy.py"},
        needs=("join",),
    ),
    Page(
        "docs/how-to/networks.md",
        before={"concord-node doctor": unused_ticket, "concord doctor": unused_ticket_of_the_lead},
        needs=("join",),
    ),
    Page(
        "docs/how-to/consent.md",
        stands_for={"2026-12-31": in_a_month, "2027-01-31": in_a_month},
        samples={"differs from the study that was consented to, and in nothing else:": "tests/e2e/test_studies.py"},
        before={
            "concord-node inbox": two_jobs_ask_fr,
            "concord-node revoke": runs,
            "concord apply -f run-1.yaml": study_granted,
        },
        needs=("write-a-task", "join"),
    ),
    Page(
        "docs/how-to/halt.md",
        stands_for={"3f9c21": order, "DIGEST": full_order, "3f9a2c": proposal},
        before={"concord proposals": lambda walk: vote(walk, "ke", "in")},
        needs=("consent",),
    ),
    Page("docs/how-to/incidents.md", needs=("halt",)),
    *(
        Page(f"docs/runbooks/{path.name}", needs=("halt",))
        for path in sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    ),
    Page(
        "docs/how-to/rotate-keys.md",
        stands_for={"3f9a2c": proposal},
        before={
            "concord roll fetch --home officer-in": lambda walk: vote(walk, "ke", "fr"),
            "concord-coordinator ticket --home coordinator --officer in": lambda walk: vote(walk, "ke", "fr"),
            "concord-node join --home node-in ": lambda walk: walk.stop("node-in"),
            "install": decided_with_the_coordinator_stopped,
        },
        after={
            "concord-node join --home node-in ": lambda walk: walk.start("node-in"),
            "install": lambda walk: walk.start("coordinator"),
            "concord login --home lead-2": new_node_is_told_what_stands,
        },
        needs=("halt", "incidents"),
    ),
    Page(
        "docs/how-to/back-up.md",
        before={
            "mkdir -m 700 restored": lambda walk: walk.stop("coordinator"),
            "mkdir -m 700 node-ke-restored": lambda walk: walk.stop("node-ke"),
            "concord-node status --home node-ke-restored": restored_node_is_in,
        },
        after={
            "concord-coordinator run --home restored": lambda walk: walk.await_start("restored"),
            "concord-node status --home node-ke-restored": in_the_place_of_the_old_ones,
        },
        needs=("rotate-keys",),
    ),
    Page(
        "docs/how-to/charter.md",
        stands_for={"3f9a2c": proposal},
        before={
            "concord propose suspension": under_the_old_names,
            "concord roll show": lambda walk: vote(walk, "fr"),
            "concord roll fetch --home officer-br": lambda walk: vote(walk, "in"),
            "concord lead init --home lead-bo": lambda walk: [walk.stop(home) for home in ("node-br", "node-ke")],
            "concord vote 3f9a2c yes --offline": lambda walk: shutil.copytree(
                walk.folder / "officer-br", walk.folder / "vault"
            ),
            "cp -r": lambda walk: walk.stop("coordinator"),
        },
        after={
            "concord propose coordinator": lambda walk: vote(walk, "ke", "in"),
            "concord-coordinator run --home there": lambda walk: walk.await_start("there"),
            "concord login --home officer-br --ticket br-officer-there.json": node_is_in_again,
        },
        needs=("rotate-keys", "back-up"),
    ),
    Page(
        "docs/how-to/postgresql.md",
        before={"concord-coordinator doctor --home hub": hub_in_postgresql},
        stands_for={
            "postgresql://atlas@localhost/atlas": lambda walk: f"'postgresql://atlas@/atlas?host={walk.server().root}'"
        },
        after={"concord-coordinator database move": moved_to_postgresql},
        needs=("charter",),
    ),
]
BY_NAME = {Path(page.path).stem: page for page in PAGES if page.path != "docs/runbooks/README.md"}
WALKED_ELSEWHERE = {"docs/tutorial.md": "tests/e2e/test_readme.py"}
RUN_ELSEWHERE = {
    "concord audit fork": ("tests/e2e/test_public_log.py", 'said("concord", "audit", "fork"'),
    "concord-node witness reset": ("tests/e2e/test_public_log.py", 'said("concord-node", "witness", "reset"'),
    "concord-node policy forget": ("tests/unit/agent/test_policy_commands.py", 'typed("forget"'),
    "concord-node forget": ("tests/unit/consent/test_account.py", "forget(node.home"),
    "concord-node evidence show": ("tests/e2e/test_hostile_coordinator.py", 'said("concord-node", "evidence", "show"'),
}
"""commands that a page names beside its fences, and that no fence has"""
PROGRAMS = re.compile(
    r"^\$? ?(concord|concord-node|concord-coordinator|helm|kubectl|podman|docker|pip|sudo|python\S*|make|curl) "
)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Walk]:
    with Forks() as forks:
        walk = founded(tmp_path_factory.mktemp("walks") / "atlas", forks, lambda: request.getfixturevalue("postgres"))
        try:
            yield walk
        finally:
            walk.end()


@pytest.mark.pages
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_a_page_does_what_it_says(page: Page, atlas: Walk) -> None:
    walk_through(page, atlas)


def walk_through(page: Page, walk: Walk) -> None:
    """Once, after the pages that it needs."""
    if page.path not in walk.pages:
        for name in page.needs:
            walk_through(BY_NAME[name], walk)
        walk.pages[page.path] = False
        page.walk(walk)
        walk.pages[page.path] = True
    assert walk.pages[page.path], f"{page.path} failed before"


def walked_pages() -> list[Path]:
    rooms = ("how-to", "runbooks", "explanation")
    return [ROOT / "README.md", *(path for room in rooms for path in sorted((ROOT / "docs" / room).glob("*.md")))]


def test_every_page_is_walked_through() -> None:
    listed = {page.path for page in PAGES}
    for path in walked_pages():
        found = fences(path.read_text())
        if any(fence.language == "sh" for fence in found):
            assert str(path.relative_to(ROOT)) in listed, path
        for fence in found:
            assert fence.language in {"sh", "yaml", "toml", "python", "sql", ""}, (path, fence)
            if fence.language == "" and not any(first in fence.text for page in PAGES for first in page.samples):
                assert not any(PROGRAMS.match(line) for line in fence.lines), (
                    f"{path}: {fence.text} is typed, so it is sh"
                )


def test_every_command_that_a_page_names_is_run() -> None:
    """Also those that stand in a sentence or a table, if only by their names."""
    pages = walked_pages()
    run = {
        command_of(words)
        for path in (*pages, *(ROOT / place for place in WALKED_ELSEWHERE))
        for fence in fences(path.read_text())
        if fence.language == "sh"
        for words in typed(PLACES.sub("1", fence.text))
    }
    named = {
        command_of(words)
        for path in pages
        for text in INLINE.findall(without_fences(path.read_text()))
        for words in typed(PLACES.sub("1", text))
    }
    assert named - run - {""} == set(RUN_ELSEWHERE)
    for command, (path, text) in RUN_ELSEWHERE.items():
        assert text in (ROOT / path).read_text(), command


def command_of(words: list[str]) -> str:
    return next((" ".join(words[:count]) for count in (3, 2) if " ".join(words[:count]) in KNOWN), "")


def test_a_page_that_is_wrong_is_found(tmp_path: Path) -> None:
    walk = Walk(tmp_path, dict(os.environ))
    page = tmp_path / "page.md"

    def text(content: str) -> Page:
        page.write_text(content)
        return Page(str(page))

    text("```sh\necho yes\n```\n\n```\nyes\n```\n").walk(walk)
    for wrong in ("```sh\nfalse\n```\n", "```sh\necho yes\n```\n\n```\nno\n```\n", "```sh\nfalse | cat\n```\n"):
        with pytest.raises(AssertionError):
            text(wrong).walk(walk)
    with pytest.raises(AssertionError, match="does not say"):
        replace(text("```sh\ntrue\n```\n"), elsewhere={"kubectl*": "no cluster"}).walk(walk)
