"""Example cases beside a policy: jobs, and what the policy must say to each. Whoever changes the policy sees what else changed.

A file of cases stands for itself: it names the members, the leads and the data sets that its jobs meet, and needs no federation.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, ValidationError

from federation.errors import InvalidManifest
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollLead, RollMember
from federation.manifest.document import JobDocument, validate
from federation.manifest.schema import DataSetName, Jurisdiction, Label, Name, Names, Part, explained
from federation.manifest.yaml_source import Source, read_yaml

NOON: Final = "2027-01-15 12:00"


def _moment(value: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]) ([01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise ValueError(f"should be a local time such as {NOON}")
    return value


class PretendedFederation(Part):
    members: dict[Label, Jurisdiction] = Field(min_length=3, max_length=200, description="each member's jurisdiction")
    leads: dict[Label, Label] = Field(min_length=1, max_length=200, description="each lead's member")
    here: Label = Field(description="the member whose policy it is")


class Case(Part):
    name: Name = Field(description="what it shows, for people")
    lead: Label | None = Field(None, description="who submits it; default: the first lead")
    spec: dict[str, Any] = Field({}, description="what the job says in spec, besides app and dataSet")
    at: Annotated[str, AfterValidator(_moment)] = Field(NOON, description="local time at which it is asked")
    sandbox: Literal["bubblewrap", "none"] = Field("bubblewrap", description="whether the node has a sandbox")
    expect: Literal["granted", "asks", "denied"] = Field(description="what the policy must say")
    because: Names | None = Field(None, description="the rules that decide, all of them; absent: whichever")


class CasesDocument(Part):
    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["PolicyCases"] = Field(description="PolicyCases")
    federation: PretendedFederation = Field(description="who there is")
    data_sets: dict[DataSetName, Names] = Field(min_length=1, description="the node's data sets, and the tags of each")
    cases: list[Case] = Field(min_length=1, max_length=1000, description="the cases")

    def roll(self) -> Roll:
        """Nobody signed it."""
        key = SigningKey.generate().public
        return Roll(
            federation="cases",
            version=1,
            members=tuple(
                RollMember(member, member, jurisdiction, key)
                for member, jurisdiction in sorted(self.federation.members.items())
            ),
            leads=tuple(RollLead(lead, member, lead, key) for lead, member in self.federation.leads.items()),
            digest=bytes(32),
            envelope=b"",
        )

    def job(self, case: Case) -> JobDocument:
        """Raises InvalidManifest for a spec that is none."""
        spec = {"app": ".", "dataSet": next(iter(self.data_sets)), **case.spec}
        document = {"apiVersion": "concord/v1", "kind": "TrainingJob", "metadata": {"name": "case"}, "spec": spec}
        return validate(Source(f"case {case.name}", document, {}))


def load_cases(text: str, source: str) -> CasesDocument:
    """Raises InvalidManifest with file, line, field, and what to do."""
    read = read_yaml(text, source)
    if not isinstance(read.value, dict):
        raise read.error("cases are a mapping.", (), "Start with apiVersion: concord/v1 and kind: PolicyCases.")
    try:
        document = CasesDocument.model_validate(read.value)
    except ValidationError as error:
        raise explained(read, error, CasesDocument, "See docs/how-to/policy.md.") from error
    known = document.federation
    strangers = {*known.leads.values(), known.here} - set(known.members)
    strangers |= {case.lead for case in document.cases if case.lead is not None} - set(known.leads)
    if strangers:
        raise InvalidManifest(
            f"{source}: {', '.join(sorted(strangers))} is neither a member nor a lead of its federation.",
            hint="Name each under federation.members or federation.leads.",
            field="federation",
        )
    return document
