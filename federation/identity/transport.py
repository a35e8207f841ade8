"""Transport identities: EC P-256 keys, signing requests, and SPIFFE-style names. They authenticate a connection, not a member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from federation.errors import InvalidIdentity
from federation.identity.names import checked_label

MAX_CSR: Final = 1 << 14
SCHEME: Final = "spiffe://"
NAMED_KINDS: Final = ("lead", "operator", "officer", "ticket")


@dataclass(frozen=True, slots=True)
class Principal:
    """``kind``: node (with member and node), lead, operator, officer (the name is the member's) or ticket (with name)."""

    kind: str
    member: str = ""
    node: str = ""
    name: str = ""
    federation: str = ""


class TransportKey:
    """An EC P-256 private key for TLS, made by the process that owns it."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @staticmethod
    def generate() -> TransportKey:
        return TransportKey(ec.generate_private_key(ec.SECP256R1()))

    @staticmethod
    def from_pem(data: bytes) -> TransportKey:
        """Raises InvalidIdentity when ``data`` is not an unencrypted EC key."""
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidIdentity(
                "The transport key file does not hold a private key.", hint="Join again with a new ticket."
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise InvalidIdentity(
                "The transport key file holds a key of another kind.", hint="Transport keys are EC P-256."
            )
        return TransportKey(key)

    def to_pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        return self._key

    def __repr__(self) -> str:
        return "TransportKey(redacted)"


def make_csr(key: TransportKey, uri: str) -> bytes:
    """A PKCS #10 request (PEM) for ``uri``. The authority takes the public key from it and decides the name itself."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "concord")])
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
    return builder.sign(key.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def uri_of(principal: Principal, federation: str) -> str:
    if principal.kind == "node":
        return f"spiffe://{federation}/member/{principal.member}/node/{principal.node}"
    return f"spiffe://{federation}/{principal.kind}/{principal.name}"


def principal_of_uri(uri: str) -> Principal:
    """Raises InvalidIdentity when ``uri`` is none of our names."""
    if not uri.startswith(SCHEME):
        raise InvalidIdentity("The certificate does not carry a Concord name.")
    # Each part must be a label, so nothing that a URI parser would strip, decode or fold can pass.
    authority, *path = uri.removeprefix(SCHEME).split("/")
    federation = checked_label(authority, "federation")
    if len(path) == 4 and path[0] == "member" and path[2] == "node":
        return Principal(
            "node", checked_label(path[1], "member"), checked_label(path[3], "node"), federation=federation
        )
    if len(path) == 2 and path[0] in NAMED_KINDS:
        return Principal(path[0], name=checked_label(path[1], path[0]), federation=federation)
    raise InvalidIdentity("The certificate does not carry a Concord name.")


def principal_of(certificate: bytes) -> Principal:
    """The one SPIFFE name of a certificate (PEM or DER). Raises InvalidIdentity."""
    try:
        pem = certificate.lstrip().startswith(b"-----BEGIN")
        loaded = x509.load_pem_x509_certificate(certificate) if pem else x509.load_der_x509_certificate(certificate)
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise InvalidIdentity("The certificate cannot be read, or carries no name.") from error
    if len(uris) != 1:
        raise InvalidIdentity("The certificate does not carry exactly one name.")
    return principal_of_uri(uris[0])


def fingerprint_of(ca_pem: bytes) -> bytes:
    """SHA-256 of a CA's certificate (DER): by this the members' charter names it. Raises InvalidIdentity."""
    try:
        return x509.load_pem_x509_certificate(ca_pem).fingerprint(hashes.SHA256())
    except ValueError as error:
        raise InvalidIdentity(
            "This is no CA certificate in PEM.", hint="Ask the coordinator's operator for it."
        ) from error
