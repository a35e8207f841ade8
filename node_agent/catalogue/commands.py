"""`concord-node data`: the lab's data sets, what is told of them, and whether they hold what their schema says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from federation.errors import InvalidUsage, NotFound, PolicyDenied, VerificationFailed, plain
from node_agent.catalogue.places import check_place
from node_agent.settings import DataSet, Home, NodeSettings, budget_around, checked_settings

data_app = typer.Typer(name="data", no_args_is_help=True, help="The data sets that this node holds.")

HomePath = Annotated[Path, typer.Option("--home", envvar="CONCORD_NODE_HOME", help="The node's home folder.")]
Name = Annotated[str, typer.Argument(help="The data set's name at this node.")]
DescriptionFile = Annotated[
    Path | None, typer.Option("--description", help="Its description (kind: DataSet); copied into the home.")
]
SchemaFiles = Annotated[
    list[Path] | None, typer.Option("--schema", help="A schema that it names (kind: DataSchema); copied into the home.")
]
SHOWN_VERSION: Final = 12


@data_app.command(name="add")
def data_add(
    name: Annotated[str, typer.Argument(help="The name that jobs ask for.")],
    home: HomePath,
    path: Annotated[Path, typer.Option(help="File or folder with the data; mounted read-only.")],
    examples: Annotated[int, typer.Option(min=1, help="How many examples it holds.")],
    tag: Annotated[list[str] | None, typer.Option(help="A tag that jobs may ask for; repeat for more.")] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Privacy budget: what all jobs together may spend. Needs --delta and --unit.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="The delta of the budget, such as 1e-6.")] = None,
    unit: Annotated[str | None, typer.Option(help="Whom the budget protects: member, or record.")] = None,
    description: DescriptionFile = None,
    schema: SchemaFiles = None,
) -> None:
    """Tell the node of a data set. Told again without a budget or a description, it keeps the one that it has."""
    from node_agent.catalogue.descriptions import keep

    place = path.expanduser().absolute()
    if not place.exists():
        raise InvalidUsage(f"{place} does not exist.", hint="Give the file or folder that holds the data.")
    folder = Home(home)
    document = folder.settings(described=False).model_dump(mode="json", by_alias=True)
    given = {"epsilon": epsilon, "delta": delta, "unit": unit}
    if len({value is None for value in given.values()}) > 1:
        raise InvalidUsage("A privacy budget is an epsilon, a delta and a unit.", hint="Give all three, or none.")
    known = document["dataSets"].get(name, {})
    budget = given if epsilon is not None else known.get("privacyBudget")
    held = {"path": str(place), "examples": examples, "tags": tag or []}
    held |= {"privacyBudget": budget} if budget else {}
    held |= {"description": known["description"]} if known.get("description") else {}
    document["dataSets"][name] = held
    settings = checked_settings(document, "concord-node data add")
    check_place(name, place, folder.root)
    if twin := budget_around(name, settings.data_sets):
        raise InvalidUsage(
            f"{place} holds files of {twin}, which has a privacy budget.",
            hint="Under another name their spending would begin anew. Let jobs ask for it by a tag instead.",
        )
    if description is not None or schema:
        file, _ = keep(folder.root, name, description, tuple(schema or ()))
        settings = _with_description(settings, name, file)
    folder.save(settings)
    say(f"{name}: {place}. A running node reads it when it starts again.")


@data_app.command(name="describe")
def data_describe(name: Name, home: HomePath, description: DescriptionFile = None, schema: SchemaFiles = None) -> None:
    """Describe a data set from files, or show what this node knows of it. Nothing is published by this."""
    from node_agent.catalogue.descriptions import keep

    folder = Home(home)
    if description is not None or schema:
        settings = folder.settings(described=False)
        _held(settings, name)
        file, _ = keep(folder.root, name, description, tuple(schema or ()))
        folder.save(_with_description(settings, name, file))
        say(f"{name} is described. A running node reads it when it starts again; nothing is published.")
    settings = folder.settings()
    held = _held(settings, name)
    entry = held.entry(name, _jurisdiction(folder, settings), _version(folder, held))
    print(json.dumps(entry.document, indent=2, ensure_ascii=False))
    words = held.described.description.publish if held.described.description is not None else []
    say(f"of this, these would be published: name{''.join(f', {word}' for word in words)}" if words else STAYS)


STAYS: Final = "the description names nothing to publish: all of this stays here"


@data_app.command(name="list")
def data_list(home: HomePath) -> None:
    """List the data sets: schema, version, and whether they are published as they are now."""
    from node_agent.catalogue.publication import entry_published

    folder = Home(home)
    settings = folder.settings()
    for name, held in sorted(settings.data_sets.items()):
        version = _version(folder, held)
        entry = held.entry(name, "", version)
        shown = entry_published(folder, name)
        schema = entry.schema_reference.name if entry.schema_reference is not None else "no schema"
        state = "not published"
        if shown is not None:
            changed = shown.version is not None and version is not None and shown.version != version.hex()
            state = "published, and the data have changed since" if changed else "published"
        seen = version.hex()[:SHOWN_VERSION] if version is not None else "cannot be read"
        print(f"{name}  {schema}  version {seen}  {state}")
    if not settings.data_sets:
        say("there are no data sets yet: concord-node data add")


@data_app.command(name="publish")
def data_publish(
    name: Name,
    home: HomePath,
    yes: Annotated[bool, typer.Option("--yes", help="Publish without being asked, as a script does.")] = False,
) -> None:
    """Show what the description says is to be published of a data set, and publish it once you agree."""
    from federation.catalogue.entry import published as part_of
    from node_agent.catalogue.publication import publish

    folder = Home(home)
    settings = folder.settings()
    held = _held(settings, name)
    about = held.described.description
    if about is None or not about.publish:
        raise InvalidUsage(
            f"The description of {name} names nothing to publish." if about else f"{name} has no description.",
            hint="List the fields in its spec.publish (docs/reference/data-set.md); concord-node data describe shows them.",
        )
    entry = part_of(held.entry(name, _jurisdiction(folder, settings), _version(folder, held)), about.publish)
    print(json.dumps(entry.document, indent=2, ensure_ascii=False))
    say("this, signed by this node, is what everybody in the federation would see, and the coordinator's operator")
    if not yes and not typer.confirm("publish it?", err=True):
        say("nothing was published")
        raise typer.Exit(1)
    publish(folder, entry)
    say(f"{name} is published: a running node sends it within seconds, another when it starts")


@data_app.command(name="withdraw")
def data_withdraw(name: Name, home: HomePath) -> None:
    """Take a data set out of the catalogue. Who has seen it has seen it; from now on nobody is shown it."""
    from node_agent.catalogue.publication import withdraw

    withdraw(Home(home), name)
    say(f"{name} is withdrawn: a running node says so within seconds, another when it starts")


@data_app.command(name="check")
def data_check(
    home: HomePath,
    job: Annotated[Path | None, typer.Argument(help="A job document: the columns that it reads are checked.")] = None,
    data_set: Annotated[
        str | None, typer.Option("--data-set", help="Check this one; else the one that the job would use here.")
    ] = None,
) -> None:
    """Check a data set's own cells against its schema, here and for your eyes: which rows and columns do not keep it."""
    from node_agent.catalogue.checking import check

    folder = Home(home)
    settings = folder.settings()
    if job is None and data_set is None:
        raise InvalidUsage("There is nothing to check.", hint="Give a job document, or --data-set NAME.")
    reads: tuple[str, ...] = ()
    name = data_set or ""
    if job is not None:
        name, reads = _chosen(settings, job, data_set)
    result = check(_held(settings, name), reads)
    print(f"data set      {name}, {result.format}, {result.rows:,} rows")
    print(f"columns       {', '.join(result.columns) or 'none'}")
    for finding in result.findings:
        print(f"{'FAILS' if finding.fails else 'note':12}  {plain(finding.words)}")
    for left in result.not_checked:
        print(f"not checked   {plain(left)}")
    if not result.ok:
        raise VerificationFailed(
            f"{name} does not hold what its schema says.",
            hint="Correct the rows, or the schema if it is wrong; then check again. Nothing was sent.",
        )
    print(
        "holds what its schema says, as far as it was checked" if result.columns else "nothing was checked of its cells"
    )


def _chosen(settings: NodeSettings, job: Path, named: str | None) -> tuple[str, tuple[str, ...]]:
    """The data set that the job would use here, and the columns that it reads. Raises PolicyDenied with every reason."""
    from federation.catalogue.matching import asked, choose
    from federation.manifest.document import load_job
    from node_agent.catalogue.descriptions import read_text

    wanted = load_job(read_text(job, 1 << 20), str(job)).spec.data_set
    entries = {name: held.entry(name) for name, held in settings.data_sets.items()}
    if named is not None:
        entries = {named: _held(settings, named).entry(named)}
    choice = choose(wanted, entries.values())
    if not choice.name:
        raise PolicyDenied(
            f"This node has no data set that the job asks for ({asked(wanted)}).",
            reasons=tuple(f"{name}: {miss.sentence}" for name, why in choice.misses.items() for miss in why),
            hint="Describe the data set (docs/how-to/describe-data.md), or have the lead ask for something else.",
        )
    return choice.name, tuple(column.name for column in wanted.columns)


def _held(settings: NodeSettings, name: str) -> DataSet:
    if name not in settings.data_sets:
        raise NotFound(f"This node has no data set {name}.", hint="concord-node data list shows those that it has.")
    return settings.data_sets[name]


def _with_description(settings: NodeSettings, name: str, file: str) -> NodeSettings:
    held = settings.data_sets[name].model_copy(update={"description": file})
    return settings.model_copy(update={"data_sets": {**settings.data_sets, name: held}})


def _version(home: Home, held: DataSet) -> bytes | None:
    from node_agent.catalogue.versions import sealed_versions

    try:
        return sealed_versions(home).version_of(held)
    except PolicyDenied:
        return None


def _jurisdiction(home: Home, settings: NodeSettings) -> str:
    """The member's, on the roll of the home; empty before the node has joined."""
    from federation.identity.roll import Roll

    if not home.roll.exists():
        return ""
    return Roll.open(home.read(home.roll, 4 << 20)).member(settings.member).jurisdiction


def say(text: str) -> None:
    print(text, file=sys.stderr)
