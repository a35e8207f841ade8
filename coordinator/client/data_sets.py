"""The data sets that laboratories publish, as a reader may believe them: signed by a node that the reader's own roll knows.

The coordinator keeps and sends them. It may leave some out, and show one that ended; it cannot make or alter any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from coordinator.client.files import read_file
from coordinator.client.terminal import Format, as_yaml, data, plain, say, show, table
from federation.catalogue.entry import Entry
from federation.catalogue.matching import answer_of, asked, misses
from federation.catalogue.statement import open_catalogue
from federation.errors import FederationError, InvalidUsage, NotFound
from federation.identity.credential import verify_credential
from federation.identity.fields import moment_text
from federation.identity.roll import Roll
from federation.manifest.document import DataSet, load_job
from federation.v1 import catalogue_pb2

MOST_PAGES: Final = 1000
List = Callable[[catalogue_pb2.ListCataloguesRequest], catalogue_pb2.ListCataloguesReply]


@dataclass(frozen=True, slots=True)
class PublishedDataSet:
    member: str
    node: str
    jurisdiction: str
    """the member's, on the reader's roll"""
    entry: Entry
    issued: datetime
    expires: datetime

    @property
    def full_name(self) -> str:
        return f"{self.entry.name}@{self.node}"

    def as_document(self) -> dict[str, object]:
        return {
            "member": self.member,
            "node": self.node,
            "issued": moment_text(self.issued),
            "expires": moment_text(self.expires),
            "entry": self.entry.document,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Each that is set must hold; what is not published does not hold."""

    schema: str = ""
    tag: str = ""
    jurisdiction: str = ""

    def passes(self, held: PublishedDataSet) -> bool:
        entry = held.entry
        schema = entry.schema_reference.name if entry.schema_reference is not None else ""
        if self.schema and self.schema not in {schema, schema.partition("/")[0]}:
            return False
        if self.tag and self.tag not in (entry.tags or ()):
            return False
        return not self.jurisdiction or (entry.jurisdiction or held.jurisdiction) == self.jurisdiction


def fetch(call: List, roll: Roll, now: datetime) -> tuple[list[PublishedDataSet], list[str]]:
    """What checks against ``roll``, by name; and what does not, each in a sentence. Raises what the call raises."""
    found: list[PublishedDataSet] = []
    problems: list[str] = []
    nodes: set[tuple[str, str]] = set()
    for item in _all(call):
        try:
            credential = verify_credential(item.credential, roll, now)
            statement = open_catalogue(item.envelope, credential, now)
        except FederationError as error:
            problems.append(plain(error.message))
            continue
        place = (credential.member, credential.node)
        if place in nodes:
            problems.append(f"The coordinator shows two catalogues of {credential.node}.")
            continue
        nodes.add(place)
        times = statement.issued, statement.expires
        found += [PublishedDataSet(*place, credential.jurisdiction, entry, *times) for entry in statement.entries]
    return sorted(found, key=lambda held: (held.entry.name, held.member, held.node)), problems


def _all(call: List) -> Iterator[catalogue_pb2.NodeCatalogue]:
    after = ""
    for _ in range(MOST_PAGES):
        reply = call(catalogue_pb2.ListCataloguesRequest(after=after))
        yield from reply.catalogues
        if not reply.next or reply.next <= after:
            return
        after = reply.next


# ------------------------------------------------------------------------------------------------------------- commands


def show_list(
    held: Sequence[PublishedDataSet], problems: Sequence[str], wanted: DataSet | None, output: Format
) -> None:
    """``wanted``: what a job asks for; each row then says whether it could take part."""
    for problem in problems:
        say(f"warning: a catalogue that does not check is left out: {problem}")
    documents = [_document(each, wanted) for each in held]
    if wanted is None:
        headings = ("NAME", "MEMBER", "NODE", "SCHEMA", "SIZE", "JURISDICTION", "TITLE")
        rows = [(each.entry.name, each.member, each.node, *_columns(each)) for each in held]
        show(documents, output, lambda: table(headings, rows))
    else:
        fitting = [(each.entry.name, each.member, each.node, *fit_of(each, wanted)) for each in held]
        show(documents, output, lambda: table(("NAME", "MEMBER", "NODE", "FITS", "WHY NOT"), fitting))
        say(f"asked for: {plain(asked(wanted))}; each node decides for itself, by more than it publishes")
    if not held:
        say("no data set is published that matches")


def fit_of(held: PublishedDataSet, wanted: DataSet) -> tuple[str, str]:
    """(yes, no or perhaps; why)"""
    found = misses(wanted, held.entry)
    return answer_of(found), "; ".join(miss.sentence for miss in found)


def _document(held: PublishedDataSet, wanted: DataSet | None) -> dict[str, object]:
    if wanted is None:
        return held.as_document()
    fits, why = fit_of(held, wanted)
    return {**held.as_document(), "fits": fits, "whyNot": why}


def _columns(held: PublishedDataSet) -> tuple[str, str, str, str]:
    entry = held.entry
    schema = entry.schema_reference.name if entry.schema_reference is not None else ""
    size = f"{entry.size:,} or more" if entry.size is not None else ""
    return schema, size, entry.jurisdiction or held.jurisdiction, entry.title or ""


def show_one(held: PublishedDataSet, output: Format) -> None:
    document = held.as_document()
    show(document, output, lambda: data(as_yaml(document)))
    say(f"signed by {held.node} of {held.member}, whose officer is on your roll")


def named(held: Sequence[PublishedDataSet], name: str) -> PublishedDataSet:
    """``name``: NAME, or NAME@NODE where several nodes publish one. Raises NotFound, InvalidUsage."""
    word, _, node = name.partition("@")
    found = [each for each in held if each.entry.name == word and node in {"", each.node, each.member}]
    if not found:
        raise NotFound(f"No data set {plain(name)[:80]} is published.", hint="List them with: concord get datasets")
    if len(found) > 1:
        raise InvalidUsage(
            f"{word} is published by several nodes.",
            hint=f"Name one: {', '.join(each.full_name for each in found[:20])}.",
        )
    return found[0]


def wanted_by(job: Path) -> DataSet:
    """What a job document asks for. Raises InvalidManifest, NotFound."""
    try:
        text = read_file(job, what="The job document").decode()
    except UnicodeDecodeError:
        raise InvalidUsage(f"{job} is not UTF-8 text.", hint="Save it as UTF-8.") from None
    return load_job(text, str(job)).spec.data_set


def asks_by_description(document: dict[str, Any]) -> DataSet | None:
    """What a signed job asks for, if a catalogue can say who could give it; None for a job that names its data set."""
    try:
        wanted = DataSet.model_validate(document["spec"]["dataSet"])
    except (KeyError, TypeError, ValueError):
        return None
    return wanted if wanted.name is None else None


def now() -> datetime:
    return datetime.now(UTC)
