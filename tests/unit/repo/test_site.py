"""The documentation builds as a site without a warning, and every page of it is in the navigation; what it links to is there."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


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
