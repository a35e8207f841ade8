"""What a release says of the data: the entries of a laboratory's catalogue that its node put into its consent.

They are part of what the node signed. Each is of a data set that the consent binds and, where the laboratory publishes versions, of
the very version that it binds. What the laboratory did not publish is not here, and nobody can add it.
"""

from __future__ import annotations

import json

from federation.catalogue.entry import Entry, read_entry
from federation.errors import VerificationFailed
from federation.identity.consent import Consent


def descriptions_of(consent: Consent) -> tuple[Entry, ...]:
    """By the data sets' order in the consent. Raises VerificationFailed or InvalidIdentity for what is not of the data it binds."""
    entries = tuple(read_entry(json.loads(document)) for document in consent.described)
    versions = {} if consent.binds is None else dict(consent.binds.data)
    order = {name: place for place, name in enumerate(versions)}
    places = [order.get(entry.name, -1) for entry in entries]
    if -1 in places or places != sorted(set(places)):
        raise VerificationFailed(f"The consent of {consent.member} describes another data set than it binds.")
    for entry in entries:
        if entry.version not in {None, versions[entry.name].hex()}:
            raise VerificationFailed(
                f"{consent.member} describes another version of {entry.name} than it consented to use.",
                hint="The data have changed since they were published.",
            )
    return entries


def words_of(entry: Entry) -> tuple[str, ...]:
    """What it is, a phrase each; a laboratory's own words among them."""
    said = [entry.title or "", entry.description or ""]
    if (schema := entry.schema_reference) is not None:
        said.append(f"schema {schema.name}")
    if entry.columns is not None:
        said.append(f"{len(entry.columns)} columns ({', '.join(column.name for column in entry.columns)})")
    if entry.size is not None:
        said.append(f"from {entry.size} to {2 * entry.size - 1} examples")
    if (coverage := entry.coverage) is not None:
        said += [f"from {coverage.begin}"] if coverage.begin else []
        said += [f"to {coverage.end}"] if coverage.end else []
        said += [f"of {', '.join(coverage.places)}"] if coverage.places else []
    if entry.tags:
        said.append(f"tags {', '.join(entry.tags)}")
    said += [
        f"{what} {value}"
        for what, value in (
            ("legal basis", entry.legal_basis), ("licence", entry.licence), ("under the law of", entry.jurisdiction),
        )
        if value
    ]  # fmt: skip
    if (budget := entry.budget) is not None:
        said.append(
            f"privacy budget of epsilon {budget.epsilon:g} at delta {budget.delta:g} for each {budget.unit}, over all jobs"
        )
    if entry.version is not None:
        said.append(f"version {entry.version}")
    if entry.updates is not None:
        said.append(entry.updates)
    return tuple(filter(None, said))
