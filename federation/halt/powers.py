"""Who may order a halt, and who may take it back.

Always: a member, or a node, for itself, at any level. Beside that whom the charter names for a job, a member or the federation:
the ``lead`` of the job, the ``officer`` of any member with a vote, an ``operator`` whose key it lists. Whoever halted only what is
its own takes that back itself; all else is lifted by a decision with the quorum for ``lift``. A job that was stopped stays so.
"""

from __future__ import annotations

from collections.abc import Callable

from federation.errors import Halted, InvalidIdentity, PolicyDenied
from federation.governance.ballot import open_decision
from federation.halt.levels import Level
from federation.halt.order import HaltOrder, SignedLift, SignedOrder
from federation.identity.roll import Roll

NodeKey = Callable[[str, str], bytes | None]
"""(member, node) -> its identity key, as the member's officer signed it; None for a node that nobody vouches for"""
Decide = Callable[[bytes, Roll, bytes], None]
"""(decision, roll, subject): raises InvalidIdentity unless the decision lifts the subject with its quorum"""


def lease_seconds(roll: Roll) -> float:
    """How long a node goes on without an answer."""
    return float(roll.charter.lease_seconds)


def decide(decision: bytes, roll: Roll, subject: bytes) -> None:
    """A ``Decide`` by votes under the roll in force."""
    open_decision(decision, roll, "lift", subject)


def is_own(order: HaltOrder) -> bool:
    """Whether it halts nothing but what belongs to its signer. That a lead is the job's is asked where the job is known."""
    by = order.by
    if by.kind == "lead":
        return order.scope == "job" and not order.member
    return by.kind in {"member", "node"} and order.scope != "federation" and order.member == by.id


def check_order(signed: SignedOrder, roll: Roll, node_key: NodeKey, *, former: bool = False) -> None:
    """Raises InvalidIdentity when the key is not that of whom the order names, PolicyDenied when they may not order it.

    ``former``: a key that an earlier version of the roll gave them counts, too, for whoever is told late of an order that stands.
    Who takes orders first, the coordinator, wants today's.
    """
    order, by = signed.order, signed.order.by
    if order.federation != roll.federation:
        raise InvalidIdentity(
            f"The order is for the federation {order.federation[:63]}, this one is {roll.federation}."
        )
    powers = roll.charter.halt
    if signed.key not in _keys(signed, roll, node_key) | (_former(signed, roll) if former else frozenset()):
        raise InvalidIdentity(
            f"The order is not signed by the {by.words}.",
            hint="Sign it with the key that the roll names, or the node's credential.",
        )
    if is_own(order):
        if by.kind == "lead" and "lead" not in powers.job:
            raise _denied(order)
        return
    roles = {
        "job": powers.member if order.member else powers.job,
        "member": powers.member,
        "federation": powers.federation,
    }
    if _role(order, roll) not in roles[order.scope]:
        raise _denied(order)


def check_lift(signed: SignedLift, roll: Roll, decide: Decide, node_key: NodeKey) -> None:
    """Raises Halted for what cannot be lifted, InvalidIdentity for a lift by somebody else or without its quorum.

    That the order itself was allowed is not asked: a lift of one that was not changes nothing.
    """
    order = signed.lifted.order
    if order.federation != roll.federation:
        raise InvalidIdentity(f"The lift is for the federation {order.federation[:63]}, this one is {roll.federation}.")
    if order.scope == "job" and order.level is Level.stop and not order.drill:
        raise Halted(
            f"{order.words} was stopped, and a stop of a job is final.",
            hint="Nothing was changed. Submit it as a new job.",
        )
    if is_own(order) or order.drill:
        if not set(signed.keys) & _keys(signed.lifted, roll, node_key):
            raise InvalidIdentity(
                f"The lift is not signed by the {order.by.words}, whose halt it is.",
                hint="Whoever halted its own lifts it.",
            )
        return
    if not signed.decision:
        raise InvalidIdentity(
            f"The halt of {order.words} is lifted by a vote, and the lift holds none.",
            hint="Propose to lift it, have the members vote, and give the decision with --decision.",
        )
    decide(signed.decision, roll, signed.lifted.digest)


def _keys(signed: SignedOrder, roll: Roll, node_key: NodeKey) -> frozenset[bytes]:
    """Today's keys of whom an order names."""
    by = signed.order.by
    if by.kind == "member":
        return frozenset({roll.member(by.id).officer_key})
    if by.kind == "lead":
        return frozenset({roll.lead(by.id).key})
    if by.kind == "operator":
        return frozenset(roll.charter.coordinator.operators)
    key = node_key(by.id, by.node)
    return frozenset() if key is None else frozenset({key})


def _former(signed: SignedOrder, roll: Roll) -> frozenset[bytes]:
    """The keys that the roll's earlier versions gave to whom an order names: they have rotated since."""
    by = signed.order.by
    if by.kind == "member":
        return frozenset(each.officer_key for past in roll.past for each in past.members if each.id == by.id)
    if by.kind == "lead":
        return frozenset(each.key for past in roll.past for each in past.leads if each.id == by.id)
    return frozenset()


def _role(order: HaltOrder, roll: Roll) -> str:
    if order.by.kind == "member":
        return "officer" if order.by.id in roll.voters else ""
    return order.by.kind if order.by.kind == "operator" else ""


def _denied(order: HaltOrder) -> PolicyDenied:
    return PolicyDenied(
        f"The {order.by.words} may not halt {order.words}.",
        hint="The charter says who may; a member always halts its own part: --member, or --job with --member.",
    )
