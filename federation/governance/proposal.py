"""What members decide on, and what each says: signed documents. How they are counted is ``federation.governance.ballot``.

A proposal binds the digest of what is decided and the roll in force; a vote binds the proposal. So no vote can be carried over to
another question, or to other voters. What is decided is by kind of action:

admission, suspension, rules, coordinator   the payload of the roll that would come into force
release, recall, lift                       the document of that room (its SHA-256)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, get_args

from federation.errors import InvalidIdentity
from federation.governance.charter import ACTIONS, Action
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, moment_text, text
from federation.identity.keys import PUBLIC_BYTES
from federation.identity.names import checked_label, checked_title
from federation.identity.signer import Signer

if TYPE_CHECKING:
    from federation.identity.roll import Roll

MAX_ENVELOPE: Final = 1 << 14
MAX_REASON: Final = 1000
NONCE_BYTES: Final = 16
LONGEST: Final = timedelta(days=366)
Choice = Literal["yes", "no", "abstain", "comment"]
CHOICES: Final[tuple[Choice, ...]] = get_args(Choice)
BY_LEADS: Final[frozenset[Action]] = frozenset({"release"})
"""what a lead may propose; all else is proposed by a member that has a vote"""


@dataclass(frozen=True, slots=True)
class Proposal:
    federation: str
    action: Action
    subject: bytes
    """SHA-256 of what is decided"""
    roll: bytes
    """digest of the roll in force: who votes, and with what weight"""
    title: str
    opened: datetime
    closes: datetime
    nonce: bytes
    signer: bytes = b""
    """key of who proposes; empty before it is signed"""
    digest: bytes = b""
    envelope: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Vote:
    proposal: bytes
    """digest"""
    choice: Choice
    """``comment`` is open to members without a vote, too, and never counts"""
    reason: str
    cast: datetime
    signer: bytes = b""
    envelope: bytes = field(default=b"", repr=False)


def seal_proposal(proposal: Proposal, key: Signer | None) -> bytes:
    """Without a key: what is to be signed elsewhere."""
    document = {
        "federation": proposal.federation,
        "action": proposal.action,
        "subject": proposal.subject.hex(),
        "roll": proposal.roll.hex(),
        "title": proposal.title,
        "opened": moment_text(proposal.opened),
        "closes": moment_text(proposal.closes),
        "nonce": proposal.nonce.hex(),
    }
    return seal(document, "proposal", (key,) if key is not None else ())


def open_proposal(envelope: bytes, roll: Roll) -> Proposal:
    """Raises InvalidIdentity unless somebody who may proposed it, in this federation, under exactly this roll."""
    proposal = read_proposal(envelope)
    if proposal.federation != roll.federation:
        raise InvalidIdentity(f"The proposal is for {proposal.federation}, and the roll is of {roll.federation}.")
    if proposal.roll != roll.digest:
        raise InvalidIdentity(
            f"The proposal was made under another roll ({proposal.roll.hex()[:16]}) than version {roll.version}.",
            hint="The roll changed since. Propose it again, and have the members vote again.",
        )
    proposer_of(proposal, roll)
    return proposal


def proposer_of(proposal: Proposal, roll: Roll) -> str:
    """The member or lead whose key signed it. Raises InvalidIdentity when it may not propose this."""
    voters = roll.voters
    for member in roll.members:
        if member.officer_key == proposal.signer and member.id in voters:
            return member.id
    lead = roll.lead_of_key(proposal.signer)
    if lead is not None and proposal.action in BY_LEADS:
        return roll.require_lead(lead.id).id
    raise InvalidIdentity(
        f"The proposal ({proposal.action}) is not signed by the officer of a member that has a vote.",
        hint="Members that have a vote propose; leads propose releases. `concord roll show` lists who votes.",
    )


def read_proposal(envelope: bytes) -> Proposal:
    """Its fields and its one signer; whether that one may propose is the caller's question. Raises InvalidIdentity."""
    opened = open_envelope(envelope, "proposal", MAX_ENVELOPE)
    document = exact(
        opened.document, "proposal", "federation", "action", "subject", "roll", "title", "opened", "closes", "nonce"
    )
    if len(opened.signers) != 1:
        raise InvalidIdentity("A proposal has exactly one signature.")
    action = document["action"]
    if action not in ACTIONS:
        raise InvalidIdentity(
            f"The proposal's action {str(action)[:40]!r} is unknown.", hint=f"Known: {', '.join(ACTIONS)}."
        )
    begins, ends = moment(document["opened"], "proposal's opened"), moment(document["closes"], "proposal's closes")
    if not begins < ends <= begins + LONGEST:
        raise InvalidIdentity("The proposal does not close after it opens, within a year.")
    return Proposal(
        federation=checked_label(document["federation"], "federation"),
        action=action,
        subject=hexadecimal(document["subject"], "proposal's subject", 32),
        roll=hexadecimal(document["roll"], "proposal's roll", 32),
        title=checked_title(document["title"], "proposal's title"),
        opened=begins,
        closes=ends,
        nonce=hexadecimal(document["nonce"], "proposal's nonce", NONCE_BYTES),
        signer=opened.signers[0],
        digest=opened.digest,
        envelope=envelope,
    )


def seal_vote(vote: Vote, key: Signer | None) -> bytes:
    """Without a key: what is to be signed elsewhere."""
    document = {
        "proposal": vote.proposal.hex(),
        "choice": vote.choice,
        "reason": vote.reason,
        "cast": moment_text(vote.cast),
    }
    return seal(document, "vote", (key,) if key is not None else ())


def open_vote(envelope: bytes) -> Vote:
    """Its fields and its one signer; whether it counts, and for whom, ``tally`` says. Raises InvalidIdentity."""
    opened = open_envelope(envelope, "vote", MAX_ENVELOPE)
    document = exact(opened.document, "vote", "proposal", "choice", "reason", "cast")
    if len(opened.signers) != 1 or len(opened.signers[0]) != PUBLIC_BYTES:
        raise InvalidIdentity("A vote has exactly one signature.")
    choice = document["choice"]
    if choice not in CHOICES:
        raise InvalidIdentity(f"The vote's choice is none of: {', '.join(CHOICES)}.")
    return Vote(
        proposal=hexadecimal(document["proposal"], "vote's proposal", 32),
        choice=choice,
        reason=text(document["reason"], "vote's reason", MAX_REASON),
        cast=moment(document["cast"], "vote's cast"),
        signer=opened.signers[0],
        envelope=envelope,
    )
