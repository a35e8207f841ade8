"""Page: "Audit": what an auditor is shown of one place of a sum, and what it checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.plain import merkle, sums
from tests.plain import transcripts as t
from tests.plain.attempt import Attempt
from tests.plain.ciphers import HEADER
from tests.plain.update import Mask, bytes_of, masked, values_of

Shown = dict[str, Any]


def shown(attempt: Attempt, place: int) -> list[Shown]:
    """``place``: of the leaf; the header is the last."""
    found = []
    for index in attempt.cohort:
        chunks = attempt.updates[index].chunks
        part: Shown = {"index": index, "data": chunks[place], "path": merkle.path(chunks, place)}
        if index in attempt.reveals:
            part |= {"reveal": attempt.reveals[index], "upload": None, "seeds": []}
        else:
            seeds = [{"peer": peer, "seed": seed} for peer, seed in sorted(attempt.seeds[index].items())]
            part |= {"reveal": None, "upload": attempt.uploads[index], "seeds": seeds}
        found.append(part)
    return found


def audited(attempt: Attempt, place: int, parts: Sequence[Shown], total: bytes) -> None:
    """Raises sums.Refused. Signatures are not looked at here."""
    if [part["index"] for part in parts] != list(attempt.cohort):
        raise sums.Refused("audit-cohort")
    leaves = len(next(iter(attempt.updates.values())).chunks)
    masks: list[Mask] = []
    for part, entry in zip(parts, attempt.survivors["entries"], strict=True):
        if _root(part["data"], place, leaves, part["path"]) != entry["root"]:
            raise sums.Refused("audit-chunk")
        owner, reveal, upload = part["index"], part["reveal"], part["upload"]
        if reveal is not None:
            if (reveal["context"], reveal["index"]) != (attempt.context, owner):
                raise sums.Refused("audit-seeds")
            seeds = {0: reveal["self_seed"], **{each["peer"]: each["seed"] for each in reveal["edges"]}}
        else:
            if upload is None or t.trailer_hash(upload) != entry["trailer_hash"]:
                raise sums.Refused("audit-seeds")
            seeds = {each["peer"]: each["seed"] for each in part["seeds"]}
            committed = dict(zip([0, *upload["edges"]], upload["secret_hashes"], strict=True))
            if any(
                t.digest("secret", attempt.context, owner, peer, seed) != committed.get(peer)
                for peer, seed in seeds.items()
            ):
                raise sums.Refused("audit-seeds")
        if list(seeds) != [0, *attempt.gone]:
            raise sums.Refused("audit-seeds")
        masks += [(seed, +1 if 0 < peer < owner else -1) for peer, seed in seeds.items()]
    index, bits = (HEADER, 64) if place == leaves - 1 else (place, attempt.code.bits)
    columns = zip(*(values_of(part["data"], bits) for part in parts), strict=True)
    found = bytes_of(masked([sum(column) for column in columns], masks, index, bits, attempt.code.cipher), bits)
    published = sums.pieces_of(attempt.code, total)[place]
    if found != bytes_of(published[2], bits):
        raise sums.Refused("audit-sum")


def _root(data: bytes, place: int, leaves: int, path: Sequence[bytes]) -> bytes:
    """RFC 9162, section 2.1.3.2; empty when the path does not fit."""
    node, last, left = merkle.leaf(data), leaves - 1, list(path)
    while last > 0:
        if place % 2 == 1 or place == last:
            if not left:
                return b""
            if place % 2 == 0:  # the last of an odd row: it goes up alone
                while place % 2 == 0 and last > 0:
                    place, last = place // 2, last // 2
                if last == 0:
                    return node if not left else b""
            node = merkle.node(left.pop(0), node)
        else:
            if not left:
                return b""
            node = merkle.node(node, left.pop(0))
        place, last = place // 2, last // 2
    return node if not left else b""
