"""What a release's files say, checked in the order in which trust flows: from the roll to the final state.

Each step reads a file, checks it against what the steps before it established, and gives a sentence. It raises FederationError,
or any other exception for bytes that nobody meant; whoever calls makes a failed check of it. The builder of a release goes the
same way, so that nothing is published that does not verify. (docs/protocol/secure-aggregation.md, "Checks".)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from federation.audit.checkpoint import VerifierKey
from federation.audit.excerpt import MAX_EXCERPT, Excerpt
from federation.audit.named_key import log_keys_of
from federation.errors import FederationError, InvalidIdentity, VerificationFailed
from federation.governance.ballot import Decision
from federation.identity.consent import Consent, open_consent
from federation.identity.credential import NodeCredential, once_verified
from federation.identity.revocation import Revocation, consent_digest, open_revocation
from federation.identity.roll import Roll
from federation.manifest.bundle import pack, unpack
from federation.manifest.manifest import Manifest, open_manifest
from federation.releases import evidence
from federation.releases.approval import approvers, asked_of, check_approval, subject_of
from federation.releases.claims import claims_of, sha256
from federation.releases.described import descriptions_of
from federation.releases.facts import Facts, LogFacts, RoundFacts
from federation.releases.gates import Verdict, judge, withheld
from federation.releases.listing import (
    APPROVAL,
    KEYS,
    LOG,
    MANIFEST,
    MAX_EVIDENCE,
    MAX_TASK,
    OPEN,
    ROLL,
    ROSTER,
    SEALED,
    TASK,
    Content,
    consent_path,
    digest_of,
    read_whole,
    revocation_path,
    round_path,
)
from federation.releases.logged import check_logged, witnesses_of
from federation.secagg import codec
from federation.secagg.certificate import Bench, Ed25519Verifier
from federation.secagg.events import RosterCertificate
from federation.secagg.figures import mean_figures
from federation.secagg.messages import Certificate, Receipt, Sealing, Seat
from federation.secagg.parameters import FIRST_ROUND, Terms
from federation.secagg.setup import FIRST_EPOCH, bench_of, check_roster_certificate, check_successor
from federation.weights.state import ModelState, read_state

Established = TypeVar("Established")


class Examination:
    """``state_path``: where the state's file is on disk; not asked for where the state is sealed. ``digest``: SHA-256 of a file, by
    its path, where it is known already."""

    def __init__(
        self,
        files: Mapping[str, Content],
        trusted_roll: bytes | None,
        state_path: Callable[[], Path],
        digest: Callable[[str], bytes] | None = None,
        trusted_log: VerifierKey | None = None,
    ) -> None:
        self._files = files
        self._digest_of = digest or (lambda path: digest_of(files[path]))
        self._trusted, self._trusted_log = trusted_roll, trusted_log
        self._state_path = state_path
        self._roll: Roll | None = None
        self._manifest: Manifest | None = None
        self._benches: dict[int, Bench] | None = None
        self._credentials: dict[str, NodeCredential] = {}
        self._consents: dict[str, Consent] | None = None
        self._revocations: dict[str, Revocation] = {}
        self._formed: tuple[bytes, ...] = ()
        """SHA-256 of each roster's certificate"""
        self._log: LogFacts | None = None
        self._rounds: tuple[RoundFacts, ...] | None = None
        self._certified = b""
        self._final_figures: tuple[int, ...] = ()
        self._verdicts: tuple[Verdict, ...] | None = None
        self._subject: bytes | None = None
        self._decision: Decision | None = None
        self._digest: bytes | None = None
        self._state: ModelState | None = None

    def steps(self) -> dict[str, Callable[[], str]]:
        return {
            "roll": self.roll,
            "manifest": self.manifest,
            "task": self.task,
            "roster": self.roster,
            "consents": self.consents,
            "rounds": self.rounds,
            "gates": self.gates,
            "approval": self.approval,
            "log": self.log,
            "revocations": self.revocations,
            "state": self.state,
        }

    @property
    def members(self) -> tuple[str, ...]:
        """Of all rosters, sorted."""
        return tuple(seat.member for seat in self._seats)

    @property
    def _seats(self) -> tuple[Seat, ...]:
        """One for each member of any epoch: its newest."""
        newest: dict[str, Seat] = {}
        for _, bench in sorted(_needed(self._benches, "roster").items()):
            newest |= {seat.member: seat for seat in bench.seats}
        return tuple(newest[member] for member in sorted(newest))

    def facts(self) -> Facts:
        """All that the steps established."""
        return Facts(
            roll=_needed(self._roll, "roll"),
            manifest=_needed(self._manifest, "manifest"),
            seats=self._seats,
            consents=_needed(self._consents, "consents"),
            described={member: descriptions_of(each) for member, each in _needed(self._consents, "consents").items()},
            revocations=self._revocations,
            rounds=_needed(self._rounds, "rounds"),
            verdicts=_needed(self._verdicts, "gates"),
            subject=_needed(self._subject, "approval"),
            decision=self._decision,
            log=_needed(self._log, "log"),
            state_digest=_needed(self._digest, "state"),
            state=self._state,
        )

    def roll(self) -> str:
        roll = Roll.open(self._read(ROLL))
        signed = f"The roll of {roll.federation}, version {roll.version}, " + (
            f"follows from one that all its first {len(roll.past[0].members)} members signed, each step with its votes"
            if roll.past
            else f"is signed by all its {len(roll.members)} members"
        )
        if self._trusted is None:
            self._roll = roll
            return (
                f"{signed}. No roll of yours was given to compare: trust starts at roll digest {roll.digest.hex()}; ask a "
                "member whether that is theirs."
            )
        trusted = Roll.open(self._trusted)
        if trusted.federation != roll.federation or not (
            roll.digest in trusted.line.values() or trusted.digest in roll.line.values()
        ):
            raise VerificationFailed(
                f"The release carries another membership roll ({roll.digest.hex()}) than the one you trust.",
                hint="It is of another federation, or of a roll that does not continue yours.",
            )
        self._roll = roll
        if roll.digest == trusted.digest:
            return f"{signed}, and is the one you trust."
        return f"{signed}, and is of one line with version {trusted.version}, the one you trust: every step between was checked."

    def manifest(self) -> str:
        manifest = open_manifest(self._read(MANIFEST), _needed(self._roll, "roll"))
        self._manifest = manifest
        return f"The job {manifest.name} ({manifest.digest.hex()}) is signed by {manifest.lead.id}, a lead on the roll."

    def task(self) -> str:
        manifest = _needed(self._manifest, "manifest")
        data = self._read(TASK, MAX_TASK)
        files = unpack(data, manifest.bundle_digest)
        named = manifest.spec.bundle
        if named is None or named.size != len(data) or tuple(named.files) != pack(files).files:
            raise VerificationFailed("The task's files are not those that the manifest lists.")
        return f"The task's {len(files)} files are those that the manifest names."

    def roster(self) -> str:
        roll, manifest = _needed(self._roll, "roll"), _needed(self._manifest, "manifest")
        signed = evidence.decode(self._read(ROSTER), evidence.SignedRosters)
        credentials: dict[str, NodeCredential] = {}

        def checked(envelope: bytes) -> NodeCredential:
            credential = once_verified(envelope, roll)
            credentials[credential.member] = credential
            return credential

        benches: dict[int, Bench] = {}
        for epoch, (roster, certificate) in enumerate(
            ((each.roster, each.certificate) for each in signed.epochs), start=FIRST_EPOCH
        ):
            if roster.epoch != epoch or roster.ciphertexts:
                raise VerificationFailed("The rosters are not those of the epochs 1, 2, and so on.")
            bench = bench_of(
                manifest.terms(),
                roster.epoch,
                roster.formation,
                roster.keys,
                roster.encapsulations,
                checked,
                Ed25519Verifier(),
            )
            if epoch > FIRST_EPOCH:
                check_successor(bench, benches[epoch - 1])
            check_roster_certificate(bench, certificate.epoch, certificate.roster_hash, certificate.signatures)
            _check_participants(manifest, bench)
            benches[epoch] = bench
        if not benches:
            raise VerificationFailed("The release holds no roster.")
        self._benches, self._credentials = benches, credentials
        self._formed = tuple(sha256(codec.encode(each.certificate, RosterCertificate)) for each in signed.epochs)
        first, last = benches[FIRST_EPOCH], benches[max(benches)]
        grown = (
            ""
            if last is first
            else f" It changed {len(benches) - 1} times, each time signed by all of the new and a quorum of the old; the last "
            f"has {len(last.seats)} members."
        )
        return (
            f"{len(first.seats)} members formed the roster, each node vouched for by its officer on the roll, and every one "
            f"signed it.{grown}"
        )

    def consents(self) -> str:
        manifest, seats = _needed(self._manifest, "manifest"), self._seats
        self._exactly("consents/", (consent_path(seat.member) for seat in seats), "a consent of each roster member")
        found, told = {}, 0
        for seat in seats:
            consent = open_consent(self._read(consent_path(seat.member)), self._credentials[seat.member])
            if consent.job != manifest.digest:
                raise VerificationFailed(f"The consent of {seat.member} is for another job.")
            if not consent.granted:
                raise VerificationFailed(f"{seat.member} did not consent to this job.")
            if consent.weight != seat.weight:
                raise VerificationFailed(
                    f"{seat.member} consented with weight {consent.weight}, and counted for {seat.weight}."
                )
            if manifest.data_set not in {"", consent.data_set}:
                raise VerificationFailed(f"{seat.member} consented to another data set than the manifest names.")
            self._rests_on(consent, seat.member)
            told += len(descriptions_of(consent))
            found[seat.member] = consent
        revoked = self._taken_back(found)
        self._consents, self._revocations = found, revoked
        ended = "".join(f" {member}: {each.sentence}." for member, each in sorted(revoked.items()))
        of_data = (
            f" They describe {told} data sets, of just the versions that they bind."
            if told
            else " They describe no data set."
        )
        return f"{len(found)} nodes signed their consent to this job, each with the weight that it counted for.{of_data}{ended}"

    def _rests_on(self, consent: Consent, member: str) -> None:
        """The node decided by a roll of this line, up to the release's. Whoever granted by another one was shown
        other members, or other rules."""
        if consent.binds is None:
            return
        try:
            _needed(self._roll, "roll").of_digest(consent.binds.roll)
        except InvalidIdentity as error:
            raise VerificationFailed(f"The consent of {member} rests on another roll: {error.message}") from error

    def _taken_back(self, consents: Mapping[str, Consent]) -> dict[str, Revocation]:
        """Those revocations that the release carries; that it carries all is the log's to show."""
        manifest, revoked = _needed(self._manifest, "manifest"), {}
        for path in sorted(path for path in self._files if path.startswith("revocations/")):
            member = path.removeprefix("revocations/").removesuffix(".json")
            if member not in consents or path != revocation_path(member):
                raise VerificationFailed(f"{path} is of nobody who consented.")
            revocation = open_revocation(self._read(path), self._credentials[member])
            consent = consent_digest(self._read(consent_path(member)))
            if (revocation.job, revocation.consent) != (manifest.digest, consent):
                raise VerificationFailed(f"The revocation of {member} is of another consent than the one that it gave.")
            revoked[member] = revocation
        return revoked

    def rounds(self) -> str:
        terms, benches = _needed(self._manifest, "manifest").terms(), _needed(self._benches, "roster")
        numbers = range(FIRST_ROUND, terms.last_round + 1)
        self._exactly("rounds/", map(round_path, numbers), f"the rounds {FIRST_ROUND} to {terms.last_round}")
        certified, facts, epoch = b"", [], FIRST_EPOCH
        figures: tuple[int, ...] = ()
        for number in numbers:
            try:
                certified, found, epoch, figures = self._round(number, epoch, benches, certified, terms)
            except FederationError as error:
                raise VerificationFailed(f"Round {number}: {error.message}", hint=error.hint) from error
            facts.append(found)
        self._rounds, self._certified, self._final_figures = tuple(facts), certified, figures
        quorums = benches[FIRST_EPOCH].quorums
        smallest = min(len(each.cohort) for each in facts)
        return (
            f"{len(facts)} rounds without a gap, each with a quorum of signatures ({quorums.q} of {quorums.n} in the first epoch) "
            f"on its cohort (the smallest: {smallest} members), on the model that followed and on its figures; the first "
            "model is the one that the members of round 1 agreed on."
        )

    def _round(
        self, number: int, epoch: int, benches: Mapping[int, Bench], before: bytes, terms: Terms
    ) -> tuple[bytes, RoundFacts, int, tuple[int, ...]]:
        """The digest that q receipts certify, the cohort with its figures, the round's epoch, and the figures as signed."""
        signed = evidence.decode(self._read(round_path(number)), evidence.SignedRound)
        if signed.announcement.round != number:
            raise VerificationFailed(f"the file holds round {signed.announcement.round}.")
        now = signed.announcement.epoch
        bench = benches.get(now)
        if bench is None or now < epoch:
            raise VerificationFailed(f"it is of epoch {now}, which does not follow.")
        announced = bench.check_announcement(signed.announcement, benches.get(now - 1))
        if number > FIRST_ROUND and announced.state_digest != before:
            raise VerificationFailed("it did not start from the model that the round before it certified.")
        survivors = bench.check_certificate(signed.certificate, announced)
        after = bench.check_receipts(signed.receipts, number)
        first = signed.receipts[0]
        if (first.context, first.survivors_digest) != (announced.context, survivors):
            raise VerificationFailed("the receipts are for another cohort than the certified one.")
        if terms.header_only(number) and after != announced.state_digest:
            raise VerificationFailed("it has no training, and yet the model changed.")
        cohort = tuple(bench.seats[index - 1].member for index in signed.certificate.survivors.cohort)
        if len(first.figures) != 2 * len(terms.metrics):
            raise VerificationFailed("its receipts carry other figures than the manifest declares.")
        facts = RoundFacts(
            number,
            announced.attempt,
            cohort,
            mean_figures(first.figures, terms),
            now,
            sha256(codec.encode(signed.certificate, Certificate)),
            sha256(codec.encode(signed.receipts, tuple[Receipt, ...])),
        )
        return after, facts, now, first.figures

    def gates(self) -> str:
        _needed(self._rounds, "rounds")
        manifest = _needed(self._manifest, "manifest")
        verdicts = judge(manifest.spec.gates, self._final_figures, manifest.terms())
        if reason := withheld(verdicts):
            raise VerificationFailed(
                f"The job's own gates did not pass: {reason}.", hint="Nobody may release this model."
            )
        self._verdicts = verdicts
        if not verdicts:
            return "The job has no gates: nothing was asked of the final model."
        return f"{len(verdicts)} gates passed: {'; '.join(verdict.words for verdict in verdicts)}."

    @property
    def sealed(self) -> bool:
        """Whether the release holds its state for the recipients alone."""
        return SEALED in self._files

    def state(self) -> str:
        _needed(self._rounds, "rounds")
        manifest = _needed(self._manifest, "manifest")
        if self.sealed:
            return self._sealed_state(manifest)
        terms = manifest.terms()
        state = read_state(self._state_path())
        if state.digest() != self._certified:
            raise VerificationFailed(
                f"The state's digest is {state.digest().hex()}, and the members signed {self._certified.hex()}."
            )
        if state.round != terms.rounds + 1:
            raise VerificationFailed(f"The state is of round {state.round}, not of the end.")
        self._digest, self._state = state.digest(), state
        return f"The final state has the digest that the members signed: {state.digest().hex()}."

    @property
    def subject(self) -> bytes:
        """What members vote on; the rounds are checked."""
        manifest = _needed(self._manifest, "manifest")
        _needed(self._rounds, "rounds")
        return subject_of(manifest.federation, manifest.digest, self._certified, self._final_figures)

    def approval(self) -> str:
        """Rests on the gates: nobody's vote passes one that failed."""
        roll, manifest = _needed(self._roll, "roll"), _needed(self._manifest, "manifest")
        _needed(self._verdicts, "gates")
        subject = self.subject
        shown = self._read(APPROVAL) if APPROVAL in self._files else None
        decision = check_approval(manifest, roll, self.members, subject, shown)
        self._subject, self._decision = subject, decision
        if decision is None:
            return (
                f"The release {subject.hex()} needs no vote: neither the charter nor the job asks for one; q members signed its "
                "final model."
            )
        counted = decision.tally
        more = ", among them every member of its roster that has a vote" if asked_of(manifest) == "members" else ""
        return (
            f"The release {subject.hex()} was approved by {', '.join(approvers(decision))}{more}: {counted.yes} of {counted.total} "
            f"by weight said yes, the charter asks for {roll.charter.quorums['release']}."
        )

    def log(self) -> str:
        manifest, rounds = _needed(self._manifest, "manifest"), _needed(self._rounds, "rounds")
        _needed(self._consents, "consents")
        _needed(self._subject, "approval")
        excerpt = Excerpt.decode(self._read(LOG, MAX_EXCERPT))
        bench = self._last_bench
        witnesses = witnesses_of(manifest.federation, (self._credentials[seat.member] for seat in bench.seats))
        claims = claims_of(
            manifest,
            _needed(self._benches, "roster"),
            self._formed,
            self._credentials,
            tuple(self._revocations),
            rounds,
            self.subject,
            self._decision is not None,
            self._read,
        )
        self._log = found = check_logged(
            excerpt, claims, manifest.federation, witnesses, bench.quorums.q, self._trusted_log, self.log_keys
        )
        named = (
            "one that the members' charter names"
            if self.log_keys
            else "the one that was given"
            if self._trusted_log is not None
            else f"the release's own word, and no charter names one: {found.key}"
        )
        return (
            f"The log {found.key.name} holds, with these very digests, the job's submission, {len(self.members)} consents, "
            f"{len(self._formed)} roster{'s' * (len(self._formed) != 1)}, the cohort and the model of each of {len(rounds)} rounds"
            f"{', and the vote' if self._decision is not None else ''}, in order, under its head of {found.size} entries, "
            f"dated {_utc(found.time)}. {', '.join(found.witnesses)} cosigned that head, and {bench.quorums.q} of the last "
            f"roster's {bench.quorums.n} must have. The log's key is {named}."
        )

    def revocations(self) -> str:
        found = _needed(self._log, "log")
        until = f"In the log from the job's submission to its head of {found.size} entries, of which none is left out,"
        beyond = "A revocation after that head, and one that was kept out of the log, is not in these files."
        if not self._revocations:
            return f"{until} no member of a roster took its consent back, and nothing ended the job. {beyond}"
        said = []
        for member, revocation in sorted(self._revocations.items()):
            after = found.revoked_before[member]
            where = f"before round {after} closed, and counts in none after it" if after else "after the last round"
            said.append(f"{member} ({revocation.sentence}) {where}")
        return f"{until} these and no others took their consent back: {'; '.join(said)}. {beyond}"

    @property
    def log_keys(self) -> tuple[VerifierKey, ...]:
        """Those that the charter names or has named, by the release's roll and by the reader's."""
        reader = () if self._trusted is None else log_keys_of(Roll.open(self._trusted))
        return tuple(dict.fromkeys((*log_keys_of(_needed(self._roll, "roll")), *reader)))

    @property
    def job(self) -> bytes:
        return _needed(self._manifest, "manifest").digest

    @property
    def federation(self) -> str:
        return _needed(self._manifest, "manifest").federation

    @property
    def revoked(self) -> frozenset[str]:
        """Members whose revocation the release carries."""
        return frozenset(self._revocations)

    @property
    def _last_bench(self) -> Bench:
        benches = _needed(self._benches, "roster")
        return benches[max(benches)]

    def _sealed_state(self, manifest: Manifest) -> str:
        benches = _needed(self._benches, "roster")
        if any(path in self._files for path in OPEN):
            raise VerificationFailed("The release is sealed, and holds its model in clear as well.")
        if not manifest.recipients:
            raise VerificationFailed("The release is sealed, and its manifest names no recipients.")
        said = self.sealings
        bench = benches.get(said[0].epoch) if said else None
        if bench is None:
            raise VerificationFailed("Nobody in the release's rosters says what its sealed file holds.")
        blob = bench.check_sealings(said, self._certified, len(manifest.recipients))
        if self._digest_of(SEALED) != blob:
            raise VerificationFailed(
                f"{SEALED} is not the file of which the members say that it holds the final state."
            )
        self._digest = self._certified
        return (
            f"The final state, {self._certified.hex()}, is sealed for the {len(manifest.recipients)} recipients that the manifest "
            f"names: {len(said)} members signed that it is in this file, of whom at most {bench.quorums.f} may lie."
        )

    @property
    def sealings(self) -> tuple[Sealing, ...]:
        """What members say of the sealed state; checked by ``state``."""
        return evidence.decode(self._read(KEYS), evidence.SealedKeys).sealings

    # ----------------------------------------------------------------------------------------------------------- inside

    def _read(self, path: str, limit: int = MAX_EVIDENCE) -> bytes:
        if path not in self._files:
            raise VerificationFailed(f"The release lacks {path}.", hint="Fetch the release again.")
        return read_whole(path, self._files[path], limit)

    def _exactly(self, folder: str, wanted: Iterable[str], what: str) -> None:
        found, expected = {path for path in self._files if path.startswith(folder)}, set(wanted)
        if missing := sorted(expected - found):
            raise VerificationFailed(f"The release must hold {what}, and lacks {', '.join(missing[:3])}.")
        if extra := sorted(found - expected):
            raise VerificationFailed(f"The release must hold {what} and no more, and has {', '.join(extra[:3])}.")


def _needed(value: Established | None, what: str) -> Established:
    if value is None:
        raise VerificationFailed(f"Not checked: it rests on the {what}, which did not pass.")
    return value


def _utc(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _check_participants(manifest: Manifest, bench: Bench) -> None:
    """What the manifest says about who may take part; its minima are checked with the roster."""
    allowed = manifest.spec.participants
    if len(bench.seats) > allowed.max_members:
        raise VerificationFailed("The roster has more members than the manifest allows.")
    for seat in bench.seats:
        named = not allowed.members or seat.member in allowed.members
        placed = not allowed.jurisdictions or seat.jurisdiction in allowed.jurisdictions
        if not named or not placed:
            raise VerificationFailed(f"{seat.member} is not among those whom the manifest lets take part.")
