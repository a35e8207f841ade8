"""`concord release list, show, approve, recall, serve`: what there is, and what members decide about it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from coordinator.client.files import PUBLIC_FILE, write_new_file
from coordinator.client.home import Home
from coordinator.client.options import DEFAULT_HOME_PATH, FormatOption, HomeOption
from coordinator.client.releasing import Releasing, Standing
from coordinator.client.sdk import Federation
from coordinator.client.terminal import Format, fields, plain, say, show, table
from federation.errors import InvalidUsage, NotFound

release_app = typer.Typer(no_args_is_help=True, help="Released models.")
SHORT = 12

JobName = Annotated[str, typer.Argument(help="The job's name, digest, or the first six digits of it.")]


@release_app.command("list")
def release_list(home: HomeOption = DEFAULT_HOME_PATH, output: FormatOption = Format.table) -> None:
    """List the releases that are for you, and those on which members vote."""
    with Federation.connect(home) as federation:
        listed = Releasing(federation).releases()
    rows = [
        (each.name, each.state, each.audience, " ".join(each.approved_by), each.subject.hex()[:SHORT], each.recalled)
        for each in listed
    ]
    headings = ("JOB", "STATE", "FOR", "APPROVED BY", "RELEASE", "RECALLED")
    show([each.as_document() for each in listed], output, lambda: table(headings, rows))


@release_app.command("show")
def release_show(job: JobName, home: HomeOption = DEFAULT_HOME_PATH, output: FormatOption = Format.table) -> None:
    """Show a release: its state, who approved it, who recalled it. Votes are counted again here."""
    with Federation.connect(home) as federation:
        standing = Releasing(federation).release(job)
    show(standing.as_document(), output, lambda: _describe(standing))


@release_app.command("approve")
def release_approve(
    job: JobName,
    home: HomeOption = DEFAULT_HOME_PATH,
    reason: Annotated[str, typer.Option(help="For the other members.")] = "",
) -> None:
    """Check the evidence of a proposed release, gates included, and vote yes with the key of this member's officer."""
    with Federation.connect(home) as federation:
        asked = Releasing(federation).approve(job, reason, _now())
    say(f"approved {asked.proposal.subject.hex()[:SHORT]}: {asked.standing}, {plain(asked.reason)}")


@release_app.command("recall")
def release_recall(
    job: JobName,
    home: HomeOption = DEFAULT_HOME_PATH,
    why: Annotated[str, typer.Option(help="For everybody who reads the recall; of whoever asks first.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Write the recall, once it has its votes, for `concord verify --recalls`.")
    ] = None,
) -> None:
    """Vote for the recall of a release, with the key of this member's officer. With its quorum it is served to nobody."""
    with Federation.connect(home) as federation:
        releasing = Releasing(federation)
        standing = releasing.release(job)
        if standing.state != "recalled":
            asked = releasing.recall(job, why or f"recall of {standing.name}", _now())
            say(f"voted for the recall: {asked.standing}, {plain(asked.reason)}")
            standing = releasing.release(job)
    if out is not None:
        if not standing.recall:
            raise NotFound("The recall has not got its votes yet.", hint="Other members run the same command.")
        write_new_file(out, standing.recall, PUBLIC_FILE, what="a recall")
    if standing.recalled:
        say(standing.recalled)


@release_app.command("serve")
def release_serve(
    folder: Annotated[Path, typer.Argument(help="A folder with one folder for each release.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    listen: Annotated[str, typer.Option(help="host:port.")] = "127.0.0.1:8080",
    recalls: Annotated[Path | None, typer.Option(help="A folder of recalls; read again for each request.")] = None,
) -> None:
    """Serve verified releases to everybody over plain HTTP, for as long as they are not recalled."""
    from coordinator.client.mirror import Mirror

    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidUsage(f"{listen} is not host:port.")
    mirror = Mirror(folder, recalls, Home.at(home).required_roll().envelope)
    mirror.load()
    for name, why in mirror.refused.items():
        say(f"not served: {plain(name)}: {plain(why)}")
    with mirror.server((host.strip("[]"), int(port)), lambda line: say(plain(line))) as server:
        say(f"serving {len(mirror.releases)} releases on http://{host}:{server.server_address[1]}")
        server.serve_forever()


def _describe(standing: Standing) -> None:
    fields(
        {
            "job": f"{standing.name} {standing.job.hex()}",
            "release": standing.subject.hex() or "none",
            "state": standing.state,
            "why": standing.reason,
            "for": standing.audience,
            "approved by": ", ".join(standing.approved_by) or "nobody yet, or no vote was needed",
            "recalled": standing.recalled or "no",
        }
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
