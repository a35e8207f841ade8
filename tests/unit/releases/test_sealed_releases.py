"""A blind job's release: anybody verifies what the members signed, and its recipients alone read the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from federation.errors import FederationError, InvalidManifest, InvalidUsage, VerificationFailed
from federation.identity.keys import SigningKey
from federation.releases.build import open_release
from federation.releases.listing import CARD, CONFIG, FIXED, LISTING, MODEL, OPEN, SEALED, STATE, seal_listing
from federation.releases.verify import Report, verify
from federation.sealing import (
    PUBLIC_BYTES,
    is_recipient_key,
    key_id_of,
    open_for,
    recipient_key,
    recipients_of,
    release_purpose,
    seal_for,
)
from federation.weights.tensors import write_arrays
from tests.unit.identity.parties import CREATED, SEALING_KEY
from tests.unit.releases.released import BLIND, JOB, RELEASE_KEY, Training, trained, whole

OTHER = bytes(reversed(range(96)))


def blind() -> Training:
    return trained(text=BLIND)


def opened(files: Any, folder: Path, key: bytes = SEALING_KEY) -> Any:
    folder.mkdir()
    return open_release(files, key, folder, SigningKey.generate(), CREATED)


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if not check.ok]


def test_a_sealed_release_verifies_without_any_key_and_says_what_it_does_not_show(tmp_path: Path) -> None:
    world = blind()
    files = world.release(tmp_path)
    members = {f"consents/{name}.json" for name in world.names}
    assert set(files) == {*FIXED, SEALED, LISTING, *members, "rounds/1.json", "rounds/2.json", "rounds/3.json"}
    for given in (files, whole(files)):
        report = verify(given, world.parties.roll.envelope)
        assert report.ok, report
    (state,) = [check for check in report.checks if check.name == "state"]
    assert "shows when a recipient opens it" in state.detail
    assert "model" not in [check.name for check in report.checks], "nobody without a key can check the model"
    config = json.loads(whole(files)[CONFIG])
    assert config["model"]["stateDigest"] == world.final.digest().hex()
    assert config["model"]["recipients"] == [{"name": "A lead", "key": key_id_of(recipient_key(SEALING_KEY)).hex()}]
    assert "opens for A lead alone" in whole(files)[CARD].decode()


def test_no_number_of_the_model_is_in_a_sealed_release(tmp_path: Path) -> None:
    world = blind()
    held = b"".join(whole(world.release(tmp_path)).values())
    for name, array in world.final.arrays.items():
        assert array.tobytes() not in held, name


def test_a_recipient_gets_the_release_as_everybody_could_read_it(tmp_path: Path) -> None:
    world = blind()
    files = opened(world.release(tmp_path), tmp_path / "scratch")
    assert {*FIXED, *OPEN, LISTING} <= set(files)
    assert SEALED not in files
    report = verify(files, world.parties.roll.envelope)
    assert report.ok, report
    model = safetensors.numpy.load(whole(files)[MODEL])
    for name, array in world.final.arrays.items():
        assert np.array_equal(model[name], array)
    assert json.loads(whole(files)[CONFIG])["model"]["file"] == MODEL


def test_who_is_no_recipient_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="sealed for somebody else"):
        opened(blind().release(tmp_path), tmp_path / "scratch", OTHER)


def test_what_is_not_sealed_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidUsage, match="not sealed"):
        opened(trained().release(tmp_path), tmp_path / "scratch")


def test_a_state_that_nobody_signed_shows_when_it_is_opened(tmp_path: Path) -> None:
    """The provider, or the coordinator, can seal whatever it likes: the recipients' public keys are public."""
    world, wrong = blind(), tmp_path / "wrong.safetensors"
    write_arrays(wrong, {name: array + 1 for name, array in world.final.arrays.items()}, {"round": "3"})
    files = world.release(tmp_path, state_file=world.sealed(wrong))
    assert verify(files).ok, "without a key it cannot be seen"
    with pytest.raises(FederationError):
        opened(files, tmp_path / "scratch")


def test_a_state_of_another_job_or_another_end_does_not_open(tmp_path: Path) -> None:
    world, path = blind(), tmp_path / "state"
    world.sealed(world.inputs(tmp_path)["state_file"])
    for purpose in (release_purpose(bytes(32), world.final.digest()), release_purpose(world.job.digest, bytes(32))):
        path.write_bytes(b"".join(seal_for(world.job.recipients, purpose, [b"state"])))
        with pytest.raises(VerificationFailed, match="does not open"):
            opened(world.release(tmp_path, state_file=path), tmp_path / purpose.hex()[-70:-66])


@pytest.mark.parametrize("keys", [[], [OTHER], [SEALING_KEY, OTHER]], ids=["nobody", "another", "one more"])
def test_a_state_that_is_sealed_for_others_is_neither_published_nor_verified(keys: list[bytes], tmp_path: Path) -> None:
    world, path = blind(), tmp_path / "state"
    purpose = release_purpose(world.job.digest, world.final.digest())
    path.write_bytes(b"".join(seal_for([recipient_key(key) for key in keys], purpose, [b"state"])))
    with pytest.raises(VerificationFailed):
        world.release(tmp_path, state_file=path)
    files = whole(world.release(tmp_path))
    assert failed(verify(relisted(files, {SEALED: path.read_bytes()}))) == ["state", "config", "card"]


def relisted(files: dict[str, bytes], changes: dict[str, bytes]) -> dict[str, bytes]:
    changed = {path: data for path, data in (files | changes).items() if path != LISTING}
    return {**changed, LISTING: seal_listing(changed, CREATED, RELEASE_KEY)}


def test_a_blind_job_published_in_clear_beside_its_seal_fails(tmp_path: Path) -> None:
    world = blind()
    files = whole(world.release(tmp_path))
    clear = whole(opened(files, tmp_path / "scratch"))
    assert "state" in failed(verify(relisted(files, {STATE: clear[STATE], MODEL: clear[MODEL]})))


def test_a_job_whose_model_everybody_may_see_is_not_sealed(tmp_path: Path) -> None:
    world = trained()
    files = whole(world.release(tmp_path))
    sealed = b"".join(seal_for([recipient_key(OTHER)], b"", [files.pop(STATE)]))
    del files[MODEL]
    assert "state" in failed(verify(relisted(files, {SEALED: sealed})))


@pytest.mark.parametrize("place", [0, 5, 21, 40, 100, 1300, -1])
def test_any_altered_byte_keeps_it_shut(place: int) -> None:
    sealed = bytearray(b"".join(seal_for([recipient_key(SEALING_KEY)], b"purpose", [bytes(3_000_000)])))
    assert b"".join(open_for(SEALING_KEY, b"purpose", [bytes(sealed)])) == bytes(3_000_000)
    sealed[place] ^= 1
    with pytest.raises(VerificationFailed):
        b"".join(open_for(SEALING_KEY, b"purpose", [bytes(sealed)]))
    with pytest.raises(VerificationFailed):
        b"".join(open_for(SEALING_KEY, b"purpose", [bytes(sealed[: 1 << 20])]))


def test_each_of_several_recipients_opens_it() -> None:
    keys = [SEALING_KEY, OTHER]
    sealed = b"".join(seal_for([recipient_key(key) for key in keys], b"purpose", [b"a", b"b" * 2_000_000]))
    assert recipients_of([sealed]) == tuple(key_id_of(recipient_key(key)) for key in keys)
    for key in keys:
        pieces = (sealed[start : start + 777] for start in range(0, len(sealed), 777))
        assert b"".join(open_for(key, b"purpose", pieces)) == b"a" + b"b" * 2_000_000


@pytest.mark.parametrize("count", [0, 0xFFFF])
def test_a_list_of_recipients_that_is_empty_or_endless_is_refused(count: int) -> None:
    sealed = b"".join(seal_for([recipient_key(SEALING_KEY)], b"", [b"x"]))
    head = sealed[:20] + count.to_bytes(2, "big")
    with pytest.raises(VerificationFailed):
        recipients_of([head, sealed[22:]])


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
