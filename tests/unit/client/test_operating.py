"""`concord-coordinator` before it runs: homes, the roll, tickets; bad input is told and leaves nothing behind."""

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordinator.client.enrolment import read_ticket
from coordinator.main import main
from federation.audit.checkpoint import VerifierKey
from federation.audit.named_key import log_key_of
from federation.errors import FederationError, InvalidIdentity, InvalidUsage, NotFound
from federation.identity.roll import Roll
from tests.unit.client.founding import Cast
from tests.unit.client.typed import BIN, Said, done, inside, mode, refused, tree, typed


def operator(folder: Path, *words: str | Path) -> Said:
    """Inside this process, and there in ``folder``."""
    with contextlib.chdir(folder):
        return inside(main, "concord-coordinator", *words)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coordinator that listens everywhere, and holds the roll of three members."""
    folder = tmp_path_factory.mktemp("operating")
    Cast(folder).found()
    done(operator(folder, "init", "--home", "c", "--federation", "atlas", "--listen", "0.0.0.0:7443"))
    answer = done(operator(folder, "found", "--home", "c", "--roll", "roll.json"))
    assert (answer.out, "atlas: 3 members" in answer.err) == ("", True)
    return folder


def test_keys_are_readable_by_the_operator_alone(founded: Path) -> None:
    assert mode(founded / "c") == 0o700
    keys = list((founded / "c" / "keys").iterdir())
    assert {path.name for path in keys} >= {"ca.key", "release.key"}
    assert all(mode(path) == 0o600 for path in keys)


BAD: dict[str, tuple[tuple[str, ...], type[FederationError], str]] = {
    "name": (("--federation", "Big Lab"), InvalidIdentity, "'Big Lab' is not a valid name"),
    "listen": (
        ("--federation", "atlas", "--listen", "nonsense"),
        InvalidUsage,
        "--listen 'nonsense' is not an address",
    ),
    "port": (("--federation", "atlas", "--listen", "h:99999"), InvalidUsage, "--listen 'h:99999' is not an address"),
    "metrics": (("--federation", "atlas", "--metrics", "9464"), InvalidUsage, "--metrics '9464' is not an address"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_home_is_made_whole_or_not_at_all(tmp_path: Path, how: str) -> None:
    words, kind, told = BAD[how]
    refused(operator(tmp_path, "init", "--home", "c", *words), kind, told)
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_made_once(founded: Path) -> None:
    before = tree(founded / "c" / "keys")
    refused(operator(founded, "init", "--home", "c", "--federation", "atlas"), InvalidUsage, "is a coordinator's home")
    assert tree(founded / "c" / "keys") == before


def test_a_roll_that_is_not_signed_by_all_is_not_taken(founded: Path, tmp_path: Path) -> None:
    cast = Cast(tmp_path)
    cast.found()
    cast.roll.unlink()
    done(cast.draft())
    done(cast.sign("br"))
    done(operator(tmp_path, "init", "--home", "c", "--federation", "atlas"))
    refused(
        operator(tmp_path, "found", "--home", "c", "--roll", "roll.json"), InvalidIdentity, "roll.json", "signed by in"
    )
    refused(operator(tmp_path, "found", "--home", "c", "--roll", "none"), NotFound, "none does not exist")
    (tmp_path / "text").write_text("{}")
    refused(operator(tmp_path, "found", "--home", "c", "--roll", "text"), InvalidIdentity, "text: ")


def test_the_founding_members_name_the_logs_key_and_another_coordinator_cannot_take_their_roll(tmp_path: Path) -> None:
    cast = Cast(tmp_path)
    cast.found()
    cast.roll.unlink()
    for home in ("c", "other"):
        done(operator(tmp_path, "init", "--home", home, "--federation", "atlas"))
    key = (tmp_path / "c" / "log.key.pub").read_text().strip()
    done(cast.draft(log_key=tmp_path / "c" / "log.key.pub"))
    for member in ("br", "in", "ke"):
        assert key in done(cast.sign(member)).err, "who signs sees which key"
    refused(
        operator(tmp_path, "found", "--home", "other", "--roll", "roll.json"),
        InvalidUsage, "names another key for the public log", "by vote",
    )  # fmt: skip
    assert "warning" not in done(operator(tmp_path, "found", "--home", "c", "--roll", "roll.json")).err
    assert log_key_of(Roll.open(cast.roll.read_bytes())) == VerifierKey.parse(key)


def test_a_roll_that_names_no_key_is_taken_with_a_warning(tmp_path: Path) -> None:
    cast = Cast(tmp_path)
    cast.found()
    done(operator(tmp_path, "init", "--home", "c", "--federation", "atlas"))
    assert "believes the first" in done(operator(tmp_path, "found", "--home", "c", "--roll", "roll.json")).err


def test_a_ticket_is_for_its_reader_alone_and_names_an_address_that_others_reach(founded: Path) -> None:
    words = ("ticket", "--home", "c", "--lead", "ana", "--out", "ana-ticket.json")
    refused(operator(founded, *words), InvalidUsage, "listens on every address", "--address")
    refused(operator(founded, *words, "--address", "here"), InvalidUsage, "--address 'here' is not an address")
    answer = done(operator(founded, *words, "--address", "concord.example.org:7443"))
    assert "ticket for lead ana: ana-ticket.json (good once, for 24 h)" in answer.err
    path = founded / "ana-ticket.json"
    assert mode(path) == 0o600
    ticket = read_ticket(path, datetime.now(UTC))
    assert (ticket.endpoint.address, ticket.principal.name) == ("concord.example.org:7443", "ana")
    assert json.loads(path.read_text())["token"] not in answer.err
    refused(operator(founded, *words, "--address", "concord.example.org:7443"), InvalidUsage, "is there already")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--lead", "eve"), "'eve' is not a lead on the roll"),
        (("--member", "zz", "--node", "n"), "'zz' is not a member on the roll"),
        (("--member", "br"), "one node, lead, officer or operator"),
        (("--lead", "ana", "--operator", "bob"), "one node, lead, officer or operator"),
        ((), "one node, lead, officer or operator"),
        (("--lead", "ana", "--hours", "nan"), "--hours nan is no number of hours"),
    ],
)
def test_a_ticket_is_for_one_who_is_on_the_roll(founded: Path, words: tuple[str, ...], told: str) -> None:
    answer = operator(founded, "ticket", "--home", "c", "--out", "no.json", "--address", "h:1", *words)
    refused(answer, InvalidIdentity if "roll" in told else InvalidUsage, told)
    assert not (founded / "no.json").exists()


def test_a_folder_that_is_no_home(tmp_path: Path) -> None:
    for words in (("run",), ("ticket", "--lead", "ana", "--out", "t.json")):
        refused(operator(tmp_path, *words, "--home", "c"), InvalidUsage, "is not a coordinator's home", "init --home")
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_makes_a_home(tmp_path: Path) -> None:
    words = ("init", "--home", "c", "--federation", "atlas")
    made = done(typed("concord-coordinator", *words, folder=tmp_path))
    assert made == Said(
        0,
        "",
        "made c; whoever drafts the roll names the log's key: concord roll draft --log-key c/log.key.pub\n"
        "then: concord-coordinator found --home c --roll roll.json\n",
    )
    assert (tmp_path / "c" / "log.key.pub").read_text().startswith("concord/atlas+")
    refused(typed("concord-coordinator", *words, folder=tmp_path), InvalidUsage, "is a coordinator's home already")


def test_all_programs_tell_their_commands() -> None:
    for program in ("concord", "concord-node", "concord-coordinator"):
        answer = done(typed(program, "--help", folder=BIN))
        assert f"Usage: {program} [OPTIONS] COMMAND" in answer.out
        assert answer.err == ""
