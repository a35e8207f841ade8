"""The documentation builds as a site without a warning, and every page of it is in the navigation; what it links to is there."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[3]
LETTER = 7.6
"""pixels of a letter, on average, in a wide font of the size of the picture"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", target],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return target


class Sources(HTMLParser):
    """What a browser would fetch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        wanted = {"script": "src", "img": "src", "link": "href", "iframe": "src"}.get(tag)
        if wanted and given.get("rel") not in ("canonical", "prev", "next") and (value := given.get(wanted)):
            self.fetched.add(value)


def test_it_builds_without_a_warning_and_has_every_page(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    for page in pages:
        name = page.with_suffix("") if page.stem not in ("index", "README") else page.parent
        assert (site / name / "index.html").exists(), page


def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        found = Sources()
        found.feed(page.read_text())
        assert not [source for source in found.fetched if "//" in source], page


def test_the_picture_on_the_first_pages_is_the_one_that_is_written_down(tmp_path: Path) -> None:
    """Drawn anew it is the same; it fetches nothing, and says to whoever cannot see it what is on it."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "pictures" / "drawing.py", tmp_path / "federation.svg"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = ROOT / "docs" / "pictures" / "federation.svg"
    assert kept.read_text() == (tmp_path / "federation.svg").read_text(), (
        "draw it anew: python docs/pictures/drawing.py"
    )
    root = ElementTree.fromstring(kept.read_text())
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title") is not None
    assert len(root.findtext(f"{space}desc") or "") > 100
    width, height = (float(each) for each in root.attrib["viewBox"].split()[2:])
    for text in root.iter(f"{space}text"):
        left, long = float(text.attrib["x"]), LETTER * len(text.text or "")
        if text.attrib["text-anchor"] == "middle":
            left -= long / 2
        assert left >= 0
        assert left + long <= width, text.text
        assert float(text.attrib["y"]) < height
    assert not [each for each in root.iter() if any("href" in name for name in each.attrib)]


def test_every_word_in_bold_on_the_first_page_is_among_the_words() -> None:
    bold = re.findall(r"\*\*(.+?)\*\*", (ROOT / "docs" / "index.md").read_text())
    words = (ROOT / "docs" / "explanation" / "words.md").read_text()
    told = {word.strip() for row in re.findall(r"^\| ([a-z, -]+) \|", words, re.MULTILINE) for word in row.split(",")}
    assert {word.lower().removesuffix("s") for word in bold} <= {*told, "public log"}
