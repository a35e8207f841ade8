"""`concord-node witness`: what this node knows as a witness of the public log, and beginning anew when its lab has looked."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from federation.audit.named_key import log_keys_of, named_key
from federation.errors import InvalidUsage
from federation.identity.roll import Roll
from node_agent.membership import ROLL_LIMIT
from node_agent.settings import Home
from node_agent.witness.notebook import Notebook, reset
from node_agent.witness.watcher import NAME_IT, UNNAMED


def print_state(home: Home, output: str) -> None:
    """Raises InvalidUsage for another form, or a damaged file."""
    if output not in {"table", "json"}:
        raise InvalidUsage(f"There is no form {output[:40]!r}.", hint="It is table or json.")
    roll = _roll(home)
    charter = None if roll is None else named_key(roll)
    book = Notebook(home.witness, () if roll is None else log_keys_of(roll))
    state, head = book.state, book.head
    if output == "json":
        document = {
            "key": None if book.key is None else str(book.key),
            "charterKey": None if charter is None else str(charter.key),
            "size": None if head is None else head.size,
            "root": None if head is None else head.root.hex(),
            "checked": _moment(book.checked),
            "stopped": None
            if state.stop is None
            else {
                "when": _moment(state.stop.when),
                "finding": state.stop.finding,
                "sentence": state.stop.sentence,
                "evidence": str(book.folder / state.stop.evidence) if state.stop.evidence else "",
            },
            "waitingFor": [
                {"document": each.document, "what": each.what, "late": each.late} for each in state.expected
            ],
            "seen": {name: {"size": size, "when": _moment(when)} for name, (size, when) in state.seen.items()},
        }
        print(json.dumps(document, indent=1, sort_keys=True))
        return
    if state.stop is not None:
        print(f"STOPPED {_moment(state.stop.when)}: {state.stop.sentence}")
        if state.stop.evidence:
            print(f"evidence   {book.folder / state.stop.evidence}   (concord audit fork checks it)")
        print("go on      concord-node witness reset --yes, then start the node again")
    print(f"log        {'none seen yet' if book.key is None else book.key}")
    if charter is None:
        print(f"WARNING    {UNNAMED} {NAME_IT}")
    elif book.key in {charter.key, None}:
        print(f"key        {charter.sentence}: {charter.key}")
    else:
        print(f"WARNING    the head was signed before; the key is {charter.sentence}: {charter.key}")
    if head is not None:
        print(
            f"head       {head.size} entries, root {head.root.hex()}, signed {_moment(head.time)}, in {book.folder / 'head'}"
        )
        print(f"checked    {_moment(book.checked)}")
    for name, (size, when) in sorted(state.seen.items()):
        print(f"witness    {name} has cosigned {size} entries of the same history, {_moment(when)}")
    for each in state.expected:
        word = "MISSING" if each.late else "waiting"
        print(f"{word}    {each.what} of {_moment(each.said)}, document {each.document}")


def about_key(home: Home) -> str:
    """A warning when nobody but the coordinator vouches for the log's key; else nothing."""
    roll = _roll(home)
    return "" if roll is None or named_key(roll) is not None else f"{UNNAMED} {NAME_IT}"


def begin_anew(home: Home, *, yes: bool, new_key: bool) -> None:
    """Raises InvalidUsage unless it was said twice and the node is not running."""
    from node_agent.service import locked

    if not yes:
        raise InvalidUsage(
            "This makes the node forget which history of the public log it has seen.",
            hint="Look first: `concord-node witness show`. Keep the evidence, tell the other members, and then add --yes.",
        )
    with locked(home):
        roll = _roll(home) if new_key else None
        if roll is not None and (charter := named_key(roll)) is not None:
            raise InvalidUsage(
                f"The log's key is {charter.sentence}, and no node chooses another: {charter.key}.",
                hint="Leave out --new-key. Only a vote of the members changes the key: concord propose coordinator --log-key.",
            )
        reset(home.witness, new_key=new_key)


def _roll(home: Home) -> Roll | None:
    """None before the node has joined."""
    return Roll.open(home.read(home.roll, ROLL_LIMIT)) if home.roll.exists() else None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else "never"
