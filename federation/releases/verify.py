"""Verifies a release from its files alone: offline, by anybody, years later. Every check has a name, a result and a sentence.

The listing and its signature show that the files are whole and belong together; they prove nothing else, since anybody could sign a
list. All that is believed of the model follows from the members' signatures (``federation.releases.examination``), beginning at the
membership roll: compare that with one that you have from somebody you trust. config.json and README.md must be what the verified
files give. Altered, missing, added and re-written bytes all fail; a file that cannot be read is a failed check, not a crash.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.audit.checkpoint import VerifierKey
from federation.audit.excerpt import MAX_EXCERPT, Excerpt
from federation.errors import FederationError, VerificationFailed
from federation.identity.roll import Roll
from federation.releases.bom import bom_of
from federation.releases.card import card_of
from federation.releases.config import config_of, predicate_of
from federation.releases.examination import Examination
from federation.releases.listing import (
    BOM,
    CARD,
    CLOSED,
    CONFIG,
    LARGE,
    LISTING,
    LOG,
    MADE,
    MAX_LISTING,
    MAX_TASK,
    MODEL,
    OPEN,
    STATE,
    STATEMENT,
    Content,
    Listing,
    digest_of,
    open_listing,
    read_folder,
    read_whole,
    size_of,
)
from federation.releases.logged import LogCopy, check_copy
from federation.releases.model import digest_of_pieces, model_pieces, state_pieces
from federation.releases.recall import read_recall
from federation.releases.statement import check_statement, statement_of

MAX_WORDS: Final = 900


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str
    """one sentence: what was found, or what is wrong"""


@dataclass(frozen=True, slots=True)
class Report:
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)


@dataclass(frozen=True, slots=True)
class Known:
    """What the reader knows of recalls: the files that were shown, and how far the public log was read."""

    recalls: tuple[bytes, ...] = ()
    in_log: tuple[tuple[bytes, str], ...] = ()
    """(release's subject, when) of each recall that the log holds"""
    revoked: tuple[tuple[bytes, str, str], ...] = ()
    """(job, member, when) of each consent that the log says was taken back"""
    read_up_to: str = ""
    """which head of the log was read, in words; empty: none was"""
    log_key: VerifierKey | None = None
    """the key of the public log, from somebody whom the reader trusts"""
    log: LogCopy | None = None
    """the log itself, as far as it was read"""


NOTHING_KNOWN: Final = Known()


def verify(files: Mapping[str, Content], trusted_roll: bytes | None = None, known: Known = NOTHING_KNOWN) -> Report:
    """``files``: {path within the release: file, or its bytes}. ``trusted_roll``: a roll from elsewhere, alone or with its history.

    Never raises for what is in the files.
    """
    with tempfile.TemporaryDirectory(prefix="concord-verify-") as folder:
        return _Verification(files, trusted_roll, known, Path(folder)).report()


def verify_folder(folder: Path, trusted_roll: bytes | None = None, known: Known = NOTHING_KNOWN) -> Report:
    """The same for a release on disk, in which a link, a device or a strange folder is a failed check as well."""
    try:
        files = read_folder(folder)
    except (FederationError, OSError) as error:
        return Report((Check("folder", False, _sentence(error)),))
    return verify(files, trusted_roll, known)


class _Verification:
    def __init__(self, files: Mapping[str, Content], trusted_roll: bytes | None, known: Known, scratch: Path) -> None:
        self._files, self._trusted, self._known = files, trusted_roll, known
        self._scratch = scratch
        self._listing: Listing | None = None
        self._logged = False
        self._digests: Mapping[str, bytes] | None = None
        """of each file but the listing, once all have been found to be those that are listed: large files are read once for it"""
        self._examination = Examination(files, trusted_roll, self._state_path, self._digest, known.log_key)

    def report(self) -> Report:
        model = {} if self._examination.sealed else {"model": self._check_model}
        steps: dict[str, Callable[[], str]] = {
            "listing": self._check_listing,
            "files": self._check_files,
            **self._examination.steps(),
            "log": self._check_log,
            "revocations": self._check_revocations,
            **model,
            "config": self._check_config,
            "card": self._check_card,
            "bom": self._check_bom,
            "statement": self._check_statement,
            "recall": self._check_recall,
        }
        return Report(tuple(_checked(name, step) for name, step in steps.items()))

    def _check_listing(self) -> str:
        listing = open_listing(read_whole(LISTING, self._content(LISTING), MAX_LISTING))
        self._listing = listing
        return (
            f"{len(listing.files)} files are listed, on {listing.created}, under the key {listing.signer.hex()}; this shows that "
            "they belong together, and no more."
        )

    def _check_files(self) -> str:
        if self._listing is None:
            raise VerificationFailed("Not checked: there is no good listing.")
        listed = {file.path: file for file in self._listing.files}
        if strange := sorted(path for path in self._files if path not in listed and path != LISTING):
            raise VerificationFailed(f"The release holds what is not listed: {', '.join(map(repr, strange[:3]))}.")
        other = OPEN if self._examination.sealed else CLOSED
        if wrong := sorted(set(listed) & set(other)):
            raise VerificationFailed(f"The release holds its model both sealed and in clear: {', '.join(wrong)}.")
        for path, file in listed.items():
            content = self._content(path)
            if path not in LARGE and file.size > MAX_TASK:
                raise VerificationFailed(f"{path} is listed with {file.size} bytes, more than such a file has.")
            if size_of(content) != file.size:
                raise VerificationFailed(f"{path} has {size_of(content)} bytes, and {file.size} are listed.")
            if digest_of(content) != file.sha256:
                raise VerificationFailed(f"{path} is not the file that is listed: its SHA-256 differs.")
        self._digests = {path: file.sha256 for path, file in listed.items()}
        total = sum(file.size for file in listed.values())
        return f"Every file is listed and has its digest; {total} bytes in {len(listed)} files."

    def _check_log(self) -> str:
        said, copy = self._examination.log(), self._known.log
        if copy is not None:
            excerpt = Excerpt.decode(read_whole(LOG, self._content(LOG), MAX_EXCERPT))
            said = f"{said} {check_copy(excerpt, copy, self._examination.federation, self._examination.log_keys)}"
        self._logged = True
        return said

    def _check_revocations(self) -> str:
        if not self._logged:
            raise VerificationFailed("Not checked: it rests on the log, which did not pass.")
        said, facts = self._examination.revocations(), self._examination
        job, carried = facts.job, facts.revoked
        later = [
            f"{member} ({when})" for each, member, when in self._known.revoked if each == job and member not in carried
        ]
        if later:
            return f"{said} Since then, by the log that was read: taken back by {', '.join(later)}."
        if self._known.read_up_to:
            return f"{said} No other is known {self._known.read_up_to}."
        return said

    def _check_model(self) -> str:
        state = self._examination.facts().state
        if state is None:
            raise VerificationFailed("Not checked: there is no state in clear.")
        if self._digest(STATE) != digest_of_pieces(state_pieces(state)):
            raise VerificationFailed(f"{STATE} holds the right state in another encoding than the one of releases.")
        if self._digest(MODEL) != digest_of_pieces(model_pieces(state)):
            raise VerificationFailed(f"{MODEL} does not hold exactly the weights of the state that the members signed.")
        count = sum(array.size for array in state.arrays.values())
        return f"{MODEL} holds exactly the weights of that state: {count} numbers in {len(state.arrays)} arrays."

    def _check_config(self) -> str:
        if config_of(self._examination.facts()) != read_whole(CONFIG, self._content(CONFIG)):
            raise VerificationFailed(f"{CONFIG} says something else than the verified files.")
        return f"{CONFIG} says what the verified files say; its figures are those that the members signed."

    def _check_card(self) -> str:
        if card_of(self._examination.facts()) != read_whole(CARD, self._content(CARD)):
            raise VerificationFailed(f"{CARD} says something else than the verified files.")
        return f"{CARD} is what the verified files give."

    def _check_bom(self) -> str:
        digests = {path: self._digest(path) for path in set(self._files) - {*MADE, LISTING}}
        if bom_of(self._examination.facts(), digests) != read_whole(BOM, self._content(BOM)):
            raise VerificationFailed(f"{BOM} says something else than the verified files.")
        return f"{BOM} (CycloneDX 1.6) is what the verified files give."

    def _check_statement(self) -> str:
        if self._listing is None:
            raise VerificationFailed("Not checked: there is no good listing.")
        paths = set(self._files) - {STATEMENT, LISTING}
        payload = statement_of({path: self._digest(path) for path in paths}, predicate_of(self._examination.facts()))
        check_statement(read_whole(STATEMENT, self._content(STATEMENT)), payload, self._listing.signer)
        return f"{STATEMENT} (in-toto v1, DSSE) names all {len(paths)} other files by digest, under the key of the listing."

    def _check_recall(self) -> str:
        subject = self._examination.facts().subject
        roll = self._examination.facts().roll if self._trusted is None else Roll.open(self._trusted)
        for data in self._known.recalls:
            recall = read_recall(data, roll)
            if recall.subject == subject:
                raise VerificationFailed(f"This release was {recall.words}.", hint="Do not use it.")
        for recalled, when in self._known.in_log:
            if recalled == subject:
                raise VerificationFailed(
                    f"The public log holds a recall of this release, of {when}.",
                    hint="Do not use it. Any member can show the decision.",
                )
        shown = f"None of {len(self._known.recalls)} recalls that were shown is of this release. " * bool(
            self._known.recalls
        )
        if self._known.read_up_to:
            return f"{shown}No recall of {subject.hex()} is known {self._known.read_up_to}."
        return (
            f"{shown}No recall of {subject.hex()} is known here, and no head of the public log was read: a recall may exist that "
            "this machine has not seen. Fetch the log, and give it with --log."
        )

    # ----------------------------------------------------------------------------------------------------------- inside

    def _digest(self, path: str) -> bytes:
        if self._digests is None:
            raise VerificationFailed("Not checked: it rests on the files, which did not pass.")
        if path not in self._digests:
            raise VerificationFailed(f"The release lacks {path}.", hint="Fetch it again.")
        return self._digests[path]

    def _content(self, path: str) -> Content:
        if path not in self._files:
            raise VerificationFailed(f"The release lacks {path}.", hint="Fetch it again.")
        return self._files[path]

    def _state_path(self) -> Path:
        content = self._content(STATE)
        if isinstance(content, Path):
            return content
        path = self._scratch / STATE
        path.write_bytes(content)
        return path


def _checked(name: str, step: Callable[[], str]) -> Check:
    try:
        return Check(name, True, step())
    except Exception as error:  # whatever the bytes did: a verifier answers, it does not crash
        return Check(name, False, _sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, FederationError):
        return " ".join(part for part in (error.message, error.hint) if part)[:MAX_WORDS]
    if isinstance(error, OSError):
        return f"A file cannot be read ({type(error).__name__})."
    return f"The bytes make no sense ({type(error).__name__})."
