"""`python -m examples.demo`: the main job of Concord, whole: join, submit, consent, secure rounds, a lost node, a verified release.

Five members in five jurisdictions, each a node agent in a process of its own with its own folder, keys and database, train a
digit classifier on scikit-learn's scans, split so that nobody holds more than seven of the ten classes. One node is killed with
`kill -9` in the middle of a round. Ctrl-C ends every process. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from coordinator.client.release_folder import verify_folder
from coordinator.client.sdk import Federation
from coordinator.client.views import Job
from examples.demo import asked, halted, refused
from examples.demo.board import Board
from examples.demo.picture import draw
from examples.demo.release_vote import CHARTER, Voting
from examples.local_federation import PUBLIC_FIGURES, DataSet, LocalFederation, Member, end_on_signals, forget_settings
from federation.errors import INTERRUPTED_EXIT_CODE, FederationError, InvalidUsage, exit_code, told
from models.digits import baselines, partition
from node_agent.runner.sandbox import detect_sandbox

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "models" / "digits" / "job.yaml"
MARK = ".concord-demo"
PLACES = (
    ("br", "Laboratory of Brazil", "BR"),
    ("fr", "Laboratory of France", "FR"),
    ("in", "Laboratory of India", "IN"),
    ("jp", "Laboratory of Japan", "JP"),
    ("ke", "Laboratory of Kenya", "KE"),
)
GATED_FIGURES = ("hits/*", "seen/*", "gap/*", "exposure")
"""by which the job's gates judge the final model; each member's policy lets them leave as sums"""
KILL_IN_ROUND = 4
WAITING = frozenset({"announced", "collecting"})
JOB_SECONDS = 240.0


def prepare_folder(folder: Path) -> None:
    """Empties the folder of an earlier demo; refuses a folder that is somebody else's."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise InvalidUsage(
                f"{folder} is not empty and is no earlier demo.", hint="Name another folder with --folder."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


@contextmanager
def step(console: Console, title: str) -> Iterator[None]:
    console.print(f"[bold]{title}[/bold]", highlight=False, soft_wrap=True)
    yield


def describe_data(console: Console, shards: dict[str, partition.Shard]) -> None:
    table = Table()
    for name in ("member", "jurisdiction", "scans", "classes"):
        table.add_column(name, justify="right" if name in {"scans"} else "left")
    for member, _name, jurisdiction in PLACES:
        shard = shards[member]
        table.add_row(member, jurisdiction, str(shard.examples), " ".join(str(item) for item in shard.classes))
    console.print(table)


def follow(console: Console, local: LocalFederation, federation: Federation, name: str) -> tuple[Job, str, int, int]:
    """Watches the job to its end; kills one node in the middle of a round and starts it again once that round has closed.

    Returns the job, the lost member, the round of its loss, and the round in which it was back.
    """
    victim = PLACES[2][0]
    killed_in = 0
    restarted = False
    back_in = 0
    deadline = time.monotonic() + JOB_SECONDS
    job: Job | None = None
    voting = Voting(console, local, [member for member, _name, _code in PLACES])
    with Board(console) as board:
        for job in federation.watch(name):
            board.show(job)
            voting.watch(job)
            if time.monotonic() > deadline:
                raise FederationError(
                    f"The job took longer than {JOB_SECONDS:.0f} s.", hint=f"See the logs in {local.folder}."
                )
            current = job.current
            if current is None:
                continue
            if not killed_in and current.round >= KILL_IN_ROUND and current.phase == "collecting":
                local.nodes[victim].kill()
                killed_in = current.round
                board.note(killed_in, f"{victim} lost (kill -9)")
            elif killed_in and not restarted and (current.round > killed_in or current.phase not in WAITING):
                local.nodes[victim].start()
                restarted = True
            elif restarted and not back_in and victim in current.ready and current.round > killed_in:
                back_in = current.round
                board.note(back_in, f"{victim} back")
    if job is None or job.state != "finished":
        raise FederationError(
            f"The job did not finish: {job.reason if job else 'the coordinator said nothing'}",
            hint=f"See the logs in {local.folder}.",
        )
    return job, victim, killed_in, back_in


def run(folder: Path, console: Console) -> dict[str, object]:
    started = time.monotonic()
    report = detect_sandbox()
    console.print(f"sandbox: {report.kind}" + (f" ({report.reason})" if report.kind == "none" else ""))
    with step(
        console,
        "1. Data: real scans, dealt unevenly (Dirichlet 0.3 for each class); every member's stay in its own folder",
    ):
        shards = partition.write(folder / "data", [member for member, _name, _code in PLACES])
        describe_data(console, shards)
    members = [
        Member(
            member,
            title,
            code,
            {"digits": DataSet(shards[member].path, shards[member].examples, ("digits", "scans"))},
            {"figures": [*PUBLIC_FIGURES, *GATED_FIGURES], **refused.OWN_RULES.get(member, {})},
        )
        for member, title, code in PLACES
    ]
    with step(console, "2. Founding: keys, a roll that all five sign, one-time tickets, mutual TLS"):
        local = LocalFederation(
            folder,
            "demo",
            members,
            charter=CHARTER,
            say=lambda line: console.print(f"   {line}", highlight=False, soft_wrap=True),
        )
    with local:
        with step(console, "3. The lead signs and submits a job; every node decides by its own policy file"):
            console.print("   " + local.concord("apply", "-f", JOB).strip(), highlight=False, soft_wrap=True)
        with local.client() as federation:
            name = federation.jobs()[0].name
            with step(console, f"4. Training {name}"):
                job, lost, killed_in, back_in = follow(console, local, federation, name)
        for consent in job.consents:
            console.print(
                f"   {consent.member}: {consent.state} ({'; '.join(consent.reasons)})", highlight=False, soft_wrap=True
            )
        with (
            step(console, "5. Another job, of 500 rounds and with open sums: the rules of two members deny it"),
            local.client() as federation,
        ):
            refused.hand_out_packs(local)
            refusals = refused.show_refusals(console, local, federation, JOB, folder)
        with (
            step(console, "6. A job that trains is stopped by its lead: at once, everywhere, for good"),
            local.client() as federation,
        ):
            halt_seconds, halted_state = halted.show_halt(console, local, federation, JOB, folder)
        asking = PLACES[1][0]
        with (
            step(
                console,
                f"7. A job that {asking} puts before a person: it waits, and runs when that person has said yes",
            ),
            local.client() as federation,
        ):
            person = asked.show_person(console, local, federation, JOB, folder, asking)
        release = folder / "release"
        with step(console, "8. Release: fetched, and verified offline"):
            local.concord("release", "fetch", name, "--out", release)
    checks = verify_folder(release, trusted_roll=(folder / "roll.json").read_bytes())
    for check in checks.checks:
        console.print(
            f"   {'ok' if check.ok else 'FAILED'}  {check.name}: {check.detail}", highlight=False, soft_wrap=True
        )

    with step(console, "9. Was it worth it? Accuracy on held-out scans that no member trained on"):
        test = partition.held_out(folder / "data")
        joint = baselines.accuracy_of(release / "model.safetensors", test)
        alone = {member: baselines.alone(shards[member], test) for member, _title, _code in PLACES}
        pooled = baselines.pooled([shards[member] for member, _title, _code in PLACES], test)
    table = Table()
    table.add_column("trained by")
    table.add_column("accuracy", justify="right")
    for member, value in alone.items():
        table.add_row(f"{member} alone", f"{value:.1%}")
    table.add_row("[bold]joint (this federation)[/bold]", f"[bold]{joint:.1%}[/bold]")
    table.add_row("pooled (all scans in one place; upper bound)", f"{pooled:.1%}")
    console.print(table)

    parameters = baselines.parameter_count()
    training = [item for item in job.rounds if item.phase == "closed" and item.round < job.rounds[-1].round]
    contributions = sum(len(item.cohort) for item in training)
    per_parameter = sum(item.bytes_up for item in training) / (contributions * parameters)
    each = sum(item.bytes_up for item in training) / contributions
    console.print(
        f"What left each node: {each / 1e3:.0f} kB of masked update per round = {per_parameter:.2f} bytes per parameter "
        f"({parameters:,} parameters; plain float32 would be 4). No scan, no single update, no single figure.",
        highlight=False,
        soft_wrap=True,
    )
    picture = folder / "curves.png"
    draw(picture, job.rounds, alone, joint, pooled, {killed_in: lost})
    console.print(f"{lost} was lost in round {killed_in} and back in round {back_in}.", highlight=False, soft_wrap=True)
    console.print(f"release: {release}\npicture: {picture}", highlight=False, soft_wrap=True)
    config = json.loads((release / "config.json").read_text())
    return {
        "members": len(PLACES),
        "rounds": job.rounds_total,
        "lost_node": lost,
        "lost_in_round": killed_in,
        "back_in_round": back_in,
        "accuracy_alone": {member: round(value, 4) for member, value in alone.items()},
        "accuracy_joint": round(joint, 4),
        "accuracy_pooled": round(pooled, 4),
        "bytes_up_per_parameter": round(per_parameter, 3),
        "seconds": round(time.monotonic() - started, 1),
        "refused_by": refusals,
        "halt_seconds": round(halt_seconds, 3),
        "halted_job": halted_state,
        "person_consented": person,
        "release": str(release),
        "release_verified": checks.ok,
        "release_gates": config["gates"],
        "release_approved_by": config["release"]["approvedBy"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/demo"), help="where everything is kept (default: runs/demo)"
    )
    arguments = parser.parse_args()

    forget_settings()
    end_on_signals()
    console = Console()
    folder = arguments.folder.resolve()
    try:
        prepare_folder(folder)
        result = run(folder, console)
    except KeyboardInterrupt:
        print("\ninterrupted: every process of the demo was ended", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE
    except FederationError as error:
        print("\n".join(told(error)), file=sys.stderr)
        return exit_code(error)
    print(json.dumps(result))
    return 0 if result["release_verified"] else exit_code(FederationError(""))


if __name__ == "__main__":
    sys.exit(main())
