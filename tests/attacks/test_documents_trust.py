"""A hostile coordinator, lead, member or stranger against the signed documents. Outcome of each: refused, with the reason named."""

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from federation.errors import InvalidIdentity, InvalidManifest
from federation.identity.consent import Consent, open_consent, seal_consent
from federation.identity.credential import node_request, open_node_request, sign_credential, verify_credential
from federation.identity.envelope import open_envelope, pre_authentication, seal
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollMember, member_card, open_lead_card, open_member_card
from federation.identity.withdrawal import open_withdrawal, seal_withdrawal
from federation.manifest.bundle import pack, unpack
from federation.manifest.manifest import open_manifest
from federation.secagg import transcripts
from tests.unit.identity.parties import APP, NOW, found

PARTIES = found()
ROLL = PARTIES.roll
NODE = SigningKey.generate()
CREDENTIAL = PARTIES.credential("ke", NODE)
MANIFEST = PARTIES.job()
YEAR = timedelta(days=365)
CONSENT = Consent(
    MANIFEST.digest, "ke", "ke-1", True, (), "digits", 64, ("train/loss",), (), NOW, NOW + timedelta(hours=1)
)


def altered(envelope: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The envelope with another payload and its old signatures: what a coordinator can make."""
    document = json.loads(envelope)
    payload = json.loads(base64.b64decode(document["payload"]))
    change(payload)
    unsigned = json.loads(seal(payload, document["payloadType"].split(".")[2], ()))
    unsigned["signatures"] = document["signatures"]
    return json.dumps(unsigned, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def test_the_forger_of_these_tests_writes_what_opens() -> None:
    assert altered(ROLL.envelope, lambda _payload: None) == ROLL.envelope


# ------------------------------------------------------------------------------------------------- a hostile coordinator


def test_a_coordinator_that_invents_a_member_is_refused_by_every_node() -> None:
    """It makes an officer, lists it, and signs with it; the founders' signatures do not cover its list."""
    officer = SigningKey.generate()
    entry = {
        "id": "zz",
        "name": "Invented",
        "jurisdiction": "ZZ",
        "officerKey": "ed25519:" + officer.public.hex(),
        "tier": "member",
        "state": "active",
    }
    with pytest.raises(InvalidIdentity, match="does not check"):
        Roll.open(altered(ROLL.envelope, lambda roll: roll["members"].append(entry)))
    document = open_envelope(ROLL.envelope, "roll").document
    document["members"].append(entry)
    with pytest.raises(InvalidIdentity, match="not signed by ch"):
        Roll.open(seal(document, "roll", (officer,)))
    request = node_request("health", "zz", "zz-1", NODE)
    credential = sign_credential(request, "health", officer, "zz", NOW, NOW + YEAR)
    with pytest.raises(InvalidIdentity, match="not a member"):
        verify_credential(credential, ROLL, NOW)


def test_a_coordinator_that_invents_a_node_of_a_real_member_is_refused() -> None:
    for officer in (SigningKey.generate(), PARTIES.officers["fr"]):
        request = node_request("health", "ke", "ke-9", NODE)
        credential = sign_credential(request, "health", officer, "ke", NOW, NOW + YEAR)
        with pytest.raises(InvalidIdentity, match="not signed by the officer of ke"):
            verify_credential(credential, ROLL, NOW)


def test_a_coordinator_that_swaps_a_key_on_the_roll_is_refused() -> None:
    key = "ed25519:" + SigningKey.generate().public.hex()
    for list_, field in (("members", "officerKey"), ("leads", "key")):
        with pytest.raises(InvalidIdentity, match="does not check"):
            Roll.open(altered(ROLL.envelope, lambda roll, a=list_, b=field: roll[a][0].update({b: key})))


def test_a_coordinator_that_drops_a_member_from_the_roll_is_refused() -> None:
    with pytest.raises(InvalidIdentity, match="does not check"):
        Roll.open(altered(ROLL.envelope, lambda roll: roll["members"].pop()))


def test_a_coordinator_that_strips_a_signature_from_the_roll_is_refused() -> None:
    document = json.loads(ROLL.envelope)
    document["signatures"].pop()
    with pytest.raises(InvalidIdentity, match="not signed by"):
        Roll.open(json.dumps(document, separators=(",", ":"), sort_keys=True).encode())


def test_a_credential_that_is_moved_stretched_or_revived_is_refused() -> None:
    for change in (
        {"member": "fr"},
        {"node": "ke-2"},
        {"federation": "climate"},
        {"notAfter": "2099-01-01T00:00:00Z"},
        {"identityKey": "ed25519:" + SigningKey.generate().public.hex()},
    ):
        with pytest.raises(InvalidIdentity):
            verify_credential(altered(CREDENTIAL.envelope, lambda document, c=change: document.update(c)), ROLL, NOW)
    with pytest.raises(InvalidIdentity, match="not now"):
        verify_credential(CREDENTIAL.envelope, ROLL, NOW + 2 * YEAR)


def test_a_credential_of_another_federation_with_the_same_names_is_refused() -> None:
    other = found()
    with pytest.raises(InvalidIdentity, match="not signed by the officer"):
        verify_credential(other.credential("ke", NODE).envelope, ROLL, NOW)


@pytest.mark.parametrize(
    "path",
    [
        ("rounds",),
        ("secureAggregation", "clipNorm"),
        ("secureAggregation", "ringBits"),
        ("secureAggregation", "weightCap"),
        ("participants", "minMembers"),
        ("bundle", "digest"),
        ("model", "seed"),
    ],
    ids=".".join,
)
def test_a_coordinator_that_changes_a_job_is_refused(path: tuple[str, ...]) -> None:
    def change(document: dict[str, Any]) -> None:
        place = document["spec"]
        for part in path[:-1]:
            place = place[part]
        value = place[path[-1]]
        place[path[-1]] = {"rounds": 11, "ringBits": 32}.get(
            path[-1], value + 1 if isinstance(value, int) else "0" * 64
        )

    with pytest.raises(InvalidIdentity, match="does not check"):
        open_manifest(altered(MANIFEST.envelope, change), ROLL)


def test_a_coordinator_that_swaps_the_code_is_refused() -> None:
    other = pack({**APP, "tiny/client_app.py": b"import os\n"})
    with pytest.raises(InvalidManifest, match="digest differs"):
        unpack(other.data, MANIFEST.bundle_digest)


def test_a_coordinator_that_turns_a_denial_into_a_consent_is_refused() -> None:
    denial = seal_consent(replace(CONSENT, granted=False, weight=0), NODE)
    with pytest.raises(InvalidIdentity, match="does not check"):
        open_consent(altered(denial, lambda document: document.update(granted=True, weight=64)), CREDENTIAL)


def test_a_consent_moved_to_another_job_weight_or_time_is_refused() -> None:
    for change in ({"job": "00" * 32}, {"weight": 1024}, {"expires": "2099-01-01T00:00:00Z"}, {"figures": ["train/x"]}):
        with pytest.raises(InvalidIdentity, match="does not check"):
            open_consent(
                altered(seal_consent(CONSENT, NODE), lambda document, c=change: document.update(c)), CREDENTIAL
            )


def test_a_coordinator_cannot_withdraw_a_job_nor_move_a_withdrawal() -> None:
    key = ROLL.lead("lead").key
    with pytest.raises(InvalidIdentity, match="not signed by the lead"):
        open_withdrawal(seal_withdrawal(MANIFEST.digest, "", SigningKey.generate()), MANIFEST.digest, key)
    with pytest.raises(InvalidIdentity, match="another job"):
        open_withdrawal(seal_withdrawal(bytes(32), "", PARTIES.lead_key), MANIFEST.digest, key)


# ------------------------------------------------------------------------------------------- hostile members and leads


def test_a_member_that_speaks_for_another_is_refused() -> None:
    other = SigningKey.generate()
    with pytest.raises(InvalidIdentity, match="not signed by the node"):
        open_consent(seal_consent(CONSENT, other), CREDENTIAL)
    with pytest.raises(InvalidIdentity, match="another node"):
        open_consent(seal_consent(replace(CONSENT, member="ke"), other), PARTIES.credential("fr", other))


def test_a_member_that_names_its_jurisdiction_itself_is_not_heard() -> None:
    """A credential has no such field: the jurisdiction is what all members signed on the roll."""
    assert PARTIES.credential("us", NODE).jurisdiction == "US"
    document = open_envelope(CREDENTIAL.envelope, "node-credential").document
    with pytest.raises(InvalidIdentity, match="unknown jurisdiction"):
        verify_credential(
            seal({**document, "jurisdiction": "CH"}, "node-credential", (PARTIES.officers["ke"],)), ROLL, NOW
        )


def test_an_officer_does_not_submit_jobs_and_a_lead_does_not_make_nodes() -> None:
    document = open_envelope(MANIFEST.envelope, "manifest").document
    with pytest.raises(InvalidIdentity, match="not signed by the lead"):
        open_manifest(seal(document, "manifest", (PARTIES.officers["ch"],)), ROLL)
    credential = sign_credential(
        node_request("health", "ch", "ch-9", NODE), "health", PARTIES.lead_key, "ch", NOW, NOW + YEAR
    )
    with pytest.raises(InvalidIdentity, match="not signed by the officer"):
        verify_credential(credential, ROLL, NOW)


# ------------------------------------------------------------------------------------------------- signatures out of place


def test_no_document_passes_for_one_of_another_kind() -> None:
    readers: dict[str, Callable[[bytes], object]] = {
        "roll": Roll.open,
        "node-credential": lambda data: verify_credential(data, ROLL, NOW),
        "node-request": open_node_request,
        "manifest": lambda data: open_manifest(data, ROLL),
        "consent": lambda data: open_consent(data, CREDENTIAL),
        "withdrawal": lambda data: open_withdrawal(data, MANIFEST.digest, ROLL.lead("lead").key),
        "member-card": open_member_card,
        "lead-card": open_lead_card,
    }
    officer = PARTIES.officers["ch"]
    documents = {
        "roll": ROLL.envelope,
        "node-credential": CREDENTIAL.envelope,
        "node-request": node_request("health", "ke", "ke-1", NODE),
        "manifest": MANIFEST.envelope,
        "consent": seal_consent(CONSENT, NODE),
        "withdrawal": seal_withdrawal(MANIFEST.digest, "", PARTIES.lead_key),
        "member-card": member_card(RollMember("ch", "A", "CH", officer.public), officer),
    }
    for kind, data in documents.items():
        readers[kind](data)
        for other, reader in readers.items():
            if other == kind:
                continue
            with pytest.raises(InvalidIdentity, match="another kind"):
                reader(data)
            relabelled = data.replace(f"concord.{kind}.v1".encode(), f"concord.{other}.v1".encode())
            with pytest.raises(InvalidIdentity, match="does not check"):
                reader(relabelled)


def test_a_signature_of_a_round_is_no_signature_of_a_document() -> None:
    """A node signs both with one key: what it signs begins differently."""
    document = pre_authentication("consent", b"{}")
    round_ = transcripts.transcript("ack", bytes(32), bytes(32), 1)
    shared = min(len(document), len(round_), len(b"DSSEv1 "))
    assert document[:shared] != round_[:shared]


# ------------------------------------------------------------------------------------------------------- hostile archives


def archive(**fields: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=fields.pop("format", tarfile.USTAR_FORMAT)) as tar:
        info = tarfile.TarInfo(fields.pop("name", "pyproject.toml"))
        content = fields.pop("content", b"x")
        info.size = len(content)
        for name, value in fields.items():
            setattr(info, name, value)
        tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def refused(data: bytes) -> None:
    with pytest.raises(InvalidManifest):
        unpack(data, hashlib.sha256(data).digest())


def test_the_plain_archive_of_these_tests_unpacks() -> None:
    data = archive()
    assert unpack(data, hashlib.sha256(data).digest()) == {"pyproject.toml": b"x"}


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "./a", "a//b"])
def test_an_archive_that_climbs_out_is_refused(name: str) -> None:
    refused(archive(name=name))


@pytest.mark.parametrize(
    "type_",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        b"S",
        b"\0",
    ],
)
def test_an_archive_with_links_devices_or_folders_is_refused(type_: bytes) -> None:
    refused(archive(type=type_, linkname="/etc/passwd"))


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": 0o777},
        {"mode": 0o4755},
        {"uid": 1},
        {"mtime": 1},
        {"uname": "root"},
        {"format": tarfile.GNU_FORMAT},
        {"format": tarfile.PAX_FORMAT, "pax_headers": {"path": "/etc/passwd"}},
        {"format": tarfile.PAX_FORMAT, "pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 40)}},
    ],
    ids=str,
)
def test_an_archive_that_says_more_than_names_and_contents_is_refused(fields: dict[str, Any]) -> None:
    refused(archive(**fields))


def test_a_sparse_entry_that_claims_a_terabyte_is_refused_in_little_memory() -> None:
    header = bytearray(archive(type=b"S", format=tarfile.GNU_FORMAT))
    header[386:398], header[398:410], header[483:495] = b"00000000000\0", b"17777777777\0", b"17777777777\0"
    refused(bytes(header))


def test_an_archive_with_the_same_file_twice_or_more_behind_its_end_is_refused() -> None:
    plain = archive()
    entry = plain[:1024]
    refused(entry + entry + bytes(len(plain) - 2 * 1024))
    refused(plain + bytes(10_240))
    refused(plain[:-512] + b"hidden".ljust(512, b"\0"))
    refused(plain[:-512])
    refused(plain[:600] + b"y" + plain[601:])


def test_entries_out_of_order_are_refused() -> None:
    both = pack({"a": b"1", "b": b"2"}).data
    refused(both[1024:2048] + both[:1024] + both[2048:])
