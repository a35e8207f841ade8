"""`concord-node explain JOB` and `forget JOB`: what this lab answered to a job, what its rules said word for word, what came after.

For whoever looks years later: the verdict is the document whose digest the signed answer binds, and names each file of rules that
was in force by its digest. Nothing here asks the rules of today.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from federation.errors import FederationError, InvalidUsage, NotFound, plain
from federation.identity.consent import MAX_ENVELOPE, Consent, read_consent
from federation.identity.envelope import open_envelope
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.revocation import KIND, Revocation, read_revocation
from node_agent.consent.inbox import HEX, MIN_PREFIX
from node_agent.policy_commands import verdict_lines
from node_agent.settings import Home
from node_agent.store.journal import ConsentRecord, Journal
from node_agent.store.revocations import LIMIT, Revocations
from node_agent.store.verdicts import KeptVerdict

GIVEN: Final = {"rule": "by the lab's rules alone", "person": "by a person", "study": "inside a study"}


@dataclass(frozen=True, slots=True)
class Account:
    record: ConsentRecord
    answer: Consent | None
    """as this node signed it; None where the envelope does not check"""
    verdicts: tuple[KeptVerdict, ...]
    state: str
    """of the job here; empty where the lab never worked on it"""
    ended: Revocation | None
    words: str
    """why it ended, for the lab alone"""

    @property
    def bound(self) -> KeptVerdict | None:
        """The verdict that the signed answer binds, if it is kept; of a denial, which binds none, the one that it came with."""
        answered = [each for each in self.verdicts if each.occasion == "answered"]
        if self.answer is not None and self.answer.binds is not None:
            answered = [each for each in answered if each.digest == self.answer.binds.verdict]
        return answered[-1] if answered else None


def account_of(home: Home, wanted: str) -> Account:
    """By name (the newest), digest, or its first digits. Raises NotFound, InvalidUsage where no node's home is."""
    home.settings()
    if not home.journal.exists() or not home.journal.stat().st_size:
        raise NotFound("Nothing was asked of this node yet.", hint="See: concord-node consents")
    with Journal(home.journal, read_only=True) as journal:
        record = answered(journal, wanted)
        verdicts, job = journal.verdicts(record.job), journal.job(record.job)
    key = SigningKey.from_pem(home.read(home.identity_key)).public
    revocations = Revocations(home.revocations)
    return Account(
        record,
        _signed(record, key),
        verdicts,
        job.state if job is not None else "",
        _ended(revocations, record.job, key),
        revocations.words(record.job),
    )


def answered(journal: Journal, wanted: str) -> ConsentRecord:
    """Raises NotFound."""
    known = journal.consents()
    found = [record for record in known if record.name == wanted][-1:]
    if not found and len(wanted) >= MIN_PREFIX and set(wanted) <= HEX:
        found = [record for record in known if record.job.hex().startswith(wanted)]
    if len(found) != 1:
        raise NotFound(f"This lab has answered nothing like {wanted[:80]!r}.", hint="See: concord-node consents")
    return found[0]


def _signed(record: ConsentRecord, key: bytes) -> Consent | None:
    """What the record says is what this node signed, or nothing is shown as signed."""
    try:
        opened = open_envelope(record.envelope, "consent", MAX_ENVELOPE)
        answer = read_consent(opened)
    except FederationError:
        return None
    return answer if opened.signers == (key,) and answer.job == record.job else None


def _ended(revocations: Revocations, job: bytes, key: bytes) -> Revocation | None:
    try:
        envelope = revocations.of(job)
        if envelope is None:
            return None
        opened = open_envelope(envelope, KIND, LIMIT)
        return read_revocation(envelope) if opened.signers == (key,) else None
    except (FederationError, OSError):
        return None


def explain(home: Home, wanted: str, out: Path | None = None, output: str = "table") -> None:
    """Prints the account of one job. ``out``: where to write the verdict that the answer binds, byte for byte.

    Raises NotFound, InvalidUsage.
    """
    if output not in {"table", "json"}:
        raise InvalidUsage(f"There is no output {output!r}.", hint="Use table or json.")
    account = account_of(home, wanted)
    if out is not None:
        if account.bound is None:
            raise NotFound(
                f"The verdict under which {account.record.name} was answered is not kept here.",
                hint="It was forgotten, or the answer is older than the keeping of verdicts.",
            )
        out.write_bytes(account.bound.document)
    print(
        json.dumps(_document(account), indent=2, ensure_ascii=False) if output == "json" else "\n".join(_lines(account))
    )


def _document(account: Account) -> dict[str, Any]:
    answer, bound = account.answer, account.bound
    return {
        "job": account.record.job.hex(),
        "name": account.record.name,
        "answered": account.record.answered,
        "granted": account.record.granted,
        "reasons": list(account.record.reasons),
        "given": {"how": answer.given.how, "by": answer.given.by} if answer is not None and answer.given else None,
        "verdict": bound.digest.hex() if bound is not None else None,
        "verdicts": [
            {
                "occasion": each.occasion,
                "made": each.made,
                "digest": each.digest.hex(),
                "document": json.loads(each.document),
            }
            for each in account.verdicts
        ],
        "state": account.state or None,
        "ended": account.ended.sentence if account.ended is not None else None,
    }


def _lines(account: Account) -> Iterator[str]:
    record, answer = account.record, account.answer
    yield f"{plain(record.name)}  {record.job.hex()}"
    yield f"answered   {record.answered}: {'granted' if record.granted else 'denied'}{_given(answer)}"
    for reason in record.reasons:
        yield f"    {plain(reason)}"
    if answer is None:
        yield "signature  the envelope that is kept is not signed by this node: believe nothing of it"
    if answer is not None and answer.binds is not None:
        binds = answer.binds
        yield f"valid      {moment_text(answer.issued)} until {moment_text(answer.expires)}"
        yield f"data       {', '.join(f'{plain(name)} ({version.hex()[:12]})' for name, version in binds.data)}"
        yield f"roll       {binds.roll.hex()}"
        yield f"verdict    {binds.verdict.hex()}"
    yield from _verdict(account)
    for each in account.verdicts:
        if each.occasion == "weighed":
            yield f"weighed    again at {each.made}, and not given any more: verdict {each.digest.hex()}"
            yield from (f"    {line}" for line in verdict_lines(each.document))
    if account.ended is not None:
        yield plain(account.ended.sentence)
    if account.words:
        yield f"why        {plain(account.words)}"
    if account.state:
        yield f"job        {account.state} at this lab"


def _given(answer: Consent | None) -> str:
    if answer is None or answer.given is None:
        return ""
    by = f" ({answer.given.by})" if answer.given.how == "person" else ""
    return f", {GIVEN[answer.given.how]}{by}"


def _verdict(account: Account) -> Iterator[str]:
    bound, answer = account.bound, account.answer
    if bound is not None:
        is_bound = answer is not None and answer.binds is not None
        yield (
            "kept       the verdict, and its digest is the one that the answer binds"
            if is_bound
            else f"kept       the verdict that the denial came with, {bound.digest.hex()}"
        )
        yield from (f"    {line}" for line in verdict_lines(bound.document))
    elif any(each.occasion == "answered" for each in account.verdicts):
        yield "kept       ANOTHER VERDICT than the one that the answer binds: this is not what was decided by"
    else:
        yield "kept       no verdict: it was forgotten, or the answer is older than the keeping of verdicts"


def forget(home: Home, wanted: str) -> str:
    """Erases the verdicts of a job that this node does not work on any more; the signed answer stays. The node must be stopped.

    Raises NotFound, InvalidUsage, Unavailable.
    """
    home.settings()
    if not home.journal.exists():
        raise NotFound("Nothing was asked of this node yet.", hint="See: concord-node consents")
    with Journal(home.journal, now=moment_text(datetime.now(UTC))) as journal:
        record = answered(journal, wanted)
        job = journal.job(record.job)
        if job is not None and job.state in {"active", "suspended"}:
            raise InvalidUsage(
                f"This lab still takes part in {record.name}.",
                hint="What it decided by is kept for as long, and longer: concord-node revoke first, if it should end.",
            )
        count = journal.forget_verdicts(record.job)
    return f"{record.name}: {count} verdicts are erased. What this node signed stays: concord-node consents"


def keep_for(journal: Journal, days: int | None, now: datetime) -> None:
    """The lab's own rule, node.yaml's verdictDays: what is older goes, unless the job still runs here. None: nothing goes."""
    if days is not None:
        journal.forget_verdicts_before(moment_text(now - timedelta(days=days)))
