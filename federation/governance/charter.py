"""The charter: who votes with what weight, how much weight each kind of decision needs, and the rules that hold for all members.

It is a part of the membership roll, so that members sign both as one document. A federation that wrote none has
``Charter.standard()``. Every node reads it in the same way; a word that it does not know is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from federation.audit.checkpoint import ED25519, VerifierKey
from federation.errors import InvalidIdentity
from federation.identity.fields import exact, hexadecimal, text, whole
from federation.identity.keys import key_id, public_of
from federation.identity.names import checked_label

Action = Literal["admission", "suspension", "rules", "release", "recall", "lift", "coordinator"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
Audience = Literal["participants", "members", "public"]
AUDIENCES: Final[tuple[Audience, ...]] = get_args(Audience)
LeadsBy = Literal["member", "vote"]
LEADS_BY: Final[tuple[LeadsBy, ...]] = get_args(LeadsBy)
MEMBER_METRICS: Final = ("connected", "lastSeen", "contributions", "denials", "violations")
"""what a coordinator's metrics may say of a member by its name"""
HALTERS: Final = ("lead", "officer", "operator")
MINORITY_MAY: Final[frozenset[Action]] = frozenset({"recall"})
"""what less than half of the weight may decide, if the charter says so: it only takes something back"""
NO_VOTE_MAY: Final[frozenset[Action]] = frozenset({"release"})
"""what needs no vote, if the charter says so: q members of the job have signed its final model, and its gates have passed"""

NO_VOTE: Final = "none"

MAX_TIERS: Final = 16
MAX_WEIGHT: Final = 1000
MAX_ADDRESSES: Final = 8
MAX_OPERATORS: Final = 16
MAX_BASE_POLICY: Final = 32 << 10
LEASE_SECONDS: Final = (5, 3600)
QUORUM: Final = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})")
ADDRESS: Final = re.compile(r"[A-Za-z0-9.-]{1,253}:[1-9][0-9]{0,4}|\[[0-9A-Fa-f:.]{2,45}\]:[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Quorum:
    """At least this share of the weight of all who have a vote, whether they vote or not."""

    numerator: int
    """0: no vote is asked for"""
    denominator: int

    @property
    def asked(self) -> bool:
        return self.numerator > 0

    def reached(self, weight: int, total: int) -> bool:
        return total > 0 and weight * self.denominator >= self.numerator * total

    def __str__(self) -> str:
        return f"{self.numerator}/{self.denominator}" if self.asked else NO_VOTE


@dataclass(frozen=True, slots=True)
class Tier:
    name: str
    votes: bool
    nodes: bool
    """whether its members may have nodes, and so take part in jobs"""
    weight: int
    """of each member's vote; 0 without one"""


@dataclass(frozen=True, slots=True)
class HaltPowers:
    """Who may halt, beside each member for itself, always. Roles: ``lead`` (of the job), ``officer`` (of any member with a
    vote), ``operator`` (a key that the charter names). Lifting a halt takes the quorum for ``lift``."""

    job: tuple[str, ...] = ("lead", "officer", "operator")
    member: tuple[str, ...] = ("officer", "operator")
    federation: tuple[str, ...] = ("officer", "operator")


@dataclass(frozen=True, slots=True)
class Seat:
    """Where the coordinator is. No addresses: wherever a node's ticket said. No ``ca``: whichever it joined with."""

    addresses: tuple[str, ...] = ()
    """host:port, in the order in which a node tries them"""
    ca: bytes | None = None
    """SHA-256 of the transport CA's certificate (DER)"""
    operators: tuple[bytes, ...] = ()
    """Ed25519 keys of people who run it; they have no vote"""
    log: VerifierKey | None = None
    """origin and key of the public log. None: each node and reader believes the first key that it is shown"""

    def as_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "addresses": list(self.addresses),
            "ca": None if self.ca is None else self.ca.hex(),
            "operators": [key_id(key) for key in self.operators],
        }
        # Rolls from before the log's key was named have no such word, and are read as they were signed.
        return document if self.log is None else {**document, "log": str(self.log)}

    def places(self, known: str) -> tuple[str, ...]:
        """Where it may be, in the order in which to try. ``known``: what a ticket said; it counts as long as it is named here, or
        nothing is."""
        if not self.addresses:
            return (known,)
        if known not in self.addresses:
            return self.addresses
        return (known, *(each for each in self.addresses if each != known))


@dataclass(frozen=True, slots=True)
class Charter:
    tiers: tuple[Tier, ...]
    quorums: Mapping[Action, Quorum] = field(hash=False)
    halt: HaltPowers = field(default_factory=HaltPowers)
    lease_seconds: int = 30
    """how long a node goes on with a job without hearing from the coordinator that it is not halted"""
    base_policy: bytes | None = None
    """the federation's own policy pack: YAML in UTF-8, for every node beneath its own rules"""
    audience: Audience = "members"
    """to whom releases are served: the members of the job's roster and its lead; all members; everybody who asks"""
    leads_by: LeadsBy = "member"
    """whether a lead is admitted by the officer of its member alone, or by a vote as well"""
    coordinator: Seat = field(default_factory=Seat)
    member_metrics: tuple[str, ...] = ()
    """which of ``MEMBER_METRICS`` the coordinator exports with a member's name; by default none"""

    @staticmethod
    def standard() -> Charter:
        """What a federation has that wrote no charter: one vote a member, two thirds for what binds all, a third to recall. A
        release needs no vote."""
        two_thirds = Quorum(2, 3)
        quorums: dict[Action, Quorum] = dict.fromkeys(ACTIONS, two_thirds)
        quorums["recall"] = Quorum(1, 3)
        quorums["release"] = Quorum(0, 1)
        return Charter(
            tiers=(
                Tier("member", votes=True, nodes=True, weight=1),
                Tier("candidate", votes=False, nodes=True, weight=0),
                Tier("observer", votes=False, nodes=False, weight=0),
            ),
            quorums=quorums,
        )

    def tier(self, name: str) -> Tier:
        """Raises InvalidIdentity when the charter has no such tier."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise InvalidIdentity(
            f"The charter has no tier {name!r}.", hint=f"It has: {', '.join(tier.name for tier in self.tiers)}."
        )

    def as_document(self) -> dict[str, Any]:
        """As it stands in the roll; ``read_charter`` reads it back."""
        # Rolls from before there was this word have none, and are read as they were signed.
        figures = {"memberMetrics": list(self.member_metrics)} if self.member_metrics else {}
        return {
            "tiers": [
                {"name": tier.name, "votes": tier.votes, "nodes": tier.nodes, "weight": tier.weight}
                for tier in self.tiers
            ],
            "quorums": {action: str(self.quorums[action]) for action in ACTIONS},
            "halt": {
                "job": list(self.halt.job),
                "member": list(self.halt.member),
                "federation": list(self.halt.federation),
            },
            "leaseSeconds": self.lease_seconds,
            "basePolicy": None if self.base_policy is None else self.base_policy.decode(),
            "audience": self.audience,
            "leadsBy": self.leads_by,
            "coordinator": self.coordinator.as_document(),
            **figures,
        }


REQUIRED: Final = ("tiers", "quorums", "halt", "leaseSeconds", "basePolicy", "audience", "leadsBy", "coordinator")
OPTIONAL: Final = ("memberMetrics",)
FIELDS: Final = (*REQUIRED, *OPTIONAL)


def read_charter(document: object) -> Charter:
    """Raises InvalidIdentity for whatever is missing, unknown, or not fair: two thirds of nothing, or a majority that is none."""
    more = [name for name in OPTIONAL if isinstance(document, dict) and name in document]
    read = exact(document, "charter", *REQUIRED, *more)
    quorums = exact(read["quorums"], "charter's quorums", *ACTIONS)
    return Charter(
        tiers=_tiers(read["tiers"]),
        quorums={action: _quorum(action, quorums[action]) for action in ACTIONS},
        halt=_halt(read["halt"]),
        lease_seconds=whole(read["leaseSeconds"], "charter's leaseSeconds", *LEASE_SECONDS),
        base_policy=_base_policy(read["basePolicy"]),
        audience=_one_of(read["audience"], "charter's audience", AUDIENCES),
        leads_by=_one_of(read["leadsBy"], "charter's leadsBy", LEADS_BY),
        coordinator=_seat(read["coordinator"]),
        member_metrics=_member_metrics(read.get("memberMetrics", [])),
    )


def _tiers(value: object) -> tuple[Tier, ...]:
    tiers = tuple(_tier(item) for item in _list(value, "tiers", MAX_TIERS))
    if len({tier.name for tier in tiers}) != len(tiers):
        raise InvalidIdentity("The charter has a tier twice.")
    if not any(tier.votes for tier in tiers):
        raise InvalidIdentity("The charter has no tier with a vote: nobody could ever decide anything.")
    return tiers


def _tier(item: object) -> Tier:
    entry = exact(item, "charter's tier", "name", "votes", "nodes", "weight")
    name, votes, nodes = checked_label(entry["name"], "tier"), entry["votes"], entry["nodes"]
    if not isinstance(votes, bool) or not isinstance(nodes, bool):
        raise InvalidIdentity(f"The charter's tier {name} does not say true or false to votes and nodes.")
    weight = whole(entry["weight"], f"weight of the charter's tier {name}", 0, MAX_WEIGHT)
    if votes != (weight > 0):
        raise InvalidIdentity(
            f"The charter's tier {name} has {'a vote without' if votes else 'no vote, but'} weight.",
            hint="A tier that votes has a weight from 1, and one that does not has weight 0.",
        )
    return Tier(name, votes, nodes, weight)


def _quorum(action: Action, value: object) -> Quorum:
    if value == NO_VOTE and action in NO_VOTE_MAY:
        return Quorum(0, 1)
    match = QUORUM.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidIdentity(
            f"The charter's quorum for {action} is not a fraction.", hint="Write it as a text, such as 2/3."
        )
    quorum = Quorum(int(match[1]), int(match[2]))
    if quorum.numerator > quorum.denominator:
        raise InvalidIdentity(f"The charter's quorum for {action} is more than all: {quorum}.")
    if action not in MINORITY_MAY and 2 * quorum.numerator <= quorum.denominator:
        raise InvalidIdentity(
            f"The charter's quorum for {action} is not more than half: {quorum}.",
            hint="Two opposite decisions could both pass. Use 2/3, or 51/100.",
        )
    return quorum


def _halt(value: object) -> HaltPowers:
    entry = exact(value, "charter's halt", "job", "member", "federation")
    roles = {name: tuple(_list(entry[name], f"halt.{name}", len(HALTERS))) for name in ("job", "member", "federation")}
    for name, listed in roles.items():
        allowed = HALTERS if name == "job" else HALTERS[1:]
        if list(listed) != [role for role in allowed if role in listed]:
            raise InvalidIdentity(
                f"The charter's halt.{name} names a role that there is not, or one twice, or out of order.",
                hint=f"In this order: {', '.join(allowed)}.",
            )
    return HaltPowers(**roles)


def _seat(value: object) -> Seat:
    log = ("log",) if isinstance(value, dict) and "log" in value else ()
    entry = exact(value, "charter's coordinator", "addresses", "ca", "operators", *log)
    addresses = tuple(text(item, "address", 300) for item in _list(entry["addresses"], "addresses", MAX_ADDRESSES))
    for address in addresses:
        if not ADDRESS.fullmatch(address) or not 0 < int(address.rpartition(":")[2]) <= 65_535:
            raise InvalidIdentity(
                f"The charter's address {address[:80]!r} is not one.",
                hint="It is host:port, such as concord.example:7443.",
            )
    if len(set(addresses)) != len(addresses):
        raise InvalidIdentity("The charter lists an address twice.")
    operators = tuple(public_of(item) for item in _list(entry["operators"], "operators", MAX_OPERATORS))
    if list(operators) != sorted(set(operators)):
        raise InvalidIdentity("The charter's operators are not sorted, or one is there twice.")
    return Seat(
        addresses=addresses,
        ca=None if entry["ca"] is None else hexadecimal(entry["ca"], "charter's ca", 32),
        operators=operators,
        log=_log(entry["log"]) if log else None,
    )


def _member_metrics(value: object) -> tuple[str, ...]:
    listed = _list(value, "memberMetrics", len(MEMBER_METRICS))
    if listed != [word for word in MEMBER_METRICS if word in listed]:
        raise InvalidIdentity(
            "The charter's memberMetrics name a figure that there is not, or one twice, or out of order.",
            hint=f"In this order: {', '.join(MEMBER_METRICS)}.",
        )
    return tuple(listed)


def _log(value: object) -> VerifierKey:
    """As `log.key.pub` has it, and in no other way."""
    written = text(value, "charter's log", 400)
    key = VerifierKey.parse(written)
    if key.kind != ED25519 or str(key) != written:
        raise InvalidIdentity(
            "The charter's log is not the key of a log.",
            hint="It is the line in log.key.pub of the coordinator's home, and nothing around it.",
        )
    return key


def _base_policy(value: object) -> bytes | None:
    if value is None:
        return None
    policy = text(value, "charter's basePolicy", MAX_BASE_POLICY).encode(errors="replace")
    if not 0 < len(policy) <= MAX_BASE_POLICY:
        raise InvalidIdentity(f"The charter's basePolicy is empty, or larger than {MAX_BASE_POLICY} bytes.")
    return policy


def _list(value: object, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise InvalidIdentity(f"The charter's {what} are not a list of at most {most}.")
    return value


def _one_of(value: object, what: str, words: tuple[Any, ...]) -> Any:
    if value not in words or not isinstance(value, str):
        raise InvalidIdentity(f"The {what} is none of: {', '.join(words)}.")
    return value
