"""The sandbox around a worker: bubblewrap's command line, and whether this machine allows it.

Inside there are: the system's /usr, the Python that runs the agent (sys.prefix and sys.base_prefix), this room's
modules, the job's bundle, its data sets, and the models the agent lays out, all read-only; and one folder that can be
written. There is no network, no other process, no home of anybody, no key, no capability, and no way to make another
namespace.

    /concord/lib              this room, without the rest of the agent; of the shared law, the files of tensors
    /concord/app              the bundle
    /concord/data/NAME        a data set (a single file lies in a folder of its own)
    /concord/job              the job's scratch folder, read-only, so that the agent's files there cannot be replaced
    /concord/job/work         the worker's own
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.errors import InvalidUsage, Unavailable

DOCUMENT: Final = "docs/how-to/sandbox.md"
PROFILE: Final = "concord-bwrap"
ROOT: Final = Path("/concord")
WORK: Final = "work"
WORKER_ID: Final = "1000"
SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SYSTEM_FILES: Final = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
)
SYSTEM_EXTRAS: Final = ("/nix/store", "/opt/rocm")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MODULES: Final = (
    *("node_agent/__init__.py", "node_agent/runner"),
    *(
        "federation/__init__.py",
        "federation/errors.py",
        "federation/weights/__init__.py",
        "federation/weights/tensors.py",
    ),
)
ISOLATION: Final = (
    *("--unshare-all", "--unshare-user", "--uid", WORKER_ID, "--gid", WORKER_ID, "--hostname", "worker"),
    *("--cap-drop", "ALL", "--die-with-parent", "--new-session"),
)
NO_NESTING: Final = ("--disable-userns",)
TEMPORARY_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """``kind`` is "bubblewrap" or "none"; ``reason`` and ``hint`` are sentences for the lab, empty when all is well.

    ``options``: what this bubblewrap can do beyond the least that is asked of it.
    """

    kind: str
    reason: str = ""
    hint: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mounts:
    bundle: Path
    scratch: Path
    data_sets: Mapping[str, Path]
    devices: Sequence[str] = ()
    drivers: Sequence[Path] = ()
    """folders of libraries that the devices need, where they are not the system's"""


def detect_sandbox(program: str = "bwrap") -> SandboxReport:
    """Runs the sandbox once, really, and says what came of it; the answer for a program is kept."""
    return _detect(program)


@functools.cache
def _detect(program: str) -> SandboxReport:
    found = shutil.which(program)
    if found is None:
        hint = f"Install the package bubblewrap (Debian, Ubuntu: apt install bubblewrap); see {DOCUMENT}."
        return SandboxReport("none", "bubblewrap is not installed.", hint)
    trial = [*_system(), *_temporary(TEMPORARY_BYTES), *_pythons(), "--", sys.executable, "-S", "-c", "pass"]
    said = ""
    for options in (NO_NESTING, ()):
        try:
            ended = subprocess.run(
                [found, *ISOLATION, *options, *trial], capture_output=True, timeout=20, check=False, env={}
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            said = type(error).__name__
            continue
        if ended.returncode == 0:
            return SandboxReport("bubblewrap", options=options)
        said = (ended.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
    return SandboxReport("none", *_explain(said, Path("/proc/sys")))


def _explain(said: str, settings: Path) -> tuple[str, str]:
    """Why bubblewrap could not run, from what it said and the kernel's settings; and what an administrator can do."""

    def setting(name: str) -> str:
        try:
            return (settings / name).read_text().strip()
        except OSError:
            return ""

    if setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            f"AppArmor keeps unprivileged programs from making user namespaces, as Ubuntu 24.04 does ({said}).",
            f"Install the AppArmor profile {PROFILE} that comes with Concord; see {DOCUMENT}.",
        )
    if setting("kernel/unprivileged_userns_clone") == "0":
        return (
            f"The kernel keeps unprivileged programs from making user namespaces ({said}).",
            f"Set kernel.unprivileged_userns_clone=1 with sysctl; see {DOCUMENT}.",
        )
    if setting("user/max_user_namespaces") == "0":
        return (
            f"The kernel allows no user namespaces ({said}).",
            f"Set user.max_user_namespaces above 0 with sysctl; see {DOCUMENT}.",
        )
    return f"bubblewrap cannot make its namespaces here ({said}).", f"See {DOCUMENT}, also for containers."


def sandbox_command(mounts: Mounts, arguments: Sequence[str], report: SandboxReport, temporary_bytes: int) -> list[str]:
    """The command line that runs ``arguments`` inside; the environment and the open channel are inherited."""
    packages = Path(__file__).resolve().parents[2]
    line = ["bwrap", *ISOLATION, *report.options, *_system(), *_temporary(temporary_bytes), *_pythons()]
    for device in mounts.devices:
        line += ["--dev-bind-try", device, device]
    if mounts.devices:
        line += ["--ro-bind-try", "/sys", "/sys"]
    for folder in mounts.drivers:
        if not folder.resolve().is_relative_to("/usr"):
            line += ["--ro-bind", str(folder), str(folder)]
    line += ["--remount-ro", "/dev"]
    for module in MODULES:
        line += ["--ro-bind", str(packages / module), str(ROOT / "lib" / module)]
    line += ["--ro-bind", str(mounts.bundle), str(ROOT / "app")]
    line += ["--ro-bind", str(mounts.scratch), str(ROOT / "job")]
    line += ["--bind", str(mounts.scratch / WORK), str(ROOT / "job" / WORK)]
    inside = data_paths(mounts.data_sets, sandboxed=True)
    for name, path in mounts.data_sets.items():
        line += ["--ro-bind", str(path), inside[name]]
    return [*line, "--remount-ro", "/", "--chdir", str(ROOT / "job" / WORK), "--", *arguments]


def data_paths(data_sets: Mapping[str, Path], *, sandboxed: bool) -> dict[str, str]:
    """Where the job's code finds each data set: a neutral place inside the sandbox, the lab's own path without one."""
    places = {}
    for name, path in data_sets.items():
        if not NAME.fullmatch(name):
            raise InvalidUsage(f"{name!r} is no name for a data set.", hint="Use letters, digits, dots and dashes.")
        if not path.exists():
            raise Unavailable(
                f"The data set {name!r} is not at {path}.", hint="Correct its path: concord-node data add."
            )
        inside = ROOT / "data" / name / path.name if path.is_file() else ROOT / "data" / name
        places[name] = str(inside if sandboxed else path)
    return places


def check_places(*folders: Path, drivers: Sequence[Path] = ()) -> None:
    """Refuses a node whose own folders lie inside what a sandbox shows: the system, the Python installation, or ``drivers``."""
    shown = [Path("/usr"), *(Path(place) for place in _python_places()), *drivers]
    for folder in folders:
        for place in shown:
            if folder.resolve().is_relative_to(place.resolve()):
                raise InvalidUsage(
                    f"{folder} lies inside {place}, which every job can read.",
                    hint="Move the node's home to a place of its own.",
                )


def _system() -> list[str]:
    line = ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            line += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            line += ["--ro-bind", name, name]
    for name in (*SYSTEM_FILES, *SYSTEM_EXTRAS):
        line += ["--ro-bind-try", name, name]
    return [*line, "--proc", "/proc", "--dev", "/dev"]


def _temporary(size: int) -> list[str]:
    """Before all that may lie below /tmp, a Python environment say: what is mounted later covers what was there."""
    return [part for place in ("/dev/shm", "/tmp") for part in ("--size", str(size), "--tmpfs", place)]  # noqa: S108


def _pythons() -> list[str]:
    line: list[str] = []
    for place in _python_places():
        line += ["--ro-bind", place, place]
    return line


@functools.cache
def _python_places() -> tuple[str, ...]:
    """Where this Python lives: a virtual environment, the installation it was made from, packages of the user's own."""
    wanted = {Path(sys.prefix), Path(sys.exec_prefix), Path(sys.base_prefix), Path(sys.base_exec_prefix)}
    wanted |= {path.resolve() for path in wanted}
    wanted |= {Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    places: list[Path] = []
    for path in sorted(wanted, key=lambda path: len(path.parts)):
        if len(path.parts) < 2 or not path.is_dir() or path == Path(os.sep):
            continue
        if path.is_relative_to("/usr") or any(path.is_relative_to(place) for place in places):
            continue
        places.append(path)
    return tuple(str(path) for path in places)
