"""Whom a job's participants let in, on a given roll; and whether its minima can be reached with them."""

from __future__ import annotations

import difflib

from federation.errors import InvalidManifest
from federation.identity.roll import Roll, RollMember
from federation.manifest.document import Participants


def is_invited(people: Participants, member: RollMember) -> bool:
    """Empty lists let everybody in."""
    return (not people.members or member.id in people.members) and (
        not people.jurisdictions or member.jurisdiction in people.jurisdictions
    )


def invited(people: Participants, roll: Roll) -> tuple[RollMember, ...]:
    """Those who may have nodes now: not suspended, and of a tier that has them."""
    able = (member for member in roll.members if member.active and roll.tier_of(member).nodes)
    return tuple(member for member in able if is_invited(people, member))


def check_reachable(people: Participants, roll: Roll) -> None:
    """Raises InvalidManifest for a member that is not on the roll, and for minima that those invited cannot make up."""
    known = {member.id for member in roll.members}
    for name in people.members:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise InvalidManifest(
                f"There is no member {name} on the roll of {roll.federation}.",
                hint=f"Did you mean {close[0]}?" if close else f"Its members are {', '.join(sorted(known)[:20])}.",
                field="spec.participants.members",
            )
    possible = invited(people, roll)
    if len(possible) < people.min_members:
        raise InvalidManifest(
            f"The job needs {people.min_members} members, and the roll has {len(possible)} that it allows.",
            hint="Lower spec.participants.minMembers, or allow more members or jurisdictions.",
            field="spec.participants.minMembers",
        )
    places = {member.jurisdiction for member in possible}
    if len(places) < people.min_jurisdictions:
        raise InvalidManifest(
            f"The job needs {people.min_jurisdictions} jurisdictions, and the roll has {len(places)} that it allows.",
            hint="Lower spec.participants.minJurisdictions.",
            field="spec.participants.minJurisdictions",
        )
