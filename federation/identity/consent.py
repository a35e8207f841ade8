"""A node's answer to a job, signed with its identity key: a consent, or a denial with reasons.

A consent binds what it was given for: the manifest's digest (and with it code, first model, ranges), each data set in the version
that it has today, the verdict of the lab's policy, the roll, what it reserves of privacy budgets, and what leaves in the end. What
another party would have to compute in the same way is ``federation.manifest.binding``. Consents of before say nothing of this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from federation.errors import InvalidIdentity
from federation.identity.credential import NodeCredential
from federation.identity.envelope import Opened, canonical, open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, moment_text, text, texts, whole
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label

MAX_ENVELOPE = 1 << 18
FIELDS = ("job", "member", "node", "granted", "reasons", "dataSet", "weight", "figures", "lacks", "issued", "expires")
BOUND = (*FIELDS, "binds", "given")
MOST_DATA_SETS: Final = 32
MOST_CHARGES: Final = 1000
DIGEST: Final = 32
How = Literal["rule", "person", "study"]


@dataclass(frozen=True, slots=True)
class Given:
    """How an answer came about."""

    how: How
    """rule: the lab's policy alone; person: somebody at the lab decided; study: it lies inside a study that was consented to"""
    by: str
    """the role that decided, never a person's name: ``policy`` where nobody did"""


BY_RULE: Final = Given("rule", "policy")


@dataclass(frozen=True, slots=True)
class Reserved:
    """What the job as a whole may charge one data set."""

    data_set: str
    charge: str
    """``federation.privacy.accounting.Charge``, as text"""
    times: int


@dataclass(frozen=True, slots=True)
class Outputs:
    """What leaves in the end, and to whom; the exact figures stand in ``Consent.figures``."""

    view: str
    """what the coordinator sees: blind | sum"""
    audience: str
    """who may have the release; empty where the job does not say"""
    recipients: tuple[bytes, ...]
    """SHA-256 of each sealing key of a blind job's release, in the manifest's order"""


@dataclass(frozen=True, slots=True)
class Binding:
    data: tuple[tuple[str, bytes], ...]
    """(data set, version), by the lab's key: 32 bytes that tell nobody anything of the data (``node_agent.catalogue.versions``)"""
    verdict: bytes
    """digest of the policy's verdict"""
    roll: bytes
    """digest of the membership roll in force"""
    budget: tuple[Reserved, ...]
    outputs: Outputs
    study: bytes
    """SHA-256 of the envelope of this node's consent to the study inside which the job lies; empty where there is none"""


@dataclass(frozen=True, slots=True)
class Consent:
    job: bytes
    """the manifest's digest"""
    member: str
    node: str
    granted: bool
    reasons: tuple[str, ...]
    data_set: str
    weight: int
    """the public bucket with which this member counts; 0 in a denial"""
    figures: tuple[str, ...]
    """what this member declares public: figures that may leave as exact sums"""
    lacks: tuple[str, ...]
    """what the job's runtime names and this node has not"""
    issued: datetime
    expires: datetime
    binds: Binding | None = None
    """None: a denial, or a consent of an earlier version"""
    given: Given | None = None
    described: tuple[bytes, ...] = ()
    """what the lab's catalogue publishes of the data sets that it binds: canonical JSON each (``federation.catalogue.entry``)"""

    def valid_at(self, now: datetime) -> bool:
        return self.granted and self.issued <= now <= self.expires


def seal_consent(consent: Consent, key: SigningKey) -> bytes:
    document: dict[str, Any] = {
        "job": consent.job.hex(),
        "member": consent.member,
        "node": consent.node,
        "granted": consent.granted,
        "reasons": list(consent.reasons),
        "dataSet": consent.data_set,
        "weight": consent.weight,
        "figures": list(consent.figures),
        "lacks": list(consent.lacks),
        "issued": moment_text(consent.issued),
        "expires": moment_text(consent.expires),
    }
    if consent.binds is not None and consent.given is None:
        raise InvalidIdentity("A consent that binds something says how it was given.")
    if consent.given is not None:
        document["given"] = {"how": consent.given.how, "by": consent.given.by}
        document["binds"] = _binding_document(consent.binds)
    if consent.described:
        if consent.binds is None:
            raise InvalidIdentity("A consent that binds no data describes none.")
        document["described"] = [json.loads(each) for each in consent.described]
    return seal(document, "consent", (key,))


def open_consent(envelope: bytes, credential: NodeCredential) -> Consent:
    """Raises InvalidIdentity unless the node that ``credential`` names signed exactly this."""
    opened = open_envelope(envelope, "consent", MAX_ENVELOPE)
    if opened.signers != (credential.identity_key,):
        raise InvalidIdentity(f"The consent is not signed by the node {credential.node} of {credential.member}.")
    consent = read_consent(opened)
    if (consent.member, consent.node) != (credential.member, credential.node):
        raise InvalidIdentity("The consent speaks for another node than the one that signed it.")
    return consent


def read_consent(opened: Opened) -> Consent:
    """The fields of an opened consent; who signed is the caller's question. Raises InvalidIdentity."""
    bound = isinstance(opened.document, dict) and "given" in opened.document
    described = bound and "described" in opened.document
    fields = (*BOUND, "described") if described else BOUND if bound else FIELDS
    document = exact(opened.document, "consent", *fields)
    if not isinstance(document["granted"], bool):
        raise InvalidIdentity("The consent's granted is neither true nor false.")
    consent = Consent(
        job=hexadecimal(document["job"], "consent's job", 32),
        member=checked_label(document["member"], "member"),
        node=checked_label(document["node"], "node"),
        granted=document["granted"],
        reasons=texts(document["reasons"], "consent's reasons"),
        data_set=text(document["dataSet"], "consent's data set"),
        weight=whole(document["weight"], "consent's weight"),
        figures=texts(document["figures"], "consent's figures"),
        lacks=texts(document["lacks"], "consent's lacks"),
        issued=moment(document["issued"], "issued"),
        expires=moment(document["expires"], "expires"),
        binds=_read_binding(document["binds"]) if bound and document["binds"] is not None else None,
        given=_read_given(document["given"]) if bound else None,
        described=_read_described(document["described"]) if described else (),
    )
    if consent.described and consent.binds is None:
        raise InvalidIdentity("A consent that binds no data describes none.")
    if bound and consent.granted and consent.binds is None:
        raise InvalidIdentity("The consent does not say what it binds.")
    if consent.granted and (consent.weight < 1 or consent.weight & (consent.weight - 1)):
        raise InvalidIdentity("The consent's weight is not a power of two.")
    return consent


def _binding_document(binds: Binding | None) -> dict[str, Any] | None:
    if binds is None:
        return None
    return {
        "data": [[name, version.hex()] for name, version in binds.data],
        "verdict": binds.verdict.hex(),
        "roll": binds.roll.hex(),
        "budget": [[each.data_set, each.charge, each.times] for each in binds.budget],
        "outputs": {
            "view": binds.outputs.view,
            "audience": binds.outputs.audience,
            "recipients": [each.hex() for each in binds.outputs.recipients],
        },
        "study": binds.study.hex(),
    }


def _read_binding(value: object) -> Binding:
    fields = exact(value, "consent's binds", "data", "verdict", "roll", "budget", "outputs", "study")
    outputs = exact(fields["outputs"], "consent's outputs", "view", "audience", "recipients")
    study = text(fields["study"], "consent's study")
    return Binding(
        data=tuple(
            (text(name, "data set"), hexadecimal(version, "data set's version", DIGEST))
            for name, version in _rows(fields["data"], "data sets", 2, MOST_DATA_SETS)
        ),
        verdict=hexadecimal(fields["verdict"], "consent's verdict", DIGEST),
        roll=hexadecimal(fields["roll"], "consent's roll", DIGEST),
        budget=tuple(
            Reserved(text(name, "data set"), text(charge, "charge"), whole(times, "charge's times", 1))
            for name, charge, times in _rows(fields["budget"], "budget", 3, MOST_CHARGES)
        ),
        outputs=Outputs(
            text(outputs["view"], "consent's view"),
            text(outputs["audience"], "consent's audience"),
            tuple(hexadecimal(each, "recipient", DIGEST) for each in texts(outputs["recipients"], "recipients")),
        ),
        study=hexadecimal(study, "consent's study", DIGEST) if study else b"",
    )


def _read_described(value: object) -> tuple[bytes, ...]:
    if (
        not isinstance(value, list)
        or not 0 < len(value) <= MOST_DATA_SETS
        or any(not isinstance(x, dict) for x in value)
    ):
        raise InvalidIdentity("What the consent says of its data sets is no list of entries.")
    return tuple(canonical(each) for each in value)


def _rows(value: object, what: str, width: int, limit: int) -> list[list[Any]]:
    if not isinstance(value, list) or len(value) > limit or any(not _is_row(row, width) for row in value):
        raise InvalidIdentity(f"The consent's {what} are no list of {width} values each.")
    return value


def _is_row(row: object, width: int) -> bool:
    return isinstance(row, list) and len(row) == width


def _read_given(value: object) -> Given:
    fields = exact(value, "consent's given", "how", "by")
    if fields["how"] not in get_args(How):
        raise InvalidIdentity("The consent does not say how it was given.")
    return Given(fields["how"], checked_label(fields["by"], "role"))
