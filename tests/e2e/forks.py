"""The installed commands, for shell scripts that type very many of them: a process each, forked from one that has imported them.

Python takes a second to import a command line. ``Forks`` puts ``concord``, ``concord-node`` and ``concord-coordinator`` into a
folder for ``PATH``; each hands its words, environment, folder and streams to the process that has imported all three, which forks
and calls the function that the package's metadata names for that command, and ends with its exit code. What runs for long (``run``,
``serve``) is the installed script itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, Self

COMMANDS: Final = ("concord", "concord-coordinator", "concord-node")
LONG: Final = ("run", "serve")
SIZE: Final = struct.Struct(">I")
SECONDS: Final = 60.0
ALSO: Final = ("coordinator.client.submission", "coordinator.client.studies", "coordinator.client.release_folder")
"""what commands import when they need it"""

CALLER: Final = """\
#!{python} -IS
import json, os, socket, struct, sys
words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
if any(word in {long} for word in words[1:3]):
    os.execv({scripts} + "/" + words[0], words)
body = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as link:
    link.connect({place})
    socket.send_fds(link, [struct.pack(">I", len(body))], [0, 1, 2])
    link.sendall(body)
    answer = link.recv(1)
sys.exit(answer[0] if answer else 70)
"""


def installed(command: str) -> EntryPoint:
    """What the package's metadata names for a command."""
    (point,) = entry_points(group="console_scripts", name=command)
    return point


class Forks:
    """``with Forks() as forks``: put ``forks.folder`` first on a script's ``PATH``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="concord-forks-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        place = self.folder / "socket"
        scripts = Path(sys.executable).parent
        for command in COMMANDS:
            assert (scripts / command).is_file(), f"{command} is not installed beside {sys.executable}"
            caller = self.folder / command
            text = CALLER.format(python=sys.executable, long=LONG, scripts=repr(str(scripts)), place=repr(str(place)))
            caller.write_text(text)
            caller.chmod(0o700)
        reading, writing = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forks", str(place), str(writing)],
            pass_fds=[writing], start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        with open(reading, "rb") as ready:
            assert ready.read(1) == b"+", "the commands could not be imported"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # and what it has forked
            self._process.wait(SECONDS)
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def _received(link: socket.socket) -> tuple[list[str], str, dict[str, str], list[int]]:
    head, streams, _flags, _address = socket.recv_fds(link, SIZE.size, 3)
    (size,) = SIZE.unpack(head)
    body = b""
    while len(body) < size:
        body += link.recv(size - len(body))
    words, folder, environment = json.loads(body)
    return words, folder, environment, streams


def _call(link: socket.socket, calls: Mapping[str, Callable[[], object]]) -> int:
    """In the forked process: becomes the command; its exit code."""
    words, folder, environment, streams = _received(link)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    sys.modules["__main__"].__package__ = ""  # by which click tells a script from a module
    try:
        answer = calls[words[0]]()
    except SystemExit as end:
        answer = end.code
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return answer if isinstance(answer, int) else int(answer is not None)


def main(place: str, ready: int) -> None:
    calls = {command: installed(command).load() for command in COMMANDS}
    for name in ALSO:
        __import__(name)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen(64)
        os.write(ready, b"+")
        os.close(ready)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets who has ended
        while True:
            link, _ = door.accept()
            if os.fork() == 0:
                door.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                code = 70
                try:
                    code = _call(link, calls)
                except BaseException:
                    traceback.print_exc()
                finally:
                    with contextlib.suppress(OSError):
                        link.send(bytes([code & 0xFF]))
                    os._exit(code & 0xFF)
            link.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
