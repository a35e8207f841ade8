"""The page of settings: every word of coordinator.yaml and node.yaml, and every variable of the environment, out of the code."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, SecretStr

from coordinator.settings import PREFIX
from coordinator.settings import Settings as CoordinatorSettings
from federation.route import VARIABLES as PROXIES
from node_agent.settings import DataSet, NodeSettings, PrivacyBudget

VARIABLES: Final = {
    "CONCORD_HOME": "the home of `concord`, where `--home` is not given",
    "CONCORD_NODE_HOME": "the home of `concord-node`, where `--home` is not given",
    "CONCORD_COORDINATOR_HOME": "the home of `concord-coordinator`, where `--home` is not given",
    "CONCORD_PASSPHRASE_FILE": "a file with the passphrase of a locked key, readable by its owner alone",
    "CONCORD_PASSPHRASE_FD": "the number of an open file descriptor from which the passphrase is read",
    "CONCORD_DEBUG": "1: an error shows its trace",
    "NO_COLOR": "anything: no colour",
    "HTTPS_PROXY": "the proxy through which the coordinator is reached ([networks](../how-to/networks.md)); the first that is set "
    f"of {', '.join(f'`{name}`' for name in PROXIES)}",
    "NO_PROXY": "hosts that are reached without it",
}


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Generated from the code by `docs/reference/generate.py`; a test compares. An unknown word, an unknown variable with the",
        "prefix `CONCORD_`, or a value out of its range is refused at start, with the place and what to do. What a node may take",
        "part in is in [policy.yaml](policy.md), what a data set is in its [description](data-set.md).",
        "",
        "## coordinator.yaml",
        "",
        f"In the coordinator's home. Each may be given as a variable, too: `{PREFIX}` and the word in capitals, which then wins.",
        "",
        *_fields(CoordinatorSettings, camel=False),
        "## node.yaml",
        "",
        "In a node's home. `concord-node join` and `concord-node data add` write it.",
        "",
        *_fields(NodeSettings, camel=True),
        "## dataSets of node.yaml",
        "",
        *_fields(DataSet, camel=True),
        "## privacyBudget of a data set",
        "",
        *_fields(PrivacyBudget, camel=True),
        "## Environment",
        "",
        *(line for name, meaning in VARIABLES.items() for line in (f"### {name}", "", f"{_whole(meaning)}", "")),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _fields(model: type[BaseModel], *, camel: bool) -> Iterator[str]:
    meanings = _docstrings(model)
    for name, field in model.model_fields.items():
        if name not in meanings:
            raise SystemExit(f"{model.__name__}.{name} has no docstring: what does it mean?")
        word = (field.alias or name) if camel else name
        yield f"### {word}"
        yield ""
        yield _whole(meanings[name])
        yield ""
        if field.is_required():
            yield "Must be given."
        else:
            yield f"Default: {_shown(field.get_default(call_default_factory=True))}."
        yield ""


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Of the attributes: the string below each."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(found, ast.ClassDef)
    meanings: dict[str, str] = {}
    for said, after in zip(found.body, found.body[1:], strict=False):
        if isinstance(said, ast.AnnAssign) and isinstance(said.target, ast.Name) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                meanings[said.target.id] = " ".join(value.value.split())
    return meanings


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in ("", (), {}):
        return "none"
    return f"`{', '.join(map(str, value))}`" if isinstance(value, tuple) else f"`{value}`"


def _whole(text: str) -> str:
    text = text.replace("``", "`")
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
