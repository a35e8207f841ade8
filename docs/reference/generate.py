"""Regenerates the generated pages of this folder: ``python docs/reference/generate.py [OUTPUT]``. A test compares the result.

job.md, study.md, policy.md and data-set.md come from the schemas; charter.md from the standard charter; commands.md from the three
command lines, with one example for each; metrics.md from the tables of metrics and the alerts; checks.md from wherever the code
refuses a message. An example that a command line would not take is an error here.
"""

from __future__ import annotations

import inspect
import shlex
import sys
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

import click
import typer
import yaml
from typer.models import ArgumentInfo

from coordinator.client.examples import EXAMPLES as CONCORD
from coordinator.client.main import app as concord
from coordinator.examples import EXAMPLES as CONCORD_COORDINATOR
from coordinator.main import app as concord_coordinator
from coordinator.web import families as coordinators
from federation.catalogue import page as data_set_page
from federation.errors import INTERRUPTED_EXIT_CODE, TABLE, NotFound, told
from federation.manifest import explain, study_page
from federation.policy import page
from node_agent.examples import EXAMPLES as CONCORD_NODE
from node_agent.main import app as concord_node
from node_agent.telemetry import families as nodes

sys.path.insert(0, str(Path(__file__).resolve().parent))
from charter_page import charter_page
from checks_page import checks_page
from settings_page import settings_page

HERE: Final = Path(__file__).resolve().parent

PROGRAMS: Final = {"concord": concord, "concord-node": concord_node, "concord-coordinator": concord_coordinator}

EXAMPLES: Final = {**CONCORD, **CONCORD_NODE, **CONCORD_COORDINATOR}

EXIT_CODES: Final = {
    0: "done",
    1: "unexpected, or the job itself failed, or `doctor` found something wrong",
    2: "the command was used wrongly",
    3: "there is no such thing",
    4: "a policy says no",
    5: "a document is invalid",
    6: "a key, a signature or a release is not good",
    7: "work was halted, withdrawn or stopped; or a halt is not carried out everywhere",
    8: "a peer is unavailable: worth trying again",
    INTERRUPTED_EXIT_CODE: "interrupted by Ctrl-C",
}


def pages() -> dict[str, str]:
    return {
        "job.md": explain.reference_page(),
        "study.md": study_page.reference_page(),
        "policy.md": page.reference_page(),
        "data-set.md": data_set_page.reference_page(),
        "commands.md": commands_page(),
        "metrics.md": metrics_page(),
        "settings.md": settings_page(),
        "charter.md": charter_page(),
        "checks.md": checks_page(),
    }


def metrics_page() -> str:
    lines = [
        "# Metrics and alerts",
        "",
        "Generated from the tables in the code and from `observability/rules` by `docs/reference/generate.py`; a test compares.",
        "How to watch a federation with them: [observe](../how-to/observe.md).",
        "",
        "Units are base units, counters end in `_total`, histograms have `_bucket`, `_sum` and `_count`. No label is ever a",
        "digest, a round's number, a node, or a text that somebody sent. The series of a job are there while it is under way,",
        "and gone with it. Beside these each service exports its own process: `concord_process_*`, `concord_node_process_*`.",
        "",
        "Counters and histograms begin at 0 each time a service starts: Prometheus's `rate()` and `increase()` reckon with it,",
        "and so do the alerts below. Gauges are read anew at each scrape: jobs, members, budgets, log and halts are those of the",
        "store, and a restart takes nothing from them.",
        "",
        "## The coordinator",
        "",
        "Of a member by its name only what the charter's `memberMetrics` allows by the word that is named here is exported; by",
        "default nothing ([why](../decisions/0033-members-by-name-only-as-the-charter-lists.md)).",
        "",
        *_families(coordinators.FAMILIES.values()),
        "## A node",
        "",
        'For the lab that runs it, and nobody else: `metrics: ""` in node.yaml exports nothing.',
        "",
        *_families(nodes.FAMILIES.values()),
        "## Alerts",
        "",
        "In `observability/rules/alerts.yaml`, each with a runbook. The side says whose Prometheus sees it: the coordinator's",
        "operator's, or a laboratory's own.",
        "",
        *(line for rule in _rules("alerts.yaml") for line in _alert(rule)),
        "## Recorded series",
        "",
        "In `observability/rules/recording.yaml`, for dashboards and people:",
        "",
        *(f"- `{rule['record']}` = `{' '.join(rule['expr'].split())}`" for rule in _rules("recording.yaml")),
    ]
    return "\n".join(lines) + "\n"


def _families(families: Iterable[coordinators.Family | nodes.Family]) -> Iterator[str]:
    for family in sorted(families, key=lambda family: family.exposed):
        labels = f", by {', '.join(map(_code, family.labels))}" if family.labels else ""
        word = getattr(family, "charter", "")
        yield f"### {family.exposed}"
        yield ""
        yield f"{family.help.rstrip('.')}. A {family.kind}{labels}." + (f" Charter: {_code(word)}." if word else "")
        yield ""


def _code(word: str) -> str:
    return f"`{word}`" if word else ""


def _rules(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((HERE.parents[1] / "observability" / "rules" / name).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def _alert(rule: dict[str, Any]) -> Iterator[str]:
    lasting = f", for {rule['for']}" if "for" in rule else ""
    labels = rule["labels"]
    yield f"### {rule['alert']}, {labels['side']}"
    yield ""
    yield f"{labels['severity'].capitalize()}; [what it means and what to do](../runbooks/{rule['alert']}.md). Fires when"
    yield f"`{' '.join(rule['expr'].split())}`{lasting}."
    yield ""


def commands_page() -> str:
    lines = [
        "# The commands",
        "",
        "Generated from the commands themselves by `docs/reference/generate.py`; a test compares. `--help` prints the same.",
        "",
        "Three programs: `concord` for research leads, officers and whoever checks a release, `concord-node` for a laboratory,",
        "`concord-coordinator` for the operator. What was asked for goes to stdout, everything else to stderr. Colours and moving",
        "bars appear on a terminal only, and never when `NO_COLOR` is set. With `CONCORD_DEBUG=1` an error shows its trace. Each",
        "program takes `--help`, `--install-completion` and `--show-completion`.",
        "",
        *_exit_codes(),
        *(line for name, app in PROGRAMS.items() for line in _program(name, typer.main.get_command(app))),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def commands() -> dict[str, click.Command]:
    """Every command by its full name."""
    found: dict[str, click.Command] = {}
    for name, app in PROGRAMS.items():
        found |= dict(_leaves(name, typer.main.get_command(app)))
    return found


def _leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    for word, inner in command.commands.items():
        yield from _leaves(f"{name} {word}", inner)


def _exit_codes() -> Iterator[str]:
    used = {mapping.exit_code for mapping in TABLE.values()} | {0, INTERRUPTED_EXIT_CODE}
    if used != set(EXIT_CODES):
        raise SystemExit(f"exit codes without a meaning, or meanings without a code: {sorted(used ^ set(EXIT_CODES))}")
    yield "## Exit codes"
    yield ""
    yield "| exit code | meaning | errors |"
    yield "|---|---|---|"
    for number, meaning in EXIT_CODES.items():
        errors = [code for code, mapping in TABLE.items() if mapping.exit_code == number]
        yield f"| {number} | {meaning} | {', '.join(f'[{code}](errors.md#{code})' for code in errors)} |"
    yield ""
    yield "An error is a few lines on stderr: what happened and why, what to do, and where [errors.md](errors.md) explains it:"
    yield ""
    yield "```"
    yield from told(NotFound("There is no job digitz.", hint="concord get jobs lists what there is."))
    yield "```"
    yield ""


def _program(name: str, root: click.Command) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield _sentence(root.help)
    yield ""
    leaves = dict(_leaves(name, root))
    if strange := [title for title in EXAMPLES if title.split()[0] == name and title not in leaves]:
        raise SystemExit(f"examples of commands that do not exist: {', '.join(strange)}")
    yield "| command | what it does |"
    yield "|---|---|"
    for title, command in leaves.items():
        yield f"| [`{title}`](#{title.replace(' ', '-')}) | {_cell(_sentence(command.help))} |"
    yield ""
    for title, command in leaves.items():
        yield from _command(title, command)


def _command(title: str, command: click.Command) -> Iterator[str]:
    example = EXAMPLES.get(title)
    if example is None:
        raise SystemExit(f"{title} has no example in {Path(__file__).name}")
    check(title, command, example)
    yield f"### {title}"
    yield ""
    yield _sentence(command.help)
    yield ""
    parameters = [item for item in command.params if item.name not in {"help", "install_completion", "show_completion"}]
    if parameters:
        yield "| option | value | default | meaning |"
        yield "|---|---|---|---|"
        yield from (_row(command, item) for item in parameters)
        yield ""
    yield from ("```sh", example, "```", "")


def check(title: str, command: click.Command, example: str) -> None:
    """Raises SystemExit unless the command line takes ``example``."""
    words = shlex.split(example)
    name = title.split()
    if words[: len(name)] != name:
        raise SystemExit(f"the example of {title} is of another command: {example}")
    try:
        command.make_context(title, words[len(name) :])
    except click.ClickException as error:
        raise SystemExit(f"the example of {title} is refused: {error.format_message()}") from error


def _row(command: click.Command, item: click.Parameter) -> str:
    if isinstance(item, click.Argument):
        names = f"`{(item.name or '').upper()}`"
    else:
        names = " ".join(f"`{name}`" for name in sorted(item.opts, key=len, reverse=True))
    default = "required" if item.required else _default(item.default)
    if item.envvar:
        default = f"{default}, or `{item.envvar}`" if default != "required" else f"required, here or in `{item.envvar}`"
    meaning = _sentence(getattr(item, "help", None) or _argument_help(command, item))
    if not meaning:
        raise SystemExit(f"{item.name} of {command.name} has no meaning")
    return f"| {names} | {_value(item)} | {default} | {_cell(meaning)} |"


def _value(item: click.Parameter) -> str:
    kind = item.type
    if isinstance(kind, click.Choice):
        text = " or ".join(f"`{choice}`" for choice in kind.choices)
    elif getattr(item, "is_flag", False):
        text = "flag"
    elif isinstance(kind, click.IntRange | click.FloatRange):
        text = "whole number" if isinstance(kind, click.IntRange) else "number"
        text += f" from {kind.min:g}" if kind.min is not None else ""
        text += f" to {kind.max:g}" if kind.max is not None else ""
    else:
        text = {"text": "text", "path": "path", "integer": "whole number", "float": "number"}[kind.name]
    return f"{text}, repeatable" if item.multiple else text


def _default(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value.value if isinstance(value, Enum) else f'{value:g}' if isinstance(value, float) else value}`"


def _argument_help(command: click.Command, item: click.Parameter) -> str:
    """The help of an argument as it was declared; typer's own classes lose it under some versions of click."""
    declared = inspect.unwrap(command.callback) if command.callback else None
    hints = typing.get_type_hints(declared, include_extras=True) if declared else {}
    notes = getattr(hints.get(item.name or ""), "__metadata__", ())
    return next((note.help or "" for note in notes if isinstance(note, ArgumentInfo)), "")


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, text in pages().items():
        (output / name).write_text(text)
