"""Containerfiles read as instructions, and the part of a build that needs no engine: what enters it, and its install steps."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {name: ROOT / "images" / name / "Containerfile" for name in ("coordinator", "node-agent")}


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


@dataclass
class Stage:
    base: str
    name: str
    steps: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [step.rest for step in self.steps if step.word == word]


def instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield Instruction(word, re.sub(r"\s+", " ", rest).strip())


def stages(path: Path) -> tuple[dict[str, str | None], list[Stage]]:
    """The arguments before the first FROM with their defaults (None: must be given), and the stages in order."""
    arguments: dict[str, str | None] = {}
    found: list[Stage] = []
    for step in instructions(path.read_text()):
        if step.word == "FROM":
            base, _, name = step.rest.partition(" AS ")
            found.append(Stage(base, name))
        elif found:
            found[-1].steps.append(step)
        else:
            assert step.word == "ARG", step
            name, given, value = step.rest.partition("=")
            arguments[name] = value if given else None
    return arguments, found


def ignored(path: str, patterns: Iterable[str]) -> bool:
    """Whether .dockerignore keeps ``path`` out: the last pattern that matches it or a folder above it decides."""
    parts = path.split("/")
    places = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    out = False
    for pattern in patterns:
        expression = _expression(pattern.removeprefix("!").strip("/"))
        if any(expression.fullmatch(place) for place in places):
            out = not pattern.startswith("!")
    return out


def _expression(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.compile(text.replace(r"\?", "[^/]"))


def patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def context(root: Path) -> list[str]:
    """What a builder would be sent of a folder."""
    rules, found = patterns(), []
    for folder, folders, files in os.walk(root):
        place = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if name not in {".git", ".venv"}]
        found += [str(place / name) for name in files if not ignored(str(place / name), rules)]
    return sorted(found)


def replay(image: str, folder: Path, pip_flags: str) -> Path:
    """Runs the install steps of an image's build stage into ``folder``, which is empty; returns the environment that it makes.

    ARG, WORKDIR, COPY and RUN mean what they mean to a builder, below ``folder`` instead of /; python3 is the tests' own.
    """
    arguments, found = stages(IMAGES[image])
    (build,) = (stage for stage in found if stage.name == "build")
    prefix = folder / str(arguments["PREFIX"]).lstrip("/")
    prefix.parent.mkdir(parents=True)
    values = {"PREFIX": str(prefix), "PIP_FLAGS": pip_flags}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "CONCORD_"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    place = folder
    for step in build.steps:
        if step.word == "ARG":
            name, _, default = step.rest.partition("=")
            values.setdefault(name, default.strip('"'))
        elif step.word == "WORKDIR":
            place = folder / step.rest.lstrip("/")
            place.mkdir(parents=True)
        elif step.word == "COPY":
            *sources, target = step.rest.split()
            for source in sources:
                _copy(source, place / target if len(sources) == 1 else place / target / source)
        elif step.word == "RUN":
            ended = subprocess.run(
                ["/bin/sh", "-ec", step.rest], cwd=place, env={**environment, **values},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert ended.returncode == 0, f"{step.rest}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
        else:
            raise AssertionError(f"{step.word} in the build stage is not replayed")
    return prefix


def _copy(source: str, target: Path) -> None:
    rules = patterns()
    place = ROOT / source
    paths = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    for path in paths:
        name = str(path.relative_to(ROOT))
        if not ignored(name, rules):
            aim = target if place.is_file() else target / path.relative_to(place)
            aim.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, aim)
