"""`concord`: the command line. Data goes to stdout, the rest to stderr; an error says what, why, and what to do."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import click
import typer

from coordinator.client import ceremony
from coordinator.client.describe import describe_job, jobs_table, nodes_table
from coordinator.client.enrolment import login as log_in
from coordinator.client.enrolment import read_ticket
from coordinator.client.failure import report as report_error
from coordinator.client.files import read_file
from coordinator.client.home import Home
from coordinator.client.options import DEFAULT_HOME_PATH, FormatOption, HomeOption
from coordinator.client.release_folder import verify_folder
from coordinator.client.sdk import Federation
from coordinator.client.submission import read_document
from coordinator.client.terminal import Format, as_yaml, coloured, data, plain, progress, say, show, table
from coordinator.client.watching import exit_code_of, watch
from federation.errors import TABLE, InvalidUsage, VerificationFailed
from federation.manifest.explain import explain as explain_field
from federation.releases.verify import Report

app = typer.Typer(name="concord", no_args_is_help=True, pretty_exceptions_enable=False)
release_app = typer.Typer(no_args_is_help=True, help="Released models.")
app.add_typer(ceremony.member_app, name="member")
app.add_typer(ceremony.lead_app, name="lead")
app.add_typer(ceremony.roll_app, name="roll")
app.add_typer(release_app, name="release")

JobName = Annotated[str, typer.Argument(help="The job's name, digest, or the first six digits of it.")]


class Kind(StrEnum):
    jobs = "jobs"
    nodes = "nodes"
    members = "members"


@app.callback()
def concord() -> None:
    """Train models together as equals: found a federation, submit jobs, follow them, verify what comes out."""


@app.command()
def login(
    ticket: Annotated[Path, typer.Option(help="The one-time ticket from the coordinator's operator.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    roll: Annotated[Path | None, typer.Option(help="The roll that you already trust.")] = None,
) -> None:
    """Exchange a ticket for a transport certificate, and keep the members' roll."""
    pinned = read_file(roll, what="The roll") if roll is not None else None
    done = log_in(Home.at(home), read_ticket(ticket), pinned, os.environ)
    for warning in done.warnings:
        say(f"warning: {warning}")
    who = f"{done.principal.kind} {done.principal.name}"
    say(f"logged in to {done.federation} as {who}, {done.route}, until {done.expires:%Y-%m-%d %H:%M} UTC")


@app.command()
def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="The job document; - for stdin.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and print the job with all defaults; sign and send nothing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="A new job, even if this very one was submitted before.")
    ] = False,
    output: FormatOption = Format.table,
) -> None:
    """Check, pack, sign and submit a job."""
    if dry_run:
        document, _folder = read_document(file)
        show(document.resolved(), output, lambda: data(as_yaml(document.resolved())))
        return
    with Federation.connect(home) as federation:
        prepared = federation.prepare(file, again=again)
        manifest = prepared.manifest
        if prepared.app.server_app is not None:
            say(f"note: the app's ServerApp ({prepared.app.server_app}) is not run; spec.strategy names the outer step")
        data_set = manifest.data_set or "tagged data"
        what = f"{manifest.spec.rounds} rounds of {manifest.strategy.name} on {data_set}"
        say(
            f"signing as {manifest.lead.id}: {what}, {len(prepared.bundle.files)} files ({prepared.bundle.digest.hex()[:12]})"
        )
        with progress("bundle") as bar:
            submission = federation.submit(prepared, progress=bar)
    word = "created" if submission.created else "unchanged"
    document_out = {"name": submission.name, "digest": submission.digest.hex(), "created": submission.created}
    show(document_out, output, lambda: data(f"job/{submission.name} {word} (digest {submission.digest.hex()})"))


@app.command()
def get(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    output: FormatOption = Format.table,
) -> None:
    """List jobs, nodes or members."""
    with Federation.connect(home) as federation:
        if kind is Kind.jobs:
            jobs = federation.jobs()
            show([job.as_document() for job in jobs], output, lambda: jobs_table(jobs))
        elif kind is Kind.nodes:
            state = federation.describe()
            show([node.as_document() for node in state.nodes], output, lambda: nodes_table(state))
        else:
            roll = federation.home.required_roll()
            rows = [(member.id, member.jurisdiction, member.name) for member in roll.members]
            listed = [{"id": item[0], "jurisdiction": item[1], "name": item[2]} for item in rows]
            show(listed, output, lambda: table(("ID", "JURISDICTION", "NAME"), rows))


@app.command()
def describe(job: JobName, home: HomeOption = DEFAULT_HOME_PATH, output: FormatOption = Format.table) -> None:
    """Everything about a job: defaults, consents with reasons, why it waits, rounds, story."""
    with Federation.connect(home) as federation:
        found = federation.job(job)
    show(found.as_document(), output, lambda: describe_job(found))


@app.command("watch")
def watch_job(job: JobName, home: HomeOption = DEFAULT_HOME_PATH) -> None:
    """Follow a job until it ends; exit code 0 finished, 1 failed, 7 withdrawn or stopped."""
    with Federation.connect(home) as federation:
        last = watch(federation.watch(job))
    raise typer.Exit(exit_code_of(last))


@app.command()
def logs(
    job: JobName,
    home: HomeOption = DEFAULT_HOME_PATH,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job has ended.")] = False,
) -> None:
    """The story of a job, line by line."""
    with Federation.connect(home) as federation:
        for line in federation.logs(job, follow=follow):
            data(f"{line.time} {plain(line.member) or 'coordinator'}: {plain(line.text)}")


@app.command()
def cancel(
    job: JobName,
    home: HomeOption = DEFAULT_HOME_PATH,
    reason: Annotated[str, typer.Option(help="Why, for the members.")] = "",
) -> None:
    """Withdraw a job, under the lead's signature."""
    with Federation.connect(home) as federation:
        ended = federation.withdraw(job, reason)
    data(f"job/{ended.name} {ended.state}")


@app.command()
def explain(field: Annotated[str, typer.Argument(help="Such as job.spec.rounds.")] = "job") -> None:
    """What a field of a job document means, its type and its default."""
    data(explain_field(field))


@release_app.command("fetch")
def release_fetch(
    job: JobName,
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """Download a job's release, verify it, and only then give the folder its name."""
    with Federation.connect(home) as federation, progress("release") as bar:
        checked = federation.fetch_release(job, out, progress=bar)
    data(f"{out}: {len(checked.checks)} checks ok")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A release's folder.")],
    roll: Annotated[
        Path | None, typer.Option(help="The roll that you trust; else trust starts at the roll in the folder.")
    ] = None,
) -> None:
    """Check a release offline: every signature, every digest, every round."""
    trusted = read_file(roll, what="The roll") if roll is not None else None
    checked: Report = verify_folder(folder, trusted)
    for check in checked.checks:
        data(f"{coloured('ok' if check.ok else 'FAILED', sys.stdout)}  {plain(check.name)}: {plain(check.detail)}")
    if not checked.ok:
        raise VerificationFailed(
            "The release does not check.", hint="Do not use it; fetch it again, and tell the members."
        )


@app.command("version")
def version_command() -> None:
    """Print the version."""
    from importlib.metadata import version

    data(version("concord-federation"))


def main() -> int:
    """Entry point: the exit code follows federation.errors."""
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return TABLE[InvalidUsage.code].exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        return report_error(error)
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
