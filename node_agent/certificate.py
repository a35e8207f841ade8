"""This node's transport certificate: shown at each dial, renewed in time, never replaced by one that does not fit."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog
from cryptography import x509

from federation.errors import FederationError, InvalidIdentity
from federation.identity.transport import Principal, TransportKey, fingerprint_of, make_csr, uri_of
from node_agent.enrolment import check_certificate
from node_agent.link.channel import Credentials
from node_agent.link.enrolment import renew
from node_agent.link.stream import Link
from node_agent.membership import Membership
from node_agent.settings import Home, NodeSettings
from node_agent.store.files import write_whole

log = structlog.get_logger()

RENEW_SHARE: Final = 2 / 3
AGAIN_SECONDS: Final = 30.0


class Certificate:
    def __init__(self, home: Home, settings: NodeSettings, membership: Membership) -> None:
        self._home, self._settings, self._membership = home, settings, membership
        self._key = TransportKey.from_pem(home.read(home.transport_key))

    def _kept(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._home.read(self._home.transport_certificate))

    def credentials(self) -> Credentials:
        """Raises InvalidIdentity when the certificate has ended: the coordinator would just hang up; and when the members have
        moved the coordinator to another CA: this one is theirs no more."""
        home = self._home
        self._membership.check_coordinator(fingerprint_of(home.read(home.ca)))
        certificate = home.read(home.transport_certificate)
        ends = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        if ends <= datetime.now(UTC):
            raise InvalidIdentity(
                f"This node's transport certificate ended on {ends:%Y-%m-%d %H:%M} UTC.",
                hint="Ask the coordinator's operator for a new ticket and run `concord-node join`; keys and credential stay.",
            )
        return Credentials(self._settings.federation, home.read(home.ca), certificate, home.read(home.transport_key))

    async def keep_fresh(self, link: Link) -> None:
        """A fresh one after two thirds of the old one's time; tried again until it is there."""
        while True:
            kept = self._kept()
            begin, end = kept.not_valid_before_utc, kept.not_valid_after_utc
            due = begin + (end - begin) * RENEW_SHARE
            await asyncio.sleep(max(1.0, (due - datetime.now(UTC)).total_seconds()))
            principal = Principal("node", self._settings.member, self._settings.node)
            csr = make_csr(self._key, uri_of(principal, self._settings.federation))
            try:
                fresh = await renew(link.route, self.credentials(), csr, link.took)
                check_certificate(fresh, self._key, self._settings)
            except FederationError as error:
                log.warning("certificate.not-renewed", detail=error.message, ends=str(end))
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            write_whole(self._home.transport_certificate, fresh)
            log.info("certificate.renewed")
            link.redial()
