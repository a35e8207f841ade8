"""The vectors of docs/protocol/secure-aggregation.md, made anew: ``python -m tests.vectors.generate`` writes them beside this file.

They come from the plain implementation in ``tests/plain`` alone; nothing of the product is imported. What is random in the
protocol is SHAKE256 of a label here, so that the files are the same each time. The tests beside it compare the files with what it
makes, and put the product through every case.

Format: one JSON object a subject. ``section``: of the page; ``cases``: each with a name, what goes in, what comes out;
``invalid``: each with the class of failure expected, ``check`` (of a ProtocolViolation) or ``error`` (a code of
docs/reference/errors.md). Bytes are lower-case hex; integers that a 53-bit reader cannot hold are decimal strings where a comment
or a neighbour says so. Messages have the fields of ``protos/federation/v1/rounds.proto``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.vectors.subjects import (
    convictions,
    keys,
    noise,
    primitives,
    refusals,
    releases,
    rounds,
    setups,
    states,
    steps,
    updates,
    votes,
)

HERE = Path(__file__).parent
FORMAT = "concord/secagg/vectors/v1"
SUBJECTS = {
    "quorums": primitives.quorum_document,
    "transcripts": primitives.transcript_document,
    "shares": primitives.share_document,
    "keystreams": primitives.keystream_document,
    "merkle": primitives.merkle_document,
    "levels": updates.level_document,
    "headers": updates.header_document,
    "noise": noise.noise_document,
    "sum_mac": updates.mac_document,
    "keys": keys.key_document,
    "boxes": keys.box_document,
    "setup": setups.setup_document,
    "rounds": rounds.round_document,
    "strategies": steps.strategy_document,
    "sums": refusals.sum_document,
    "states": states.state_document,
    "certificates": votes.certificate_document,
    "messages": votes.message_document,
    "convictions": convictions.conviction_document,
    "wire": refusals.wire_document,
    "audits": refusals.audit_document,
    "sealing": releases.sealing_document,
}


def plainly(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plainly(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plainly(each) for each in value]
    return value


def document(subject: str) -> str:
    """The file of a subject."""
    made = {"format": FORMAT, "subject": subject, **SUBJECTS[subject]()}
    lines = ["{"]
    for name, value in made.items():
        end = "," if name != "invalid" else ""
        if name in ("cases", "invalid") and value:
            lines.append(f" {json.dumps(name)}: [")
            lines += [",\n".join("  " + json.dumps(plainly(case), ensure_ascii=False) for case in value), f" ]{end}"]
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(plainly(value), ensure_ascii=False)}{end}")
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    for subject in SUBJECTS:
        (HERE / f"{subject}.json").write_text(document(subject))
