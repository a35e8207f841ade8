"""What the page shows of the vectors: ``python -m tests.vectors.worked`` writes the worked round and the table of n into
docs/protocol/secure-aggregation.md, between marks. A test compares."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

from tests.plain.quorums import quorums

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "protocol" / "secure-aggregation.md"
SIZES = (3, 4, 5, 6, 7, 8, 9, 10, 21, 100)


def _load(subject: str) -> Any:
    return json.loads((HERE / f"{subject}.json").read_text())


def sizes() -> str:
    """The table of what each n gives."""
    lines = [
        "| n | f | q | t | m | lost before UPLOAD | lost after UPLOAD | after REVEAL is asked | honest terms, at least |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for n in SIZES:
        found = quorums(n)
        cells = (*found, n - found.m, n - max(found.q, found.t), n - found.t, found.m - found.f)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _floats(text: str, size: int) -> str:
    values = struct.unpack(f"<{len(text) // 2 // size}{'f' if size == 4 else 'd'}", bytes.fromhex(text))
    return " ".join(f"{value:.9g}" if size == 4 else repr(value) for value in values)


def _row(name: str, value: str) -> str:
    return f"{name:<24} {value}".rstrip()


def _list(values: list[Any]) -> str:
    return " ".join(str(value) for value in values)


def _long(name: str, text: str) -> list[str]:
    """Hex, 48 bytes a line."""
    parts = re.findall(".{1,96}", text)
    return [_row(name, parts[0]), *(_row("", part) for part in parts[1:])]


def worked_round() -> str:
    setup = next(case for case in _load("setup")["cases"] if case["name"] == "three")
    made = next(case for case in _load("rounds")["cases"] if case["name"] == "three")
    rules, members = made["rules"], made["members"]
    lines = ["```", '# setup.json, "three"']
    lines += [_row("job", setup["job"])]
    lines += [
        _row(f"member {place}", f"{each['id']}, weight {each['weight']}")
        for place, each in enumerate(setup["members"], start=1)
    ]
    lines += [_row("keys hash", setup["keys_hash"]), _row("RH", setup["roster_hash"])]
    lines += [_row(f"K_{pair.replace(',', '')}", root) for pair, root in setup["roots"].items()]
    lines += [_row("KG", setup["group_key"]), _row("beacon", setup["beacon"])]
    lines += ["", '# rounds.json, "three": the rules, and state_1']
    lines += [
        _row("B, L, w_unit, clip norm", f"{rules['ringBits']}, 10922, 4, {rules['clipNorm']}"),
        _row("weights", _floats(made["state"]["weights"], 4)),
        _row("exponents", _list(made["state"]["scales"])),
        _row("H(state_1)", made["state"]["digest"]),
        _row("R_r", _list(made["ready"])),
        _row("ctx", made["context"]),
        _row("who blinds", _list(made["blinders"])),
        _row("key of the sum MAC", made["tag key"]),
    ]
    for member in members:
        index = member["index"]
        lines += ["", f"# member {index}", _row("difference", _floats(member["difference"], 4))]
        lines += [_row("dither key", member["dither"])]
        lines += [_row(f"levels of chunk {place}", _list(chunk)) for place, chunk in enumerate(member["levels"])]
        lines += [_row("saturated", str(member["saturated"])), _row("tag", _list(member["tag"]))]
        lines += [_row("header, last 4: MAC", _list(member["header"][:5])), _row("", _list(member["header"][5:]))]
        peers = ["b", *(f"s_{min(index, peer)}{max(index, peer)}" for peer in made["ready"] if peer != index)]
        peers += ["g"] if index in made["blinders"] else []
        for name, mask in zip(peers, member["masks"], strict=True):
            lines.append(_row(f"mask {'+' if mask['sign'] > 0 else '-'} {name}", mask["seed"]))
        lines += [_row(f"masked chunk {place}", chunk) for place, chunk in enumerate(member["chunks"][:-1])]
        lines += _long("masked header", member["chunks"][-1])
        upload = next(each for each in made["uploads"] if each["index"] == index)
        lines += [_row("Merkle root", upload["root"]), _row("trailer hash", member["trailer_hash"])]
    lines += ["", "# certificate, unmasking"]
    lines += [
        _row("U", _list(made["cohort"])),
        _row("survivors hash", made["survivors_digest"]),
        _row("ACKs of", _list([ack["index"] for ack in made["acks"]])),
    ]
    lines += [_row(f"REVEAL of {each['index']}: b", each["self_seed"]) for each in made["reveals"]]
    for reply in made["replies"]:
        lines.append(_row(f"RECOVER by {reply['index']}: b_{reply['owner']}", reply["shares"][0]["value"]))
    lines += [_row("b_3 of both shares", made["unmasking"][-1]["seed"])]
    lines += ["", "# the sum, as published (under g_1), and as members read it", *_long("published", made["sum"])]
    lines += [_row(f"levels of chunk {place}", _list(chunk)) for place, chunk in enumerate(made["opened"]["levels"])]
    lines += [
        _row("header, last 4: MAC", _list(made["opened"]["header"][:5])),
        _row("", _list(made["opened"]["header"][5:])),
    ]
    mean = _floats(made["mean"], 8).split()
    lines += [_row("mean", _list(mean[:3])), _row("", _list(mean[3:]))]
    lines += ["", "# state_2"]
    lines += [
        _row("weights", _floats(made["next"]["weights"], 4)),
        _row("exponents", _list(made["next"]["scales"])),
        _row("H(state_2)", made["next"]["digest"]),
        _row("figures in receipts", _list(made["after"][0]["figures"])),
        *_long("receipt of member 1", made["after"][0]["signature"]),
        "```",
    ]
    return "\n".join(lines)


SECTIONS = {"sizes": sizes, "worked round": worked_round}


def _marked(text: str, name: str, body: str) -> str:
    begin, end = f"<!-- {name}: made by tests/vectors/worked.py -->\n", f"\n<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no marks for {name}")
    return before + begin + body + end + after


def page(text: str) -> str:
    for name, make in SECTIONS.items():
        text = _marked(text, name, make())
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
