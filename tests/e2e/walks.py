"""Walking through pages: what they tell people to type is typed, in a federation founded as the tutorial founds it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from coordinator.client.sdk import Federation
from tests.e2e.forks import Forks
from tests.pages import fences
from tests.postgresql import PostgresServer

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Typed:
    """What a script said."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Walk:
    """A folder with the homes of a federation, and a shell in it."""

    folder: Path
    environment: dict[str, str]
    places: dict[str, str] = field(default_factory=dict)
    """addresses that stand in pages, and what they are here"""
    groups: list[int] = field(default_factory=list)
    """process groups of all scripts, for the end"""
    server: Callable[[], PostgresServer] = PostgresServer
    """starts PostgreSQL"""
    pages: dict[str, bool] = field(default_factory=dict)
    """pages that were walked through, and whether all was well"""

    def type(self, script: str, *, answer: str = "", more: Mapping[str, str] | None = None) -> Typed:
        """Runs a script as a shell would that stops at the first error. ``answer``: what is typed when it asks."""
        for there, here in self.places.items():
            script = script.replace(there, here)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:  # a pipe would wait for services
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder, env={**self.environment, **(more or {})}, stdin=subprocess.PIPE, stdout=out, stderr=err,
                text=True, start_new_session=True,
            )  # fmt: skip
            self.groups.append(process.pid)
            process.communicate(answer, timeout=SECONDS)
            out.seek(0)
            err.seek(0)
            return Typed(process.returncode, out.read(), err.read())

    def told(self, script: str, *, answer: str = "", more: Mapping[str, str] | None = None) -> str:
        """As ``type``; it must end well. What it said on stdout."""
        done = self.type(script, answer=answer, more=more)
        assert done.code == 0, f"{script}\nended with {done.code}:\n{done.out}{done.err}"
        return done.out

    # ---------------------------------------------------------------------------------------------------- services

    def process(self, home: str) -> psutil.Process:
        return psutil.Process(json.loads((self.folder / home / "run.json").read_text())["pid"])

    def await_start(self, home: str, seconds: float = SECONDS) -> None:
        """Until the service of a home that was just started says that it runs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(OSError, ValueError, psutil.NoSuchProcess):
                if self.process(home).is_running():
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / f"{home}.log").read_text()[-2000:])

    def stop(self, home: str) -> None:
        process = self.process(home)
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
        (self.folder / home / "run.json").unlink(missing_ok=True)

    def start(self, home: str) -> None:
        program = "concord-coordinator" if home.startswith("coordinator") else "concord-node"
        self.told(f"{program} run --home {home} 2>> {home}.log &")
        self.await_start(home)

    @contextmanager
    def stopped(self, home: str) -> Iterator[None]:
        self.stop(home)
        yield
        self.start(home)

    @contextmanager
    def client(self, home: str = "lead") -> Iterator[Federation]:
        with Federation.connect(self.folder / home) as federation:
            yield federation

    def end(self) -> None:
        """Ends every process that a script has left."""
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


@dataclass(slots=True)
class Page:
    """How a page is walked through. Every fence of shell in it is run, but for the lines in ``elsewhere``, which say why not."""

    path: str
    elsewhere: dict[str, str] = field(default_factory=dict)
    """lines that cannot be run here, whole or up to an asterisk, each with the reason"""
    stands_for: dict[str, Callable[[Walk], str]] = field(default_factory=dict)
    """words of the page that are others each time, such as a digest, and what they are now"""
    before: dict[str, Callable[[Walk], object]] = field(default_factory=dict)
    """what the page takes to have happened before a line, given by the line's beginning"""
    after: dict[str, Callable[[Walk], object]] = field(default_factory=dict)
    """what the page takes to happen after a line"""
    samples: dict[str, str] = field(default_factory=dict)
    """first lines of what the page shows and this walk does not see, each with where it is seen"""
    ends_with: dict[str, int] = field(default_factory=dict)
    """lines that end with an exit code that the page tells"""
    answers: dict[str, str] = field(default_factory=dict)
    """what is typed when a line asks"""
    needs: tuple[str, ...] = ()
    """pages that are walked through before"""

    @property
    def text(self) -> str:
        return (ROOT / self.path).read_text()

    def left_out(self, line: str) -> str:
        return next(
            (text for text in self.elsewhere if line == text or (text.endswith("*") and line.startswith(text[:-1]))), ""
        )

    def _shown(self, text: str, said: list[tuple[str, Typed]]) -> set[str]:
        """What a page shows was said, line for line; else it is named as a sample."""
        first, *_ = lines = text.strip("\n").splitlines()
        if first in self.samples:
            return {first}
        seen = {line.rstrip() for _, answer in said for line in (answer.out + answer.err).splitlines()}
        missing = [line for line in lines if line.rstrip() not in seen]
        assert not missing, f"{self.path} shows {missing}, and nothing said so"
        return set()

    def _meant(self, text: str, walk: Walk, done: set[str]) -> str:
        for word, meaning in self.stands_for.items():
            if word in text:
                done.add(word)
                text = text.replace(word, meaning(walk))
        return text

    def walk(self, walk: Walk, start: str = "") -> list[tuple[str, Typed]]:
        """Each line that was run, with what it said. ``start``: the beginning of a line; what is above it is not run."""
        said = []
        done: set[str] = set()
        whole = not start
        found = fences(self.text)
        for fence in found:
            if fence.file:
                path = walk.folder / fence.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._meant(fence.text, walk, done))
        for fence in found:
            if fence.language == "":
                done |= self._shown(fence.text, said)
            if fence.language != "sh":
                continue
            for line in fence.lines:
                if start and not line.startswith(start):
                    continue
                start = ""
                if reason := self.left_out(line):
                    done.add(reason)
                    continue
                for beginning, happens in self.before.items():
                    if line.startswith(beginning) and beginning not in done:
                        done.add(beginning)
                        happens(walk)
                typed = self._meant(line, walk, done)
                asked = next((text for text in self.answers if line.startswith(text)), "")
                code = next((text for text in self.ends_with if line.startswith(text)), "")
                done |= {asked, code}
                answer = walk.type(typed, answer=self.answers.get(asked, ""))
                expected = self.ends_with.get(code, 0)
                assert answer.code == expected, (
                    f"{self.path}: {typed}\nended with {answer.code}, not {expected}:\n{answer.out}{answer.err}"
                )
                said.append((line, answer))
                for beginning, happens in self.after.items():
                    if line.startswith(beginning):
                        done.add(beginning)
                        happens(walk)
        named = {
            *self.elsewhere,
            *self.before,
            *self.after,
            *self.stands_for,
            *self.answers,
            *self.ends_with,
            *self.samples,
        }
        assert named <= done or not whole, f"{self.path} does not say {sorted(named - done)} any more"
        return said


def founded(folder: Path, forks: Forks, server: Callable[[], PostgresServer] = PostgresServer) -> Walk:
    """The tutorial, up to the first job: three members, Ana who leads, officers who are logged in."""
    assert shutil.which("curl"), "curl is not installed, so these tests fail. Install it: sudo apt-get install curl"
    folder.mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONCORD_")}
    python = environment.get("PYTHONPATH", "")
    environment |= {
        "PATH": f"{forks.folder}:{Path(sys.executable).parent}:{environment['PATH']}",
        "PYTHONPATH": f"{ROOT}:{python}" if python else str(ROOT),
        "CONCORD_COORDINATOR_LOG_HEAD_SECONDS": "0.2",
        "NO_COLOR": "1",
        "HOME": str(folder),
        "CONCORD_PASSPHRASE_FILE": str(folder / "passphrase"),
    }
    coordinator, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    places = {
        "new.example:7443": f"127.0.0.1:{free_port()}",
        "127.0.0.1:8080": f"127.0.0.1:{free_port()}",
        "127.0.0.1:7443": coordinator,
        "127.0.0.1:9464": metrics,
        "https://concord.example.org": f"http://{metrics}",
    }
    walk = Walk(folder, environment, places, server=server)
    (folder / "passphrase").touch(mode=0o600)
    (folder / "passphrase").write_text("correct horse battery staple")
    text = (ROOT / "docs/tutorial.md").read_text()
    first, rest = text.split("## Ana submits a job")
    place, *steps = [fence.text for fence in fences(first) if fence.language == "sh"]
    (data,) = [line for line in place.splitlines() if line.startswith("python -m models.digits runs/atlas/data")]
    walk.told(data.replace("runs/atlas/data", "data"))
    for step in steps:
        walk.told(step)
        if "concord-coordinator run" in step:
            walk.await_start("coordinator")  # whose import takes longer than a forked command
    login = re.findall(r"^concord-coordinator ticket .*$|^concord login .*$", rest, re.MULTILINE)
    walk.told("\n".join(login), more={"CONCORD_HOME": "lead"})
    for member in ("br", "ke", "in"):
        walk.await_start(f"node-{member}")
        log_in(walk, member)
    return walk


def log_in(walk: Walk, member: str) -> None:
    walk.told(
        f"concord-coordinator ticket --home coordinator --officer {member} --out officer-{member}-ticket.json\n"
        f"concord login --home officer-{member} --ticket officer-{member}-ticket.json"
    )
