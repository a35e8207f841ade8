"""The recall of a release: the members' decision, and the roll under which they made it, in one file that needs no network.

Whoever is shown one for the release in hand must not use it. That there is none cannot be shown by a file: a verifier says up to
which head of the public log it has looked, and that it knows no more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from federation.errors import InvalidIdentity
from federation.governance.ballot import MAX_DECISION, open_decision, read_decision
from federation.governance.history import MAX_HISTORY
from federation.governance.proposal import read_proposal
from federation.identity.envelope import canonical
from federation.identity.roll import Roll

MAX_RECALL: Final = MAX_DECISION + MAX_HISTORY + 1000


@dataclass(frozen=True, slots=True)
class Recall:
    subject: bytes
    """of the release"""
    members: tuple[str, ...]
    """whose votes carried it"""
    when: datetime
    """the newest of these votes"""
    title: str
    """why, in the words of who proposed it"""
    roll: Roll

    @property
    def words(self) -> str:
        return (
            f"recalled on {self.when:%Y-%m-%d %H:%M} UTC by {', '.join(self.members)}, under version {self.roll.version} of the "
            f"roll: “{self.title}”"
        )


def encode_recall(decision: bytes, roll: Roll) -> bytes:
    """Raises InvalidIdentity unless ``decision`` recalls some release under exactly ``roll``."""
    data = canonical({"decision": json.loads(decision), "roll": json.loads(roll.envelope)})
    read_recall(data, roll)
    return data


def read_recall(data: bytes, trusted: Roll) -> Recall:
    """``trusted``: the roll that the reader believes, or the release's; the recall's own must be it, or of one line with it.

    Raises InvalidIdentity for anything that is not the members' decision to recall a release.
    """
    if len(data) > MAX_RECALL:
        raise InvalidIdentity(f"The recall is larger than {MAX_RECALL} bytes.")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidIdentity("The recall is not JSON.") from error
    if not isinstance(document, dict) or set(document) != {"decision", "roll"} or canonical(document) != data:
        raise InvalidIdentity("This is not a recall.", hint="It is what `concord release recall` wrote.")
    roll = Roll.open(canonical(document["roll"]))
    if roll.federation != trusted.federation or not (
        trusted.digest in roll.line.values() or roll.digest in trusted.line.values()
    ):
        raise InvalidIdentity(
            "The recall was decided under a roll that has nothing to do with the one that is trusted.",
            hint="Give the newest roll that you trust with --roll.",
        )
    decision_data = canonical(document["decision"])
    envelope, _votes = read_decision(decision_data)
    decision = open_decision(decision_data, roll, "recall", read_proposal(envelope).subject)
    yes = {member.officer_key: member.id for member in roll.members if decision.tally.choices.get(member.id) == "yes"}
    return Recall(
        subject=decision.proposal.subject,
        members=tuple(sorted(yes.values())),
        when=max(vote.cast for vote in decision.votes if vote.signer in yes and vote.choice == "yes"),
        title=decision.proposal.title,
        roll=roll,
    )
