"""A blind job's release: anybody verifies what the members signed, and its recipients alone read the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from federation.errors import FederationError, InvalidManifest, InvalidUsage, VerificationFailed
from federation.identity.keys import SigningKey
from federation.releases import evidence
from federation.releases.build import open_release
from federation.releases.listing import (
    CARD,
    CLOSED,
    CONFIG,
    FIXED,
    KEYS,
    LISTING,
    MODEL,
    OPEN,
    SEALED,
    STATE,
)
from federation.releases.verify import Report, verify
from federation.sealing import (
    KEY_BYTES,
    PUBLIC_BYTES,
    is_recipient_key,
    key_id_of,
    recipient_key,
    release_purpose,
    salt_of,
    seal,
    unseal,
    unwrap,
    wrap,
)
from federation.weights.tensors import write_arrays
from tests.unit.identity.parties import CREATED, SEALING_KEY
from tests.unit.releases.released import BLIND, JOB, Training, relisted, trained, whole

OTHER = bytes(reversed(range(96)))
KEY = bytes(range(KEY_BYTES))


def blind(members: int = 4) -> Training:
    """Four members, of whom one may lie: two sign what the sealed file holds."""
    return trained(text=BLIND, members=members)


def opened(files: Any, folder: Path, key: bytes = SEALING_KEY) -> Any:
    folder.mkdir(exist_ok=True)
    return open_release(files, key, folder, SigningKey.generate(), CREATED)


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if not check.ok]


def test_a_sealed_release_verifies_without_any_key(tmp_path: Path) -> None:
    world = blind()
    files = world.release(tmp_path)
    members = {f"consents/{name}.json" for name in world.names}
    assert set(files) == {*FIXED, *CLOSED, LISTING, *members, "rounds/1.json", "rounds/2.json", "rounds/3.json"}
    for given in (files, whole(files)):
        report = verify(given, world.parties.roll.envelope)
        assert report.ok, report
    (state,) = [check for check in report.checks if check.name == "state"]
    assert "2 members signed that it is in this file, of whom at most 1 may lie" in state.detail
    assert "model" not in [check.name for check in report.checks], "nobody without a key can look at the model"
    config = json.loads(whole(files)[CONFIG])
    assert config["model"]["stateDigest"] == world.final.digest().hex()
    assert config["model"]["recipients"] == [{"name": "A lead", "key": key_id_of(recipient_key(SEALING_KEY))}]
    assert "opens for A lead alone" in whole(files)[CARD].decode()


def test_no_number_of_the_model_is_in_a_sealed_release(tmp_path: Path) -> None:
    world = blind()
    held = b"".join(whole(world.release(tmp_path)).values())
    assert all(array.tobytes() not in held for array in world.final.arrays.values())


def test_a_recipient_gets_the_release_as_everybody_could_read_it(tmp_path: Path) -> None:
    world = blind()
    files = opened(world.release(tmp_path), tmp_path / "scratch")
    assert {*FIXED, *OPEN, LISTING} <= set(files)
    assert not set(CLOSED) & set(files)
    report = verify(files, world.parties.roll.envelope)
    assert report.ok, report
    model = safetensors.numpy.load(whole(files)[MODEL])
    for name, array in world.final.arrays.items():
        assert np.array_equal(model[name], array)
    assert json.loads(whole(files)[CONFIG])["model"]["file"] == MODEL


def test_who_is_no_recipient_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="not sealed for this key"):
        opened(blind().release(tmp_path), tmp_path / "scratch", OTHER)


def test_what_is_not_sealed_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidUsage, match="not sealed"):
        opened(trained().release(tmp_path), tmp_path / "scratch")


def test_all_members_seal_the_same_file_so_that_one_copy_serves(tmp_path: Path) -> None:
    world = blind()
    said = world.inputs(tmp_path)["sealings"]
    assert len(said) == 2
    assert len({each.sealed_blob for each in said}) == 1
    assert len({each.wrapped for each in said}) == 2


def test_a_member_that_wraps_a_wrong_key_does_not_keep_the_recipients_out(tmp_path: Path) -> None:
    """The first of f + 1 lies; the file is the same, and the second one's key opens it."""
    world = blind()
    inputs = world.inputs(tmp_path)
    first, second = inputs["sealings"]
    purpose = release_purpose(world.job.digest, world.final.digest())
    for lie in (wrap(KEY, world.job.recipients, purpose), (bytes(len(first.wrapped[0])),)):
        liar = world.labs[world.names[0]].machine
        said = (liar.sealing(first.state_digest, first.sealed_blob, lie), second)
        files = opened(world.release(tmp_path, sealings=said), tmp_path / "scratch")
        assert verify(files).ok
    lies = tuple(
        world.labs[name].machine.sealing(
            first.state_digest, first.sealed_blob, wrap(KEY, world.job.recipients, purpose)
        )
        for name in world.names[:2]
    )
    with pytest.raises(VerificationFailed, match="No member's key"):  # more liars than the protocol tolerates
        opened(world.release(tmp_path, sealings=lies), tmp_path / "scratch")


def test_more_liars_than_tolerated_show_when_it_is_opened(tmp_path: Path) -> None:
    """f + 1 members who say together that another state is the final one: the recipient checks it against q receipts."""
    world, wrong = blind(), tmp_path / "wrong.safetensors"
    write_arrays(wrong, {name: array + 1 for name, array in world.final.arrays.items()}, {"round": "3"})
    path, said = world.sealed(wrong)
    files = world.release(tmp_path, state_file=path, sealings=said)
    assert verify(files).ok, "without a key it cannot be seen"
    with pytest.raises(FederationError):
        opened(files, tmp_path / "scratch")


Spoil = Callable[[Training, Any], Any]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _world, said: said[:1],
        lambda _world, said: (said[0], said[0]),
        lambda _world, said: said[::-1],
        lambda _world, said: (said[0], replace(said[1], signature=bytes(64))),
        lambda _world, said: (said[0], replace(said[1], wrapped=said[0].wrapped)),
        lambda _world, said: (said[0], replace(said[1], sealed_blob=bytes(32))),
        lambda world, said: (said[0], world.labs["m2"].machine.sealing(said[0].state_digest, bytes(32), said[0].wrapped)),
        lambda world, said: tuple(
            world.labs[name].machine.sealing(said[0].state_digest, bytes(32), said[0].wrapped) for name in ("m1", "m2")
        ),
        lambda world, said: (
            said[0],
            world.labs["m2"].machine.sealing(bytes(32), said[0].sealed_blob, said[0].wrapped),
        ),
        lambda world, said: (
            said[0],
            world.labs["m2"].machine.sealing(said[0].state_digest, said[0].sealed_blob, said[0].wrapped * 2),
        ),
        lambda _world, said: (said[0], replace(said[1], epoch=2)),
        lambda _world, _said: (),
    ],
    ids=[
        "too few", "one twice", "out of order", "no signature", "another's keys", "another file", "two files",
        "a file that is not here",
        "another state", "for one more recipient", "another epoch", "nobody",
    ],
)  # fmt: skip
def test_what_f_plus_1_members_did_not_sign_is_neither_published_nor_verified(spoil: Spoil, tmp_path: Path) -> None:
    world = blind()
    inputs = world.inputs(tmp_path)
    said = spoil(world, inputs["sealings"])
    with pytest.raises(FederationError):
        world.release(tmp_path, state_file=inputs["state_file"], sealings=said)
    if sorted({each.index for each in said}) != [each.index for each in said]:
        return  # no file can say so
    files = whole(world.release(tmp_path))
    changed = {KEYS: evidence.encode(evidence.SealedKeys(said))}
    assert failed(verify(relisted(files | changed))) == ["state", "config", "card", "bom", "statement", "recall"]


def test_an_altered_sealed_file_fails_without_any_key(tmp_path: Path) -> None:
    world = blind()
    files = whole(world.release(tmp_path))
    for place in (0, 20, len(files[SEALED]) - 1):
        data = bytearray(files[SEALED])
        data[place] ^= 1
        assert "state" in failed(verify(relisted(files | {SEALED: bytes(data)})))


def test_a_blind_job_published_in_clear_beside_its_seal_fails(tmp_path: Path) -> None:
    world = blind()
    files = whole(world.release(tmp_path))
    clear = whole(opened(files, tmp_path / "scratch"))
    assert "state" in failed(verify(relisted(files | {STATE: clear[STATE], MODEL: clear[MODEL]})))


def test_a_job_whose_model_everybody_may_see_is_not_sealed(tmp_path: Path) -> None:
    files, sealed = whole(trained().release(tmp_path)), whole(blind().release(tmp_path))
    del files[MODEL], files[STATE]
    assert "state" in failed(verify(relisted(files | {path: sealed[path] for path in CLOSED})))


@pytest.mark.parametrize("place", [0, 15, 16, 47, 48, 1_100_000, -1])
def test_any_altered_byte_keeps_it_shut(place: int) -> None:
    data = bytes(3_000_000)
    sealed = bytearray(b"".join(seal(KEY, salt_of(KEY, hashlib.sha256(data).digest()), [data])))
    assert b"".join(unseal(KEY, [bytes(sealed)])) == data
    sealed[place] ^= 1
    with pytest.raises(VerificationFailed):
        b"".join(unseal(KEY, [bytes(sealed)]))


def test_a_key_is_wrapped_for_one_recipient_and_one_purpose() -> None:
    mine, others = wrap(KEY, [recipient_key(SEALING_KEY), recipient_key(OTHER)], b"purpose")
    assert unwrap(SEALING_KEY, mine, b"purpose") == unwrap(OTHER, others, b"purpose") == KEY
    altered = bytes([mine[0] ^ 1]) + mine[1:]
    for private, wrapped, purpose in ((SEALING_KEY, others, b"purpose"), (SEALING_KEY, mine, b"another"),
                                      (SEALING_KEY, altered, b"purpose"), (SEALING_KEY, b"", b"purpose")):  # fmt: skip
        with pytest.raises(VerificationFailed):
            unwrap(private, wrapped, purpose)


def test_keys_for_which_nothing_can_be_sealed_are_no_recipients() -> None:
    good = recipient_key(SEALING_KEY)
    assert is_recipient_key(good)
    assert len(good) == PUBLIC_BYTES
    small_order = bytes(32) + good[32:]
    for bad in (good[:-1], good + b"\0", small_order, good[:32] + b"\xff" * (PUBLIC_BYTES - 32)):
        assert not is_recipient_key(bad)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (JOB + f"  release: {{recipients: [{{name: x, key: '{recipient_key(OTHER).hex()}'}}]}}\n", "sees the model"),
        (BLIND + "  release: {recipients: [{name: x}]}\n", "one of key and keyFile"),
        (BLIND + "  release: {recipients: [{name: x, key: 'ab'}]}\n", "recipients"),
        (BLIND + f"  release: {{recipients: [{{name: x, key: '{'ff' * PUBLIC_BYTES}'}}]}}\n", "not a sealing key"),
        (BLIND + "  release: {recipients: [{name: x, keyFile: x.key}]}\n", "not a sealing key"),
    ],
    ids=["of a job in clear", "no key", "short key", "no good key", "a file in a manifest"],
)
def test_recipients_that_cannot_be_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidManifest, match=said):
        trained().parties.manifest(text)


def test_a_member_seals_the_final_state_and_no_other() -> None:
    world = blind()
    machine = world.labs["m1"].machine
    assert len(machine.release_key(world.final.digest())) == KEY_BYTES
    assert machine.release_key(bytes(32)) == b""
    assert trained().labs["m1"].machine.release_key(trained().final.digest()) == b"", "its job is not blind"
