"""What members vote on when they release a model, and whether they did: by the charter of their roll, and by what the job asks for.

A release is proposed by its subject: the digest of a document that names the job, the final state and the figures of the last
round, as q members signed them. Everybody who has the job's evidence computes it; nobody need be told it. A vote cannot pass a
failed gate, and a job cannot ask for less than the charter does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from federation.errors import InvalidIdentity, PolicyDenied
from federation.governance.ballot import Decision, open_decision
from federation.identity.envelope import canonical
from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest

CHARTER: Final = "charter"
MEMBERS: Final = "members"
NONE: Final = "none"


def subject_of(federation: str, job: bytes, state_digest: bytes, figures: Sequence[int]) -> bytes:
    """SHA-256 of the release's document: what a proposal about it is about, and what a recall names."""
    document = {
        "kind": "concord/release/1",
        "federation": federation,
        "job": job.hex(),
        "state": state_digest.hex(),
        "figures": [str(word) for word in figures],  # larger than canonical JSON's numbers
    }
    return hashlib.sha256(canonical(document)).digest()


def asked_of(manifest: Manifest) -> str:
    """charter | members | none: what the job asks for beyond its gates."""
    return manifest.spec.release.approval or CHARTER


def check_asked(manifest: Manifest, roll: Roll) -> None:
    """Raises PolicyDenied when the job asks for less than the charter does."""
    if asked_of(manifest) == NONE and roll.charter.quorums["release"].asked:
        raise PolicyDenied(
            f"The job says that its release needs no vote (spec.release.approval: none), and the charter asks for "
            f"{roll.charter.quorums['release']}.",
            hint="Leave approval out: the charter's quorum holds.",
        )


def vote_needed(manifest: Manifest, roll: Roll) -> bool:
    return roll.charter.quorums["release"].asked or asked_of(manifest) == MEMBERS


def check_approval(
    manifest: Manifest, roll: Roll, members: Iterable[str], subject: bytes, decision: bytes | None
) -> Decision | None:
    """The members' decision, under this very roll; None where no vote is needed and none is shown.

    ``members``: of the job's rosters. Where the job asks for the ``members``, each of them that has a vote must have said yes, too.
    Raises InvalidIdentity for a decision that is missing, about another release, by another roll, or too few; PolicyDenied for a
    job that asks for less than the charter.
    """
    check_asked(manifest, roll)
    if not vote_needed(manifest, roll):
        if decision is None:
            return None
        return open_decision(decision, roll, "release", subject)
    if decision is None:
        raise InvalidIdentity(
            "The members' vote on this release is missing.", hint="See who has voted: concord release show."
        )
    found = open_decision(decision, roll, "release", subject)
    if asked_of(manifest) == MEMBERS:
        voters = sorted(set(members) & set(roll.voters))
        if missing := [member for member in voters if found.tally.choices.get(member) != "yes"] or (
            [] if voters else ["anybody with a vote"]
        ):
            raise InvalidIdentity(
                f"The job asks each of its members to approve the release, and there is no yes of {', '.join(missing)}.",
                hint="They vote with concord release approve.",
            )
    return found


def approvers(decision: Decision) -> tuple[str, ...]:
    return tuple(member for member, choice in decision.tally.choices.items() if choice == "yes")
