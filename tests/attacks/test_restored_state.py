"""Attack 38: a node is started again on an older copy of its journal, or twice, so that it votes twice.

The members' machines run on journals that are files of the node; the coordinator is the workshop, which holds every key.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from federation.errors import Unavailable
from federation.secagg.events import Remember
from federation.secagg.messages import Ack
from node_agent.store import journal as module
from node_agent.store.journal import ConsentRecord, Journal
from tests.attacks.forging import Workshop, run_until
from tests.simulation.harness import JOB, Lab
from tests.simulation.stand_ins import Quick

NOW = "2027-03-01T10:00:00Z"
VICTIM = "m1"


class Disked(Quick):
    """A federation in which one member's votes are on a real disk."""

    def __init__(self, place: Path, **changes: Any) -> None:
        super().__init__(**changes)
        self.path = place / "journal.db"
        self.journal = Journal(self.path, now=NOW)
        consent = ConsentRecord(JOB, "job", "lead", True, ("yes",), b"signed", NOW)
        self.journal.answer(consent, b"manifest")

    def _member_does(self, lab: Lab, instruction: Any) -> None:
        if lab.name == VICTIM and isinstance(instruction, Remember):
            self.journal.remember(JOB, {instruction.key: instruction.value})
        super()._member_does(lab, instruction)

    def start_again(self) -> Lab:
        """The node's process is started on whatever lies there. It takes up a job that is active there, and no other."""
        self.journal.close()
        self.journal = Journal(self.path, now=NOW)
        lab = self.labs[VICTIM]
        lab.lives += 1
        lab.machine = self._machine(lab.name, lab.signer, lab.weight, lab.lives)
        lab.journal = self.journal.records(JOB) if self.journal.jobs() else {}
        lab.machine.restore(dict(lab.journal))
        return lab


def restored(place: Path, *, by_rename: bool) -> tuple[Disked, list[Ack]]:
    """The ACKs that the victim signs when the copy of its journal from before its vote is put back."""
    world = Disked(place, n=5, rounds=3)
    run_until(world, "certifying")
    workshop = Workshop(world)
    copy = place / "copy"
    shutil.copyfile(world.path, copy)
    votes = acks(workshop, (1, 2, 3, 4, 5))
    world.journal.close()
    if by_rename:
        copy.rename(world.path)
    else:
        world.path.write_bytes(copy.read_bytes())
    world.start_again()
    announcement = world.collector._book.announcement
    assert announcement is not None
    workshop.tell(1, announcement)
    return world, votes + acks(workshop, (1, 2, 3, 4))


def acks(workshop: Workshop, cohort: tuple[int, ...]) -> list[Ack]:
    return [each for each in workshop.said(1, workshop.survivors(cohort)) if isinstance(each, Ack)]


PUT_BACK = pytest.mark.parametrize("by_rename", [True, False], ids=["by rename", "in place"])


@PUT_BACK
def test_restored_state_and_second_process_are_refused(tmp_path: Path, by_rename: bool) -> None:
    world, votes = restored(tmp_path, by_rename=by_rename)
    assert len(votes) == 1, "the journal is void: nothing more is said in this epoch"
    assert world.journal.restored == NOW
    with pytest.raises(Unavailable, match="in use by another process"):
        Journal(world.path)
    world.forget(VICTIM)  # the lab is asked anew, as after a lost disk
    for name in world.names[1:]:
        world.lose(name)
        world.reconnect(name)
    world.run()
    assert world.done is not None
    assert world.labs[VICTIM].machine.position.epoch == 2


@PUT_BACK
def test_without_the_anchor_a_restored_member_votes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_rename: bool
) -> None:
    """The test has teeth."""
    monkeypatch.setattr(module, "why_not", lambda *_: "")
    _, votes = restored(tmp_path, by_rename=by_rename)
    assert len({vote.survivors_digest for vote in votes}) == 2
