"""Entering the federation: a home is made once, and joins wholly or not at all; what does not fit is refused with advice."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from federation.errors import FederationError, InvalidIdentity, InvalidUsage, NotFound, Unavailable
from federation.identity.credential import open_node_request
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.identity.transport import Principal, TransportKey, principal_of
from federation.policy.rules import load_policy
from node_agent.enrolment import read_ticket
from tests.unit.agent import deaths_of_homes
from tests.unit.agent.homes import DAY, OWN, Site, federation_of, issuing, serving
from tests.unit.agent.killed import alone, tree


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A lab that has its home, and a coordinator that answers."""
    site = Site(tmp_path)
    site.server = serving(site.parties)
    site.init()
    yield site
    site.server.stop()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------------------------------------------------------------- init


def test_a_new_home_is_private_and_takes_part_in_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.init()
    home = site.home
    files = [path for path in home.root.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {mode(path) for path in files} == {0o600}
    assert {mode(path) for path in (home.root, home.jobs, home.identity_key.parent)} == {0o700}
    rules = load_policy(home.policy_file.read_text(), "policy.yaml").rules
    assert (rules.leads, rules.jurisdictions, rules.data_sets, rules.minimum_cohort) == (None, None, None, None)
    settings = home.settings()
    assert (settings.federation, settings.member, settings.node, settings.address) == ("health", "fr", "fr-1", "")


def test_the_request_holds_the_names_and_the_public_key_alone(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.init()
    home, request = site.home, site.request.read_bytes()
    opened = open_node_request(request)
    key = SigningKey.from_pem(home.identity_key.read_bytes())
    assert (opened.federation, opened.member, opened.node, opened.identity_key) == ("health", "fr", "fr-1", key.public)
    for secret in (home.identity_key, home.transport_key):
        for line in secret.read_bytes().splitlines()[1:-1]:
            assert line not in request


def test_a_second_init_changes_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.init()
    before = tree(tmp_path)
    for changes in ({}, {"node": "fr-2"}, {"out": tmp_path / "another.json"}):
        with pytest.raises(InvalidUsage, match="is a node's home already") as said:
            site.init(**changes)
        assert said.value.hint == "Nothing was changed. Use another folder."
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["federation", "member", "node"])
@pytest.mark.parametrize("value", ["", "FR", "fr_1", "../x", "a" * 64, "fr\n"])
def test_a_name_that_no_certificate_could_carry_makes_nothing(tmp_path: Path, name: str, value: str) -> None:
    site = Site(tmp_path)
    with pytest.raises(FederationError, match=f"{name} .* is not a valid name") as said:
        site.init(**{name: value})
    assert said.value.hint.startswith("Use 1 to 63 lower-case letters")
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "folder", tmp_path / "file" / "request.json"):
        with pytest.raises(InvalidUsage, match="cannot be written") as said:
            site.init(out=out)
        assert str(out.parent) in said.value.message
        assert "run it again" in said.value.hint
    key = site.home.identity_key.read_bytes()
    site.init()
    assert site.home.identity_key.read_bytes() == key
    with pytest.raises(InvalidUsage, match=r"file/home cannot be written: Not a directory"):
        site.init(home=tmp_path / "file" / "home")


# ---------------------------------------------------------------------------------------------------------------------- join


def test_a_ticket_and_a_credential_make_a_node_of_the_federation(site: Site) -> None:
    keys = {path: path.read_bytes() for path in (site.home.identity_key, site.home.transport_key)}
    assert site.join() == f"straight to {site.server.address} (loopback)"
    home = site.home
    assert home.settings().address == site.server.address
    assert Roll.open(home.roll.read_bytes()).digest == site.parties.roll.digest
    named = principal_of(home.transport_certificate.read_bytes())
    assert (named.kind, named.member, named.node, named.federation) == ("node", "fr", "fr-1", "health")
    assert home.ca.read_bytes() == site.authority.certificate_pem
    assert {path: path.read_bytes() for path in keys} == keys
    assert {mode(path) for path in home.root.rglob("*") if path.is_file()} == {0o600}
    held = b"".join(data for data in tree(home.root).values() if data is not None)
    assert b"secret-token" not in held


def test_joining_again_keeps_keys_policy_and_data_sets(site: Site, tmp_path: Path) -> None:
    site.join()
    home = site.home
    home.policy_file.write_text("my own policy")
    settings = home.settings().model_dump(by_alias=True)
    home.save(type(home.settings()).model_validate({**settings, "dataSets": {"scans": {"path": "/d", "examples": 9}}}))
    before = tree(home.root)
    site.join(
        roll=site.roll_file(), credential=site.path / "credential.json"
    )  # the same: a fresh one has the second of its own
    after = tree(home.root)
    assert {name for name in after if after[name] != before[name]} == {"transport.pem"}
    assert home.settings().data_sets["scans"].examples == 9


def unchanged(site: Site, work: Callable[[], object]) -> Callable[[], object]:
    """``work``, which must leave the home as it was."""

    def checked() -> None:
        before = tree(site.home.root)
        try:
            work()
        finally:
            assert tree(site.home.root) == before

    return checked


def refused(site: Site, work: Callable[[], object], words: str, hint: str, kind: type = InvalidIdentity) -> None:
    with pytest.raises(kind) as said:
        unchanged(site, work)()
    assert words in said.value.message, said.value.message
    assert hint in said.value.hint, said.value.hint
    for text in (str(said.value), said.value.hint, repr(said.value)):
        assert "secret-token" not in text


UNUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "of another federation": ({"federation": "atlas"}, "The ticket is for atlas", "was not used"),
    "another node's": (
        {"subject": {"kind": "node", "member": "fr", "node": "fr-2"}},
        "is not for node fr-1 of fr",
        "was not used",
    ),
    "another member's": ({"subject": {"kind": "node", "member": "ke", "node": "fr-1"}}, "is not for", "was not used"),
    "a lead's": ({"subject": {"kind": "lead", "lead": "ada"}}, "is not for node", "was not used"),
    "expired": ({"expires": "2026-01-31T12:00:00Z"}, "expired on 2026-01-31 12:00 UTC", "new one"),
    "without a subject": ({"subject": None}, "is not a ticket", "Ask the coordinator's operator"),
    "without a date": ({"expires": "soon"}, "is not a ticket", "Ask the coordinator's operator"),
    "without a CA": ({"caPem": None}, "is not a ticket", "Ask the coordinator's operator"),
}


@pytest.mark.parametrize("how", UNUSED)
def test_a_ticket_that_cannot_work_is_not_used_up(site: Site, how: str) -> None:
    changes, words, hint = UNUSED[how]
    refused(site, lambda: site.join(ticket=site.ticket(**changes)), words, hint)
    assert site.server.calls == []


def test_a_ticket_that_others_may_read_is_refused_before_it_is_used(site: Site) -> None:
    ticket = site.ticket()
    ticket.chmod(0o640)
    refused(site, lambda: site.join(ticket=ticket), "Other users of this machine may read", "chmod 600")
    assert site.server.calls == []
    ticket.chmod(0o600)
    site.join(ticket=ticket)


def test_what_is_no_ticket_is_refused_by_name(site: Site, tmp_path: Path) -> None:
    for content in (b"", b"[]", b"{", b"\xff", b'"ticket"', b"9" * 100):
        refused(site, lambda: site.join(ticket=site.keep("t", content)), "is not a ticket", "Ask")  # noqa: B023
    refused(site, lambda: site.join(ticket=tmp_path / "none"), "cannot be read: No such file", "Check", InvalidUsage)
    large = site.keep("t", b" " * (1 << 21))
    refused(site, lambda: site.join(ticket=large), "is larger than", "", InvalidUsage)
    assert site.server.calls == []


def test_a_ticket_never_shows_its_secrets(site: Site) -> None:
    ticket = read_ticket(site.ticket())
    for shown in (repr(ticket), str(ticket)):
        assert "secret-token" not in shown
        assert "PRIVATE KEY" not in shown
    assert ticket.token == "secret-token"


def test_a_coordinator_with_another_roll_is_refused(site: Site) -> None:
    """The node's officer gave it a roll; the coordinator may not choose the members."""
    other = federation_of()
    site.server.roll = other.roll.envelope
    work = lambda: site.join(roll=site.roll_file())  # noqa: E731
    refused(site, work, "another membership roll than the one that you hold", "Ask your member's officer")


def test_a_roll_without_this_node_s_officer_is_refused(site: Site) -> None:
    for parties, words in (
        (federation_of(), "not signed by the officer of fr"),
        (federation_of(("ch", "ke", "no")), "'fr' is not a member on the roll"),
    ):
        site.server.roll = parties.roll.envelope
        refused(site, site.join, words, "")
        refused(site, lambda: site.join(roll=site.roll_file(parties)), words, "")  # noqa: B023


def test_a_roll_of_another_federation_is_refused(site: Site) -> None:
    other = federation_of(name="atlas")
    site.server.roll = other.roll.envelope
    refused(site, site.join, "The roll is of atlas", "Nothing was stored")
    calls = len(site.server.calls)
    refused(site, lambda: site.join(roll=site.roll_file(other)), "The roll is of atlas", "Nothing was stored")
    assert len(site.server.calls) == calls


@pytest.mark.parametrize("roll", [b"{}", b"", b"\x00" * 100, b"not a roll"])
def test_what_is_no_roll_is_refused(site: Site, roll: bytes) -> None:
    refused(site, lambda: site.join(roll=site.keep("r", roll)), "", "")
    assert site.server.calls == []
    site.server.roll = roll or b"?"
    refused(site, site.join, "", "")


def test_a_credential_for_another_node_or_key_is_refused_before_the_ticket_is_used(site: Site, tmp_path: Path) -> None:
    roll = site.roll_file()
    other = Site(tmp_path / "other", site.parties)
    other.path.mkdir()
    other.init()
    foreign = other.credential()  # the same names, another key
    refused(site, lambda: site.join(roll=roll, credential=foreign), "not for this one", "this node's own request")
    ended = site.credential(ends=timedelta(days=-1))
    refused(site, lambda: site.join(roll=roll, credential=ended), "is valid from", "sign a fresh one")
    refused(site, lambda: site.join(roll=roll, credential=site.keep("c", b"{}")), "", "")
    refused(
        site,
        lambda: site.join(roll=roll, credential=tmp_path / "none"),
        "cannot be read",
        "Check the path",
        InvalidUsage,
    )
    assert site.server.calls == []


def for_another_key(site: Site) -> Any:
    public = TransportKey.generate().private.public_key()
    return lambda _csr, _principal: site.authority.issue_for(public, OWN, datetime.now(UTC), DAY)


def for_another_node(site: Site) -> Any:
    return issuing(site.authority, Principal("node", "fr", "fr-2"))


def for_a_lead(site: Site) -> Any:
    return issuing(site.authority, Principal("lead", name="lead"))


def of_another_federation(_site: Site) -> Any:
    return issuing(type(_site.authority).create("atlas", datetime.now(UTC)))


@pytest.mark.parametrize("lie", [for_another_key, for_another_node, for_a_lead, of_another_federation])
def test_a_certificate_for_somebody_else_is_not_kept(site: Site, lie: Callable[[Site], Any]) -> None:
    site.server.issued = lie(site)
    refused(site, site.join, "issued a certificate for another node", "Nothing was stored. Tell its operator.")


@pytest.mark.parametrize("answer", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_not_kept(site: Site, answer: bytes) -> None:
    site.server.issued = lambda _csr, _principal: answer
    refused(site, site.join, "", "")


def test_what_the_coordinator_says_is_said(site: Site) -> None:
    site.server.error = InvalidIdentity("The ticket was used before.", hint="Ask for a new one.")
    refused(site, site.join, "The ticket was used before", "Ask for a new one")


def test_a_coordinator_that_is_not_there_or_is_another_one(site: Site, tmp_path: Path) -> None:
    ticket = site.ticket(caPem=Site(tmp_path).authority.certificate_pem.decode())
    refused(site, lambda: site.join(ticket=ticket), "does not show a certificate of this", "ask the operator")
    ticket = site.ticket()
    site.server.stop()
    refused(site, lambda: site.join(ticket=ticket), "cannot be reached", "Is it running", Unavailable)


def test_joining_without_a_home_says_to_make_one(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with pytest.raises(NotFound, match=r"node\.yaml is missing") as said:
        site.join(credential=site.keep("c", b"{}"))
    assert "concord-node init" in said.value.hint


# ------------------------------------------------------------------------------------------------------------ in the middle


def test_a_kill_at_any_step_leaves_the_home_as_it_was_or_whole(tmp_path: Path) -> None:
    alone(deaths_of_homes.init_and_join, tmp_path)
