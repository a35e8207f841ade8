"""A coordinator that makes a member up, against four labs with their real drivers, journals and votes: nobody takes it for one.

The coordinator holds its own certificate authority and whatever keys it likes; what it does not hold is an officer's key.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coordinator.registry.authority import Authority
from federation.identity.credential import node_request, sign_credential
from federation.identity.keys import SigningKey
from federation.identity.transport import Principal, TransportKey
from federation.secagg import transcripts, wire
from federation.secagg.messages import KeyMessage
from federation.secagg.setup import GENESIS
from federation.v1 import rounds_pb2
from tests.unit.agent.hall import PEOPLE, Hall

Forger = Callable[[Hall], KeyMessage]


def key_of(hall: Hall, credential: bytes, signer: SigningKey) -> KeyMessage:
    """A key message as a member sends it in the formation that is open, over an exchange key of the coordinator's."""
    exchange = X25519PrivateKey.generate().public_key().public_bytes_raw()
    forming = hall.collector._book.forming
    assert forming is not None
    other = os.urandom(32)
    kem = MLKEM768PrivateKey.generate().public_key().public_bytes_raw()
    key = KeyMessage(1, forming.formation, GENESIS, credential, exchange, kem, other, other, 1, b"")
    return replace(key, signature=signer.sign(transcripts.key_transcript(hall.manifest.digest, key)))


def credential_by(officer: SigningKey, member: str, node: SigningKey) -> bytes:
    now = datetime.now(UTC)
    request = node_request("health", member, f"{member}-1", node)
    return sign_credential(request, "health", officer, member, now - timedelta(days=1), now + timedelta(days=1))


def stranger(hall: Hall) -> KeyMessage:
    """A member that no roll has, with an officer of its own."""
    node = SigningKey.generate()
    return key_of(hall, credential_by(SigningKey.generate(), "zz", node), node)


def known_name(hall: Hall) -> KeyMessage:
    """A node of a member of the roll, vouched for by a key that is not its officer's."""
    node = SigningKey.generate()
    return key_of(hall, credential_by(SigningKey.generate(), PEOPLE[-1], node), node)


def transport_certificate(hall: Hall) -> KeyMessage:
    """What the coordinator's own authority signs: a certificate for connections in place of a credential."""
    authority = Authority.create("health", datetime.now(UTC))
    public = TransportKey.generate().private.public_key()
    pem = authority.issue_for(public, Principal("node", "zz", "zz-1"), datetime.now(UTC), timedelta(days=1))
    return key_of(hall, pem, SigningKey.generate())


def borrowed_credential(hall: Hall) -> KeyMessage:
    """A true credential, which every node shows to the coordinator, over an exchange key that its node never saw."""
    return key_of(hall, hall.offices[PEOPLE[-1]].credential.envelope, SigningKey.generate())


FORGERS: dict[Forger, set[str]] = {
    stranger: {"credential"},
    known_name: {"credential"},
    transport_certificate: {"credential"},
    borrowed_credential: {"key-signature"},
}


@pytest.mark.parametrize("forger", FORGERS, ids=lambda forger: forger.__name__)
@pytest.mark.parametrize("how", ["beside the members", "in a member's place"])
def test_every_node_refuses_a_member_that_the_coordinator_invents(tmp_path: Path, forger: Forger, how: str) -> None:
    hall = Hall(tmp_path / "hall")
    victim = PEOPLE[-1]
    forged: dict[int, KeyMessage] = {}

    def carry(name: str, proto: Any) -> Any:
        if not isinstance(proto, rounds_pb2.Candidates) or (name == victim and how != "beside the members"):
            return proto
        shown = wire.from_proto(proto)
        if shown.formation not in forged:
            forged[shown.formation] = forger(hall)
        keys = shown.keys if how == "beside the members" else shown.keys[:-1]
        return wire.to_proto(replace(shown, keys=(*keys, forged[shown.formation])))

    hall.carry = carry
    hall.play()
    assert hall.done is None
    assert hall.stuck is not None
    assert len(forged) == hall.manifest.windows().formation_attempts, "each try was met with the forgery"
    for name, office in hall.offices.items():
        if name == victim and how != "beside the members":
            continue  # it was shown the true roster: it signs that one, and nobody else does
        assert office.told(rounds_pb2.Encapsulation) == []
        assert office.told(rounds_pb2.RosterSignature) == []
        codes = {refusal.code for refusal in office.told(rounds_pb2.Refusal)}
        assert codes == {f"protocol-violation/{check}" for check in FORGERS[forger]}
        assert office.worker.calls == [], "nothing of the job ran"
        assert office.told(rounds_pb2.Upload) == []
