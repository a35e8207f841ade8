"""The schema of a job document, ``kind: TrainingJob``. Every field has a type, a default where it can, and a sentence.

The same schema reads what people write (with ``app``) and what a lead signs (with ``bundle``); unknown fields are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from federation.catalogue.coverage import Coverage
from federation.catalogue.words import MOST_COLUMNS, ColumnName, ColumnType, Unit, VersionRule
from federation.governance.charter import Audience
from federation.manifest.coherence import problems
from federation.manifest.gates import Gates
from federation.manifest.schema import (
    SNAPSHOT,
    DataSetName,
    DataSetNames,
    EvaluationNames,
    Hex32,
    Jurisdictions,
    Label,
    Labels,
    LegalBasis,
    Licence,
    MetricNames,
    Name,
    Names,
    Number,
    Part,
    PurposeCodes,
    Quantity,
    Reference,
    SchemaName,
    Seconds,
    Setting,
    Text,
    Versions,
    explained,
)
from federation.manifest.strategy import DEFAULTS, StrategySpec
from federation.manifest.yaml_source import Path, Source, read_yaml
from federation.privacy.terms import MOST_PARAMETERS, SKELLAM
from federation.sealing import MOST_RECIPIENTS
from federation.secagg.parameters import (
    AES_256_CTR,
    CHUNK_PARAMETERS,
    EVALUATION_JOB,
    MAX_MEMBERS,
    MIN_MEMBERS,
    STATISTICS_JOB,
    TRAINING_JOB,
)


class Metadata(Part):
    name: Label = Field(description="its name: a lower-case DNS label")
    description: Text = Field("", description="what it is for, in words that members' people read")
    labels: dict[Name, Text] = Field({}, description="free labels")


class JobMetadata(Metadata):
    study: Hex32 | None = Field(
        None,
        description="digest of the study inside which this run lies (concord apply takes its name, too): members that consented "
        "to the study are not asked again",
    )


class WantedColumn(Part):
    name: ColumnName = Field(description="the column's name in the schema")
    type: ColumnType | None = Field(None, description="its type; absent: whatever the schema says")
    unit: Unit | None = Field(None, description="its unit; absent: whatever the schema says")


def _column(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class DataSet(Part):
    name: DataSetName | None = Field(None, description="the data set's name at each node")
    tags: Names = Field([], description="tags that the data set must carry; enough without a name")
    schema_name: SchemaName | None = Field(
        None,
        alias="schema",
        description="the schema of its rows, such as heart-disease/1; enough without a name, whatever a lab calls its own",
    )
    schema_digest: Hex32 | None = Field(None, description="digest of that schema; absent: that of each lab's file")
    columns: Annotated[list[Annotated[WantedColumn, BeforeValidator(_column)]], Field(max_length=MOST_COLUMNS)] = Field(
        [], description="columns that the job reads: each a name, or {name, type, unit}"
    )
    coverage: Coverage | None = Field(
        None, description="data of all of this time, and of no place but these, a country for all that lies in it"
    )
    version_rule: VersionRule = Field(
        "exact",
        description="what may happen to the data between a lab's consent and its training: nothing (exact), or rows and files "
        "may come while all that was there stays (minor); else the lab trains no more",
    )


class Model(Part):
    factory: Reference | None = Field(
        None,
        description='what makes the first model: "package.task:Net"; default: the app\'s [tool.concord] initial-model',
    )
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**32,
        description="seeds torch, numpy and random before the factory is called; default: drawn for each job, since figures of "
        "one first model leave over one cohort only",
    )
    snapshot: str | None = Field(
        None,
        pattern=SNAPSHOT,
        description="digest of a safetensors file to start from, instead of a factory",
    )
    snapshot_file: Name | None = Field(
        None, description="a safetensors file beside the job document; it is uploaded and replaced by its digest"
    )


class Strategy(Part):
    model_config = ConfigDict(extra="allow")
    name: Literal["FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad"] = Field(
        "FedAvg",
        description="the outer step, as in Flower; its parameters stand beside the name: "
        + "; ".join(
            f"{name} {', '.join(f'{key}={value}' for key, value in values.items())}"
            for name, values in DEFAULTS.items()
            if values
        ),
    )


class Metrics(Part):
    train: MetricNames = Field(
        ["train_loss", "loss"], description="figures of the training reply that may leave, as sums"
    )
    evaluate: EvaluationNames = Field(
        ["eval_loss", "eval_acc", "loss", "accuracy"],
        description="figures of the evaluation reply that may leave, as sums; one of a family is named hits/0",
    )


class Participants(Part):
    min_members: int = Field(
        MIN_MEMBERS, ge=MIN_MEMBERS, le=MAX_MEMBERS, description="the job waits until so many members consent"
    )
    max_members: int = Field(MAX_MEMBERS, ge=MIN_MEMBERS, le=MAX_MEMBERS, description="at most so many are placed")
    min_jurisdictions: int = Field(1, ge=1, le=MAX_MEMBERS, description="from at least so many jurisdictions")
    jurisdictions: Jurisdictions = Field([], description="only members from these; empty: any")
    members: Labels = Field([], description="only these members are asked; empty: all")


class Resources(Part):
    gpus: int = Field(0, ge=0, le=64, description="GPUs of each node")
    gpu_memory: Quantity = Field("0", description="memory of each GPU, such as 16Gi")
    cpus: int = Field(1, ge=1, le=1024, description="CPU cores of each node")
    memory: Quantity = Field("1Gi", description="memory of each node's worker")


class SecureAggregation(Part):
    ring_bits: Literal[8, 16, 32] = Field(16, description="bits of one parameter on the wire")
    clip_norm: Number = Field(100.0, gt=0, le=1e12, description="L2 bound of a member's difference")
    weighting: Literal["examples", "equal"] = Field(
        "examples", description="weights: public power-of-two buckets of the example count, or equal"
    )
    weight_cap: int = Field(1 << 20, ge=1, le=1 << 20, description="no member counts for more")
    scale_exponent: int = Field(-12, ge=-60, le=20, description="first scale: a level stands for 2^exponent")
    min_scale_exponent: int = Field(-40, ge=-60, le=20, description="the scale of a chunk never goes below")
    max_scale_exponent: int = Field(8, ge=-60, le=20, description="the scale of a chunk never goes above")
    chunk_parameters: int = Field(
        CHUNK_PARAMETERS, ge=1024, le=1 << 18, multiple_of=1024, description="parameters in one chunk"
    )
    cipher: Literal["aes-256-ctr", "chacha20"] = Field(
        AES_256_CTR, description="the mask generator; chacha20 where some members have no AES hardware"
    )


class FigureNoise(Part):
    noise_multiplier: Number = Field(
        gt=0, le=1e5, description="noise of a round's figures together, over their sensitivity"
    )
    bound: Number = Field(gt=0, le=1 << 12, description="each figure is held within plus and minus this")


class Privacy(Part):
    mechanism: Literal["skellam", "discrete_gaussian", "dp_sgd"] = Field(
        SKELLAM,
        description="noise that members add to their updates before masking, so that the sum has it (skellam, "
        "discrete_gaussian); or the task's own on gradients, which the node charges for but cannot check (dp_sgd)",
    )
    unit: Literal["member", "record"] = Field(
        description="whose traces are hidden: a whole member's (skellam, discrete_gaussian), or one record's (dp_sgd)"
    )
    delta: Number = Field(ge=1e-12, le=1e-2, description="the chance that epsilon does not hold")
    epsilon: Number | None = Field(
        None, gt=0, le=1e6, description="what all rounds spend; state this or noiseMultiplier, apply writes the other"
    )
    noise_multiplier: Number | None = Field(
        None,
        gt=0,
        le=1e5,
        description="standard deviation of a sum's noise over its sensitivity, which secureAggregation.clipNorm bounds",
    )
    figures: FigureNoise | None = Field(
        None, description="noise on the declared figures; without it a job with privacy has none"
    )
    parameters: int = Field(
        1 << 16,
        ge=1,
        le=MOST_PARAMETERS,
        description="the scale is chosen with room for the noise of a model of so many parameters",
    )
    sample_rate: Number | None = Field(
        None, gt=0, le=1, description="dp_sgd: the chance of each record to be in a step's batch"
    )
    record_clip: Number | None = Field(None, gt=0, le=1e12, description="dp_sgd: L2 bound of one record's gradient")


class Deadlines(Part):
    consent_seconds: Seconds = Field(300.0, description="how long members are asked")
    formation_seconds: Seconds = Field(60.0, description="how long a roster waits for each member's signature")
    formation_attempts: int = Field(3, ge=1, le=20, description="rosters formed before the job gives up")
    ready_seconds: Seconds = Field(30.0, description="how long a round waits for connected members that are not ready")
    reconnect_seconds: Seconds = Field(
        5.0, description="how long a phase, and the next announcement, wait for a member whose connection broke"
    )
    round_seconds: Seconds = Field(3600.0, description="training and upload")
    phase_seconds: Seconds = Field(30.0, description="each of acknowledging, revealing, recovering and receipts")
    attempts: int = Field(5, ge=1, le=100, description="attempts of one round before the job gives up")


class Recipient(Part):
    name: Name = Field(description="who it is, for people")
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{2432}$")] | None = Field(
        None, description="their sealing key: X25519 and ML-KEM-768, in hex; `concord release key` writes one's own"
    )
    key_file: Name | None = Field(
        None, description="a file beside the job document that holds the key; it is replaced by what it holds"
    )

    @classmethod
    def of(cls, name: str, key: str) -> Recipient:
        return cls.model_validate({"name": name, "key": key})


class Compute(Part):
    """Estimates of the lead, which members' policies compare with their limits; what is not stated passes no limit."""

    training_exaflop: Number | None = Field(
        None,
        ge=0,
        le=1e12,
        description="operations of the whole training, of all members together, in units of 10^18; 10^25 are 10000000 of them",
    )
    model_parameters: int | None = Field(
        None, ge=1, le=10**14, description="numbers that the model has, trained or not"
    )
    gpu_hours: Number | None = Field(None, ge=0, le=1e9, description="hours of one GPU that each member lends, in all")
    energy_kwh: Number | None = Field(None, ge=0, le=1e9, description="electricity of each member, in all")
    bytes_per_day: Quantity | None = Field(None, description="the most that a member sends and receives in a day")


class CodeSignature(Part):
    """Somebody who read the code says so: an Ed25519 signature over the bundle's digest."""

    key: Hex32 = Field(description="the code signer's public key, in hex")
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")] = Field(description="in hex")


class Release(Part):
    audience: Audience | None = Field(
        None,
        description="who is to have the release: the members that took part, every member, or the public; the lead's word, "
        "which members' policies read",
    )
    licence: Licence | None = Field(None, description="the release's licence, by its SPDX identifier")
    approval: Literal["charter", "members", "none"] | None = Field(
        None,
        description="whose vote the release needs: as the charter says (absent, too); beyond that of each member of its roster; or "
        "nobody's, which is refused where the charter asks for a vote",
    )
    recipients: Annotated[list[Recipient], Field(max_length=MOST_RECIPIENTS)] = Field(
        [], description="who can open the release of a blind job; concord apply adds the lead"
    )


class Runtime(Part):
    python: Versions = Field(">=3.11", description="Python versions that the job runs on")
    packages: dict[Name, Versions] = Field(
        {},
        description="packages and versions that must be there; default: the app's dependencies. Nothing is installed",
    )
    digest: Hex32 | None = Field(
        None,
        description="digest of a node's whole runtime; absent: any that has the packages",
    )


def _file(value: Any) -> Any:
    """[path, SHA-256 in hex, bytes], as in the bundle."""
    if not isinstance(value, list) or [type(item) for item in value] != [str, str, int]:
        raise ValueError("should be [path, SHA-256, bytes]")
    return tuple(value)


BundleFile = Annotated[tuple[str, Hex32, int], BeforeValidator(_file)]


class BundleReference(Part):
    digest: Hex32 = Field(description="SHA-256 of the packed app")
    size: int = Field(ge=1, le=1 << 27, description="bytes of the packed app")
    files: list[BundleFile] = Field(max_length=2000, description="path, SHA-256 and bytes of each file")
    client_app: Reference = Field(description="the Flower ClientApp that runs")


def _data_set(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Spec(Part):
    app: Text | None = Field(None, min_length=1, description="a Flower app folder, relative to this document")
    bundle: BundleReference | None = Field(None, description="the packed app; written by concord apply")
    data_set: Annotated[DataSet, BeforeValidator(_data_set)] = Field(
        description="the data set to train on: its name, or what must be true of it"
    )
    extra_data_sets: DataSetNames = Field([], description="further data sets, given to the app by name in node_config")
    model: Model = Field(Model.model_validate({}), description="the first model")
    rounds: int = Field(10, ge=1, le=100_000, description="training rounds")
    local_steps: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description='steps of each member per round, given to the app as run_config["local-steps"]',
    )
    strategy: Strategy = Field(Strategy(name="FedAvg"), description="the outer step")
    run_config: dict[Name, Setting] = Field({}, description="over the app's own [tool.flwr.app.config]")
    run_config_floats: Names = Field(
        [], description="which of runConfig are fractions that happen to be whole; written by concord apply"
    )
    message_config: dict[Name, Setting] = Field(
        {},
        description="what the app's ServerApp would put into the config of its messages (Flower's train_config and "
        "evaluate_config); server-round and the strategy's values are added",
    )
    message_config_floats: Names = Field(
        [], description="which of messageConfig are fractions that happen to be whole; written by concord apply"
    )
    metrics: Metrics = Field(
        Metrics.model_validate({}), description="what may leave besides the masked update, as sums"
    )
    evaluate: bool = Field(
        True, description="evaluate each round's model before training (if the app has an evaluate function)"
    )
    final_evaluation: bool = Field(True, description="one more round without training gives the final figures")
    weight_key: Name = Field("num-examples", description="the metric that holds the example count")
    participants: Participants = Field(
        Participants.model_validate({}), description="who may take part, and how many must"
    )
    resources: Resources = Field(Resources.model_validate({}), description="what each node must offer")
    priority: int = Field(0, ge=-1000, le=1000, description="higher goes first")
    secure_aggregation: SecureAggregation = Field(
        SecureAggregation.model_validate({}), description="parameters of the masked sum"
    )
    privacy: Privacy | None = Field(None, description="differential privacy; absent: none")
    deadlines: Deadlines = Field(Deadlines.model_validate({}), description="how long each step waits")
    runtime: Runtime = Field(Runtime.model_validate({}), description="what must be installed at a node")
    release: Release = Field(Release.model_validate({}), description="who may read what comes out")
    purposes: Labels | None = Field(None, description="what the job is for, in the labels that members' policies use")
    purpose_codes: PurposeCodes | None = Field(
        None, description="goals and targets of the United Nations that it serves, such as sdg:3 or sdg:3.4"
    )
    legal_basis: LegalBasis | None = Field(None, description="why the data may be used for it, as the lead sees it")
    compute: Compute | None = Field(None, description="what it takes, by the lead's estimate")
    retention_days: int | None = Field(
        None,
        ge=0,
        le=36_500,
        description="days after which the lead deletes what the job produced, except a published release",
    )
    code_signatures: Annotated[list[CodeSignature], Field(max_length=32)] | None = Field(
        None, description="who read the code and vouches for it"
    )
    gates: Gates | None = Field(
        None, description="what the final evaluation must show before anything is released; absent: nothing"
    )
    coordinator_view: Literal["blind", "sum"] = Field(
        "blind",
        description="what the coordinator sees: the declared metrics alone, and a release that is sealed to its recipients "
        "(blind); or the sum of each round, and so the model (sum). Never an update",
    )
    error_detail: Literal["location", "none"] = Field(
        "location",
        description="what the lead learns of a failed task: class, file and line, or nothing; always nothing where the job has "
        "privacy",
    )

    @property
    def settings(self) -> dict[str, str | int | float | bool]:
        """``run_config`` with every value of the type that was meant."""
        return _as_meant(self.run_config, self.run_config_floats)

    @property
    def messages(self) -> dict[str, str | int | float | bool]:
        """``message_config`` with every value of the type that was meant."""
        return _as_meant(self.message_config, self.message_config_floats)

    @property
    def strategy_spec(self) -> StrategySpec:
        extra = self.strategy.model_extra or {}
        defaults = DEFAULTS[self.strategy.name]
        merged = {**defaults, **extra}
        return StrategySpec(
            self.strategy.name,
            {key: value if isinstance(defaults[key], bool) else float(value) for key, value in merged.items()},
        )


def _as_meant(values: dict[str, Setting], floats: list[str]) -> dict[str, str | int | float | bool]:
    """Canonical JSON writes 1.0 as 1."""
    return {key: float(value) if key in floats else value for key, value in values.items()}


def floats_of(values: Mapping[str, Any]) -> list[str]:
    """Which of ``values`` canonical JSON would turn into whole numbers."""
    return sorted(key for key, value in values.items() if isinstance(value, float) and value.is_integer())


class JobDocument(Part):
    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["TrainingJob", "EvaluationJob", "StatisticsJob"] = Field(
        description="TrainingJob; the others are words of a later version, and refused in this one"
    )
    metadata: JobMetadata = Field(description="name and words about the job")
    spec: Spec = Field(description="what is trained, on what, by whom, and how")

    def sealed_for(self, recipients: list[Recipient]) -> JobDocument:
        """The same job with other recipients of its release."""
        release = self.spec.release.model_copy(update={"recipients": recipients})
        return self.model_copy(update={"spec": self.spec.model_copy(update={"release": release})})

    def resolved(self) -> dict[str, Any]:
        """The document with every default filled in, as plain values."""
        document = self.model_dump(by_alias=True, exclude_none=True)
        strategy = self.spec.strategy_spec
        document["spec"]["strategy"] = {"name": strategy.name, **strategy.parameters}
        return document


def load_job(text: str, source: str) -> JobDocument:
    """A job as people write it. Raises InvalidManifest with file, line, field, and what to do."""
    return job_of(read_yaml(text, source))


def job_of(read: Source) -> JobDocument:
    """Of text that was read. Raises as ``load_job``."""
    document = validate(read)
    check_written(read, document.spec, ("spec",))
    return document


def validate(source: Source) -> JobDocument:
    """Schema and cross-field checks. Raises InvalidManifest."""
    if not isinstance(source.value, dict):
        raise source.error("a job document is a mapping.", (), "Start with apiVersion: concord/v1.")
    if source.value.get("kind") in (EVALUATION_JOB, STATISTICS_JOB):
        raise source.error(
            f"{source.value['kind']} is not in this version.",
            ("kind",),
            f"This version runs jobs of kind {TRAINING_JOB}.",
        )
    try:
        document = JobDocument.model_validate(source.value)
    except ValidationError as error:
        raise explained(source, error, JobDocument, "See concord explain job{field}.") from error
    check_spec(source, document.spec, ("spec",))
    return document


def check_spec(source: Source, spec: Spec, place: Path) -> None:
    """What a job's fields must be to one another. ``place``: where they stand. Raises InvalidManifest."""
    for message, path, hint in problems(spec):
        raise source.error(message, (*place, *path), hint)


def check_written(source: Source, spec: Spec, place: Path) -> None:
    """What people do not write, and what they must. Raises InvalidManifest."""
    written = {
        "bundle": spec.bundle,
        "runConfigFloats": spec.run_config_floats,
        "messageConfigFloats": spec.message_config_floats,
    }
    for field, present in written.items():
        if present:
            raise source.error("this is written by concord apply, not by hand.", (*place, field), "Leave it out.")
    if spec.app is None:
        raise source.error(
            "this field is missing.", (*place, "app"), "It names a Flower app folder, relative to this document."
        )
