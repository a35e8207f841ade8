"""The coordinator's certificate authority. It authenticates connections and cannot make a member: nodes check the roll for that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.errors import InvalidIdentity, InvalidUsage
from federation.identity.transport import MAX_CSR, Principal, TransportKey, uri_of

CA_DAYS = 3650
LEEWAY = timedelta(minutes=5)
"""certificates begin a little early, for clocks that run behind"""


@dataclass(frozen=True, slots=True)
class Authority:
    federation: str
    key: TransportKey
    certificate: x509.Certificate

    @staticmethod
    def create(federation: str, now: datetime) -> Authority:
        key = TransportKey.generate()
        name = _name_of(federation)
        certificate = (
            _builder(name, name, key.private.public_key(), now, timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.private.public_key()), critical=False)
            .sign(key.private, hashes.SHA256())
        )
        return Authority(federation, key, certificate)

    @staticmethod
    def load(federation: str, key_pem: bytes, certificate_pem: bytes) -> Authority:
        """Raises InvalidIdentity for what is no key, InvalidUsage for a certificate that is none, or of another key or
        federation."""
        try:
            made = Authority(
                federation, TransportKey.from_pem(key_pem), x509.load_pem_x509_certificate(certificate_pem)
            )
            of_key = made.certificate.public_key() == made.key.private.public_key()
        except ValueError:
            raise InvalidUsage(
                "The transport authority's certificate cannot be read.", hint="Restore ca.pem from a backup."
            ) from None
        if not of_key:
            raise InvalidUsage(
                "The transport authority's certificate and its key do not belong together.",
                hint="Restore ca.pem and keys/ca.key from one backup.",
            )
        if made.certificate.subject != _name_of(federation):
            raise InvalidUsage(
                f"The settings say federation {federation}, and this home's transport authority is of another.",
                hint="Write the federation for which the home was made, or make a home for the new one.",
            )
        return made

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate (DER): by this the members' charter names it."""
        return self.certificate.fingerprint(hashes.SHA256())

    def server(self, host: str, now: datetime, lifetime: timedelta) -> tuple[bytes, bytes]:
        """(certificate, key) in PEM for the coordinator itself, named coordinator.<federation> and as it is listened on."""
        key = TransportKey.generate()
        names: list[x509.GeneralName] = [x509.DNSName(f"coordinator.{self.federation}"), x509.DNSName("localhost")]
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
        return self._sign(key.private.public_key(), names, now, lifetime, ExtendedKeyUsageOID.SERVER_AUTH), key.to_pem()

    def issue(self, csr_pem: bytes, principal: Principal, now: datetime, lifetime: timedelta) -> bytes:
        """A client certificate (PEM) for the request's public key, in the name that the authority decides, not the request.

        Raises InvalidIdentity for a request that is not well signed by an EC key.
        """
        if len(csr_pem) > MAX_CSR:
            raise InvalidIdentity("The certificate request is too large.")
        try:
            request = x509.load_pem_x509_csr(csr_pem)
            public = request.public_key()
            valid = request.is_signature_valid
        except (ValueError, InvalidSignature) as error:
            raise InvalidIdentity("The certificate request cannot be read.") from error
        if not valid or not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise InvalidIdentity("The certificate request is not signed by an EC P-256 key.")
        return self.issue_for(public, principal, now, lifetime)

    def issue_for(
        self, public: ec.EllipticCurvePublicKey, principal: Principal, now: datetime, lifetime: timedelta
    ) -> bytes:
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri_of(principal, self.federation))]
        return self._sign(public, names, now, lifetime, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _sign(
        self,
        public: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        now: datetime,
        lifetime: timedelta,
        purpose: x509.ObjectIdentifier,
    ) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "concord")])
        certificate = (
            _builder(subject, self.certificate.subject, public, now, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.private.public_key()), critical=False
            )
            .sign(self.key.private, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def _name_of(federation: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Concord transport CA of {federation}")])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LEEWAY)
        .not_valid_after(now + lifetime)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
