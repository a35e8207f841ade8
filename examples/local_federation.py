"""A whole federation on one machine: a coordinator and node agents as separate processes, founded by the real ceremony.

Every step is the command that its people would type (`concord member init`, `concord roll sign`, `concord-node join`, ...); they
run inside this process because starting Python anew for each of some thirty commands would cost half a minute. The services
themselves are always processes of their own, each with its own folder, keys and database, over mutual TLS on loopback.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import typer
import yaml

from coordinator.client.main import app as concord_app
from coordinator.client.sdk import Federation
from coordinator.main import app as coordinator_app
from federation.errors import FederationError, Unavailable
from node_agent.main import app as node_app

LEAD = "lead"
PUBLIC_FIGURES = ("train_loss", "loss", "eval_loss", "eval_acc", "accuracy")
"""means over a lab's own examples; a count would not be among them"""
START_SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DataSet:
    path: Path
    examples: int
    tags: tuple[str, ...] = ()
    budget: tuple[float, float, str] | None = None
    """of privacy: epsilon, delta, unit"""
    description: Path | None = None
    """its description; what that names to publish is published"""
    schemas: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """``policy`` replaces rules of the default policy of this example (see ``policy_of``)."""

    id: str
    name: str
    jurisdiction: str
    data_sets: Mapping[str, DataSet]
    policy: Mapping[str, object] = field(default_factory=dict)


def end_on_signals() -> None:
    """The first SIGINT or SIGTERM raises KeyboardInterrupt: ``with`` blocks end what they started. Later ones change nothing.

    Also where the shell that started us has SIGINT ignored, as for its background jobs.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, end)


_built = functools.cache(typer.main.get_command)
"""of the same program, the same commands: making them anew for each would take as long as running them"""


def run_command(command: typer.Typer, *arguments: str | Path) -> str:
    """Runs one command in this process and returns its stdout; what it remarks on stderr is dropped. Raises its FederationError."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        _built(command).main([str(argument) for argument in arguments], standalone_mode=False)
    return output.getvalue()


def forget_settings() -> None:
    """What a shell has set for other homes (CONCORD_COORDINATOR_DATABASE, say) is not for the federations of this process."""
    for name in [name for name in os.environ if name.upper().startswith("CONCORD_")]:
        if not name.startswith(("CONCORD_TEST_", "CONCORD_DEBUG")):
            del os.environ[name]


def services_environment() -> dict[str, str]:
    """The environment of every service: this one, with Flower's telemetry and update check off."""
    return {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "PYTHONUNBUFFERED": "1"}


@dataclass(slots=True)
class Service:
    """One process of the federation, started and ended by its own id."""

    name: str
    module: str
    home: Path
    process: subprocess.Popen[bytes] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.home.parent / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        (self.home / "run.json").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "run", "--home", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**services_environment(), **self.environment},
            )

    def wait_ready(self, seconds: float = START_SECONDS) -> dict[str, object]:
        """The service's run.json. Raises Unavailable with the end of its log when it does not come up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                document = json.loads((self.home / "run.json").read_text())
                if self.process is not None and document.get("pid") == self.process.pid:
                    return dict(document)
            if not self.alive:
                break
            time.sleep(0.02)
        tail = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
        raise Unavailable(f"{self.name} did not start within {seconds:.0f} s.", hint=f"Its log ends with:\n{tail}")

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _over(standard: dict[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """A charter with some words changed; mappings are changed word by word."""
    merged = dict(standard)
    for name, value in changes.items():
        held = merged.get(name)
        merged[name] = {**held, **value} if isinstance(held, dict) and isinstance(value, dict) else value
    return merged


class LocalFederation:
    """``with LocalFederation(folder, "name", members) as federation: ...`` founds it, starts it, and ends every process."""

    def __init__(
        self,
        folder: Path,
        name: str,
        members: Sequence[Member],
        *,
        sandbox: str = "optional",
        environment: Mapping[str, str] | None = None,
        charter: Mapping[str, object] | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """``charter``: what differs from the standard one."""
        self.folder = folder
        self.name = name
        self.members = tuple(members)
        self.sandbox = sandbox
        self.charter = charter
        self.say = say
        extra = dict(environment or {})
        self.coordinator = Service("coordinator", "coordinator.main", folder / "coordinator", environment=extra)
        self.nodes = {
            member.id: Service(f"node-{member.id}", "node_agent.main", folder / f"node-{member.id}", environment=extra)
            for member in members
        }
        self.lead_home = folder / "lead"

    # ------------------------------------------------------------------------------------------------------- founding

    def found(self) -> None:
        """Keys, cards, the roll signed by every member, node credentials signed by the officers. Starts the coordinator."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run_command(
            coordinator_app,
            *("init", "--home", self.coordinator.home, "--federation", self.name),
            *("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"),
        )
        roll = self.folder / "roll.json"
        draft: list[str | Path] = ["roll", "draft", "--federation", self.name, "--out", roll]
        for member in self.members:
            home = self.officer_home(member.id)
            card = home / "card.json"
            run_command(
                concord_app,
                *("member", "init", "--home", home, "--id", member.id, "--name", member.name),
                *("--jurisdiction", member.jurisdiction, "--out", card),
            )
            draft += ["--member", card]
        if self.charter is not None:
            standard = yaml.safe_load(run_command(concord_app, "charter", "show", "--home", self.lead_home))
            written = self.folder / "charter.yaml"
            written.write_text(yaml.safe_dump(_over(standard, self.charter), sort_keys=False))
            draft += ["--charter", written]
        lead_card = self.folder / "lead-card.json"
        run_command(
            concord_app,
            *("lead", "init", "--home", self.lead_home, "--id", LEAD, "--member", self.members[0].id),
            *("--name", "Research lead", "--out", lead_card),
        )
        draft += ["--log-key", self.coordinator.home / "log.key.pub"]
        run_command(concord_app, *draft, "--lead", lead_card)
        for member in self.members:
            run_command(concord_app, "roll", "sign", "--home", self.officer_home(member.id), "--roll", roll)
        run_command(coordinator_app, "found", "--home", self.coordinator.home, "--roll", roll)
        self.say(f"founded {self.name}: {len(self.members)} members signed the roll")
        self.start_coordinator()

    def officer_home(self, member: str) -> Path:
        return self.folder / f"officer-{member}"

    def start_coordinator(self) -> None:
        self.coordinator.start()
        ready = self.coordinator.wait_ready()
        # The address was chosen by the system; it stays the same over restarts, as an operator's would.
        settings = self.coordinator.home / "coordinator.yaml"
        document = yaml.safe_load(settings.read_text())
        if str(document.get("listen", "")).endswith(":0"):
            document["listen"] = ready["address"]
            settings.write_text(yaml.safe_dump(document))

    def enrol(self, member: Member) -> None:
        """Makes the node's keys, has the officer sign them, joins with a one-time ticket, declares data sets and policy."""
        service = self.nodes[member.id]
        node = f"{member.id}-1"
        request = self.folder / f"{node}-request.json"
        credential = self.folder / f"{node}-credential.json"
        ticket = self.folder / f"{node}-ticket.json"
        run_command(
            node_app,
            *("init", "--home", service.home, "--federation", self.name, "--member", member.id, "--node", node),
            *("--out", request),
        )
        run_command(
            concord_app,
            *("member", "sign-node", "--home", self.officer_home(member.id), "--request", request, "--out", credential),
        )
        run_command(
            coordinator_app,
            *("ticket", "--home", self.coordinator.home, "--member", member.id, "--node", node, "--out", ticket),
        )
        run_command(
            node_app,
            *("join", "--home", service.home, "--ticket", ticket, "--credential", credential),
            *("--roll", self.folder / "roll.json"),
        )
        for name, data_set in member.data_sets.items():
            extra = [part for tag in data_set.tags for part in ("--tag", tag)]
            if data_set.budget is not None:
                names = ("--epsilon", "--delta", "--unit")
                extra += [part for pair in zip(names, map(str, data_set.budget), strict=True) for part in pair]
            described: list[str | Path] = [part for path in data_set.schemas for part in ("--schema", path)]
            described += ["--description", data_set.description] if data_set.description is not None else []
            run_command(
                node_app,
                *("data", "add", name, "--home", service.home, "--path", data_set.path),
                *("--examples", str(data_set.examples), *extra, *described),
            )
            if data_set.description is not None:
                run_command(node_app, "data", "publish", name, "--home", service.home, "--yes")
        (service.home / "policy.yaml").write_text(yaml.safe_dump(self.policy_of(member), sort_keys=False))

    def policy_of(self, member: Member) -> dict[str, object]:
        rules: dict[str, object] = {
            "leads": [LEAD],
            "jurisdictions": sorted({other.jurisdiction for other in self.members}),
            "dataSets": sorted(member.data_sets),
            "minimumCohort": 3,
            "minimumJurisdictions": 1,
            "figures": list(PUBLIC_FIGURES),
        }
        return {
            "apiVersion": "concord/v1",
            "kind": "NodePolicy",
            "rules": {**rules, **member.policy},
            "sandbox": self.sandbox,
        }

    def login(self) -> None:
        ticket = self.folder / "lead-ticket.json"
        run_command(coordinator_app, "ticket", "--home", self.coordinator.home, "--lead", LEAD, "--out", ticket)
        run_command(concord_app, "login", "--home", self.lead_home, "--ticket", ticket)

    def login_officer(self, member: str) -> None:
        """So that the member's officer can propose and vote from its own home."""
        ticket = self.folder / f"{member}-officer-ticket.json"
        run_command(coordinator_app, "ticket", "--home", self.coordinator.home, "--officer", member, "--out", ticket)
        run_command(concord_app, "login", "--home", self.officer_home(member), "--ticket", ticket)

    def officer(self, member: str, *arguments: str | Path) -> str:
        """Runs a `concord` command as the member's officer."""
        return run_command(concord_app, *arguments, "--home", self.officer_home(member))

    def start_nodes(self) -> None:
        for service in self.nodes.values():
            service.start()
        for service in self.nodes.values():
            service.wait_ready()

    def start(self) -> None:
        """Founds the federation, enrols every member's node, logs the lead in, starts the nodes."""
        self.found()
        for member in self.members:
            self.enrol(member)
            self.say(f"enrolled {member.id}-1 ({member.name}, {member.jurisdiction})")
        self.login()
        self.start_nodes()

    # -------------------------------------------------------------------------------------------------------- running

    @contextlib.contextmanager
    def client(self) -> Iterator[Federation]:
        """The lead's SDK session."""
        with Federation.connect(self.lead_home) as federation:
            yield federation

    def concord(self, *arguments: str | Path) -> str:
        """Runs a `concord` command as the lead."""
        return run_command(concord_app, *arguments, "--home", self.lead_home)

    def stop(self) -> None:
        for service in [*self.nodes.values(), self.coordinator]:
            if service.alive and service.process is not None:
                service.process.send_signal(signal.SIGTERM)
        for service in [*self.nodes.values(), self.coordinator]:
            service.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


__all__ = [
    "LEAD",
    "DataSet",
    "FederationError",
    "LocalFederation",
    "Member",
    "Service",
    "end_on_signals",
    "run_command",
]
