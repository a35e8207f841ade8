"""A node's catalogue: every entry that its lab publishes, signed with the node's key. The coordinator keeps and shows it, and can
make none: whoever reads it checks the signature against the node's credential, and that against the roll.

The next one takes the place of the last: what is no longer in it is withdrawn. It ends after some days, so that an old one that a
coordinator goes on showing ends, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from federation.catalogue.entry import Entry, read_entry
from federation.errors import InvalidIdentity
from federation.identity.credential import NodeCredential
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, moment, moment_text, whole
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label

MAX_ENVELOPE: Final = 1 << 20
MOST_ENTRIES: Final = 64
LASTS: Final = timedelta(days=30)
FIELDS: Final = ("federation", "member", "node", "sequence", "issued", "expires", "entries")


@dataclass(frozen=True, slots=True)
class Catalogue:
    federation: str
    member: str
    node: str
    sequence: int
    """each is one higher than the node's last"""
    issued: datetime
    expires: datetime
    entries: tuple[Entry, ...]
    """by name"""


def digest_of(envelope: bytes) -> bytes:
    """What a log says of a catalogue: SHA-256 of its signed payload. Raises InvalidIdentity."""
    return open_envelope(envelope, "catalogue", MAX_ENVELOPE).digest


def statement_of(credential: NodeCredential, sequence: int, issued: datetime, entries: Sequence[Entry]) -> Catalogue:
    """Raises InvalidIdentity for more entries than a catalogue holds."""
    if len(entries) > MOST_ENTRIES:
        raise InvalidIdentity(
            f"A node publishes at most {MOST_ENTRIES} data sets.",
            hint="Withdraw some: concord-node data withdraw NAME.",
        )
    begin = issued.replace(microsecond=0)
    ordered = tuple(sorted(entries, key=lambda entry: entry.name))
    return Catalogue(credential.federation, credential.member, credential.node, sequence, begin, begin + LASTS, ordered)


def seal_catalogue(statement: Catalogue, key: SigningKey) -> bytes:
    document = {
        "federation": statement.federation,
        "member": statement.member,
        "node": statement.node,
        "sequence": statement.sequence,
        "issued": moment_text(statement.issued),
        "expires": moment_text(statement.expires),
        "entries": [entry.document for entry in statement.entries],
    }
    envelope = seal(document, "catalogue", (key,))
    if len(envelope) > MAX_ENVELOPE:
        raise InvalidIdentity(
            f"The catalogue is larger than {MAX_ENVELOPE >> 10} KiB.",
            hint="Publish fewer fields: long lists of columns and codes are most of it.",
        )
    return envelope


def open_catalogue(envelope: bytes, credential: NodeCredential, now: datetime) -> Catalogue:
    """Raises InvalidIdentity unless the node that ``credential`` names signed exactly this, and it has not ended by ``now``."""
    opened = open_envelope(envelope, "catalogue", MAX_ENVELOPE)
    if opened.signers != (credential.identity_key,):
        raise InvalidIdentity(f"The catalogue is not signed by the node {credential.node} of {credential.member}.")
    document = exact(opened.document, "catalogue", *FIELDS)
    entries = document["entries"]
    if not isinstance(entries, list) or len(entries) > MOST_ENTRIES:
        raise InvalidIdentity(f"The catalogue's entries are no list of at most {MOST_ENTRIES}.")
    statement = Catalogue(
        federation=checked_label(document["federation"], "federation"),
        member=checked_label(document["member"], "member"),
        node=checked_label(document["node"], "node"),
        sequence=whole(document["sequence"], "catalogue's sequence", 1),
        issued=moment(document["issued"], "issued"),
        expires=moment(document["expires"], "expires"),
        entries=tuple(read_entry(entry) for entry in entries),
    )
    names = [entry.name for entry in statement.entries]
    if names != sorted(set(names)):
        raise InvalidIdentity("The catalogue's entries are not in order, each once.")
    if (statement.federation, statement.member, statement.node) != (
        credential.federation,
        credential.member,
        credential.node,
    ):
        raise InvalidIdentity("The catalogue speaks for another node than the one that signed it.")
    if not statement.issued < statement.expires <= statement.issued + LASTS:
        raise InvalidIdentity("The catalogue ends before it begins, or lasts too long.")
    if now > statement.expires:
        raise InvalidIdentity(
            f"The catalogue of {statement.member}/{statement.node} ended on {moment_text(statement.expires)}.",
            hint="The node signs a new one while it runs; ask its lab.",
        )
    return statement
