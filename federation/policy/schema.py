"""What may stand in a policy: the documents, and the type and bounds of each word. What a word does is in ``vocabulary``.

Two kinds of document. A ``NodePolicy`` is the lab's own: it grants, and it alone. A ``PolicyPack`` comes from elsewhere, or from
the lab's own lawyers, and only takes away: what it does not speak of it leaves as it is.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from federation.catalogue.words import VersionRule
from federation.governance.charter import Audience
from federation.manifest.schema import (
    USUAL_FIGURES,
    FigureNames,
    Hex32,
    Jurisdictions,
    Label,
    Labels,
    LegalBasis,
    Licence,
    Name,
    Names,
    Number,
    Part,
    PurposeCodes,
    Quantity,
    Text,
)
from federation.secagg.parameters import EVALUATION_JOB, MAX_MEMBERS, MIN_MEMBERS, STATISTICS_JOB, TRAINING_JOB

VOCABULARY: Final = 1
"""the newest vocabulary that this node knows; a word that is added takes the next number"""
HOURS: Final = r"(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)"
ALWAYS: Final = "00:00-24:00"
StrategyName = Literal["FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad"]
JobKind = Literal["TrainingJob", "EvaluationJob", "StatisticsJob"]
assert JobKind.__args__ == (TRAINING_JOB, EVALUATION_JOB, STATISTICS_JOB)  # type: ignore[attr-defined]


def _day(value: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("should be a day such as 2027-01-31")
    date.fromisoformat(value)
    return value


Day = Annotated[str, AfterValidator(_day)]
Digests = Annotated[list[Hex32], Field(max_length=200)]
Hours = Annotated[str, Field(pattern=f"^{HOURS}$")]
Most = Annotated[Number, Field(ge=0, le=1e12)]


class PrivacyRule(Part):
    required: bool = Field(True, description="no job without differential privacy")
    unit: Literal["member", "record"] = Field(description="whom a job must hide: a member hides its records, too")
    max_epsilon: Number | None = Field(None, gt=0, description="no job that spends more, for that unit; absent: any")
    max_delta: Number = Field(1e-5, gt=0, lt=1, description="no job whose delta is larger")
    mechanisms: list[Literal["skellam", "discrete_gaussian", "dp_sgd"]] = Field(
        ["skellam", "discrete_gaussian"],
        description="noise that is good enough; dp_sgd is the task's promise, which this node cannot check",
    )


class RecipientRule(Part):
    name: Name = Field(description="who it is, for people")
    key: Hex32 = Field(description="SHA-256 of their sealing key, in hex")


class StatisticsRule(Part):
    allowed: Names = Field(description="statistics that may leave as sums, such as count or mean")
    floor: int = Field(ge=2, le=1_000_000_000, description="no statistic over fewer records than this")


class StudyRule(Part):
    max_runs: int | None = Field(None, ge=1, le=1_000_000, description="no study of more runs; absent: any")
    max_rounds: int | None = Field(None, ge=1, le=100_000_000, description="nor of more rounds in all")
    max_epsilon: Number | None = Field(None, gt=0, le=1e6, description="nor that spends more in all")
    max_bytes: Quantity | None = Field(None, description="nor that moves more bytes in all")
    max_days: int | None = Field(None, ge=1, le=3650, description="nor that goes on for longer")


class AskRule(Part):
    training_exaflop: Most | None = Field(
        None, description="operations of the whole training, in units of 10^18: 10^25 are 10000000"
    )
    model_parameters: Most | None = Field(None, description="numbers in the model")
    gpu_hours: Most | None = Field(None, description="hours of one GPU that this member lends, in all")
    energy_kwh: Most | None = Field(None, description="electricity of this member, in all")
    rounds: Most | None = Field(None, description="rounds of the job")
    epsilon: Most | None = Field(
        None, description="what the job spends, by its own unit; without privacy: a person is asked"
    )


class Rules(Part):
    """The vocabulary. Descriptions say what passes; ``vocabulary.WORDS`` says what each is compared with, and who keeps it."""

    leads: Labels | None = Field(None, description="research leads whose jobs may run; absent: none")
    jurisdictions: Jurisdictions | None = Field(
        None, description="where the lead's member and the other members of a job may come from; absent: nowhere"
    )
    data_sets: Names | None = Field(None, description="data sets that jobs may use; absent: none")
    minimum_cohort: int | None = Field(
        None, ge=MIN_MEMBERS, le=MAX_MEMBERS, description="no job that may run with fewer members; absent: no job"
    )
    job_kinds: list[JobKind] | None = Field(
        None, min_length=1, description="kinds of job that may run; absent: TrainingJob alone"
    )
    figures: FigureNames | None = Field(
        None,
        description="metrics of this lab that may leave as exact sums over a cohort: loss (of training and of evaluation), or "
        "evaluate/loss alone; hits/* for hits/0, hits/1 and so on; []: none",
    )
    minimum_jurisdictions: int | None = Field(None, ge=1, le=MAX_MEMBERS, description="no job that may run with fewer")
    other_members: Labels | None = Field(None, description="who else may be in the roster; absent: any member")
    must_include: Labels | None = Field(
        None, description="members without whom the job may not run; a job promises it by naming all its members"
    )
    purposes: Labels | None = Field(None, description="what a job may be for; absent: anything")
    purpose_codes: PurposeCodes | None = Field(
        None,
        description="goals and targets of the United Nations (sdg:3, sdg:3.4) that a job may serve; a goal covers its targets",
    )
    legal_basis: list[LegalBasis] | None = Field(
        None, description="legal bases that are good here, the job's and the data set's own; absent: any, or none"
    )
    data_tags: Names | None = Field(None, description="each data set that a job uses carries one of these tags")
    never_tags: Names | None = Field(None, description="no data set that a job uses carries one of these tags")
    data_versions: list[VersionRule] | None = Field(
        None,
        description="what may happen to data between consent and training: nothing (exact), or rows and files may come (minor); "
        "absent: what the job says",
    )
    bundles: Digests | None = Field(
        None, description="digests of the code that may run; absent: any code of an allowed lead"
    )
    code_signers: Digests | None = Field(
        None, description="public keys (hex), one of which must have signed the code; absent: nobody needs to"
    )
    runtime_digests: Digests | None = Field(
        None,
        description="runtimes of a node that a job must name, and this node have; absent: any that has the packages",
    )
    coordinator_view: list[Literal["blind", "sum"]] | None = Field(
        None,
        description="what the coordinator may see: blind, the declared metrics alone; sum, each round's sum; absent: either",
    )
    recipients: list[RecipientRule] | None = Field(
        None,
        max_length=200,
        description="who may receive sums and the release, by their sealing keys; absent: any recipient",
    )
    audience: list[Audience] | None = Field(
        None, description="whom a release may be meant for: participants, members, public; absent: any, or not said"
    )
    licences: Annotated[list[Licence], Field(max_length=200)] | None = Field(
        None, description="licences of a release, by SPDX identifiers; absent: any, or none"
    )
    error_detail: list[Literal["location", "none"]] | None = Field(
        None, description="what the lead may learn of a failed task; absent: what the job says"
    )
    strategies: list[StrategyName] | None = Field(None, description="outer steps allowed; absent: any")
    max_rounds: int | None = Field(None, ge=1, description="no longer job; absent: any")
    privacy: PrivacyRule | None = Field(None, description="differential privacy that jobs must have; absent: none")
    hardware: list[Literal["cpu", "gpu"]] | None = Field(
        None, description="what a job may ask of this node: processors alone, or GPUs; absent: either"
    )
    max_gpus: int | None = Field(None, ge=0, le=64, description="no job that asks for more GPUs; absent: any")
    max_gpu_hours: Most | None = Field(None, description="no job that takes more hours of one GPU, in all; absent: any")
    max_model_parameters: Most | None = Field(None, description="no larger model; absent: any")
    max_training_exaflop: Most | None = Field(
        None, description="no training of more operations, in units of 10^18; absent: any"
    )
    max_energy_kwh: Most | None = Field(None, description="no job that takes more electricity here; absent: any")
    max_bytes_per_day: Quantity | None = Field(None, description="no job that moves more in a day; absent: any")
    max_retention_days: int | None = Field(
        None, ge=0, le=36_500, description="no job whose lead keeps what it produced for longer; absent: any"
    )
    notice_hours: Annotated[Number, Field(gt=0, le=720)] | None = Field(
        None, description="a job gives its members at least so long to answer; absent: any time"
    )
    statistics: StatisticsRule | None = Field(
        None,
        description="which statistics may leave; absent: no StatisticsJob, whatever jobKinds says. This version runs no such job: "
        "the word is read and compared, and no job is weighed by it yet",
    )
    study: StudyRule | None = Field(
        None,
        description="bounds of a Study, which asks once for many runs, weighed for the study and again for each run inside; "
        "absent: no Study",
    )
    expires: Day | None = Field(None, description="last day of these rules; after it they deny every job; absent: none")
    ask_above: AskRule | None = Field(
        None,
        description="a person must decide where a job is above one of these, or does not say; absent: nobody is asked",
    )
    ask_always: bool | None = Field(None, description="true: a person must decide on every job")
    deputies: Labels | None = Field(
        None,
        description="who may decide where a person must, by names that the lab gives its people; absent: whoever has the node",
    )


class NodeRules(Rules):
    """Those of a lab's own file: where it says nothing of figures the usual ones may leave."""

    figures: FigureNames = Field(USUAL_FIGURES, description=Rules.model_fields["figures"].description)


class PolicyDocument(Part):
    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["NodePolicy"] = Field(description="NodePolicy")
    vocabulary: int = Field(1, ge=1, description="the vocabulary in which it is written")
    rules: NodeRules = Field(description="each must say yes")
    sandbox: Literal["required", "optional"] = Field(
        "required", description="optional: tasks run even where no sandbox is to be had"
    )
    memory_limit: Quantity | None = Field(None, description="no job that asks for more memory; absent: any")
    hours: Hours = Field(
        ALWAYS, description="local time of day at which consent is given; 20:00-06:00 runs over midnight"
    )


class PackMetadata(Part):
    name: Label = Field(description="the pack's name; two packs of one node have two names")
    layer: Literal["base", "national", "lab"] = Field(
        description="base: adopted by a vote of the members; national: of the lab's country; lab: of its own"
    )
    serial: int = Field(
        ge=1, le=10**9, description="raised with each change; a node refuses a lower one than it has seen"
    )
    title: Text = Field("", description="what it is, in words")


class PackDocument(Part):
    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["PolicyPack"] = Field(description="PolicyPack")
    vocabulary: int = Field(1, ge=1, description="the vocabulary in which it is written")
    metadata: PackMetadata = Field(description="which pack it is")
    rules: Rules = Field(description="each must say yes, where the lab's own policy does")
    sandbox: Literal["required"] | None = Field(None, description="required: no task without a sandbox")
    memory_limit: Quantity | None = Field(None, description="no job that asks for more memory; absent: any")
    hours: Hours | None = Field(None, description="local time of day at which consent is given; absent: any")
