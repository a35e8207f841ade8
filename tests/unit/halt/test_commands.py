"""`concord-node halt`, `halts` and `lift`: through the home alone, with the node down, or hung."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from federation.errors import Halted, InvalidUsage, NotFound
from federation.halt.book import Part
from federation.halt.levels import Level
from federation.halt.order import HaltOrder, SignedOrder, Signer, read_order, seal_order
from node_agent.halt import commands
from node_agent.halt.commands import halt_here, lift_here, own_hand, print_halts, take_here
from node_agent.settings import Home
from tests.unit.agent.homes import Site, joined_by_hand
from tests.unit.halt.given import JOB, NOW

AGENT = """
import fcntl, os, subprocess, sys, time
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
os.pwrite(lock, str(os.getpid()).encode(), 0)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    joined_by_hand(site)
    return site


@pytest.fixture
def hung(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the home, and does nothing any more."""
    command = [sys.executable, "-S", "-c", AGENT, str(site.home.lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        yield process
        process.kill()


def level_at(home: Home, job: bytes = b"") -> Level:
    return own_hand(home).book().level(Part(job, "fr", "fr-1"))


def by_member(site: Site, who: str, level: Level = Level.stop, **changes: object) -> SignedOrder:
    fields: dict[str, object] = {
        "federation": "health", "scope": "federation", "job": b"", "member": "", "level": level, "by": Signer("member", who),
        "number": 1, "nonce": bytes(16), "issued": NOW, "reason": "an incident", **changes,
    }  # fmt: skip
    return read_order(seal_order(HaltOrder(**fields), site.parties.officers[who]))  # type: ignore[arg-type]


def test_a_node_that_is_down_finds_the_order_on_its_disk(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    halt_here(site.home, JOB.hex(), "stop", "wrong data")
    assert "the node is not running: it obeys when it starts" in capsys.readouterr().out
    assert (level_at(site.home, JOB), level_at(site.home)) == (Level.stop, Level.none)
    halt_here(site.home, "", "hold", "a visit")
    assert level_at(site.home) is Level.hold
    with pytest.raises(NotFound, match="No jobs here"):
        halt_here(site.home, "digits", "stop", "no such job")


def test_a_node_that_hangs_is_killed_and_only_by_a_stop(
    site: Site, hung: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "PATIENCE_SECONDS", 0.2)
    halt_here(site.home, "", "hold", "a visit")
    assert psutil.Process(hung.pid).status() == psutil.STATUS_STOPPED
    halt_here(site.home, "", "stop", "the ministry called")
    assert "was killed" in capsys.readouterr().out
    hung.wait(5.0)
    assert not psutil.pid_exists(hung.pid)
    assert level_at(site.home) is Level.stop


def test_what_the_node_ordered_itself_it_lifts_and_no_stop_of_a_job(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    hand = own_hand(site.home)
    whole, job = hand.halt(Level.stop, "an alarm"), hand.halt(Level.stop, "wrong data", JOB)
    lift_here(site.home, whole.digest.hex()[:10], "a false one")
    assert (level_at(site.home, JOB), level_at(site.home)) == (Level.stop, Level.none)
    with pytest.raises(Halted, match="final"):
        lift_here(site.home, job.digest.hex()[:10], "please")
    hand.folder.keep_order(other := by_member(site, "ke", Level.hold))
    with pytest.raises(InvalidUsage, match="order of the member ke"):
        lift_here(site.home, other.digest.hex()[:10], "please")
    with pytest.raises(NotFound):
        lift_here(site.home, "", "please")
    capsys.readouterr()
    print_halts(site.home)
    said = capsys.readouterr()
    assert said.out.count("stands") == 2
    assert said.out.count("lifted") == 1
    assert "this node as a whole: hold" in said.err


def test_an_order_that_somebody_else_signed_is_taken_from_a_file_when_it_binds_this_node(
    site: Site, tmp_path: Path
) -> None:
    good = by_member(site, "ke")
    bad = by_member(site, "ke", by=Signer("member", "fr"))
    paths = []
    for number, signed in enumerate((good, bad)):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_bytes(signed.envelope)
    take_here(site.home, paths[0], None)
    assert level_at(site.home) is Level.stop
    with pytest.raises(Exception, match="not signed by the member fr"):
        take_here(site.home, paths[1], None)
    with pytest.raises(InvalidUsage, match="cannot be read"):
        take_here(site.home, tmp_path / "none.json", None)
    assert len(list(site.home.halts.glob("*.order.json"))) == 1


def test_a_file_that_cannot_be_read_stops_everything_until_it_is_moved_away(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    own_hand(site.home).halt(Level.hold, "a visit")
    (strange := site.home.halts / f"{'0' * 64}.order.json").write_bytes(b"\0")
    print_halts(site.home)
    assert "everything is stopped until it is moved away" in capsys.readouterr().err
    strange.unlink()
    print_halts(site.home)
    assert "cannot be read" not in capsys.readouterr().err
