"""The coordinator's promise for an order, as a log's signed timestamp for a certificate (the idea of RFC 6962, section 3).

With it the coordinator says when it got an order, and by when every node that is connected hears it and the log holds it. An
order that a node does not hold after that time, though the coordinator answered the node meanwhile, is an order that was hidden;
order and receipt together are the proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from federation.errors import InvalidIdentity
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, moment_text
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label

MAX_ENVELOPE: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class Receipt:
    federation: str
    order: bytes
    """digest"""
    received: datetime
    told_by: datetime
    """every connected node has heard it, and the log holds it"""


def seal_receipt(receipt: Receipt, key: SigningKey) -> bytes:
    document = {
        "federation": receipt.federation,
        "order": receipt.order.hex(),
        "received": moment_text(receipt.received),
        "toldBy": moment_text(receipt.told_by),
    }
    return seal(document, "halt-receipt", (key,))


def open_receipt(envelope: bytes, order: bytes, key: bytes | None) -> Receipt:
    """``key``: the coordinator's, where it is known. Raises InvalidIdentity when it is not its receipt for this order."""
    opened = open_envelope(envelope, "halt-receipt", MAX_ENVELOPE)
    if len(opened.signers) != 1 or (key is not None and opened.signers != (key,)):
        raise InvalidIdentity("The receipt is not signed by the coordinator.")
    document = exact(opened.document, "receipt", "federation", "order", "received", "toldBy")
    if hexadecimal(document["order"], "receipt's order", 32) != order:
        raise InvalidIdentity("The receipt is for another order.")
    return Receipt(
        checked_label(document["federation"], "federation"),
        order,
        moment(document["received"], "received"),
        moment(document["toldBy"], "toldBy"),
    )
