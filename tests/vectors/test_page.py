"""The page says what the vectors say: the worked round, the table of n, the labels, the names of refusals; and the counts on which
its security argument rests hold for every n."""

from __future__ import annotations

import re

import pytest

from federation.secagg.parameters import MAX_MEMBERS, MIN_MEMBERS, Quorums
from tests.vectors import worked
from tests.vectors.files import load
from tests.vectors.generate import SUBJECTS

TEXT = worked.PAGE.read_text()


def section(name: str) -> str:
    found = re.search(rf"^## {re.escape(name)}$(.*?)^## ", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


def test_the_worked_round_and_the_table_of_n_are_those_of_the_vectors() -> None:
    assert worked.page(TEXT) == TEXT, "python -m tests.vectors.worked"


def test_the_page_names_every_label_and_a_vector_shows_it() -> None:
    listed = re.findall(r"^\| (`[^|]*) \|", section("Transcripts"), re.MULTILINE)
    labels = {label for cell in listed for label in re.findall(r"`([a-z-]+)`", cell)}
    assert labels == {case["name"] for case in load("transcripts")["cases"] if "label" not in case}


def test_every_refusal_of_the_vectors_has_its_name_on_the_page() -> None:
    named = set(re.findall(r"`([a-z-]+)`", section("Refusals") + section("Checks on a sum")))
    expected = {case["check"] for subject in SUBJECTS for case in load(subject)["invalid"] if "check" in case}
    assert expected - named == set()


def test_the_keystream_on_the_page_is_that_of_the_vectors() -> None:
    case = next(case for case in load("keystreams")["cases"] if case["name"] == "aes-256-ctr: zero key, chunk 0")
    assert f"`{case['keystream'][:32]}`" in section("Bytes")


def test_every_section_that_a_vector_names_is_there() -> None:
    headings = set(re.findall(r"^## (.*)$", TEXT, re.MULTILINE))
    bold = set(re.findall(r"\*\*([A-Z][A-Za-z ]*?)\.?\*\*", TEXT))
    for subject in SUBJECTS:
        name = load(subject)["section"].split(",")[0]
        assert any(heading.startswith(name) for heading in headings | bold), (subject, name)


@pytest.mark.parametrize("n", range(MIN_MEMBERS, MAX_MEMBERS + 1))
def test_the_counts_of_lemma_1(n: int) -> None:
    found = Quorums.of(n)
    f, q, t, m = found.f, found.q, found.t, found.m
    assert 2 * q - n > f
    assert q <= n - f
    assert q <= m
    assert q - f + m > n
    assert n - q + f < t
    assert f < t <= m
    assert (t - f) + (q - f) > n - f
    assert m - f >= 2
