"""The node's home folder: where each file is, and node.yaml, the one file of settings.

The home belongs to the lab: keys and journal are readable by its owner alone. node.yaml says who the node is, where its
coordinator is, and which data sets it holds; what the node may take part in is in policy.yaml (``federation.policy``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from federation.catalogue.entry import Entry, Facts, entry_of
from federation.catalogue.words import is_tag
from federation.errors import InvalidManifest, InvalidUsage, NotFound
from federation.exposure import listened
from federation.identity.names import DATA_SET, DATA_SET_RULE, LABEL
from federation.manifest.yaml_source import read_yaml, write_yaml
from federation.privacy.budget import Budget
from federation.variables import refuse_unknown
from node_agent.catalogue.descriptions import UNDESCRIBED, Described, read_description
from node_agent.store.files import write_whole

SETTINGS_LIMIT: Final = 1 << 20
PREFIX: Final = "CONCORD_NODE_"
HOME_VARIABLE: Final = f"{PREFIX}HOME"
Name = Annotated[str, Field(pattern=f"^{DATA_SET.pattern}$")]
Label = Annotated[str, Field(pattern=f"^{LABEL.pattern}$")]
NAME_RULE: Final = f"A name has {DATA_SET_RULE}"

HEADER: Final = """\
# Who this node is, where its coordinator is, and the data sets that it holds. What the node may take part in is in policy.yaml.
# Changed by `concord-node join` and `concord-node data add`; read at start.
"""


class PrivacyBudget(BaseModel):
    """What all jobs together may learn of one unit of a data set."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    epsilon: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False, strict=True)]
    """of all jobs together"""
    delta: Annotated[float, Field(ge=1e-12, le=1e-2, strict=True)]
    """of all jobs together"""
    unit: Literal["member", "record"]
    """what is hidden: one record, or all that the lab holds"""


class DataSet(BaseModel):
    """One data set of the lab: a file or folder that the sandbox mounts read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    path: Annotated[str, Field(min_length=1)]
    """the file or folder, from the root, mounted read-only for a job that uses it"""
    examples: Annotated[int, Field(ge=1, le=1 << 40, strict=True)]
    """how many examples it holds; only its public bucket, a power of two, ever leaves"""
    tags: tuple[str, ...] = ()
    """words by which jobs and policies name it"""
    privacy_budget: PrivacyBudget | None = None
    """what all jobs may spend on it; None: no limit, and jobs without privacy may use it"""
    description: Annotated[str, Field(min_length=1)] | None = None
    """the file that describes it (``kind: DataSet``), from the home; None: name, tags and budget are all that is told of it"""
    _described: Described = PrivateAttr(UNDESCRIBED)
    """what that file says, once ``Home.settings`` has read it"""

    @property
    def budget(self) -> Budget | None:
        stated = self.privacy_budget
        return Budget(stated.epsilon, stated.delta, stated.unit) if stated is not None else None

    @property
    def described(self) -> Described:
        return self._described

    def with_description(self, described: Described) -> DataSet:
        copy = self.model_copy()
        copy._described = described
        return copy

    def entry(self, name: str, jurisdiction: str = "", version: bytes | None = None) -> Entry:
        """All that this lab knows of it: for matching, for policies and for the lab's eyes. What leaves of it is less."""
        tags = tuple(tag for tag in self.tags if is_tag(tag))  # no job can ask for the others
        facts = Facts(name, self.examples, tags, jurisdiction, self.budget, version)
        return entry_of(facts, self._described.description, self._described.schema)


def budget_around(name: str, data_sets: Mapping[str, DataSet]) -> str:
    """Another data set that has a privacy budget and files in common with this one, links followed; empty when there is none.
    Copies, hard links and further mounts of the same files it cannot tell."""
    place = Path(data_sets[name].path).resolve()
    for other, held in data_sets.items():
        if other != name and held.budget is not None:
            there = Path(held.path).resolve()
            if place.is_relative_to(there) or there.is_relative_to(place):
                return other
    return ""


class NodeSettings(BaseModel):
    """node.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    member: Name
    """whose node it is"""
    node: Name
    """its own name"""
    federation: Name
    """whose roll it trusts"""
    address: str = ""
    """host:port of the coordinator; empty until ``concord-node join``"""
    witness_seconds: float = Field(default=30.0, gt=0, le=86_400, strict=True)
    """how often the public log is looked at when the coordinator tells of nothing new"""
    metrics: str = "127.0.0.1:0"
    """where /metrics, /healthz and /readyz are served; port 0 takes a free one, empty turns it off. Elsewhere than on this machine
    or a private network only with a certificate"""
    metrics_certificate: str | None = None
    """PEM file with which they are served over TLS, chain included; from the home"""
    metrics_key: str | None = None
    """PEM file of its key, readable by nobody else"""
    data_sets: dict[Name, DataSet] = Field(default_factory=dict)
    """by name; what each holds is below"""
    lease_seconds: Annotated[float, Field(ge=1, le=3600, strict=True)] | None = None
    """how long this node goes on without an answer of the coordinator; never longer than the charter says"""
    consent: Literal["rule", "person"] = "rule"
    """person: whatever the policy allows is asked of a person at the lab, too"""
    deciders: Annotated[tuple[Label, ...], Field(min_length=1)] = ("officer",)
    """the roles that may decide, the first by default; the others are deputies"""
    verdict_days: Annotated[int, Field(ge=1, strict=True)] | None = None
    """how long after an answer the verdict that it binds is kept, and no shorter than the job runs; absent: for ever"""
    scratch: str | None = None
    """a folder, from the root, for the files of workers: models, what they train, what they write; by default they are in the home.
    Each node has a folder of its own in it; what a job leaves there is erased at its end"""

    @field_validator("metrics")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            listened(value)
        return value


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of a node's home. Nothing is read or made by asking for one."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.expanduser().absolute())

    @property
    def settings_file(self) -> Path:
        return self.root / "node.yaml"

    @property
    def policy_file(self) -> Path:
        return self.root / "policy.yaml"

    @property
    def packs(self) -> Path:
        """Policy packs, one file each; ``node_agent.consent.packs``"""
        return self.root / "policy.d"

    @property
    def pack_memory(self) -> Path:
        return self.root / "policy-packs.json"

    @property
    def identity_key(self) -> Path:
        return self.root / "keys" / "identity.key"

    @property
    def transport_key(self) -> Path:
        return self.root / "keys" / "transport.key"

    @property
    def catalogue_key(self) -> Path:
        """Under it versions of data sets leave; ``node_agent.catalogue.versions``"""
        return self.root / "keys" / "catalogue.key"

    @property
    def credential(self) -> Path:
        return self.root / "credential.json"

    @property
    def roll(self) -> Path:
        return self.root / "roll.json"

    @property
    def roll_fork(self) -> Path:
        """another roll, which members decided on beside ours; ``node_agent.membership``"""
        return self.root / "roll-fork.json"

    @property
    def transport_certificate(self) -> Path:
        return self.root / "transport.pem"

    @property
    def ca(self) -> Path:
        return self.root / "ca.pem"

    @property
    def descriptions(self) -> Path:
        """One file a data set, and ``schemas`` beside them; ``node_agent.catalogue.descriptions``"""
        return self.root / "data-sets"

    @property
    def published(self) -> Path:
        """What the lab publishes of its data sets; ``node_agent.catalogue.publication``"""
        return self.root / "catalogue"

    @property
    def journal(self) -> Path:
        return self.root / "journal.db"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def evidence(self) -> Path:
        """What was refused and kept; ``node_agent.store.evidence``"""
        return self.root / "evidence"

    @property
    def halts(self) -> Path:
        """Orders that halt this node, and lifts; ``node_agent.halt.folder``"""
        return self.root / "halts"

    @property
    def witness(self) -> Path:
        """What this node keeps as a witness of the public log; ``node_agent.witness.notebook``"""
        return self.root / "witness"

    @property
    def revocations(self) -> Path:
        """Consents that were taken back; ``node_agent.store.revocations``"""
        return self.root / "revocations"

    @property
    def control(self) -> Path:
        """The socket over which a command speaks with the node that runs here"""
        return self.root / "control.sock"

    @property
    def run_file(self) -> Path:
        return self.root / "run.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def read(self, path: Path, limit: int = SETTINGS_LIMIT) -> bytes:
        """A file of the home, links followed. Raises NotFound with what to do, or InvalidUsage for what cannot be read, is no file
        (a folder, a pipe, a device), or is larger than ``limit``."""
        try:
            # Opening a pipe would wait for whoever writes to it.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise InvalidUsage(f"{path} is not a file.", hint="Put back the file that was there before.")
                data = stream.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"{path} is missing.",
                hint="Make the home with `concord-node init`, then enter the federation with `concord-node join`.",
            ) from None
        except OSError as error:
            raise InvalidUsage(
                f"{path} cannot be read: {error.strerror}.", hint="Check the path, and who may read it."
            ) from None
        if len(data) > limit:
            raise InvalidUsage(f"{path} is larger than {limit} bytes.", hint="Put back the file that was there before.")
        return data

    def settings(self, *, described: bool = True) -> NodeSettings:
        """node.yaml and the descriptions that it names, checked. Raises InvalidUsage or InvalidManifest that names the field."""
        settings = parse_settings(self.read(self.settings_file), str(self.settings_file))
        if not described:
            return settings
        sets = {
            name: held.with_description(read_description(self.root, name, held.description))
            for name, held in settings.data_sets.items()
        }
        return settings.model_copy(update={"data_sets": sets})

    def save(self, settings: NodeSettings) -> None:
        write_whole(self.settings_file, settings_bytes(settings))


def refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Raises InvalidUsage for one that looks like a setting of a node, which reads node.yaml alone: it would go unseen."""
    hint = f"Unset it, and write what you want into node.yaml. The one that is read is {HOME_VARIABLE}."
    refuse_unknown(environment, "a node", PREFIX, {HOME_VARIABLE}, hint)


def parse_settings(data: bytes, source: str) -> NodeSettings:
    """Raises InvalidUsage with the first field that is wrong."""
    try:
        text = data.decode()
        empty = not any(line.split("#", 1)[0].strip() for line in text.splitlines())
        document = None if empty else read_yaml(text, source).value
    except UnicodeDecodeError:
        raise InvalidUsage(f"{source} is not YAML: not UTF-8 text.", hint="Put back the old file.") from None
    except InvalidManifest as error:
        place = f", line {error.line}" if error.line else ""
        what = error.message.removeprefix(f"{source}:{error.line}: ").removeprefix("not valid YAML: ")
        raise InvalidUsage(f"{source}{place} is not YAML as it is read here: {what}", hint=error.hint) from None
    if not isinstance(document, dict):
        raise InvalidUsage(f"{source} holds no settings.", hint="It needs member, node and federation.")
    return checked_settings(document, source)


def checked_settings(document: dict[Any, Any], source: str) -> NodeSettings:
    """Raises InvalidUsage with the first field that is wrong."""
    try:
        return NodeSettings.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part != "[key]")
        problem = (
            NAME_RULE if first["type"] == "string_pattern_mismatch" else first["msg"].removeprefix("Value error, ")
        )
        raise InvalidUsage(f"{source}: {field}: {problem}.", hint="Correct this field; others were not read.") from None


def settings_bytes(settings: NodeSettings) -> bytes:
    document: dict[str, Any] = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    return (HEADER + write_yaml(document)).encode()
