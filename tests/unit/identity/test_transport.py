"""Names in transport certificates: one spelling each, and nothing that a URI parser would tidy up."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidIdentity
from federation.identity.names import LABEL, checked_label
from federation.identity.transport import Principal, TransportKey, make_csr, principal_of, principal_of_uri, uri_of
from tests.unit.identity.parties import NOW

LABELS = st.from_regex(LABEL, fullmatch=True)
KEY = TransportKey.generate()


def certificate(*uris: str, pem: bool = True) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "concord")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.private.public_key())
    builder = builder.serial_number(7).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    encoding = serialization.Encoding.PEM if pem else serialization.Encoding.DER
    return builder.sign(KEY.private, hashes.SHA256()).public_bytes(encoding)


@settings(deadline=None, max_examples=50)
@given(LABELS, LABELS, LABELS)
def test_every_principal_has_one_uri(federation: str, one: str, other: str) -> None:
    for principal in (
        Principal("node", member=one, node=other, federation=federation),
        Principal("lead", name=one, federation=federation),
        Principal("operator", name=one, federation=federation),
        Principal("ticket", name=one, federation=federation),
    ):
        assert principal_of_uri(uri_of(principal, federation)) == principal


def test_certificates_are_read_in_both_encodings() -> None:
    expected = Principal("node", member="ke", node="ke-1", federation="health")
    for pem in (True, False):
        assert principal_of(certificate("spiffe://health/member/ke/node/ke-1", pem=pem)) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://health/member/ke/node/ke-1/",
        "spiffe://health/member/ke/node/ke-1?x",
        "spiffe://health/member/ke/node/ke-1#x",
        "spiffe://health//member/ke/node/ke-1",
        "spiffe://health/member/ke/node/",
        "spiffe://health/member/ke",
        "spiffe://health/lead/a%2fb",
        "spiffe://health/lead/a\n",
        "spiffe://health/le\tad/a",
        "spiffe://health/lead/A",
        "spiffe://HEALTH/lead/a",
        "SPIFFE://health/lead/a",
        "spiffe://user@health/lead/a",
        "spiffe://health:443/lead/a",
        "spiffe://[/lead/a",
        "spiffe:///lead/a",
        "spiffe://health/king/a",
        "spiffe://health/lead/" + "a" * 64,
        "https://health/lead/a",
        "",
    ],
)
def test_other_names_are_refused(uri: str) -> None:
    with pytest.raises(InvalidIdentity):
        principal_of_uri(uri)


def test_a_certificate_carries_exactly_one_name() -> None:
    for uris in ((), ("spiffe://health/lead/a", "spiffe://health/operator/b")):
        with pytest.raises(InvalidIdentity, match="name"):
            principal_of(certificate(*uris))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=80), st.integers(0, 300))
def test_what_is_no_certificate_is_refused(data: bytes, cut: int) -> None:
    for noise in (
        data,
        b"-----BEGIN CERTIFICATE-----\n" + data,
        certificate("spiffe://health/lead/a", pem=False)[:cut],
    ):
        with pytest.raises(InvalidIdentity):
            principal_of(noise)


def test_a_request_is_signed_by_the_transport_key() -> None:
    request = x509.load_pem_x509_csr(make_csr(KEY, "spiffe://health/lead/a"))
    assert request.is_signature_valid
    assert request.public_key() == KEY.private.public_key()


@pytest.mark.parametrize("bad", ["", "-a", "a-", "A", "a_b", "a.b", "é", "a" * 64, "a\n", None, 3, b"a"])
def test_names_are_dns_labels(bad: object) -> None:
    with pytest.raises(InvalidIdentity):
        checked_label(bad, "member")
