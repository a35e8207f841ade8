"""`concord apply`, `concord explain`: what is wrong with a job is said with file, line, field and advice, and nothing is sent."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from coordinator.client.home import Home
from federation.errors import InvalidIdentity, InvalidManifest, InvalidUsage, NotFound
from federation.manifest.manifest import open_manifest
from tests.unit.client.scripted import Coordinator
from tests.unit.client.typed import BIN, Said, concord, done, refused, tree, typed
from tests.unit.identity.parties import APP

HEAD = "apiVersion: concord/v1\nkind: TrainingJob\nmetadata: {name: tiny}\nspec:\n  app: ./app\n  dataSet: digits\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in APP.items():
        path = tmp_path / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "job.yaml").write_text(HEAD)
    return tmp_path


def rehearsed(folder: Path, text: str | bytes) -> Said:
    path = folder / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return concord("apply", "-f", path, "--dry-run")


BAD = {
    "unknown field": (HEAD + "  round: 3\n", ("job.yaml:7: spec.round: unknown field", "Did you mean rounds?")),
    "unknown field within": (
        HEAD + "  participants: {min: 3}\n",
        ("job.yaml:7: spec.participants.min", "unknown field"),
    ),
    "wrong type": (HEAD + '  rounds: "10"\n', ("job.yaml:7: spec.rounds", "integer", "'10'")),
    "duplicate key": (HEAD + "  rounds: 3\n  rounds: 4\n", ("job.yaml:8", "rounds", "twice")),
    "duplicate section": (HEAD + "spec: {}\n", ("job.yaml:7", "spec", "twice")),
    "missing field": (HEAD.replace("  dataSet: digits\n", ""), ("spec.dataSet",)),
    "unreachable minimum": (
        HEAD + "  participants: {minMembers: 4, members: [fr, ke, us]}\n",
        ("job.yaml:7: spec.participants.members", "the minimum cannot be reached", "lower minMembers"),
    ),
    "two members": (HEAD + "  participants: {minMembers: 2}\n", ("job.yaml:7: spec.participants.minMembers", "3")),
    "unknown strategy": (HEAD + "  strategy: {name: FedSum}\n", ("job.yaml:7: spec.strategy.name", "FedAvg")),
    "alias": (HEAD + "  labels: &a {}\n  more: *a\n", ("job.yaml:7",)),
    "not YAML": (HEAD + "  rounds: [3\n", ("job.yaml",)),
    "another kind": (HEAD.replace("TrainingJob", "NodePolicy"), ("job.yaml:2: kind", "TrainingJob")),
    "a kind of a later version": (
        HEAD.replace("TrainingJob", "EvaluationJob") + "  queries: []\n",
        ("job.yaml:2: kind: EvaluationJob is not in this version", "TrainingJob"),
    ),
    "a list": ("- 1\n", ("job.yaml",)),
    "empty": ("", ("job.yaml",)),
    "not UTF-8": (b"\xff\xfe", ("job.yaml is not UTF-8 text", "Save it as UTF-8")),
    "control characters": (HEAD + '  "\\e[31m": 1\n', ("job.yaml:7",)),
    "no app": (
        HEAD.replace("./app", "./nowhere"),
        ("job.yaml:5: spec.app", "does not exist", "relative to the job file"),
    ),
    "no snapshot": (
        HEAD + "  rounds: 3\n  model: {snapshotFile: first.safetensors}\n",
        ("job.yaml:8: spec.model.snapshotFile: ", "first.safetensors does not exist"),
    ),
    "no digest": (
        HEAD + "  model: {snapshot: abc}\n",
        ("job.yaml:7: spec.model.snapshot: should be sha256: and the 64",),
    ),
    "a strategy by name alone": (HEAD + "  strategy: FedAdam\n", ("job.yaml:7: spec.strategy: should be a mapping",)),
    "a message's own word": (
        HEAD + "  messageConfig: {lr: 0.1, server-round: 3}\n",
        ("job.yaml:7: spec.messageConfig.server-round: is set by Concord itself", "Leave it out"),
    ),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_job_is_told_with_line_and_field(folder: Path, how: str) -> None:
    text, words = BAD[how]
    answer = refused(rehearsed(folder, text), InvalidManifest, *words)
    assert "\x1b" not in answer.err


def test_a_job_that_is_not_there(folder: Path) -> None:
    refused(concord("apply", "-f", folder / "missing.yaml"), NotFound, "missing.yaml does not exist")
    refused(concord("apply", "-f", folder), InvalidUsage, "is a folder")


def test_an_app_that_holds_a_private_key_is_not_sent(folder: Path) -> None:
    (folder / "app" / "server.pem").write_text("-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n")
    refused(concord("apply", "-f", folder / "job.yaml", "--dry-run"), InvalidManifest, "server.pem holds a private key")
    (folder / "app" / ".concordignore").write_text("*.pem\n")
    assert "server.pem" not in done(concord("apply", "-f", folder / "job.yaml", "--dry-run")).err


def test_an_app_that_reaches_out_of_its_folder_is_not_sent(folder: Path) -> None:
    (folder / "secret").write_text("rows")
    (folder / "app" / "rows.csv").symlink_to(folder / "secret")
    answer = concord("apply", "-f", folder / "job.yaml", "--dry-run")
    refused(answer, InvalidManifest, "rows.csv is a link that leaves the app folder")


# ----------------------------------------------------------------------------------------------------------- without a trace


@pytest.mark.parametrize("how", ["unknown field", "no app", "two members"])
def test_a_bad_job_leaves_no_trace(folder: Path, home: Home, server: Coordinator, how: str) -> None:
    (folder / "job.yaml").write_text(str(BAD[how][0]))
    before = tree(home.path)
    refused(concord("apply", "-f", folder / "job.yaml", "--home", home.path), InvalidManifest)
    assert tree(home.path) == before
    asked = ["DescribeFederation"] if how == "no app" else []  # the app is looked for under the members' newest roll
    assert (server.calls, server.submitted, server.blobs) == (asked, [], {})


def test_a_rehearsal_shows_all_defaults_and_the_files_and_sends_nothing(folder: Path) -> None:
    before = tree(folder)
    answer = done(concord("apply", "-f", folder / "job.yaml", "--dry-run"))
    spec = yaml.safe_load(answer.out)["spec"]
    assert (spec["app"], spec["rounds"], spec["strategy"]["name"]) == ("./app", 10, "FedAvg")
    assert spec["runConfig"] == {"rate": 1, "size": 10}  # the app's own
    assert spec["model"]["factory"] == "tiny.task:initial_arrays"
    assert all(name in answer.err for name in APP)
    assert "nothing was signed or sent" in answer.err
    assert tree(folder) == before


def test_a_job_from_stdin_is_relative_to_where_one_stands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    text = (folder / "job.yaml").read_bytes()
    assert done(concord("apply", "-f", "-", "--dry-run", text=text)).out
    refused(
        concord("apply", "-f", "-", "--dry-run", text=text + b"  round: 1\n"), InvalidManifest, "stdin:7: spec.round"
    )


# ------------------------------------------------------------------------------------------------------------------ sending


def test_a_job_is_signed_sent_and_sent_again_as_the_same(folder: Path, home: Home, server: Coordinator) -> None:
    words = ("apply", "-f", folder / "job.yaml", "--home", home.path)
    first = done(concord(*words))
    manifest = open_manifest(server.submitted[0], server.parties.roll)
    assert first.out == f"job/tiny created (digest {manifest.digest.hex()})\n"
    assert "signed as lead: 10 rounds of FedAvg on digits, 3 files" in first.err
    assert "ServerApp (tiny.server_app:app) is not run" in first.err
    assert "concord watch tiny" in first.err
    assert server.blobs[manifest.bundle_digest]

    server.created = False
    second = done(concord(*words, "-o", "json"))
    assert yaml.safe_load(second.out) == {"name": "tiny", "digest": manifest.digest.hex(), "created": False}
    assert "signed before as lead" in second.err
    assert "`--again`" in second.err
    assert server.submitted[1] == server.submitted[0]

    server.created = True
    done(concord(*words, "--again"))
    assert server.submitted[2] != server.submitted[0]


def test_a_changed_app_is_another_job(folder: Path, home: Home, server: Coordinator) -> None:
    done(concord("apply", "-f", folder / "job.yaml", "--home", home.path))
    (folder / "app" / "tiny" / "client_app.py").write_text("app = 1\n")
    done(concord("apply", "-f", folder / "job.yaml", "--home", home.path))
    assert server.submitted[0] != server.submitted[1]
    assert len(server.blobs) == 2


def test_a_lead_whose_key_is_not_on_the_roll_cannot_sign(folder: Path, home: Home, server: Coordinator) -> None:
    other = Home.at(folder / "other")
    assert concord("lead", "init", "--home", other.path, "--id", "lead", "--member", "fr", "--name", "A").code == 0
    home.identity_key_path.write_bytes(other.identity_key_path.read_bytes())
    refused(
        concord("apply", "-f", folder / "job.yaml", "--home", home.path),
        InvalidIdentity,
        "not signed by the lead lead on the membership roll",
    )
    assert server.submitted == []


def test_without_login(folder: Path) -> None:
    answer = concord("apply", "-f", folder / "job.yaml", "--home", folder / "nobody")
    refused(answer, NotFound, "is not logged in to a federation", "concord login --home")


# ------------------------------------------------------------------------------------------------------------------ explain


def test_a_field_is_explained() -> None:
    said = done(concord("explain", "job.spec.rounds")).out
    assert said.startswith("job.spec.rounds (whole number, default 10)\n    ")
    assert "job.spec.strategy.name" in done(concord("explain", "spec.strategy")).out
    assert "job.metadata.name (text, required)" in done(concord("explain")).out
    refused(concord("explain", "job.spec.round"), NotFound, "no field job.spec.round", "Did you mean job.spec.rounds?")


# ---------------------------------------------------------------------------------------------------- the installed command


def test_the_installed_command_tells_a_bad_job(folder: Path) -> None:
    (folder / "job.yaml").write_text(HEAD + "  round: 3\n")
    answer = typed("concord", "apply", "-f", "job.yaml", folder=folder)
    assert answer == Said(
        5,
        "",
        "error: job.yaml:7: spec.round: unknown field.\n"
        "  what to do: Did you mean rounds?\n"
        "  see: docs/reference/errors.md#invalid-manifest\n",
    )
    refused(typed("concord", "apply", "-f", "-", folder=folder, text=b"\xff"), InvalidManifest, "stdin is not UTF-8")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("study", "study: a Study document"),
        ("study.spec.runs", "study.spec.runs (whole number, required)"),
        ("study.spec.vary", "study.spec.vary.KEY.least"),
        ("policy.rules.maxRounds", "policy.rules.maxRounds ("),
        ("dataSet.spec.legalBasis", "dataSet.spec.legalBasis ("),
        ("schema.spec.columns.unit", "UCUM"),
    ],
)
def test_fields_of_other_documents_are_explained(field: str, said: str) -> None:
    assert said in done(concord("explain", field)).out


def test_a_document_that_was_meant_is_named() -> None:
    refused(concord("explain", "polcy"), NotFound, "no document polcy", "Did you mean policy?")
    refused(concord("explain", "policy.rules.maxRound"), NotFound, "Did you mean policy.rules.maxRounds?")
    refused(
        concord("explain", "schema.qqqqqqqqqqqqqq"),
        NotFound,
        "no field schema.q",
        "job, study, policy, dataSet, schema",
    )


def test_the_installed_command_explains(tmp_path: Path) -> None:
    assert done(typed("concord", "explain", "job.spec.rounds", folder=tmp_path)).out.startswith("job.spec.rounds (")
    refused(typed("concord", "explain", "job.spec.x", folder=tmp_path), NotFound, "There is no field job.spec.x")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("apply",), "Missing option '--file'"),
        (("get", "laboratories"), "'laboratories' is not one of"),
        (("sing",), "No such command 'sing'"),
        (("explain", "--colour"), "No such option"),
        (("member", "sign-node", "--request", "a", "--out", "b", "--days", "0"), "not in the range 1<=x<=3650"),
    ],
)
def test_wrong_words_are_wrong_usage(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    answer = typed("concord", *words, folder=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert "  what to do: See concord " in answer.err


def test_the_reader_of_an_answer_may_leave_early(tmp_path: Path) -> None:
    """As `| head` does: nobody reads what comes, and that is no error."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [BIN / "concord", "explain", "job"]
    left = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (left.returncode, left.stderr) == (0, b"")
