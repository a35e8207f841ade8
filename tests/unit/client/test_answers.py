"""What the commands answer: the same facts in every form, aligned for people, whole for programs, harmless to a terminal."""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.client import failure, terminal
from coordinator.client.failure import ADVICE
from coordinator.client.home import Home
from coordinator.client.views import job_of, node_of
from federation.errors import ERRORS, TABLE, FederationError, NotFound, ProtocolViolation, exit_code
from federation.sealing import key_id_of
from tests.unit.client.scripted import Coordinator
from tests.unit.client.told import job_told, nodes_told, round_told
from tests.unit.client.typed import Said, concord, done, told_of, typed
from tests.unit.identity.parties import JOB, found

READ = json.loads, yaml.safe_load


@pytest.fixture
def telling(server: Coordinator) -> Coordinator:
    server.jobs = [job_told(server.parties)]
    server.watched = [job_told(server.parties, state="finished", rounds_closed=10, rounds=[round_told(10)])]
    server.nodes = nodes_told()
    server.lines = [
        ("2026-01-31T12:00:01.000Z", "", "submitted by lead"),
        ("2026-01-31T12:00:02.000Z", "fr", "granted"),
    ]
    return server


def read(home: Home, *words: str) -> Any:
    """The answer as JSON, which YAML repeats."""
    as_json, as_yaml = (concord(*words, "--home", home.path, "-o", form) for form in ("json", "yaml"))
    document = json.loads(done(as_json).out)
    assert yaml.safe_load(done(as_yaml).out) == document
    return document


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


# -------------------------------------------------------------------------------------------------------------- same facts


def test_jobs_are_the_same_facts_in_every_form(telling: Coordinator, home: Home) -> None:
    (job,) = read(home, "get", "jobs")
    assert (job["name"], job["state"], job["roundsClosed"], job["roundsTotal"]) == ("tiny", "running", 2, 10)
    heading, row = done(concord("get", "jobs", "--home", home.path)).out.splitlines()
    assert heading.split() == ["NAME", "STATE", "ROUNDS", "LEAD", "CREATED", "DIGEST", "REASON"]
    for fact in ("tiny", "running", "2/10", "lead", "2026-01-31 12:00", job["digest"][:12], "runs on fr-1, ke-1, us-1"):
        assert fact in row
    assert row.index("runs on") == heading.index("REASON")


def test_nodes_are_the_same_facts_in_every_form(telling: Coordinator, home: Home) -> None:
    node, away = read(home, "get", "nodes")
    assert node["offer"]["gpus"] == [{"model": "H200", "memoryBytes": 141 << 30}] * 2
    assert (node["connected"], away["connected"], away["state"]) == (True, False, "suspended")
    shown = done(concord("get", "nodes", "--home", home.path)).out.splitlines()
    assert "2 GPUs, H200 (141.0 GiB), 32 CPUs, 256.0 GiB, 20:00-06:00, sandbox: bubblewrap" in shown[1]
    assert shown[2].split() == ["ke", "ke-1", "KE", "suspended", "no", "-", "-"]


def test_members_come_from_the_readers_own_roll_without_asking(telling: Coordinator, home: Home) -> None:
    members = read(home, "get", "members")
    assert [(item["id"], item["leads"]) for item in members] == [("fr", ["lead"]), ("ke", []), ("us", [])]
    roll = telling.parties.roll
    assert [item["officerKey"] for item in members] == [f"ed25519:{item.officer_key.hex()}" for item in roll.members]
    shown = done(concord("get", "members", "--home", home.path)).out
    assert all(fact in shown for item in roll.members for fact in (item.id, item.jurisdiction, item.name))
    assert telling.calls == []


def test_a_job_is_described_with_the_same_facts_in_every_form(telling: Coordinator, home: Home) -> None:
    document = read(home, "describe", "tiny")
    shown = done(concord("describe", "tiny", "--home", home.path)).out
    del document["manifest"]["spec"]["bundle"]["files"]  # people see how many
    (recipient,) = document["manifest"]["spec"]["release"]["recipients"]
    recipient["key"] = key_id_of(bytes.fromhex(recipient["key"]))[:16]  # people see a digest
    figures = {
        name for item in document["rounds"] for name in ("metrics", "phaseSeconds", "weight", "bytesUp", "seconds")
    }
    for item in document["rounds"]:
        for name in figures:
            item.pop(name)
    for fact in leaves(document):
        assert str(fact) in shown or str(fact) in ("True", "False", "None"), fact
    for figure in ("0.5000", "0.8750", "3.0 MiB", "1.25", "2 of 10", "round 2.0 aborted: us did not answer"):
        assert figure in shown
    assert "3 members: no member may collude" in shown


def test_the_manifest_is_checked_against_the_readers_roll(telling: Coordinator, home: Home) -> None:
    assert "(signed by lead, a lead on your roll)" in done(concord("describe", "tiny", "--home", home.path)).out
    telling.jobs = [job_told(found("fr", "ke", "us"))]
    shown = done(concord("describe", "tiny", "--home", home.path)).out
    assert "IT DOES NOT CHECK against your roll" in shown
    telling.jobs = [job_told(telling.parties, manifest=telling.parties.submit(JOB + "  rounds: 3\n"))]
    shown = done(concord("describe", "tiny", "--home", home.path)).out
    assert "manifest: not shown, it does not check: The coordinator sent the manifest of another job" in shown
    assert "manifest" not in read(home, "describe", "tiny")


def test_an_empty_list_says_so_to_people_only(server: Coordinator, home: Home) -> None:
    answer = done(concord("get", "jobs", "--home", home.path))
    assert answer.err == "there are no jobs yet\n"
    assert read(home, "get", "jobs") == []


def test_the_installed_command_answers(telling: Coordinator, home: Home) -> None:
    """Each command that asks a coordinator, once, as it is installed."""
    expected = {
        ("get", "jobs"): "2/10",
        ("get", "nodes"): "fr-1",
        ("get", "members"): "Laboratory ke",
        ("describe", "tiny"): "why:     runs on fr-1, ke-1, us-1",
        (
            "logs",
            "tiny",
        ): "2026-01-31T12:00:01.000Z coordinator: submitted by lead\n2026-01-31T12:00:02.000Z fr: granted\n",
        ("watch", "tiny"): "job/tiny finished: runs on fr-1, ke-1, us-1\n",
        ("cancel", "tiny", "--reason", "wrong data"): "job/tiny withdrawn\n",
    }
    for words, part in expected.items():
        answer = done(typed("concord", *words, "--home", home.path, folder=home.path))
        assert part in answer.out, words
        remark = f"its curves are in {home.path / 'runs'}/tiny-" if words[0] == "watch" else ""
        assert answer.err.startswith(remark), words
        assert len(answer.err.splitlines()) == bool(remark), words
    for program, asked in (("concord", "version"), ("concord", "--version"), ("concord-node", "--version")):
        assert re.fullmatch(r"\d+\.\d+\.\d+\n", done(typed(program, asked, folder=home.path)).out)


def test_a_number_that_is_none_is_null(telling: Coordinator, home: Home) -> None:
    telling.jobs = [job_told(telling.parties, rounds=[round_told(1, metrics={"train/loss": float("nan")})])]
    document = read(home, "describe", "tiny")
    assert document["rounds"][0]["metrics"] == {"train/loss": None}


# ---------------------------------------------------------------------------------------------------------------- alignment


def test_columns_are_aligned_also_for_wide_letters(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table(("ID", "NAME", "END"), [("a", "東京大学", "x"), ("b", "Zürich", "x"), ("c", "e\u0301cole", "x")])
    lines = capsys.readouterr().out.splitlines()
    assert len({terminal.width_of(line[: line.rindex(line[-1])]) for line in lines[1:]}) == 1


def test_numbers_stand_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table(("UP", "X"), [("1 B", "a"), ("1000 B", "b")], numbers=("UP",))
    assert capsys.readouterr().out.splitlines() == ["    UP  X", "   1 B  a", "1000 B  b"]


@given(st.floats(0, 2**60))
@settings(max_examples=50, deadline=None)
def test_an_amount_has_a_unit_and_few_digits(count: float) -> None:
    number, unit = terminal.amount(count).split()
    assert unit in ("B", "KiB", "MiB", "GiB")
    assert unit == "GiB" or float(number) <= 1024


# ------------------------------------------------------------------------------------------------------------ hostile texts

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202egrevil\u2028\x00é"


def hostile(message: Any) -> Any:
    """The same message with terminal sequences in every text of it."""
    for part, value in message.ListFields():
        repeated = part.is_repeated if hasattr(part, "is_repeated") else part.label == FieldDescriptor.LABEL_REPEATED
        if part.type == FieldDescriptor.TYPE_STRING:
            if repeated:
                changed = [item + HOSTILE for item in value]
                del value[:]
                value.extend(changed)
            else:
                setattr(message, part.name, value + HOSTILE)
        elif part.type == FieldDescriptor.TYPE_MESSAGE:
            if part.message_type.GetOptions().map_entry:
                changed_map = {key + HOSTILE: number for key, number in value.items()}
                value.clear()
                value.update(changed_map)
            else:
                for item in value if repeated else [value]:
                    hostile(item)
    return message


def harmless(text: str) -> bool:
    return all(letter == "\n" or letter.isprintable() for letter in text)


def test_hostile_texts_are_hostile(telling: Coordinator) -> None:
    """The tests below would pass if nothing hostile were sent."""
    wire = hostile(telling.jobs[0]).SerializeToString() + hostile(telling.nodes[0]).SerializeToString()
    assert wire.count(HOSTILE.encode()) > 40


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_nothing_that_a_coordinator_tells_reaches_the_terminal_raw(telling: Coordinator, home: Home, form: str) -> None:
    telling.jobs = [hostile(telling.jobs[0])]
    telling.nodes = [hostile(node) for node in telling.nodes]
    name = telling.jobs[0].job.hex()
    for words in (("get", "jobs"), ("get", "nodes"), ("describe", name)):
        answer = done(concord(*words, "--home", home.path, "-o", form))
        assert "grevil" in answer.out
        assert harmless(answer.out + answer.err), words


def test_nothing_that_a_coordinator_streams_reaches_the_terminal_raw(telling: Coordinator, home: Home) -> None:
    telling.jobs = [hostile(telling.jobs[0])]
    telling.watched = [hostile(job_told(telling.parties)), job_told(telling.parties, state="failed", reason=HOSTILE)]
    telling.lines = [(HOSTILE, HOSTILE, HOSTILE)]
    name = telling.jobs[0].job.hex()
    for words in (("watch", name), ("logs", name), ("cancel", name)):
        answer = concord(*words, "--home", home.path)
        assert harmless(answer.out + answer.err), words
        assert "grevil" in answer.out, words


@pytest.mark.parametrize("words", [("get", "jobs"), ("describe", "x"), ("watch", "x"), ("logs", "x"), ("cancel", "x")])
def test_no_error_of_a_coordinator_reaches_the_terminal_raw(
    telling: Coordinator, home: Home, words: tuple[str, ...]
) -> None:
    telling.error = NotFound(f"no {HOSTILE}\nsecond", hint=f"try {HOSTILE}")
    answer = told_of(concord(*words, "--home", home.path), NotFound, "grevil", "second", "try")
    assert harmless(answer.err)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
@settings(max_examples=200, deadline=None)
def test_json_and_yaml_give_every_text_back_and_show_no_control_character(key: str, value: str) -> None:
    document = {"names": [value], key: value}
    for text, loads in zip((terminal.as_json(document), terminal.as_yaml(document)), READ, strict=True):
        assert harmless(text)
        assert loads(text) == document


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_a_plain_text_is_one_harmless_line(text: str) -> None:
    shown = terminal.plain(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert not any(unicodedata.category(letter) in ("Cc", "Cf") for letter in shown)


def test_views_hold_no_control_character(telling: Coordinator) -> None:
    """Whoever uses the SDK is safe as well; signed bytes stay as they are."""
    told = hostile(telling.jobs[0])
    job = job_of(told)
    texts = [value for value in leaves(job.as_summary()) if isinstance(value, str)]
    texts += [value for value in leaves(node_of(hostile(telling.nodes[0])).as_document()) if isinstance(value, str)]
    assert all(text.isprintable() for text in texts)
    assert (job.manifest, job.digest) == (told.manifest, told.job)


# ------------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("code", sorted(TABLE))
def test_an_error_of_the_coordinator_keeps_its_words_and_its_exit_code(
    telling: Coordinator, home: Home, code: str
) -> None:
    if code == ProtocolViolation.code:
        error: FederationError = ProtocolViolation("It went wrong.", check="x", hint="Do this.")
    else:
        error = ERRORS[code]("It went wrong.", hint="Do this.")
    telling.error = error
    answer = concord("get", "jobs", "--home", home.path)
    said = f"error: It went wrong.\n  what to do: Do this.\n  see: docs/reference/errors.md#{code}\n"
    assert answer == Said(exit_code(error), "", said)


@pytest.mark.parametrize("code", sorted(TABLE))
def test_an_error_without_advice_gets_some(telling: Coordinator, home: Home, code: str) -> None:
    kind = ERRORS.get(code)
    telling.error = kind("It went wrong.") if kind else ProtocolViolation("It went wrong.", check="x")
    assert f"  what to do: {ADVICE[code]}\n" in concord("get", "jobs", "--home", home.path).err


def test_there_is_advice_for_every_error() -> None:
    assert set(ADVICE) == set(TABLE)


def test_what_nobody_foresaw_shows_its_trace_only_when_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> int:
        try:
            raise ZeroDivisionError("division by zero")
        except ZeroDivisionError as error:
            return failure.report(error)

    assert broken() == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "something unexpected happened: ZeroDivisionError" in said
    monkeypatch.setenv("CONCORD_DEBUG", "1")
    assert broken() == 1
    assert "Traceback" in capsys.readouterr().err
