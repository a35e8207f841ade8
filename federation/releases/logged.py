"""What the public log must hold about a release: every entry from the job's submission to a head that members' nodes cosigned.

The excerpt is whole, so two things follow. Each document of which the log has an entry is the one that the release carries; and
what the log holds against the release up to that head (a consent that was taken back, a stop, a recall) cannot be left out of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from federation.audit.checkpoint import COSIGNATURE, ED25519, Note, VerifierKey, origin_of, witness_key
from federation.audit.entry import Entry
from federation.audit.excerpt import Excerpt, Shown, verify_excerpt
from federation.audit.tree import HASH_BYTES, Frontier, leaf_hash
from federation.errors import VerificationFailed
from federation.identity.credential import NodeCredential
from federation.releases.claims import Claim, Claims
from federation.releases.facts import LogFacts

ENDS: Final = frozenset({"failed", "stopped", "withdrawn"})
"""states of a job after which nothing of it is released"""


@dataclass(frozen=True, slots=True)
class LogCopy:
    """A copy of the whole log, computed again by its reader up to a signed head."""

    key: VerifierKey
    size: int
    leaves: bytes
    """the leaf hashes of its entries, one after the other"""

    def root_at(self, size: int) -> bytes:
        tree = Frontier()
        for number in range(size):
            tree = tree.append(self.leaves[number * HASH_BYTES : (number + 1) * HASH_BYTES])
        return tree.root()


def check_copy(excerpt: Excerpt, copy: LogCopy, federation: str, charter: Collection[VerifierKey] = ()) -> str:
    """Raises VerificationFailed where the proofs and the reader's copy are of two logs, or of two histories of one; a sentence."""
    check_key(excerpt.key, federation, copy.key, charter)
    tree = Frontier.decode(excerpt.first, b"".join(excerpt.peaks))
    for entry in excerpt.entries[: max(0, copy.size - excerpt.first)]:
        tree = tree.append(leaf_hash(entry))
    if tree.size > copy.size:
        return f"The copy of the log that was read ends at {copy.size} entries, before the job: it tells nothing here."
    if tree.root() != copy.root_at(tree.size):
        raise VerificationFailed(
            f"The proofs are of a fork: the copy of the log that was read has another history at {tree.size} entries.",
            hint="Both were signed. Keep them, and tell the members: `concord audit fork` convicts the log.",
        )
    return f"The copy of the log that was read has the same history at {tree.size} entries."


def witnesses_of(federation: str, credentials: Iterable[NodeCredential]) -> dict[str, VerifierKey]:
    """Member -> the key with which its node cosigns."""
    return {each.member: witness_key(federation, each.member, each.node, each.identity_key) for each in credentials}


def only_by(note: bytes, key: VerifierKey, witnesses: Iterable[VerifierKey]) -> bytes:
    """The head with the signatures of its log and of these witnesses alone, by name: others would be bytes that nobody checks."""
    opened = Note.parse(note)
    found: dict[tuple[str, bytes], bytes] = {}
    for each in opened.signatures:
        found.setdefault((each.name, each.id), each.line)
    own = [key, VerifierKey(key.name, COSIGNATURE, key.public)]
    wanted = [*own, *sorted(witnesses, key=lambda each: each.name)]
    return opened.text + b"\n" + b"".join(found.get((each.name, each.id), b"") for each in wanted)


def check_key(
    key: VerifierKey, federation: str, given: VerifierKey | None = None, charter: Collection[VerifierKey] = ()
) -> None:
    """``given``: by the reader. ``charter``: every key that it names, or has named: the tree goes on under the next.

    Raises VerificationFailed when the proofs are of another federation's log, or of another log than either says.
    """
    if (key.name, key.kind) != (origin_of(federation), ED25519):
        raise VerificationFailed(
            f"The proofs are of the log {key.name}, and the federation's is {origin_of(federation)}.",
            hint="They belong to another release.",
        )
    if charter and key not in charter:
        raise VerificationFailed(
            f"The proofs are of another log: its key is {key}, and the members' charter names {next(iter(charter))}.",
            hint="Tell the members: it may be a second log, made for this release.",
        )
    if given is not None and given != key and not {given, key} <= set(charter):
        raise VerificationFailed(
            f"The proofs are of another log: its key is {key}, and the one that is trusted is {given}.",
            hint="Ask the members which of the two is theirs: a federation has one log.",
        )


def check_logged(
    excerpt: Excerpt,
    claims: Claims,
    federation: str,
    witnesses: Mapping[str, VerifierKey],
    quorum: int,
    given: VerifierKey | None = None,
    charter: Collection[VerifierKey] = (),
) -> LogFacts:
    """``witnesses``: of each member of the last roster. ``quorum``: how many of them must have cosigned: any two such heads have an
    honest witness in common, which signs no two histories. ``given`` and ``charter`` as for ``check_key``.

    Raises VerificationFailed with what is missing, added, altered or out of order.
    """
    check_key(excerpt.key, federation, given, charter)
    shown = verify_excerpt(excerpt, excerpt.key, witnesses.values())
    if excerpt.note != only_by(excerpt.note, excerpt.key, witnesses.values()):
        raise VerificationFailed(
            "The log's head bears other signatures than the log's and those of the release's own witnesses, or not in their order."
        )
    cosigned = tuple(sorted(member for member, key in witnesses.items() if key.name in shown.witnesses))
    if len(cosigned) < quorum:
        names = f" ({', '.join(cosigned)})" if cosigned else ""
        raise VerificationFailed(
            f"The log's head of {shown.head.size} entries is cosigned by {len(cosigned)} of the members of the release's "
            f"last roster{names}, and {quorum} are needed.",
            hint="Nobody vouches that it is the log that the members see.",
        )
    reading = _Reading(claims, shown)
    reading.check()
    key, head = excerpt.key, shown.head
    return LogFacts(key, head.size, head.time, shown.first, cosigned, reading.revoked_before())


class _Reading:
    """One pass over the entries, then one look for each claim."""

    def __init__(self, claims: Claims, shown: Shown) -> None:
        self._claims, self._shown = claims, shown
        self._job = claims.job.hex()
        self._own = [(number, entry) for number, entry in enumerate(shown.entries, shown.first) if self._about(entry)]
        self._closed: dict[int, int] = {}
        """round -> number of the entry of its cohort"""

    def _about(self, entry: Entry) -> bool:
        return entry.fields.get("job") == self._job or entry.fields.get("release") == self._claims.subject.hex()

    def check(self) -> None:
        claims, first = self._claims, self._shown.first
        if self._place(claims.submission) != first:
            raise VerificationFailed("The excerpt of the log does not begin with the job's submission.")
        self._against()
        for consent in claims.consents.values():
            self._place(consent)
        before = first
        formed: dict[int, int] = {}
        for epoch, roster in enumerate(claims.rosters, start=1):
            before = formed[epoch] = self._place(roster, before)
        for member, epoch in claims.joined.items():
            if not any(number < formed[epoch] for number in self._consented(member)):
                raise VerificationFailed(f"By the log {member} was in the roster of epoch {epoch} before it consented.")
        before = first
        for each in claims.rounds:
            before = self._closed[each.round] = self._place(each.closed, max(before, formed[each.epoch]))
            before = self._place(each.certified, before)
        if claims.approval is not None:
            self._place(claims.approval, before)
        self._revocations()

    def _consented(self, member: str) -> Iterator[int]:
        """Of this consent or an earlier one: who comes back into a job consents anew."""
        for number, entry in self._own:
            if entry.kind == "consent" and (entry.fields["member"], entry.fields["state"]) == (member, "granted"):
                yield number

    def _place(self, claim: Claim, after: int = -1) -> int:
        """The number of the first entry after ``after`` that is about the document that the release carries."""
        same = [(number, entry) for number, entry in self._own if self._says(entry, claim)]
        right = [number for number, entry in same if entry.document == claim.document]
        if not right and same:
            raise VerificationFailed(
                f"The log has another document as {claim.what} than this release carries.",
                hint="The release was put together from other files than those that the members saw.",
            )
        if not right:
            raise VerificationFailed(f"The excerpt of the log has no entry about {claim.what}.")
        later = [number for number in right if number > after]
        if not later:
            raise VerificationFailed(f"The log's entry about {claim.what} comes before what it rests on.")
        return later[0]

    @staticmethod
    def _says(entry: Entry, claim: Claim) -> bool:
        return entry.kind == claim.kind and all(entry.fields.get(name) == text for name, text in claim.fields.items())

    def _against(self) -> None:
        """Raises VerificationFailed for what ends the job, or the release."""
        for number, entry in self._own:
            state = entry.fields.get("state", "")
            if entry.kind == "job-state" and state in ENDS:
                raise VerificationFailed(f"By the log's entry {number} the job was {state}: nothing of it is released.")
            if entry.kind == "release" and state == "withheld":
                raise VerificationFailed(f"By the log's entry {number} the release was withheld.")
            if entry.kind == "recall":
                raise VerificationFailed(
                    f"By the log's entry {number} the release was recalled.", hint="Do not use it."
                )

    def _taken_back(self) -> Iterator[tuple[int, Entry]]:
        """Of members whose consent the release rests on."""
        for number, entry in self._own:
            if entry.kind == "revocation" and entry.fields["member"] in self._claims.consents:
                yield number, entry

    def _revocations(self) -> None:
        carried = self._claims.revocations
        for number, entry in self._taken_back():
            member = entry.fields["member"]
            if member not in carried or carried[member].document != entry.document:
                raise VerificationFailed(
                    f"{member} took its consent back, by the log's entry {number} of {when(entry)}, and the release hides it.",
                    hint="Ask that member.",
                )
        for claim in carried.values():
            self._place(claim)
        for member, round_after in self.revoked_before().items():
            late = [
                each.round for each in self._claims.rounds if member in each.cohort and each.round > round_after > 0
            ]
            if late:
                raise VerificationFailed(
                    f"{member} took its consent back before round {round_after} closed, and round {late[0]} counts it still."
                )

    def revoked_before(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for number, entry in self._taken_back():
            later = [round_ for round_, closed in self._closed.items() if closed > number]
            found.setdefault(entry.fields["member"], min(later, default=0))
        return found


def when(entry: Entry) -> str:
    return f"{datetime.fromtimestamp(entry.time / 1000, UTC):%Y-%m-%d %H:%M} UTC"
