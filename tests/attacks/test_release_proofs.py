"""Proofs in a release under attack: another log, a fork of it, a head that nobody cosigned, entries that are missing, moved, or
about something else; and what the log holds against a release, hidden. The verifier has files alone, and anybody may list them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from federation.audit.checkpoint import ED25519, VerifierKey, log_key
from federation.audit.entry import Entry, entry_of, open_entry
from federation.audit.excerpt import Excerpt
from federation.errors import VerificationFailed
from federation.identity.keys import SigningKey
from federation.releases.listing import LOG, consent_path, revocation_path
from federation.releases.logged import check_key
from federation.releases.verify import NOTHING_KNOWN, Known, verify
from tests.unit.releases.released import LOG_KEY, LOGGED, VOTED, Files, Training, relisted, trained, whole

MEMBER = "m2"


def world() -> Training:
    return trained(charter=VOTED)


@cache
def _inputs() -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return world().inputs(Path(folder)) | {"decision": world().decided("m1", "m2")}


@cache
def _released() -> Files:
    with TemporaryDirectory() as folder:
        return whole(world().release(Path(folder), decision=world().decided("m1", "m2")))


def released() -> Files:
    return dict(_released())


def entries() -> list[bytes]:
    return world().entries(_inputs())


def said(files: Files, name: str = "log", known: Known = NOTHING_KNOWN) -> str:
    """Why this check fails."""
    (check,) = [each for each in verify(files, known=known).checks if each.name == name]
    assert not check.ok, check.detail
    return check.detail


def under(excerpt: Excerpt, files: Files | None = None) -> Files:
    return relisted((files or released()) | {LOG: excerpt.encode()})


def place(kind: str, **fields: str) -> int:
    """Of the entry about this job that says so."""
    found = [
        number
        for number, entry in enumerate(map(open_entry, entries()))
        if entry.kind == kind and all(entry.fields.get(name) == text for name, text in fields.items())
    ]
    assert len(found) == 1, found
    return found[0]


def about(kind: str, subject: str, document: bytes | None = None) -> bytes:
    return entry_of(kind, subject, document, LOGGED + 100).encode()


# ---------------------------------------------------------------------------------------------- which log, and who vouches


def test_a_release_with_proofs_of_another_log() -> None:
    """Signed by another key, by another federation's log, and cosigned: what the members' nodes cosigned bears their names."""
    other = SigningKey.generate()
    foreign = under(world().excerpt(entries(), key=other))
    trusted = Known(log_key=log_key("health", LOG_KEY.public))
    assert not [check for check in verify(released(), known=trusted).checks if not check.ok]
    assert "The proofs are of another log: its key is concord/health+" in said(foreign, known=trusted)
    elsewhere = under(world().excerpt(entries(), federation="other"))
    assert "The proofs are of the log concord/other, and the federation's is concord/health" in said(elsewhere)
    renamed = world().excerpt(entries(), federation="other")
    renamed = replace(renamed, key=log_key("health", LOG_KEY.public))
    assert "is of the log concord/other" in said(under(renamed))
    typed = replace(world().excerpt(entries()), key=VerifierKey("concord/health", 4, LOG_KEY.public))
    assert typed.key.kind != ED25519
    assert said(under(typed))


def test_a_release_with_proofs_of_a_log_that_no_charter_names() -> None:
    """Where the members' charter names the log's key, nobody else's word counts, and it needs no copy of the log to see it."""
    seat = replace(VOTED.coordinator, log=log_key("health", LOG_KEY.public))
    named = trained(charter=replace(VOTED, coordinator=seat))
    with TemporaryDirectory() as folder:
        inputs = named.inputs(Path(folder)) | {"decision": named.decided("m1", "m2")}
        files = whole(named.release(Path(folder), decision=inputs["decision"]))
        whole_log = named.entries(inputs)
    good = {check.name: check for check in verify(files).checks}
    assert good["log"].ok
    assert "The log's key is one that the members' charter names." in good["log"].detail
    other = named.excerpt(whole_log, key=SigningKey.generate())
    found = said(under(other, files))
    assert "The proofs are of another log: its key is" in found
    assert f"and the members' charter names {log_key('health', LOG_KEY.public)}" in found
    assert "the one that is trusted is" in said(files, known=Known(log_key=other.key)), "and the reader is asked"


def test_after_a_change_of_the_logs_key_by_vote_both_are_the_same_log() -> None:
    """The tree goes on: a reader who knows the new key takes the older release, whose roll named the key before."""
    excerpt, new = world().excerpt(entries()), log_key("health", SigningKey.generate().public)
    charter = (new, excerpt.key)
    check_key(excerpt.key, "health", new, charter)
    with pytest.raises(VerificationFailed, match="the one that is trusted is"):
        check_key(excerpt.key, "health", log_key("health", SigningKey.generate().public), charter)
    with pytest.raises(VerificationFailed, match="the members' charter names"):
        check_key(log_key("health", SigningKey.generate().public), "health", None, charter)


def test_a_release_with_proofs_of_a_fork() -> None:
    """The log's own key signed another history, in which the job looks better. Its witnesses follow one: a fork has no quorum."""
    forked = [*entries()[:-1], about("submission", "aa" * 32, bytes(32))]
    for witnesses in ((), ("m1",)):
        found = said(under(world().excerpt(forked, witnesses=witnesses)))
        assert f"is cosigned by {len(witnesses)} of the members of the release's last roster" in found
        assert "and 2 are needed" in found
    true, false = world().excerpt(entries()), world().excerpt(forked, witnesses=())
    carried_over = b"".join(true.note.splitlines(keepends=True)[-3:])
    assert carried_over.count(b"concord/health/m") == 3
    assert "does not check" in said(under(replace(false, note=false.note + carried_over))), (
        "cosignatures of the other head"
    )
    assert "are not those of the log" in said(under(replace(true, entries=tuple(forked[5:])))), "the true head over it"


def test_cosignatures_of_strangers_and_of_one_twice_count_for_nothing() -> None:
    stranger = world().excerpt(entries(), witnesses=("m9", "m8"))
    assert "bears other signatures than the log's and those of the release's own witnesses" in said(under(stranger))
    once = world().excerpt(entries(), witnesses=("m1",))
    line = once.note.splitlines(keepends=True)[-1]
    assert "bears other signatures" in said(under(replace(once, note=once.note + line)))
    assert "is cosigned by 1 of the members" in said(under(once))


def test_a_release_without_its_proofs() -> None:
    files = released()
    del files[LOG]
    assert "The release lacks log.json" in said(relisted(files))


# -------------------------------------------------------------------------------------------------- what the entries say


@pytest.mark.parametrize(
    ("kind", "fields", "what"),
    [
        ("submission", {"job": "{job}"}, "the job"),
        ("consent", {"member": MEMBER}, "the consent of m2"),
        ("roster", {"epoch": "1"}, "the roster of epoch 1"),
        ("round-closed", {"round": "2"}, "the cohort of round 2"),
        ("certificate", {"round": "3"}, "the model after round 3"),
        ("release", {"state": "approved"}, "the members' vote on the release"),
    ],
)
def test_an_entry_that_is_missing_or_about_another_document(kind: str, fields: dict[str, str], what: str) -> None:
    """In a log that the coordinator wrote so from the start, and that everybody cosigned: it does not fit this release."""
    job = world().job.digest.hex()
    number, whole_log = place(kind, **{name: text.format(job=job) for name, text in fields.items()}), entries()
    missing = [*whole_log[:number], *whole_log[number + 1 :]]
    assert f"The excerpt of the log has no entry about {what}" in said(under(world().excerpt(missing)))
    entry = open_entry(whole_log[number])
    for document in (None, b"\5" * 32):
        other = Entry(entry.kind, entry.time, entry.fields, document).encode()
        altered = [*whole_log[:number], other, *whole_log[number + 1 :]]
        assert f"The log has another document as {what} than this release carries" in said(
            under(world().excerpt(altered))
        )


def test_entries_in_another_order() -> None:
    whole_log = entries()
    for kind, fields in (
        ("roster", {"epoch": "1"}),
        ("round-closed", {"round": "1"}),
        ("certificate", {"round": "2"}),
    ):
        number = place(kind, **fields)
        late = [*whole_log[:number], *whole_log[number + 1 :], whole_log[number]]
        assert "comes before what it rests on" in said(under(world().excerpt(late)))
    consent = place("consent", member=MEMBER)
    late = [*whole_log[:consent], *whole_log[consent + 1 :], whole_log[consent]]
    assert "m2 was in the roster of epoch 1 before it consented" in said(under(world().excerpt(late)))
    vote = place("release", state="approved")
    early = [*whole_log[:vote], *whole_log[vote + 1 :]]
    early.insert(place("roster", epoch="1"), whole_log[vote])
    assert "the members' vote on the release comes before" in said(under(world().excerpt(early)))


def test_an_excerpt_that_begins_after_the_submission_or_before() -> None:
    """Between the submission and the head nothing may be left out: there a revocation could be."""
    for first in (4, 6):
        found = said(under(world().excerpt(entries(), first=first)))
        assert "does not begin with the job's submission" in found or "no entry about the job" in found


# ----------------------------------------------------------------------------------------------- what speaks against it


def revoked(*, logged_at: int | None = None, **changes: Any) -> tuple[Files, list[bytes], bytes]:
    """A release whose m2 took its consent back; where in the log."""
    inputs = _inputs()
    envelope = world().revocation(MEMBER, inputs["consents"][MEMBER], **changes)
    whole_log = world().entries(inputs | {"revocations": {MEMBER: envelope}})
    number = next(number for number, entry in enumerate(whole_log) if b'"revocation"' in entry)
    if logged_at is not None:
        whole_log.insert(logged_at, whole_log.pop(number))
    files = released() | {revocation_path(MEMBER): envelope}
    return under(world().excerpt(whole_log), files), whole_log, envelope


def test_a_revocation_that_the_log_holds_is_hidden_from_the_release() -> None:
    """Its file is left out, or another stands in its place. The entry cannot be: the excerpt is whole."""
    files, whole_log, _ = revoked()
    hidden = {path: data for path, data in files.items() if path != revocation_path(MEMBER)}
    assert "m2 took its consent back" in said(relisted(hidden))
    assert "the release hides it" in said(relisted(hidden))
    others = world().revocation(MEMBER, _inputs()["consents"][MEMBER], cause="expired", by="policy")
    assert "the release hides it" in said(relisted(files | {revocation_path(MEMBER): others}))
    without = [entry for entry in whole_log if b'"revocation"' not in entry]
    cut = replace(world().excerpt(whole_log), entries=tuple(without[5:]))
    assert "are not those of the log" in said(under(cut, hidden))


def test_a_revocation_of_another_consent_job_or_member_is_none() -> None:
    consent = _inputs()["consents"][MEMBER]
    files = released()
    for envelope, text in (
        (world().revocation(MEMBER, b"another"), "is of another consent"),
        (world().revocation(MEMBER, consent, job=bytes(32)), "is of another consent"),
        (world().revocation("m1", consent), "not signed by the node"),
    ):
        assert text in said(relisted(files | {revocation_path(MEMBER): envelope}), "consents")
    strange = files | {"revocations/m9.json": world().revocation(MEMBER, consent)}
    assert "is of nobody who consented" in said(relisted(strange), "consents")
    true = files | {revocation_path(MEMBER): world().revocation(MEMBER, consent)}
    assert "no entry about the revocation of m2" in said(relisted(true)), "it would be in no log"


def test_a_member_that_took_its_consent_back_counts_in_no_later_round() -> None:
    """What it had uploaded before may still be summed once; a second cohort with it was made without its consent."""
    files, _, _ = revoked(logged_at=place("round-closed", round="1"))
    assert "m2 took its consent back before round 1 closed, and round 2 counts it still" in said(files)
    files, _, _ = revoked(logged_at=place("round-closed", round="3"))
    good = {check.name: check for check in verify(files).checks}
    assert good["log"].ok
    assert "m2 (consent revoked by the lab (officer) at" in good["revocations"].detail
    assert "before round 3 closed, and counts in none after it" in good["revocations"].detail


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (lambda job, _subject: about("job-state", f"{job} stopped"), "the job was stopped"),
        (lambda job, _subject: about("job-state", f"{job} withdrawn"), "the job was withdrawn"),
        (lambda job, _subject: about("job-state", f"{job} failed"), "the job was failed"),
        (lambda job, _subject: about("release", f"job={job} state=withheld"), "the release was withheld"),
        (lambda job, subject: about("recall", f"job={job} release={subject}", bytes(32)), "the release was recalled"),
    ],
)
def test_what_ended_the_job_or_its_release_in_the_log(entry: Callable[[str, str], bytes], text: str) -> None:
    against = entry(world().job.digest.hex(), world().subject.hex())
    assert text in said(under(world().excerpt([*entries(), against])))


def test_what_the_log_says_of_others_is_nothing_to_this_release() -> None:
    others: Sequence[bytes] = (
        about("job-state", f"{'ab' * 32} stopped"),
        about("recall", f"release={'ab' * 32}", bytes(32)),
        about("revocation", f"{'ab' * 32} m2 node", bytes(32)),
    )
    files = under(world().excerpt([*entries(), *others]))
    assert {check.name for check in verify(files).checks if not check.ok} <= {"bom", "card", "config"}


def test_nothing_is_made_that_would_not_pass() -> None:
    """The coordinator finds it out itself, before anything is published."""
    for log, text in (
        (world().excerpt(entries(), witnesses=("m1",)), "and 2 are needed"),
        (world().excerpt(entries()[:-4]), "no entry about"),
    ):
        with TemporaryDirectory() as folder, pytest.raises(VerificationFailed, match=text):
            world().release(Path(folder), decision=world().decided("m1", "m2"), log=log.encode())


def test_the_consents_are_those_that_stood_in_the_log() -> None:
    """A node signed two answers; the one that the log has counts."""
    files = released() | {consent_path(MEMBER): world().consent(MEMBER, reasons=("by another rule",))}
    assert "The log has another document as the consent of m2" in said(relisted(files))
