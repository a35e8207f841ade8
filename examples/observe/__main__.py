"""`python -m examples.observe`: the demo's federation beside a real Prometheus, with the project's rules and dashboards.

Laboratories train; one job is denied by all of them, and the other is stopped by its lead once every dashboard has been answered.
It shows that each target is up, each rule is loaded and well, each expression of each dashboard returns data, and each alert's
condition finds the series that it is about. The last line on stdout is JSON; the exit code is not 0 when something of that is
not so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from examples.demo.__main__ import PLACES, ROOT, prepare_folder
from examples.local_federation import DataSet, LocalFederation, Member, end_on_signals, forget_settings
from examples.observe.boards import Boards
from examples.observe.conditions import conditions, without_data
from examples.observe.prometheus import INSTALL, Prometheus
from federation.errors import INTERRUPTED_EXIT_CODE, FederationError, Unavailable, exit_code, told
from federation.governance.charter import MEMBER_METRICS
from models.digits import partition
from node_agent.telemetry.gpus import readings

ROUNDS, MOST_ROUNDS = 300, 400
FEW_ROUNDS = 5
PATIENCE_SECONDS = 90.0
AWAY = "NodeSilent"
"""the one alert whose series is there only while something is wrong: while a node is away"""
BUDGET = (4.0, 1e-5, "record")
"""of a second data set that nobody asks for: the dashboards show that nothing of it is spent"""


class Observed(LocalFederation):
    """Its nodes look at the public log every two seconds: a call of which a few seconds see several."""

    def start_nodes(self) -> None:
        for service in self.nodes.values():
            settings = service.home / "node.yaml"
            document = yaml.safe_load(settings.read_text())
            settings.write_text(yaml.safe_dump({**document, "witnessSeconds": 2}, sort_keys=False))
        super().start_nodes()


def members_of(folder: Path, count: int) -> list[Member]:
    places = PLACES[:count]
    shards = partition.write(folder / "data", [member for member, _title, _code in places])
    members = []
    for member, title, code in places:
        kept = folder / "kept" / member
        kept.mkdir(parents=True)
        (kept / "records.csv").write_text("age,result\n61,1\n")
        sets = {
            "digits": DataSet(shards[member].path, shards[member].examples, ("digits", "scans")),
            "records": DataSet(kept, 1, budget=BUDGET),
        }
        members.append(Member(member, title, code, sets, {"dataSets": ["digits"], "maxRounds": MOST_ROUNDS}))
    return members


def job(folder: Path, name: str, rounds: int) -> Path:
    app = folder / "app"
    if not app.exists():
        shutil.copytree(ROOT / "models" / "digits" / "app", app, ignore=shutil.ignore_patterns("__pycache__"))
    document = {
        "apiVersion": "concord/v1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {"app": "app", "dataSet": "digits", "rounds": rounds},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def until(what: str, done: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Raises Unavailable when it takes longer."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what}: not within {seconds:.0f} s.")
        time.sleep(0.25)


def run(folder: Path, console: Console, count: int) -> dict[str, Any]:
    began = time.monotonic()
    if shutil.which("prometheus") is None:
        raise Unavailable("Prometheus is not installed.", hint=INSTALL)

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    say("1. A federation whose charter lets the coordinator export every figure of its members")
    local = Observed(folder, "observed", members_of(folder, count), charter={"memberMetrics": list(MEMBER_METRICS)})
    with local:
        services = {"coordinator": local.coordinator, **local.nodes}
        addresses = {
            name: str(json.loads((service.home / "run.json").read_text())["metrics"])
            for name, service in services.items()
        }
        say("2. A job trains, and another is denied by every laboratory")
        local.concord("apply", "-f", job(folder, "digits", ROUNDS))
        local.concord("apply", "-f", job(folder, "endless", MOST_ROUNDS + 1))
        with Prometheus(folder / "prometheus", addresses) as prometheus:
            say(f"3. Prometheus on {prometheus.address} scrapes {len(addresses)} services")
            return watched(local, prometheus, say) | {"seconds": round(time.monotonic() - began, 1)}


def watched(local: LocalFederation, prometheus: Prometheus, say: Callable[[str], None]) -> dict[str, Any]:
    until("every target is up", lambda: not prometheus.down(), 40.0)
    until("every rule was evaluated", lambda: bool(prometheus.rules()) and "unknown" not in prometheus.rules().values())
    rules = prometheus.rules()
    wrong = {name: health for name, health in rules.items() if health != "ok"}
    say(
        f"   targets up: {', '.join(sorted(local.nodes))} and the coordinator; {len(rules)} rules are loaded, {len(wrong)} ill"
    )
    say("4. The dashboards' expressions are asked until each has data")
    boards = Boards(gpus=bool(readings()))
    about_halts = [each for each in boards.pending if "halt" in each.text and "seconds" in each.text]
    boards.pending = [each for each in boards.pending if each not in about_halts]

    def closed() -> float:
        return sum(value for _, value in prometheus.query('concord_rounds_total{outcome="closed"}'))

    def asked() -> bool:
        boards.ask(prometheus)
        return not boards.pending and closed() >= FEW_ROUNDS

    try:
        until("every expression has data", asked)
    except Unavailable:
        say("   without data: " + "; ".join(f"{each.board}: {each.panel}: {each.text}" for each in boards.pending))
        raise
    rounds = closed()
    quiet = prometheus.firing()
    mute = tuple(each for each in without_data(prometheus) if each.alert != AWAY or each.side != "coordinator")
    for each in mute:
        say(f"   the condition of {each.alert} ({each.side}) finds no series: {each.text}")
    local.concord("halt", "digits", "--level", "stop", "--reason", "Enough was seen")
    boards.pending += about_halts
    until("the time that a halt took is known", asked)
    until("the alert fires", lambda: "HaltActive" in prometheus.firing(), 20.0)
    gone = "concord_job_rounds"
    until("the job's series are gone", lambda: not prometheus.query(gone), 20.0)
    fired = prometheus.firing()
    next(iter(local.nodes.values())).kill()
    until("the alert about nodes that are away finds one", lambda: not without_away(prometheus), 20.0)
    say(
        f"5. The job was stopped after {rounds:.0f} rounds: {', '.join(sorted(fired))} fires, and the job's series are gone"
    )
    return {
        "targets": len(local.nodes) + 1,
        "rules": len(rules),
        "rules_ill": wrong,
        "rounds_closed": int(rounds),
        "expressions_with_data": boards.answered,
        "expressions_without_gpu": boards.left_out,
        "conditions": sum(1 for _ in conditions()),
        "conditions_without_series": [f"{each.alert} ({each.side})" for each in mute],
        "alerts_while_training": sorted(quiet),
        "alerts_after_the_halt": sorted(fired),
    }


def without_away(prometheus: Prometheus) -> bool:
    """Whether nothing tells of the node that is away. That a job is under way is over by then."""
    return any(each.alert == AWAY for each in without_data(prometheus))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make observe", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/observe"), help="where everything is kept")
    parser.add_argument("--members", type=int, default=len(PLACES), choices=range(3, len(PLACES) + 1))
    arguments = parser.parse_args()
    forget_settings()
    end_on_signals()
    console = Console()
    folder = arguments.folder.resolve()
    try:
        prepare_folder(folder)
        result = run(folder, console, arguments.members)
    except KeyboardInterrupt:
        print("\ninterrupted: every process was ended", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE
    except FederationError as error:
        print("\n".join(told(error)), file=sys.stderr)
        return exit_code(error)
    table = Table("dashboard", "expressions with data")
    for board, answered in result["expressions_with_data"].items():
        table.add_row(board, str(answered))
    console.print(table)
    print(json.dumps(result))
    return 1 if result["rules_ill"] or result["conditions_without_series"] else 0


if __name__ == "__main__":
    sys.exit(main())
