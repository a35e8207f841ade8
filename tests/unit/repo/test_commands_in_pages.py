"""Every command of ours that a page tells people to type is one that the command lines take: names, options, values."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.pages import fences, without_fences

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
INLINE = re.compile(r"`(concord(?:-node|-coordinator)? [^`\n]+)`")
PROGRAMS = ("concord", "concord-node", "concord-coordinator")
SHELL = ("|", "||", "&&", "&", ";", ">", "2>", "<", "done", "then")
PLACES = re.compile(r"\$\(.*?\)|\$\w+|\$\{\w+\}|\.\.\.|<[^>]*>")


def commands() -> dict[str, click.Command]:
    made = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))
    found: dict[str, click.Command] = made["commands"]()
    return found


KNOWN = commands()


def typed(text: str) -> Iterator[list[str]]:
    """The words of each command of ours in a block of shell, up to what the shell makes of the rest of the line."""
    for line in re.sub(r"\\\n *", " ", text).splitlines():
        for part in re.split(r"\bdo\b|;", line.split(" # ")[0].split("  #")[0]):
            try:
                words = shlex.split(part.strip().removeprefix("$ "), comments=True)
            except ValueError:
                continue  # a quotation over several lines, of a document and not of a command
            if not words or words[0] not in PROGRAMS:
                continue
            ends = [place for place, word in enumerate(words) if word in SHELL or word.startswith(("2>", ">"))]
            yield words[: min(ends, default=len(words))]


def refused(words: list[str]) -> str:
    """Why a command line does not take it; empty when it does."""
    name = next((" ".join(words[:count]) for count in (3, 2) if " ".join(words[:count]) in KNOWN), "")
    if not name:
        group = " ".join(words[:2])
        if len(words) == 2 and any(known.startswith(f"{group} ") for known in KNOWN):
            return ""  # a family of commands is named, and nothing is typed
        return "there is no such command"
    rest = words[len(name.split()) :]
    if not rest:
        return ""  # it is named, and what it needs is not said
    try:
        KNOWN[name].make_context(name, list(rest))
    except click.MissingParameter:
        return ""  # the rest stands elsewhere
    except click.BadOptionUsage as error:
        if error.option_name == rest[-1]:
            return ""  # the option is named, and its value is not said
        return str(error)
    except (click.ClickException, click.exceptions.Exit) as error:
        return str(error) or type(error).__name__
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_to_type_is_taken(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    blocks = [fence.text for fence in fences(text) if fence.language in ("", "sh")]
    inline = [words for words in INLINE.findall(without_fences(text)) if not PLACES.search(words)]
    wrong = {
        shlex.join(words): why
        for block in (*blocks, *inline)
        for words in typed(PLACES.sub("1", block))
        if (why := refused(words))
    }
    assert wrong == {}


def test_a_wrong_command_is_found() -> None:
    for line, why in (
        ("concord wach digits", "no such command"),
        ("concord watch digits --evnts x", "No such option"),
        ("for m in a b; do concord-node halt --level never --home x; done", "is not one of"),
    ):
        (words,) = typed(line)
        assert why.lower() in refused(words).lower()
