"""What a node refused and kept: bounded, private, and not to be pushed out by a flood."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from federation.errors import NotFound, ProtocolViolation, VerificationFailed
from federation.v1 import rounds_pb2
from node_agent.rounds import training
from node_agent.rounds.inbox import INBOX_MESSAGES
from node_agent.rounds.refusals import NO_EVIDENCE, REFUSALS_TOLD
from node_agent.store.evidence import PIECES, PIECES_OF_A_CHECK, EvidenceFolder, Piece
from tests.unit.agent.hall import Bench, Hall


def piece(number: int, check: str = "signature", job: int = 1) -> Piece:
    wrong = ProtocolViolation("It is wrong.", check=check, hint="Tell them.")
    return Piece.of(bytes([job]) * 32, "tiny", f"2026-01-01T00:00:{number % 60:02}Z", wrong, "Ack", [b"%d" % number])


def test_a_piece_is_a_private_file_named_by_its_digest_and_found_again(tmp_path: Path) -> None:
    folder = EvidenceFolder(tmp_path / "evidence")
    path = folder.keep(piece(1))
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert folder.find(path.name[:6]) == (path, piece(1))
    assert EvidenceFolder(tmp_path / "evidence").keep(piece(1)) is None  # also for a process that was started again
    with pytest.raises(NotFound):
        folder.find(path.name[:5])
    path.write_bytes(path.read_bytes().replace(b"wrong", b"right"))
    with pytest.raises(VerificationFailed):
        folder.find(path.name[:6])
    assert folder.pieces() == []


def test_of_each_check_the_first_few_are_kept_and_of_all_not_more_than_so_many(tmp_path: Path) -> None:
    folder = EvidenceFolder(tmp_path / "evidence")
    first = [folder.keep(piece(number)) for number in range(PIECES_OF_A_CHECK)]
    assert all(first)
    assert folder.keep(piece(PIECES_OF_A_CHECK)) is None
    assert folder.keep(piece(0, check="acks")) is not None  # a flood of one check leaves room for the next
    for number in range(2 * PIECES):
        folder.keep(piece(number, check=f"check-{number}"))
    assert folder.full
    assert len(list((tmp_path / "evidence").iterdir())) == PIECES
    assert all(path is not None and path.exists() for path in first)


def test_a_flood_waits_outside_and_fills_neither_log_nor_wire_nor_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's inbox: while it is full, the stream is not read; what is refused is told ever more seldom."""
    monkeypatch.setattr(training, "Worker", Bench)
    hall = Hall(tmp_path / "hall")
    office = hall.offices["fr"]
    sent = 4 * INBOX_MESSAGES
    rooms: list[bool] = []

    def carry(name: str, proto: Any) -> Any:
        if name == "fr" and isinstance(proto, rounds_pb2.Announcement) and proto.round == 1 and not rooms:
            bad = rounds_pb2.Announcement()
            bad.CopyFrom(proto)
            bad.readies[0].min_cohort = 2
            for _ in range(sent):
                office.driver.hear(bad)
                rooms.append(not office.driver.inbox.full)
        return proto

    hall.carry = carry
    hall.play(Hall.run, Hall.settle).finished()
    assert rooms[: INBOX_MESSAGES - 1] == [True] * (INBOX_MESSAGES - 1)
    assert not any(rooms[INBOX_MESSAGES:])
    inbox = office.driver.inbox  # at the end all of it was dealt with
    assert (inbox.full, inbox._waiting, inbox._waiting_bytes) == (False, 0, 0)
    assert office.counted["refusals"] >= sent  # beside them it was late itself
    told = office.told(rounds_pb2.Refusal)
    assert REFUSALS_TOLD < len(told) < REFUSALS_TOLD + 12
    assert office.counted["evidence"] == 1  # the same message is one piece, however often it comes
    assert {kept.check for _, kept in EvidenceFolder(office.folder / "evidence").pieces()} == {"signature"}
    assert not {"signature", "sum-mac", "two-survivor-sets"} & NO_EVIDENCE
