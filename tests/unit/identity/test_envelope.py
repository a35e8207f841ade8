"""One envelope, one encoding: whatever differs from what was sealed, by a byte, is refused."""

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidIdentity
from federation.identity.envelope import add_signature, open_envelope, pre_authentication, seal
from federation.identity.keys import SigningKey

KEYS = tuple(SigningKey.generate() for _ in range(3))
DOCUMENT: dict[str, Any] = {"name": "x", "numbers": [1, 2.5, True, None], "nested": {"é": "ü"}}
SEALED = seal(DOCUMENT, "manifest", KEYS[:2])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8) | st.floats(-1e6, 1e6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5))
def test_what_is_sealed_opens_to_the_same(document: dict[str, Any]) -> None:
    opened = open_envelope(seal(document, "release", KEYS[:1]), "release")
    assert opened.document == document
    assert opened.signers == (KEYS[0].public,)
    assert opened.digest == hashlib.sha256(opened.payload).digest()


@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_altering_any_byte_is_refused(position: int, difference: int) -> None:
    altered = bytearray(SEALED)
    altered[position] ^= difference
    with pytest.raises(InvalidIdentity):
        open_envelope(bytes(altered), "manifest")


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(SEALED)), st.binary(min_size=1, max_size=4))
def test_inserting_bytes_anywhere_is_refused(position: int, data: bytes) -> None:
    with pytest.raises(InvalidIdentity):
        open_envelope(SEALED[:position] + data + SEALED[position:], "manifest")


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 40))
def test_leaving_bytes_out_is_refused(position: int, count: int) -> None:
    with pytest.raises(InvalidIdentity):
        open_envelope(SEALED[:position] + SEALED[position + count :], "manifest")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidIdentity):
        open_envelope(data, "manifest")


def test_the_signed_bytes_are_the_pre_authentication_encoding_of_dsse() -> None:
    kind = b"application/vnd.concord.manifest.v1+json"
    assert pre_authentication("manifest", b"{}") == b"DSSEv1 40 " + kind + b" 2 {}"
    assert len(kind) == 40


def test_signatures_may_be_added_in_any_order_and_twice() -> None:
    first = add_signature(add_signature(seal(DOCUMENT, "roll", ()), "roll", KEYS[0]), "roll", KEYS[1])
    second = add_signature(add_signature(seal(DOCUMENT, "roll", KEYS[1:2]), "roll", KEYS[0]), "roll", KEYS[0])
    assert first == second == seal(DOCUMENT, "roll", KEYS[:2])
    assert open_envelope(first, "roll").signers == tuple(sorted(key.public for key in KEYS[:2]))


def rewritten(change: dict[str, Any]) -> bytes:
    return json.dumps(json.loads(SEALED) | change, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def test_the_tests_forger_writes_canonical_envelopes() -> None:
    assert rewritten({}) == SEALED


def test_an_envelope_of_another_kind_is_refused() -> None:
    """A signature over one kind of document never counts for another, though the payload be the same."""
    with pytest.raises(InvalidIdentity, match="another kind"):
        open_envelope(SEALED, "roll")
    with pytest.raises(InvalidIdentity, match="does not check"):
        open_envelope(rewritten({"payloadType": "application/vnd.concord.roll.v1+json"}), "roll")


def test_signatures_out_of_order_or_twice_are_refused() -> None:
    entries = json.loads(SEALED)["signatures"]
    for wrong in (entries[::-1], [entries[0], *entries], [entries[0], entries[0]]):
        with pytest.raises(InvalidIdentity, match="canonical"):
            open_envelope(rewritten({"signatures": wrong}), "manifest")


def test_a_signature_that_does_not_check_spoils_the_document() -> None:
    """Not merely ignored: else bytes could be added to a signed file without notice."""
    entries = json.loads(SEALED)["signatures"]
    stranger = {"keyid": entries[1]["keyid"], "sig": entries[0]["sig"]}
    with pytest.raises(InvalidIdentity, match="does not check"):
        open_envelope(rewritten({"signatures": [entries[0], stranger]}), "manifest")


def test_slack_bits_of_base64_are_refused() -> None:
    """64 bytes leave four unused bits in the last letter before the padding."""
    entries = json.loads(SEALED)["signatures"]
    text = entries[0]["sig"]
    assert text.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    slack = text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "=="
    assert base64.b64decode(slack) == base64.b64decode(text)
    with pytest.raises(InvalidIdentity, match="canonical"):
        open_envelope(rewritten({"signatures": [{**entries[0], "sig": slack}, entries[1]]}), "manifest")


@pytest.mark.parametrize(
    "payload",
    [
        b'{ "a":1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":NaN}',
        b"[1]",
        b"\xff\xfe{}",
        b"",
    ],
)
def test_a_payload_that_is_not_canonical_is_refused_though_it_be_signed(payload: bytes) -> None:
    key = KEYS[0]
    entry = {
        "keyid": "ed25519:" + key.public.hex(),
        "sig": base64.b64encode(key.sign(pre_authentication("manifest", payload))).decode(),
    }
    change = {"payload": base64.b64encode(payload).decode(), "signatures": [entry]}
    with pytest.raises(InvalidIdentity, match=r"canonical|not JSON|not an object"):
        open_envelope(rewritten(change), "manifest")


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**53, 1e20, "\ud800", {"\ud800": 1}, pytest.param(object(), id="object"), b"bytes"],
    ids=repr,
)
def test_what_would_not_read_back_is_not_sealed(value: object) -> None:
    with pytest.raises(InvalidIdentity):
        seal({"value": value}, "manifest", KEYS[:1])


def test_sizes_and_depths_are_bounded() -> None:
    with pytest.raises(InvalidIdentity, match="larger than 10 bytes"):
        open_envelope(SEALED, "manifest", limit=10)
    deep: dict[str, Any] = {}
    for _ in range(70):
        deep = {"a": deep}
    with pytest.raises(InvalidIdentity, match="depth"):
        seal(deep, "manifest", KEYS[:1])
    with pytest.raises(InvalidIdentity):
        open_envelope(b'{"a":' * 100_000, "manifest")
    with pytest.raises(InvalidIdentity):
        open_envelope(b'{"a":' + b"9" * 10_000 + b"}", "manifest")
