"""Whether this lab's own consent to a job stands now, by what lies on its own disk: asked at every round, whatever anybody says.

It stands while it is on disk, signed by this node, for exactly this manifest, unrevoked, unexpired, for the data that is there
today, while the lab's rules would give it (``node_agent.consent.weighing``), and (for a run of a study) while the study's consent
stands. ``ConsentOver`` says that it ended for good; anything else that
is wrong is refused without ending it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from federation.errors import FederationError, PolicyDenied
from federation.identity.consent import Consent, open_consent
from federation.identity.credential import NodeCredential
from federation.identity.revocation import Cause, consent_digest
from federation.manifest.binding import strayed
from federation.manifest.manifest import Manifest
from federation.manifest.study import bytes_bound
from federation.privacy.accounting import Charge
from node_agent.store.journal import Journal
from node_agent.store.revocations import Revocations

NOTHING: Final = "Nothing was trained."


class ConsentOver(PolicyDenied):
    """The consent has ended, for good."""

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message, hint=NOTHING)
        self.cause: Cause = cause


@dataclass(frozen=True, slots=True)
class Standing:
    journal: Journal
    revocations: Revocations
    credential: NodeCredential
    seal: Callable[[bytes], bytes]
    """what of a data set's version may leave (``node_agent.catalogue.versions``)"""
    grew: Callable[[bytes, str, bytes], bool] = lambda _job, _name, _consented: False
    """(job, data set, the version that the consent binds) -> whether all that it held is there still, and the job lets more come
    (``node_agent.catalogue.inventories``); raises OSError"""
    rules: Callable[[Manifest], None] = lambda _manifest: None
    """what the lab's rules say by now of a consent that rests (``node_agent.consent.weighing``); raises as ``check``"""

    def check(self, manifest: Manifest, plans: Mapping[str, Mapping[Charge, int]], now: datetime) -> Consent:
        """Raises PolicyDenied, ConsentOver when it ended."""
        job = manifest.digest
        if self.revocations.revoked(job):
            raise ConsentOver("This lab has revoked its consent to the job.", "person")
        consent = self._held(job)
        if consent is None:
            raise PolicyDenied("This lab has not consented to the job.", hint=NOTHING)
        if problems := strayed(consent, manifest, plans):
            raise PolicyDenied(f"This lab's consent does not cover the job: {'; '.join(problems)}.", hint=NOTHING)
        self._in_time(consent, now)
        if consent.binds is not None and consent.binds.study:
            self._in_study(manifest, consent.binds.study, now)
        self.rules(manifest)
        return consent

    def _in_study(self, manifest: Manifest, named: bytes, now: datetime) -> None:
        """``named``: the consent to the job's study that its own consent names."""
        study = bytes.fromhex(manifest.job.metadata.study or "")
        if self.revocations.revoked(study):
            raise ConsentOver("This lab has revoked its consent to the job's study.", "person")
        record, consent = self.journal.consent(study), self._held(study)
        if record is None or consent is None or consent_digest(record.envelope) != named:
            raise PolicyDenied("This lab has not consented to the job's study.", hint=NOTHING)
        if self.journal.study_of(manifest.digest) != study:
            raise PolicyDenied("The job has no place in its study here.", hint=NOTHING)
        self._in_time(consent, now)

    def charge_upload(self, manifest: Manifest, context: bytes, size: int) -> None:
        """Counts an upload of ``size`` bytes in the job's study, where it has one, on disk when this returns. Raises ConsentOver
        when the study has no room for it."""
        study = self.journal.study_of(manifest.digest)
        if study is None:
            return
        envelope = self.journal.study(study)
        if envelope is None:
            raise PolicyDenied("This lab has not consented to the job's study.", hint=NOTHING)
        most = bytes_bound(envelope)
        if not self.journal.upload(manifest.digest, context, size, most):
            raise ConsentOver(f"The job's study uploads {most:,} bytes in all, and they are used up.", "expired")

    def check_data(self, consent: Consent, versions: Mapping[str, bytes] | None) -> None:
        """``versions``: of each data set that the job uses here, as it is today; None: nobody can tell. Raises as ``check``."""
        if consent.binds is None:
            return
        if versions is None:
            raise PolicyDenied("Nobody can tell whether the data is what this lab consented to.", hint=NOTHING)
        today, consented = {name: self.seal(version) for name, version in versions.items()}, dict(consent.binds.data)
        if set(today) != set(consented):
            raise ConsentOver("The job uses other data sets than this lab consented to.", "data")
        try:
            changed = [
                name
                for name, version in consented.items()
                if today[name] != version and not self.grew(consent.job, name, version)
            ]
        except OSError:
            raise PolicyDenied(
                "Nobody can tell whether the data is what this lab consented to.", hint=NOTHING
            ) from None
        if changed:
            raise ConsentOver("The data is another than this lab consented to.", "data")

    def _held(self, job: bytes) -> Consent | None:
        record = self.journal.consent(job)
        if record is None or not record.granted:
            return None
        try:
            consent = open_consent(record.envelope, self.credential)
        except FederationError as error:
            raise PolicyDenied(f"This lab's consent does not check: {error.message}", hint=NOTHING) from error
        return consent if consent.granted and consent.job == job else None

    @staticmethod
    def _in_time(consent: Consent, now: datetime) -> None:
        if now > consent.expires:
            raise ConsentOver(
                f"This lab's consent expired at {consent.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC.", "expired"
            )
        if not consent.valid_at(now):
            raise PolicyDenied("This lab's consent is not valid yet.", hint="Is this machine's clock right?")
