"""The schema of a job document, ``kind: TrainingJob``. Every field has a type, a default where it can, and a sentence.

The same schema reads what people write (with ``app``) and what a lead signs (with ``bundle``); unknown fields are refused.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Final, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from federation.errors import InvalidManifest
from federation.identity.names import LABEL
from federation.manifest.strategy import DEFAULTS, StrategySpec
from federation.manifest.yaml_source import Path, Source, read_yaml
from federation.secagg.parameters import CHUNK_PARAMETERS, MAX_MEMBERS, MIN_MEMBERS, Encoding

API_VERSION: Final = "concord/v1"
KIND: Final = "TrainingJob"
MIN_LEVELS: Final = 7
QUANTITY: Final = re.compile(r"(\d+)(Ki|Mi|Gi|Ti|k|M|G|T)?")
UNITS: Final = {
    None: 1,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}


def bytes_of(quantity: str) -> int:
    """Bytes of a Kubernetes-style quantity such as 512Mi or 1G. Raises ValueError."""
    match = QUANTITY.fullmatch(quantity)
    if not match:
        raise ValueError("is not a quantity such as 512Mi, 4Gi or 1G")
    return int(match[1]) * UNITS[match[2]]


def _quantity(value: Any) -> Any:
    if isinstance(value, str):
        bytes_of(value)
    return value


def _number(value: Any) -> Any:
    """Whole numbers are fine where a fraction may stand (RFC 8785 writes 100.0 as 100); booleans are not."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


Label = Annotated[str, Field(pattern=f"^{LABEL.pattern}$")]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
Quantity = Annotated[str, BeforeValidator(_quantity)]
Number = Annotated[float, BeforeValidator(_number)]
Seconds = Annotated[float, BeforeValidator(_number), Field(gt=0, le=30 * 86_400)]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]{0,63}$")]
Jurisdiction = Annotated[str, Field(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]


class Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class Metadata(Part):
    name: Label = Field(description="the job's name: a lower-case DNS label")
    description: str = Field("", max_length=2000, description="what it is for, in words that members' people read")
    labels: dict[str, str] = Field({}, description="free labels")


class DataSet(Part):
    name: str = Field("", max_length=100, description="the data set's name at each node")
    tags: list[str] = Field([], description="tags that the data set must carry; enough without a name")


class Model(Part):
    factory: Reference | None = Field(
        None,
        description='what makes the first model: "package.task:Net"; default: the app\'s [tool.concord] initial-model',
    )
    seed: int = Field(0, ge=0, lt=2**53, description="seeds torch, numpy and random before the factory is called")
    snapshot: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="digest of a safetensors file to start from, instead of a factory",
    )
    snapshot_file: str | None = Field(
        None, description="a safetensors file beside the job document; it is uploaded and replaced by its digest"
    )


class Strategy(Part):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
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
    train: list[MetricName] = Field(
        ["train_loss", "loss"], max_length=32, description="figures of the training reply that may leave, as sums"
    )
    evaluate: list[MetricName] = Field(
        ["eval_loss", "eval_acc", "loss", "accuracy"],
        max_length=32,
        description="figures of the evaluation reply that may leave, as sums",
    )


class Participants(Part):
    min_members: int = Field(
        MIN_MEMBERS, ge=MIN_MEMBERS, le=MAX_MEMBERS, description="the job waits until so many members consent"
    )
    max_members: int = Field(MAX_MEMBERS, ge=MIN_MEMBERS, le=MAX_MEMBERS, description="at most so many are placed")
    min_jurisdictions: int = Field(1, ge=1, le=MAX_MEMBERS, description="from at least so many jurisdictions")
    jurisdictions: list[Jurisdiction] = Field([], description="only members from these; empty: any")
    members: list[Label] = Field([], description="only these members are asked; empty: all")


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
    cipher: Literal["aes-256-ctr"] = Field("aes-256-ctr", description="the mask generator")


class Deadlines(Part):
    consent_seconds: Seconds = Field(300.0, description="how long members are asked")
    formation_seconds: Seconds = Field(60.0, description="how long a roster waits for each member's signature")
    formation_attempts: int = Field(3, ge=1, le=20, description="rosters formed before the job gives up")
    ready_seconds: Seconds = Field(30.0, description="how long a round waits for connected members that are not ready")
    reconnect_seconds: Seconds = Field(5.0, description="how long a phase waits for a member whose connection broke")
    round_seconds: Seconds = Field(3600.0, description="training and upload")
    phase_seconds: Seconds = Field(30.0, description="each of acknowledging, revealing, recovering and receipts")
    attempts: int = Field(5, ge=1, le=100, description="attempts of one round before the job gives up")


class Runtime(Part):
    python: str = Field(">=3.11", max_length=100, description="Python versions that the job runs on")
    packages: dict[str, str] = Field(
        {},
        description="packages and versions that must be there; default: the app's dependencies. Nothing is installed",
    )


class BundleReference(Part):
    digest: Hex32 = Field(description="SHA-256 of the packed app")
    size: int = Field(ge=1, le=1 << 27, description="bytes of the packed app")
    files: list[list[str | int]] = Field(max_length=2000, description="path, SHA-256 and bytes of each file")
    client_app: Reference = Field(description="the Flower ClientApp that runs")


def _data_set(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Spec(Part):
    app: str | None = Field(None, max_length=4096, description="a Flower app folder, relative to this document")
    bundle: BundleReference | None = Field(None, description="the packed app; written by concord apply")
    data_set: Annotated[DataSet, BeforeValidator(_data_set)] = Field(
        description="the data set to train on: its name, or {name, tags}"
    )
    extra_data_sets: list[str] = Field(
        [], max_length=16, description="further data sets, given to the app by name in node_config"
    )
    model: Model = Field(Model.model_validate({}), description="the first model")
    rounds: int = Field(10, ge=1, le=100_000, description="training rounds")
    local_steps: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description='steps of each member per round, given to the app as run_config["local-steps"]',
    )
    strategy: Strategy = Field(Strategy(name="FedAvg"), description="the outer step")
    run_config: dict[str, str | int | float | bool] = Field({}, description="over the app's own [tool.flwr.app.config]")
    metrics: Metrics = Field(
        Metrics.model_validate({}), description="what may leave besides the masked update, as sums"
    )
    evaluate: bool = Field(
        True, description="evaluate each round's model before training (if the app has an evaluate function)"
    )
    final_evaluation: bool = Field(True, description="one more round without training gives the final figures")
    weight_key: str = Field(
        "num-examples", min_length=1, max_length=100, description="the metric that holds the example count"
    )
    participants: Participants = Field(
        Participants.model_validate({}), description="who may take part, and how many must"
    )
    resources: Resources = Field(Resources.model_validate({}), description="what each node must offer")
    priority: int = Field(0, ge=-1000, le=1000, description="higher goes first")
    secure_aggregation: SecureAggregation = Field(
        SecureAggregation.model_validate({}), description="parameters of the masked sum"
    )
    deadlines: Deadlines = Field(Deadlines.model_validate({}), description="how long each step waits")
    runtime: Runtime = Field(Runtime.model_validate({}), description="what must be installed at a node")
    coordinator_view: Literal["sum"] = Field(
        "sum", description="what the coordinator sees: the sum of each round, never an update"
    )
    error_detail: Literal["location", "none"] = Field(
        "location", description="what the lead learns of a failed task: class, file and line, or nothing"
    )

    @property
    def strategy_spec(self) -> StrategySpec:
        extra = self.strategy.model_extra or {}
        defaults = DEFAULTS[self.strategy.name]
        merged = {**defaults, **extra}
        return StrategySpec(
            self.strategy.name,
            {key: value if isinstance(defaults[key], bool) else float(value) for key, value in merged.items()},
        )


class JobDocument(Part):
    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["TrainingJob"] = Field(description="TrainingJob")
    metadata: Metadata = Field(description="name and words about the job")
    spec: Spec = Field(description="what is trained, on what, by whom, and how")

    def resolved(self) -> dict[str, Any]:
        """The document with every default filled in, as plain values."""
        document = self.model_dump(by_alias=True, exclude_none=True)
        strategy = self.spec.strategy_spec
        document["spec"]["strategy"] = {"name": strategy.name, **strategy.parameters}
        return document


def load_job(text: str, source: str) -> JobDocument:
    """A job as people write it. Raises InvalidManifest with file, line, field, and what to do."""
    read = read_yaml(text, source)
    document = validate(read)
    if document.spec.app is None or document.spec.bundle is not None:
        raise read.error(
            "name the app's folder here."
            if document.spec.app is None
            else "bundle is written by concord apply, not by hand.",
            ("spec", "app" if document.spec.app is None else "bundle"),
            "spec.app is a Flower app folder, relative to this document.",
        )
    return document


def validate(source: Source) -> JobDocument:
    """Schema and cross-field checks. Raises InvalidManifest."""
    if not isinstance(source.value, dict):
        raise source.error("a job document is a mapping.", (), "Start with apiVersion: concord/v1.")
    try:
        document = JobDocument.model_validate(source.value)
    except ValidationError as error:
        raise _explain(source, error) from error
    _check(source, document)
    return document


def _explain(source: Source, error: ValidationError) -> InvalidManifest:
    problem = min(error.errors(), key=lambda item: source.line_of(_path(item["loc"], source.value)))
    path = _path(problem["loc"], source.value)
    if problem["type"] == "extra_forbidden":
        known = sorted(_known_fields(path[:-1]))
        close = difflib.get_close_matches(str(path[-1]), known, 1)
        hint = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."
        return source.error("unknown field.", path, hint)
    if problem["type"] == "missing":
        return source.error(
            "this field is missing.", path, f"See concord explain job.{'.'.join(str(part) for part in path)}."
        )
    got = problem.get("input")
    shown = f" (got {str(got)[:60]!r})" if isinstance(got, (str, int, float, bool)) else ""
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return source.error(f"{message}{shown}.", path, f"See concord explain job.{'.'.join(str(part) for part in path)}.")


def _path(location: tuple[int | str, ...], value: Any) -> Path:
    """Drops the parts that pydantic adds for unions; keeps what stands (or is missing) in the document."""
    path: list[str | int] = []
    for part in location:
        in_mapping = isinstance(value, dict) and part in value
        if in_mapping or (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            value = value[part]
        elif isinstance(value, dict) and isinstance(part, str) and part not in {"str", "int", "float", "bool"}:
            path.append(part)
            break
        else:
            break
        path.append(part)
    return tuple(path)


def _known_fields(path: Path) -> set[str]:
    model: Any = JobDocument
    for part in path:
        fields = {to_camel(name): item for name, item in model.model_fields.items()}
        if part not in fields:
            return set()
        model = part_type(fields[str(part)].annotation)
        if model is None:
            return set()
    return {to_camel(name) for name in model.model_fields}


def part_type(annotation: Any) -> type[Part] | None:
    """The Part within an annotation such as ``Part | None`` or ``Annotated[Part, ...]``, if there is one."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, Part)), None)


def _check(source: Source, document: JobDocument) -> None:
    spec = document.spec
    people = spec.participants
    if people.max_members < people.min_members:
        raise source.error(
            "is below minMembers.", ("spec", "participants", "maxMembers"), "Raise it, or lower minMembers."
        )
    if people.members and len(set(people.members)) < people.min_members:
        raise source.error(
            f"names {len(set(people.members))} members, but minMembers is {people.min_members}: the minimum cannot be reached.",
            ("spec", "participants", "members"),
            "Name more members, or lower minMembers.",
        )
    if people.min_jurisdictions > people.max_members or (
        people.jurisdictions and people.min_jurisdictions > len(set(people.jurisdictions))
    ):
        raise source.error(
            "cannot be reached with the members and jurisdictions named.",
            ("spec", "participants", "minJurisdictions"),
            "Lower it.",
        )
    ring = spec.secure_aggregation
    if not ring.min_scale_exponent <= ring.scale_exponent <= ring.max_scale_exponent:
        raise source.error(
            "lies outside minScaleExponent..maxScaleExponent.",
            ("spec", "secureAggregation", "scaleExponent"),
            "Move it or the bounds.",
        )
    if Encoding.level_bound_of(ring.ring_bits, people.min_members) < MIN_LEVELS:
        raise source.error(
            f"leaves fewer than {MIN_LEVELS} levels for {people.min_members} members.",
            ("spec", "secureAggregation", "ringBits"),
            "Use 16 or 32.",
        )
    if not spec.data_set.name and not spec.data_set.tags:
        raise source.error("names no data set.", ("spec", "dataSet"), "Give a name, or tags.")
    if spec.model.snapshot and spec.model.snapshot_file:
        raise source.error("stands beside snapshotFile.", ("spec", "model", "snapshot"), "Keep one of the two.")
    if (spec.model.snapshot or spec.model.snapshot_file) and spec.model.factory:
        raise source.error(
            "stands beside a snapshot.", ("spec", "model", "factory"), "A job starts from one of the two."
        )
    _check_strategy(source, spec)
    for path, text in [(("spec", "runtime", "python"), spec.runtime.python)] + [
        (("spec", "runtime", "packages", name), text) for name, text in spec.runtime.packages.items()
    ]:
        try:
            SpecifierSet(text)
        except InvalidSpecifier as error:
            raise source.error(
                f"{text!r} is not a version range.", path, 'Write it as ">=2.4,<3", or "" for any.'
            ) from error
    for key, value in spec.run_config.items():
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53 - 1:
            raise source.error(
                "is larger than a signed document can hold.", ("spec", "runConfig", key), "Write it as text."
            )


def _check_strategy(source: Source, spec: Spec) -> None:
    defaults = DEFAULTS[spec.strategy.name]
    for key, value in (spec.strategy.model_extra or {}).items():
        path = ("spec", "strategy", key)
        if key not in defaults:
            close = difflib.get_close_matches(key, defaults, 1)
            known = ", ".join(defaults) or "none"
            raise source.error(
                f"is no parameter of {spec.strategy.name}.",
                path,
                f"Did you mean {close[0]}?" if close else f"Its parameters: {known}.",
            )
        if isinstance(defaults[key], bool) != isinstance(value, bool) or not isinstance(value, (bool, int, float)):
            wanted = "true or false" if isinstance(defaults[key], bool) else "a number"
            raise source.error(
                f"must be {wanted} (got {str(value)[:60]!r}).", path, "See concord explain job.spec.strategy."
            )
        if not isinstance(value, bool) and (value < 0 or (key.startswith("beta") and value >= 1)):
            raise source.error(f"is out of range (got {value}).", path, "Rates are at least 0; betas are below 1.")
