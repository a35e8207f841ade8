"""A lab's task goes wrong in every way it can. The lead learns where, nobody learns the data, the others go on.

The app prints, raises, writes and names ``patient-4711``. Outside that lab no view, log, description, file or database may hold
it (apart from the task bundle, whose text the lead wrote).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.client.views import Job
from federation.identity.envelope import open_envelope
from tests.e2e.commands import eventually, said
from tests.e2e.runs import FAULTY, Runs, workers

SECRETS = (b"patient-4711", b"patient_4711", b"Leakpatient")
SOURCE = FAULTY / "faulty" / "client_app.py"
FAULTS = {
    "raise": "in train: RowRefused at faulty/client_app.py:{cannot read row}",
    "raise-secret-class": 'in train: RowRefused at faulty/client_app.py:{type("Leak"}',
    "exit": "in train: SystemExit at faulty/client_app.py:{sys.exit(0)}",
    "socket": "in train: ConnectionRefusedError at faulty/client_app.py:{socket.create_connection}",
    "write-outside": "in train: FileNotFoundError at faulty/client_app.py:{write_text(SECRET)}",
    "other-shapes": "in reply: The trained array vector is of another type or shape than the model's float32[10].",
    "secret-array": "in reply: The trained model has arrays that the model does not have.",
    "nan": "in reply: The update holds NaN or infinite values.",
    "inf": "in reply: The update holds NaN or infinite values.",
    "os-exit": "in train: The worker process died in train (exit status 3).",
    "memory": "in train: MemoryLimit",
    "print-secrets": "",
}
"""fault -> what the lead is told; {text}: the number of the first line that holds it"""


def line_of(text: str) -> str:
    return str(next(number for number, line in enumerate(SOURCE.read_text().splitlines(), 1) if text in line))


def told(fault: str) -> str:
    before, brace, rest = FAULTS[fault].partition("{")
    text, _, after = rest.partition("}")
    return before + line_of(text) + after if brace else before


def private(runs: Runs, member: str, job: Job) -> bytes:
    """The lab's own log of the job's tasks."""
    return (runs.local.nodes[member].home / "jobs" / job.digest.hex() / "task.log").read_bytes()


def nobody_was_told(runs: Runs, job: Job, *seen: str) -> None:
    """The secrets are in nothing that the lead can see and in nothing that the coordinator keeps."""
    texts = {"views": "\n".join(seen), "view": repr(job)}
    for words in (("describe",), ("describe", "-o", "json"), ("logs",), ("watch",)):
        answer = said("concord", words[0], job.name, *words[1:], "--home", runs.local.lead_home)
        assert job.name in answer.out or "round" in answer.out
        texts[" ".join(words)] = answer.out + answer.err
    listing = said("concord", "get", "jobs", "--home", runs.local.lead_home)
    texts["get"] = listing.out
    bundle = str(open_envelope(job.manifest, "manifest").document["spec"]["bundle"]["digest"])
    home = runs.local.coordinator.home
    files = [path for path in home.rglob("*") if path.is_file() and path.name != bundle]
    assert {"coordinator.db"} < {path.name for path in files}
    texts |= {str(path): path.read_bytes().decode("latin-1") for path in [*files, runs.local.coordinator.log]}
    for secret in SECRETS:
        assert [name for name, text in texts.items() if secret.decode() in text] == []


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def door() -> Iterator[socket.socket]:
    """Something of the lab's own network that a task would like to talk to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_faults_one_after_the_other(four: Runs, outside: Path, door: socket.socket, sandboxed: None) -> None:
    """One round for each fault at one member: it misses that round, is back in the next, and the job finishes."""
    config = {"fault": ",".join(FAULTS), "fault-partition": 0, "path": str(outside / "new")}
    document = four.document(
        "faults",
        app=FAULTY,
        rounds=len(FAULTS),
        run_config={**config, "port": door.getsockname()[1]},
        resources={"memory": "512Mi"},
        deadlines={"roundSeconds": 40},
    )
    views: list[str] = []
    job = four.run(document, each=lambda view: views.append(repr(view)))
    assert job.state == "finished", job.reason
    story = [line.split(" ", 1)[1] for line in job.lines]
    closed = {item.round: item for item in job.rounds if item.phase == "closed"}
    for number, fault in enumerate(FAULTS, 1):
        assert closed[number].ready == ("ar", "be", "ch", "de")
        about = [line for line in story if f"round {number}:" in line or f"round {number} " in line]
        if not told(fault):
            assert (closed[number].cohort, about) == (("ar", "be", "ch", "de"), [])
            continue
        assert closed[number].cohort == ("be", "ch", "de"), fault
        assert about == [
            f"ar: round {number}: the task failed {told(fault)}",
            f"coordinator: round {number} goes on without: ar failed",
        ]
    assert closed[len(FAULTS) + 1].cohort == ("ar", "be", "ch", "de")
    nobody_was_told(four, job, *views)
    lab = private(four, "ar", job)
    for words in (b"cannot read row patient-4711", b"stdout patient-4711", b"stderr patient-4711", b"Traceback"):
        assert words in lab
    assert b"patient-4711" not in private(four, "be", job)
    assert list(outside.iterdir()) == []
    with pytest.raises(BlockingIOError):
        door.accept()
    eventually(lambda: workers(four) == [])


def test_a_task_that_hangs_is_ended_and_the_round_goes_on(four: Runs) -> None:
    config = {"fault": "hang-with-children", "fault-partition": 1}
    job = four.run(four.document("hang", app=FAULTY, rounds=1, run_config=config, deadlines={"roundSeconds": 3}))
    assert job.state == "finished", job.reason
    assert [item.cohort for item in job.rounds] == [("ar", "ch", "de"), ("ar", "be", "ch", "de")]
    assert any(line.endswith("round 1 goes on without: be sent nothing within 3 s") for line in job.lines)
    eventually(lambda: workers(four) == [])


def test_a_task_that_fails_everywhere_ends_the_job_and_says_why(four: Runs) -> None:
    config = {"fault": "raise"}
    views: list[str] = []
    document = four.document("broken", app=FAULTY, rounds=1, run_config=config, deadlines={"attempts": 2})
    job = four.run(document, each=lambda view: views.append(repr(view)))
    assert job.state == "failed"
    assert job.reason.startswith("Round 1 did not succeed in 2 attempts: at most 2 of 4 members can upload (")
    failed = [line for line in job.lines if f"the task failed {told('raise')}" in line]
    assert len(failed) >= 4  # two failures end an attempt; those of the others come as they come
    assert said("concord", "watch", job.name, "--home", four.local.lead_home).code == 1
    nobody_was_told(four, job, *views)
    eventually(lambda: workers(four) == [])


def test_three_members_cannot_go_on_without_one(three: Runs) -> None:
    """A sum of two would show each the other's update."""
    config = {"fault": "nan", "fault-partition": 2}
    job = three.run(three.document("two", app=FAULTY, rounds=1, run_config=config, deadlines={"attempts": 1}))
    assert (job.state, job.rounds_closed) == ("failed", 0)
    assert job.reason == "Round 1 did not succeed in 1 attempt: at most 2 of 3 members can upload (ch failed)."


def test_where_the_job_says_so_the_lead_is_told_nothing_but_the_phase(four: Runs) -> None:
    config = {"fault": "evaluate-raise", "fault-partition": 3}
    job = four.run(four.document("silent", app=FAULTY, rounds=1, run_config=config, errorDetail="none"))
    assert job.state == "finished"
    assert [line.split(" ", 1)[1] for line in job.lines if "failed" in line and " de: " in line] == [
        f"de: round {number}: the task failed in evaluate: task-failed" for number in (1, 2)
    ]
    assert b"cannot read row patient-4711" in private(four, "de", job)


def test_afterwards_a_good_job_still_runs(four: Runs) -> None:
    job = four.run(four.document("good", app=FAULTY, rounds=2))
    assert job.state == "finished", job.reason
    assert all(item.cohort == ("ar", "be", "ch", "de") for item in job.rounds)
    assert four.model(job.name)["vector"].tolist() == pytest.approx([2.0] * 10, abs=1e-2)
