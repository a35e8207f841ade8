"""The page of checks: the name of every rule that a message can break, with what is said then, out of the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from node_agent.rounds.refusals import NO_EVIDENCE
from node_agent.runner.failure import CHECKS

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = ("federation", "coordinator", "node_agent")
MAKERS: Final = {"violation": (0, 1), "_bad": (0, 1), "ProtocolViolation": (None, 0)}
"""functions that make such an error, with the places of check and sentence; None: it is the argument ``check``"""
ELSEWHERE: Final = "The peer's own words"
"""where the sentence came from another program"""


def checks_page() -> str:
    found = checks()
    return "\n".join([
        "# Checks",
        "",
        "Generated from the code by `docs/reference/generate.py`; a test compares. … stands for what differs from case to case.",
        "",
        "## Of messages",
        "",
        "A [protocol violation](errors.md#protocol-violation) names the check that failed: in a node's log (`check`), in",
        "`concord-coordinator evidence`, in the label of `concord_protocol_violations_total`. Nothing of such a message was",
        "acted on. Of those that are marked ○ a node keeps no evidence: honest messages that cross on a slow network fail them,",
        "too, or it is kept where it was found, or it is about the lab itself. What to do:",
        "[the alert's page](../runbooks/ProtocolViolation.md).",
        "",
        *(line for check in sorted(found) for line in _check(check, found[check])),
        "## Of a job's code",
        "",
        "Why a node did not use what an app is, or answered. The error is [task-failed](errors.md#task-failed); `concord-node try`",
        "finds these before a job is submitted.",
        "",
        *(line for name, said in sorted(CHECKS.items()) for line in (f"### {name}", "", " ".join(map(_sentence, said)), "")),
    ]).rstrip("\n") + "\n"  # fmt: skip


def checks() -> dict[str, list[str]]:
    """By name, each sentence that is said with it."""
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                for check, sentence in _of(ast.parse(path.read_text())):
                    listed = found.setdefault(check, [])
                    if sentence not in listed:
                        listed.append(sentence)
    return found


def _of(module: ast.Module) -> Iterator[tuple[str, str]]:
    names = {
        target.id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    for call in ast.walk(module):
        if not isinstance(call, ast.Call):
            continue
        maker = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if maker not in MAKERS:
            continue
        place, said = MAKERS[maker]
        named = call.args[place] if place is not None and call.args else _argument(call, "check")
        text = call.args[said] if len(call.args) > said else None
        for check in _words(named, names):
            for sentence in list(_words(text, names)) or [ELSEWHERE]:
                yield check, sentence


def _argument(call: ast.Call, name: str) -> ast.expr | None:
    return next((each.value for each in call.keywords if each.arg == name), None)


def _words(node: ast.expr | None, names: dict[str, str]) -> Iterator[str]:
    """What a literal says, whichever way a choice in it goes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from _words(node.body, names)
        yield from _words(node.orelse, names)
    elif isinstance(node, ast.Name) and node.id in names:
        yield names[node.id]


def _check(check: str, sentences: list[str]) -> Iterator[str]:
    yield f"### {check}"
    yield ""
    mark = "○ " if check in NO_EVIDENCE else ""
    if len(sentences) == 1:
        yield f"{mark}{_sentence(sentences[0])}"
    else:
        if mark:
            yield "○"
            yield ""
        yield from (f"- {_sentence(each)}" for each in sentences)
    yield ""


def _sentence(text: str) -> str:
    shown = text.strip().replace("<", "&lt;").replace("|", "\\|")
    return shown[:1].upper() + shown[1:] + ("" if shown.endswith((".", ":", "?", "!")) else ".")
