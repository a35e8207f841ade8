"""What a node has ordered for itself must be in the public log, once it is passed on; what others ordered is theirs to look for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from federation.halt.levels import Level
from federation.identity.keys import SigningKey
from node_agent.halt.carrying_out import CarryingOut
from node_agent.halt.folder import HaltFolder
from node_agent.halt.own import OwnHand


def test_a_nodes_own_halt_and_its_lift_are_awaited(tmp_path: Path) -> None:
    folder, sent, awaited = HaltFolder(tmp_path / "halts"), [], []
    hand = OwnHand("atlas", "br", "br-1", SigningKey.generate(), folder)
    own = hand.halt(Level.drain, "a check of the machine")
    other = OwnHand("atlas", "ke", "ke-1", SigningKey.generate(), folder).halt(Level.hold, "")
    halts = SimpleNamespace(
        orders=lambda: hand.book().orders(), lift_of=lambda digest: hand.book().lift_of(digest), folder=folder
    )
    settings = SimpleNamespace(federation="atlas", member="br", node="br-1")
    node: Any = SimpleNamespace(halts=halts, settings=settings, key=SigningKey.generate())
    link: Any = SimpleNamespace(send=sent.append)
    witness: Any = SimpleNamespace(expect=lambda envelope, what: awaited.append((what, envelope)))
    jobs: Any = {}
    carrying_out = CarryingOut(node, jobs, link, witness)
    carrying_out._pass_on()
    assert {report.order for report in sent} == {own.envelope, other.envelope}
    assert awaited == [("halt", own.envelope)]
    carrying_out._pass_on()
    assert len(awaited) == 1, "once for each connection"
    hand.lift(own.digest.hex(), "done")
    carrying_out._pass_on()
    (lift,) = folder.read().lifts
    assert awaited[1:] == [("halt", own.envelope), ("lift", lift.envelope)]
