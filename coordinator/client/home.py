"""The folder of one person: a member's officer, a research lead, or an operator.

profile.json       who this is (kind, id, ...), written by `member init` or `lead init`
card.json          the entry for the roll, signed with the identity key
keys/identity.key  Ed25519, the person's signature; never overwritten
keys/transport.key EC P-256, for connections only
keys/sealing.key   96 random bytes: X25519 and ML-KEM-768, opens releases that are sealed for this person; made when needed
roll.json          the roll that this person trusts
connection.json    address and federation; transport.pem and ca.pem beside it, written by `login`
jobs/<key>.json    manifests that this lead signed, so that applying the same job again is the same job
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.client.channel import Endpoint
from coordinator.client.files import (
    PRIVATE_FOLDER,
    SECRET_FILE,
    about,
    make_private_folder,
    read_file,
    read_secret,
    write_file,
    write_new_file,
)
from coordinator.client.log_keys import KEY_FILE, UNNAMED, trusted_key
from coordinator.client.signing import opened_key
from federation.audit.checkpoint import VerifierKey
from federation.audit.named_key import log_key_of
from federation.errors import InvalidIdentity, InvalidUsage, NotFound, ProtocolViolation
from federation.governance.charter import Seat
from federation.governance.history import succeeds
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.identity.transport import TransportKey, fingerprint_of
from federation.sealing import PRIVATE_BYTES

DEFAULT_HOME: Final = "~/.concord"


@dataclass(frozen=True, slots=True)
class Profile:
    kind: str
    """member | lead"""
    id: str
    name: str
    details: Mapping[str, str]
    """jurisdiction of a member; member of a lead"""


@dataclass(frozen=True, slots=True)
class Home:
    path: Path

    @staticmethod
    def at(path: Path | str | None = None) -> Home:
        return Home(Path(path or DEFAULT_HOME).expanduser())

    @property
    def identity_key_path(self) -> Path:
        return self.path / "keys" / "identity.key"

    @property
    def next_key_path(self) -> Path:
        """a new identity key, until the roll lists it"""
        return self.path / "keys" / "identity-next.key"

    @property
    def transport_key_path(self) -> Path:
        return self.path / "keys" / "transport.key"

    @property
    def sealing_key_path(self) -> Path:
        return self.path / "keys" / "sealing.key"

    @property
    def roll_path(self) -> Path:
        return self.path / "roll.json"

    @property
    def jobs_path(self) -> Path:
        return self.path / "jobs"

    @property
    def card_path(self) -> Path:
        return self.path / "card.json"

    def create(self, profile: Profile, key: SigningKey, card: bytes, pem: bytes | None = None) -> None:
        """Founds this home. ``pem``: the key's file, where it is not the plain one. Raises InvalidUsage when there is a key."""
        make_private_folder(self.path)
        make_private_folder(self.path / "keys").chmod(PRIVATE_FOLDER)
        write_new_file(
            self.identity_key_path,
            pem or key.to_pem(),
            SECRET_FILE,
            what="an identity key",
            hint="Choose another --home, or move the old key away if you are sure that nobody relies on it.",
        )
        document = {"kind": profile.kind, "id": profile.id, "name": profile.name, **profile.details}
        write_file(self.path / "profile.json", _json(document))
        write_file(self.card_path, card)

    def owner(self) -> Profile | None:
        """Whose home this is; None for a folder that only holds a connection, as an operator's does."""
        try:
            document = self._document("profile.json", "The profile")
        except NotFound:
            return None
        return Profile(
            kind=str(document.pop("kind", "")),
            id=str(document.pop("id", "")),
            name=str(document.pop("name", "")),
            details={key: str(value) for key, value in document.items()},
        )

    def profile(self, kind: str) -> Profile:
        """Who this is. Raises NotFound or InvalidUsage when this is not the home of a ``kind``."""
        profile = self.owner()
        if profile is None:
            raise NotFound(
                f"{self.path} is not the home of a {kind} yet.",
                hint=f"Make one with `concord {kind} init --home {self.path} ...`, or name the right one with --home or "
                "CONCORD_HOME.",
            )
        if profile.kind != kind:
            raise InvalidUsage(
                f"{self.path} is the home of the {profile.kind} {profile.id}, and this takes a {kind}.",
                hint="Name the right one with --home or CONCORD_HOME.",
            )
        return profile

    def identity_key(self) -> SigningKey:
        pem = read_secret(
            self.identity_key_path,
            what="identity key",
            hint="Make one with `concord member init` or `concord lead init`, or name the right --home.",
        )
        return opened_key(self.identity_key_path, pem)

    def next_key(self) -> SigningKey | None:
        if not self.next_key_path.exists():
            return None
        return opened_key(self.next_key_path, read_secret(self.next_key_path, what="next identity key", hint=""))

    def settle_key(self, roll: Roll) -> bool:
        """Takes the new key for the identity key, once ``roll`` lists it. The old one is kept beside it, for the record."""
        key, owner = self.next_key(), self.owner()
        if key is None or owner is None:
            return False
        listed = [("member", each.id, each.officer_key) for each in roll.members]
        listed += [("lead", each.id, each.key) for each in roll.leads]
        if (owner.kind, owner.id, key.public) not in listed:
            return False
        if self.identity_key_path.exists():
            self.identity_key_path.replace(self.identity_key_path.with_name(f"identity-before-{roll.version}.key"))
        self.next_key_path.replace(self.identity_key_path)
        return True

    def transport_key(self) -> TransportKey:
        """This home's key for connections; made when there is none."""
        if not self.transport_key_path.exists():
            make_private_folder(self.path)
            make_private_folder(self.path / "keys").chmod(PRIVATE_FOLDER)
            key = TransportKey.generate()
            write_new_file(self.transport_key_path, key.to_pem(), SECRET_FILE, what="a transport key")
        pem = self._transport_pem()
        with about(self.transport_key_path, hint="Move it away and run `concord login` with a new ticket."):
            return TransportKey.from_pem(pem)

    def sealing_key(self, *, make: bool = False) -> bytes:
        """Raises NotFound when there is none, unless ``make``."""
        if make and not self.sealing_key_path.exists():
            make_private_folder(self.path / "keys").chmod(PRIVATE_FOLDER)
            write_new_file(self.sealing_key_path, os.urandom(PRIVATE_BYTES), SECRET_FILE, what="a sealing key")
        key = read_secret(
            self.sealing_key_path,
            what="sealing key",
            hint="A release opens only where its job was submitted, or where the key that the job names is.",
        )
        if len(key) != PRIVATE_BYTES:
            raise InvalidUsage(
                f"{self.sealing_key_path} is damaged: it is not a sealing key.", hint="Restore it from a backup."
            )
        return key

    def roll(self) -> Roll | None:
        """The roll that this home trusts, checked again; None where there is none."""
        envelope = self.roll_envelope()
        if envelope is None:
            return None
        with about(self.roll_path, hint="Move it away and run `concord login`, or put back the roll that you trust."):
            return Roll.open(envelope)

    def roll_envelope(self) -> bytes | None:
        return read_file(self.roll_path, what="The roll") if self.roll_path.exists() else None

    def required_roll(self) -> Roll:
        roll = self.roll()
        if roll is None:
            raise NotFound(
                f"There is no roll in {self.path}.",
                hint=f"`concord login --home {self.path} --ticket TICKET` brings it.",
            )
        return roll

    def trust_roll(self, envelope: bytes) -> Roll:
        """Keeps ``envelope`` as the roll of this home, if it is good and continues the one that is here.

        Raises InvalidIdentity for a bad roll, InvalidUsage when it does not follow from the one that is trusted already.
        """
        roll = Roll.open(envelope)
        known = self.roll()
        if known is not None and known.digest != roll.digest:
            try:
                succeeds(known, roll)
            except (ProtocolViolation, InvalidIdentity) as error:
                raise InvalidUsage(
                    f"{self.path} trusts another roll: {known.federation}, version {known.version}, {known.digest.hex()}; "
                    f"this one is {roll.federation}, version {roll.version}, {roll.digest.hex()}. {error.message}",
                    hint="Ask the members which one they signed. To trust the new one, move the old roll.json away first.",
                ) from None
        if known is None or known.digest != roll.digest:
            write_file(self.roll_path, envelope)
        return roll

    def trust_log_key(self, named: str, roll: Roll | None = None) -> str:
        """The key of the public log, as the coordinator names it at a login: where the charter names one, that one counts, and
        nothing is kept; else the first one is, and no other is accepted later.

        A warning, or nothing. Raises InvalidIdentity for another key than the one that was kept.
        """
        path, key = self.path / KEY_FILE, VerifierKey.parse(named)
        charter = log_key_of(roll) if roll is not None else None
        if charter is not None:
            return (
                ""
                if key == charter
                else (
                    f"the coordinator signs the public log with another key ({key}) than the members' charter names ({charter}): "
                    "believe nothing that it shows of the log, and tell the members"
                )
            )
        if not path.exists():
            write_file(path, f"{key}\n".encode())
        elif read_file(path, 1000).decode(errors="replace").strip() != str(key):
            raise InvalidIdentity(
                f"The coordinator names another key for the public log than {path}.",
                hint="Ask the federation's members which is right, and move the file away if the new one is.",
            )
        return "" if roll is None else f"the log's key was believed as the coordinator named it first, {key}. {UNNAMED}"

    def log_key(self) -> VerifierKey | None:
        """The key of the public log that this home believes; None where it knows none."""
        try:
            return trusted_key("", self.roll(), self.path / KEY_FILE).key
        except InvalidUsage:
            return None

    def remember_connection(self, address: str, federation: str, ca_pem: bytes, certificate_pem: bytes) -> None:
        write_file(self.path / "ca.pem", ca_pem)
        write_file(self.path / "transport.pem", certificate_pem)
        write_file(self.path / "connection.json", _json({"federation": federation, "address": address}))

    def renew_certificate(self, certificate_pem: bytes) -> None:
        write_file(self.path / "transport.pem", certificate_pem)

    def endpoint(self) -> Endpoint:
        """Where to connect and as whom: where the members have put the coordinator, by the roll of this home.

        Raises NotFound before `concord login`, InvalidIdentity when they have moved it to another CA than this home's.
        """
        roll = self.roll()
        seat = roll.charter.coordinator if roll is not None else Seat()
        try:
            document = self._document("connection.json", "The connection")
            endpoint = Endpoint(
                address=seat.places(str(document["address"]))[0],
                federation=str(document["federation"]),
                ca_pem=read_file(self.path / "ca.pem", what="The federation's CA"),
                certificate_pem=read_file(self.path / "transport.pem", what="The transport certificate"),
                key_pem=self._transport_pem(),
            )
        except (NotFound, KeyError):
            raise NotFound(
                f"{self.path} is not logged in to a federation.",
                hint=f"Ask the operator for a ticket, then `concord login --home {self.path} --ticket TICKET`.",
            ) from None
        check_seat(roll, endpoint.ca_pem, f"`concord login --home {self.path} --ticket TICKET`")
        return endpoint

    def _transport_pem(self) -> bytes:
        return read_secret(self.transport_key_path, what="transport key", hint="`concord login` makes one.")

    def _document(self, name: str, what: str) -> dict[str, object]:
        path = self.path / name
        try:
            document = json.loads(read_file(path, what=what))
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise InvalidUsage(
                f"{path} is damaged: it is not a JSON object.",
                hint="Restore it from a backup; connection.json also comes back with `concord login` and a new ticket.",
            )
        return document


def check_seat(roll: Roll | None, ca_pem: bytes, then: str) -> None:
    """Raises InvalidIdentity when the charter of ``roll`` names another CA than ``ca_pem``. ``then``: what to run."""
    seat = roll.charter.coordinator if roll is not None else Seat()
    if roll is None or seat.ca is None:
        return
    if fingerprint_of(ca_pem) != seat.ca:
        raise InvalidIdentity(
            f"The members have moved the coordinator: the roll, version {roll.version}, names the CA "
            f"{seat.ca.hex()[:16]} at {', '.join(seat.addresses) or 'an address that is not named'}.",
            hint=f"Ask its operator there for a ticket, then {then}.",
        )


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
