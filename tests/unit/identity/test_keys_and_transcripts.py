"""Keys stay private, and two different things to sign never read alike."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidIdentity
from federation.identity.keys import SigningKey, key_id, public_of, transcript, verify
from federation.identity.transport import TransportKey

FIELDS = st.lists(st.one_of(st.binary(max_size=6), st.text(max_size=6), st.integers(0, 2**64 - 1)), max_size=4)


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=4), FIELDS, st.text(max_size=4), FIELDS)
def test_transcripts_are_injective(
    label: str, fields: list[bytes | str | int], other_label: str, others: list[bytes | str | int]
) -> None:
    same = label == other_label and [(type(x), x) for x in fields] == [(type(x), x) for x in others]
    assert (transcript(label, *fields) == transcript(other_label, *others)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"ab", b"c"), (b"a", b"bc")),
        ((b"abc",), (b"abc", b"")),
        ((b"\0\0\0\0\0\0\0\1",), (1,)),
        (("abc",), (b"abc",)),
        ((b"",), ()),
    ],
)
def test_fields_do_not_run_into_each_other(
    one: tuple[bytes | str | int, ...], other: tuple[bytes | str | int, ...]
) -> None:
    assert transcript("x", *one) != transcript("x", *other)


def test_a_key_survives_its_file_and_signs_the_same() -> None:
    key = SigningKey.generate()
    again = SigningKey.from_pem(key.to_pem())
    assert again.sign(b"message") == key.sign(b"message")
    verify(key.public, b"message", again.sign(b"message"))


def test_a_signature_by_another_key_or_over_another_message_is_refused() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = key.sign(b"message")
    for public, message, bytes_ in (
        (other.public, b"message", signature),
        (key.public, b"Message", signature),
        (key.public, b"message", signature[:-1]),
        (key.public[:-1], b"message", signature),
        (key.public, b"message", bytes(64)),
    ):
        with pytest.raises(InvalidIdentity):
            verify(public, message, bytes_)


def test_keys_do_not_show_themselves() -> None:
    for key in (SigningKey.generate(), TransportKey.generate()):
        secret = key.to_pem().splitlines()[1].decode()
        for shown in (repr(key), str(key), f"{[key]}"):
            assert secret not in shown
            assert "redacted" in shown


def test_key_files_of_another_kind_are_refused() -> None:
    other_curve = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for data in (b"", b"not a key", TransportKey.generate().to_pem(), SigningKey.generate().to_pem()[:60]):
        with pytest.raises(InvalidIdentity):
            SigningKey.from_pem(data)
    for data in (b"", SigningKey.generate().to_pem(), other_curve):
        with pytest.raises(InvalidIdentity):
            TransportKey.from_pem(data)


def test_key_ids_have_one_spelling() -> None:
    public = SigningKey.generate().public
    assert public_of(key_id(public)) == public
    for bad in (
        key_id(public).upper(),
        key_id(public)[:-1],
        public.hex(),
        "ed25519:" + "é" * 64,
        None,
        3,
        "x" * 10_000,
    ):
        with pytest.raises(InvalidIdentity) as raised:
            public_of(bad)
        assert len(str(raised.value)) < 200
