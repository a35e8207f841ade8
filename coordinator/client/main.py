"""`concord`: the command line. Data goes to stdout, the rest to stderr; an error says what, why, and what to do."""

from __future__ import annotations

import io
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import click
import typer

from coordinator.client import ceremony, governance, halting, rolls
from coordinator.client.audit import audit_app
from coordinator.client.code import code_app
from coordinator.client.curves import file_name
from coordinator.client.describe import describe_job, jobs_table, members_document, members_table, nodes_table
from coordinator.client.enrolment import login as log_in
from coordinator.client.enrolment import read_ticket
from coordinator.client.event_files import EventFiles
from coordinator.client.examples import EXAMPLES, GROUPS
from coordinator.client.failure import report as report_error
from coordinator.client.files import PUBLIC_FILE, about, read_file, write_new_file
from coordinator.client.halts import HaltCalls
from coordinator.client.home import Home
from coordinator.client.keeping import Keeper, kept
from coordinator.client.mlflow_runs import MlflowRun
from coordinator.client.options import DEFAULT_HOME_PATH, FormatOption, HomeOption
from coordinator.client.release_commands import release_app
from coordinator.client.sdk import PATIENCE_SECONDS, Federation
from coordinator.client.terminal import Format, amount, as_yaml, data, plain, progress, say, show, table
from coordinator.client.views import Job
from coordinator.client.watching import exit_code_of, watch
from federation.command_lines import VersionOption, usage_told, with_examples
from federation.errors import INTERRUPTED_EXIT_CODE, TABLE, FederationError, InvalidUsage, NotFound, VerificationFailed
from federation.identity.roll import Roll
from federation.product import product_version

if TYPE_CHECKING:
    from coordinator.client.studies import StudyDraft
    from coordinator.client.submission import Draft

app = typer.Typer(name="concord", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(ceremony.member_app, name="member")
app.add_typer(ceremony.lead_app, name="lead")
app.add_typer(ceremony.roll_app, name="roll")
app.add_typer(rolls.charter_app, name="charter")
app.add_typer(release_app, name="release")
app.add_typer(code_app, name="code")
app.add_typer(audit_app, name="audit")

JobName = Annotated[str, typer.Argument(help="The job's name, digest, or the first six digits of it.")]


class Kind(StrEnum):
    jobs = "jobs"
    nodes = "nodes"
    members = "members"
    datasets = "datasets"
    halts = "halts"
    studies = "studies"


@app.callback()
def concord(version: VersionOption = False) -> None:
    """Train models together as equals: found a federation, submit jobs, follow them, verify what comes out."""


@app.command()
def login(
    ticket: Annotated[Path, typer.Option(help="The one-time ticket from the coordinator's operator.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    roll: Annotated[Path | None, typer.Option(help="The roll that you already trust.")] = None,
) -> None:
    """Exchange a ticket for a transport certificate, and keep the members' roll."""
    pinned = _trusted(roll)
    done = log_in(Home.at(home), read_ticket(ticket, datetime.now(UTC)), pinned, os.environ)
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
    """Check, pack, sign and submit a job; or a study (kind: Study), which asks the members once for many runs."""
    from coordinator.client import studies
    from coordinator.client.submission import draft_of, read_document
    from federation.manifest.yaml_source import read_yaml

    text, name, folder = read_document(file)
    if studies.is_study(read_yaml(text, name)):
        _apply_study(studies.study_draft(text, name, folder), home, dry_run, output)
        return
    draft = draft_of(text, name, folder, Home.at(home))
    if dry_run:
        _rehearse(draft, output)
        return
    with Federation.connect(home) as federation:
        prepared = federation.prepare(draft, again=again)
        manifest = prepared.manifest
        if prepared.app.server_app is not None:
            say(
                f"note: the app's ServerApp ({prepared.app.server_app}) is not run; spec.strategy names the outer step, "
                "and spec.messageConfig what else goes into its messages"
            )
        data_set = manifest.data_set or "tagged data"
        what = f"{manifest.spec.rounds} rounds of {manifest.strategy.name} on {data_set}"
        bundle = f"{len(prepared.bundle.files)} files ({prepared.bundle.digest.hex()[:12]})"
        signed = "signed before" if prepared.signed_before else "signed"
        say(f"{signed} as {manifest.lead.id}: {what}, {bundle}")
        if manifest.job.metadata.study is not None:
            studies.told_outside(manifest, federation.home, federation.home.required_roll())
        with progress("bundle") as bar:
            submission = federation.submit(prepared, progress=bar)
    word = "created" if submission.created else "unchanged"
    if submission.created:
        say(f"follow it with `concord watch {submission.name}`")
    else:
        say("this very job was submitted before; `--again` submits it as a new one")
    document_out = {"name": submission.name, "digest": submission.digest.hex(), "created": submission.created}
    show(document_out, output, lambda: data(f"job/{submission.name} {word} (digest {submission.digest.hex()})"))


def _apply_study(draft: StudyDraft, home: Path, dry_run: bool, output: Format) -> None:
    from coordinator.client import studies

    if dry_run:
        resolved = studies.told_rehearsal(draft)
        show(resolved, output, lambda: data(as_yaml(resolved)))
        say("nothing was signed or sent")
        return
    with Federation.connect(home) as federation:
        prepared = studies.prepare_study(draft, federation.home, federation.newest_roll())
        study = prepared.study
        for line in study.lines:
            say(line)
        created = studies.StudyCalls(federation).submit(prepared)
    word = "created" if created else "unchanged"
    say(f"runs name it: metadata: {{study: {study.name}}}; who consents: concord get studies")
    document_out = {"name": study.name, "digest": study.digest.hex(), "created": created}
    show(document_out, output, lambda: data(f"study/{study.name} {word} (digest {study.digest.hex()})"))


def _rehearse(draft: Draft, output: Format) -> None:
    from coordinator.client.submission import rehearse

    resolved, bundle = rehearse(draft)
    show(resolved, output, lambda: data(as_yaml(resolved)))
    say(f"every member would receive these {len(bundle.files)} files, {amount(bundle.size)}:")
    for path, _digest, size in bundle.files:
        say(f"  {path} ({amount(size)})")
    say("nothing was signed or sent; whether enough members may take part is only known when it is submitted")


@app.command()
def get(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    output: FormatOption = Format.table,
    schema: Annotated[
        str, typer.Option(help="Data sets of this schema, such as heart-disease or heart-disease/1.")
    ] = "",
    tag: Annotated[str, typer.Option(help="Data sets with this tag.")] = "",
    jurisdiction: Annotated[str, typer.Option(help="Data sets under this law, such as HU.")] = "",
    job: Annotated[
        Path | None, typer.Option("--for", help="A job document: which data sets could take part in it, and why not.")
    ] = None,
) -> None:
    """List jobs, studies, nodes, halts or published data sets as the coordinator tells of them, or the members on your own roll."""
    if kind is Kind.datasets:
        from coordinator.client import data_sets

        wanted = data_sets.wanted_by(job) if job is not None else None
        chosen = data_sets.Filter(schema, tag, jurisdiction)
        with Federation.connect(home) as federation:
            found, problems = federation.data_sets()
        data_sets.show_list([each for each in found if chosen.passes(each)], problems, wanted, output)
        return
    if schema or tag or jurisdiction or job is not None:
        raise InvalidUsage(f"{kind.value} have no schema, tag or jurisdiction.", hint="These choose among datasets.")
    if kind is Kind.members:
        roll = Home.at(home).required_roll()
        show(members_document(roll), output, lambda: members_table(roll))
        return
    with Federation.connect(home) as federation:
        if kind is Kind.jobs:
            jobs = federation.jobs()
            show([job.as_summary() for job in jobs], output, lambda: jobs_table(jobs))
            count = len(jobs)
        elif kind is Kind.studies:
            from coordinator.client.studies import studies_table

            studies = federation.studies()
            show([each.as_document() for each in studies], output, lambda: studies_table(studies))
            count = len(studies)
        elif kind is Kind.halts:
            halts = HaltCalls(federation).list()
            show([each.as_document() for each in halts], output, lambda: halting.halts_table(halts))
            count = len(halts)
        else:
            state = federation.describe()
            show([node.as_document() for node in state.nodes], output, lambda: nodes_table(state))
            count = len(state.nodes)
    if not count:
        say(f"there are no {kind.value} yet")


@app.command()
def describe(
    job: Annotated[str, typer.Argument(help="The job's name, digest, or its first six digits; or the word dataset.")],
    name: Annotated[str, typer.Argument(help="After dataset: its name, or NAME@NODE.")] = "",
    home: HomeOption = DEFAULT_HOME_PATH,
    output: FormatOption = Format.table,
) -> None:
    """Everything about a job: defaults, consents with reasons, why it waits, rounds, story. Or about a published data set."""
    if name:
        _describe_data_set(job, name, home, output)
        return
    with Federation.connect(home) as federation:
        found = federation.job(job)
        roll = federation.home.roll()
        show(found.as_document(), output, lambda: describe_job(found, roll))
        if output is Format.table and found.state != "finished":
            _who_could(federation, found)


def _describe_data_set(kind: str, name: str, home: Path, output: Format) -> None:
    from coordinator.client import data_sets

    if kind != "dataset":
        raise InvalidUsage(f"{kind} {name} is nothing to describe.", hint="Give a job, or: dataset NAME")
    with Federation.connect(home) as federation:
        found, _ = federation.data_sets()
    data_sets.show_one(data_sets.named(found, name), output)


def _who_could(federation: Federation, job: Job) -> None:
    """For a job that asks for data by what is true of it: who could take part, as far as catalogues tell."""
    from coordinator.client import data_sets

    try:
        wanted = data_sets.asks_by_description(job.signed_document())
        if wanted is None:
            return
        found, _ = federation.data_sets()
    except FederationError as error:
        say(f"the catalogue is not shown: {error.message}")
        return
    data("")
    data("data sets that are published, and whether they fit (each node decides for itself):")
    rows = [(f"{each.member}/{each.node}", each.entry.name, *data_sets.fit_of(each, wanted)) for each in found]
    table(("NODE", "NAME", "FITS", "WHY NOT"), rows, indent="  ")


@app.command("watch")
def watch_job(
    job: JobName,
    home: HomeOption = DEFAULT_HOME_PATH,
    events: Annotated[
        Path | None, typer.Option(help="Where its curves go, for TensorBoard: a folder; else runs in the home.")
    ] = None,
    no_events: Annotated[bool, typer.Option("--no-events", help="Keep no curves.")] = False,
    mlflow: Annotated[
        str, typer.Option(help="Keep the curves in this MLflow tracking server, too: its address, or sqlite:///FILE.")
    ] = "",
) -> None:
    """Follow a job until it ends, and keep its curves; exit code 0 finished, 1 failed, 7 withdrawn or stopped."""
    if no_events and events is not None:
        raise InvalidUsage("--events and --no-events contradict each other.", hint="Give one of them.")
    keepers: list[Keeper] = [MlflowRun(mlflow)] if mlflow else []
    with Federation.connect(home) as federation, EventFiles(events or federation.home.path / "runs") as curves:
        if not no_events:
            keepers.append(curves)
        try:
            last = watch(kept(federation.watch(job, away=_away), keepers))
        except KeyboardInterrupt:
            say(f"the job goes on; `concord watch {job}` shows it again")
            raise
    if curves.folder is not None:
        say(f"its curves are in {curves.folder}: tensorboard --logdir {curves.folder.parent}")
    if last is not None and last.state == "failed":
        say(f"what the members said of it: concord logs {job}")
    raise typer.Exit(exit_code_of(last))


@app.command("plot")
def plot_job(
    job: JobName,
    home: HomeOption = DEFAULT_HOME_PATH,
    out: Annotated[
        Path | None, typer.Option(help="The pictures' name without .png and .svg; else the job's name, here.")
    ] = None,
) -> None:
    """Draw a job's rounds: loss, accuracy, seconds by phase, bytes and cohort; as PNG and SVG."""
    from coordinator.client.plotting import plot

    with Federation.connect(home) as federation:
        found = federation.job(job)
    for place in plot(found, out or Path(file_name(found))):
        data(str(place))


@app.command()
def logs(
    job: JobName,
    home: HomeOption = DEFAULT_HOME_PATH,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job has ended.")] = False,
) -> None:
    """The story of a job, line by line."""
    with Federation.connect(home) as federation:
        for line in federation.logs(job, follow=follow, away=_away):
            data(f"{line.time} {line.member or 'coordinator'}: {line.text}")


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
def explain(
    field: Annotated[
        str, typer.Argument(help="Such as job.spec.rounds; or a whole document: job, study, policy, dataSet, schema.")
    ] = "job",
) -> None:
    """What a field of a job, a study, a policy or a data set means, its type and its default."""
    from federation.catalogue.description import DescriptionDocument
    from federation.catalogue.schema import Schema
    from federation.manifest.explain import explain as meaning_of
    from federation.manifest.explain import fields
    from federation.manifest.study_page import study_fields
    from federation.policy.schema import PolicyDocument

    more = {
        "study": study_fields(),
        "policy": fields(PolicyDocument, "policy"),
        "dataSet": fields(DescriptionDocument, "dataSet"),
        "schema": fields(Schema, "schema"),
    }
    data(meaning_of(field, more))


@release_app.command("fetch")
def release_fetch(
    job: JobName,
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    sealed: Annotated[bool, typer.Option("--sealed", help="Leave a sealed release sealed, to hand it on.")] = False,
) -> None:
    """Download a job's release, verify it, open it if it is sealed for you, and only then give the folder its name."""
    with Federation.connect(home) as federation, progress("release") as bar:
        checked = federation.fetch_release(job, out, keep_sealed=sealed, progress=bar)
    data(f"{out}: {len(checked.checks)} checks ok{_sealed_still(out)}")


@release_app.command("open")
def release_open(
    folder: Annotated[Path, typer.Argument(help="A sealed release's folder.")],
    out: Annotated[Path, typer.Option(help="The folder to make, with the model in clear.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    roll: Annotated[Path | None, typer.Option(help="The roll that you trust; else the one of the home.")] = None,
) -> None:
    """Open a release that is sealed for this home's key, and check that it holds the model that the members signed."""
    from coordinator.client.release_folder import open_folder, recipient_of

    place = Home.at(home)
    recipient = recipient_of(place)
    if recipient is None:
        raise NotFound(
            f"There is no sealing key in {place.path}.",
            hint="Name the home that submitted the job with --home, or that of another recipient.",
        )
    checked = open_folder(folder, out, recipient, _trusted(roll) or place.roll_envelope())
    data(f"{out}: {len(checked.checks)} checks ok")


@release_app.command("key")
def release_key(
    out: Annotated[Path | None, typer.Option(help="Where to write it; else to stdout.")] = None,
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """The public key for which leads seal releases to you (release.recipients of a job); made when there is none."""
    from federation.sealing import key_id_of, recipient_key

    place = Home.at(home)
    key = recipient_key(place.sealing_key(make=True))
    if out is None:
        data(key.hex())
    else:
        write_new_file(out, f"{key.hex()}\n".encode(), PUBLIC_FILE, what="a sealing key")
    say(f"its digest is {key_id_of(key)[:16]}; the private key stays in {place.sealing_key_path}: keep a copy of it")


def _sealed_still(folder: Path) -> str:
    from federation.releases.listing import SEALED

    return (
        f"; it is sealed: `concord release open {folder}` opens it for its recipients"
        if (folder / SEALED).exists()
        else ""
    )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A release's folder.")],
    roll: Annotated[
        Path | None, typer.Option(help="The roll that you trust; else trust starts at the roll in the folder.")
    ] = None,
    recalls: Annotated[
        list[Path] | None, typer.Option(help="A recall, or a folder of them, from `concord release recall --out`.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="A copy of the public log: does it hold a recall?")] = None,
    log_key: Annotated[Path | None, typer.Option(help="The log's key; else log.key in the copy.")] = None,
    output: FormatOption = Format.table,
) -> None:
    """Check a release offline: every signature, every digest, every round, gates, votes; and whether it was recalled."""
    from coordinator.client.recalls import known_of
    from coordinator.client.release_folder import verify_folder

    trusted = _trusted(roll)
    checks = verify_folder(folder, trusted, known_of(recalls or (), log, log_key)).checks
    failed = [check.name for check in checks if not check.ok]
    listed = [{"check": check.name, "ok": check.ok, "detail": plain(check.detail)} for check in checks]
    rows = [("ok" if check.ok else "FAILED", check.name, check.detail) for check in checks]
    show({"verified": not failed, "checks": listed}, output, lambda: table(("RESULT", "CHECK", "DETAIL"), rows))
    if failed:
        raise VerificationFailed(
            f"The release in {folder} does not check: {', '.join(failed)}.",
            hint="Do not use it. Fetch it again; if it still fails, tell the members.",
        )
    say(f"{folder}: {len(checks)} checks ok" + ("" if roll else ", beginning at the roll in the folder"))


@app.command()
def doctor(
    home: HomeOption = DEFAULT_HOME_PATH,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
    before_join: Annotated[
        bool,
        typer.Option(
            "--before-join", help="Only the way to the coordinator, and the letter for the firewall's people."
        ),
    ] = False,
    ticket: Annotated[Path | None, typer.Option(help="With --before-join: the ticket, which stays unused.")] = None,
) -> None:
    """Say what is wrong with this home, its machine or its network, and what to do. Exit code 1 when something is."""
    from coordinator.client import doctor as asked
    from federation.findings import any_wrong

    note = ""
    if before_join != (ticket is not None):
        raise InvalidUsage("--before-join and --ticket go together.", hint="The ticket says where the coordinator is.")
    if ticket is not None:
        findings, note = asked.examine_route(Home.at(home), ticket)
    else:
        findings = asked.examine(Home.at(home))
    asked.show(findings, as_json=as_json, note=note)
    if any_wrong(findings):
        raise typer.Exit(1)


@app.command("version")
def version_command() -> None:
    """Print the version."""
    data(product_version())


app.command("halt")(halting.halt)
app.command("lift")(halting.lift)
app.command("drill")(halting.drill)
app.registered_commands += governance.governance_app.registered_commands
with_examples(app, EXAMPLES, GROUPS)


def _trusted(path: Path | None) -> bytes | None:
    """The envelope of a roll that the reader brings. Raises InvalidIdentity when it is not good: no release is to blame for it."""
    if path is None:
        return None
    envelope = read_file(path, what="The roll")
    with about(path):
        Roll.open(envelope)
    return envelope


def _away(failure: FederationError) -> None:
    say(f"{failure.message} Trying again for {PATIENCE_SECONDS / 60:.0f} minutes; Ctrl-C ends this, not the job.")


def main() -> int:
    """Entry point: the exit code follows federation.errors."""
    for stream in (sys.stdout, sys.stderr):
        # A name in letters that the terminal's encoding lacks is shown escaped, and is no error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(prog_name="concord", standalone_mode=False)
    except click.ClickException as error:
        for line in usage_told(error):
            print(line, file=sys.stderr)
        return TABLE[InvalidUsage.code].exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED_EXIT_CODE
    except Exception as error:
        return report_error(error)
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
