"""Attack 55: a document that says one thing to people and another to the node, or that costs more to read than it is long.

Duplicate keys, anchors and alias bombs, merge keys, tags, directives, several documents, numbers that two readers read in two ways,
hidden and turning characters, depth and size: each is refused with its line, in a job, a policy, a pack, cases, a description of
data, a charter, node.yaml and coordinator.yaml; and whatever programs write reads back as it was.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.client.charter_file import read_charter_file
from coordinator.settings import Home
from federation.catalogue.description import load_description
from federation.errors import FederationError, InvalidManifest, InvalidUsage
from federation.manifest.document import load_job
from federation.manifest.yaml_source import MAX_BYTES, MAX_DEPTH, read_yaml, write_yaml
from federation.policy.cases import load_cases
from federation.policy.pack import load_pack
from federation.policy.rules import load_policy
from node_agent.settings import parse_settings

Load = Callable[[str], Any]
HEAD: Final = "apiVersion: concord/v1\n"
JOB: Final = f"{HEAD}kind: TrainingJob\nmetadata: {{name: tiny}}\nspec:\n  app: ./tiny\n  dataSet: digits\n"
POLICY: Final = f"{HEAD}kind: NodePolicy\nrules:\n  leads: [ana]\n  maxRounds: 9\n"
PACK: Final = f"{HEAD}kind: PolicyPack\nmetadata: {{name: ke, layer: national, serial: 1}}\nrules:\n  maxRounds: 9\n"
CASES: Final = (
    f"{HEAD}kind: PolicyCases\nfederation: {{members: {{a: KE, b: FR, c: US}}, leads: {{l: a}}, here: a}}\n"
    "dataSets: {d: [x]}\ncases:\n  - {name: one, expect: denied}\n"
)
DATA: Final = f"{HEAD}kind: DataSet\nmetadata: {{name: digits}}\nspec:\n  title: Digits\n"
NODE: Final = "member: fr\nnode: fr-1\nfederation: health\ndataSets: {}\n"


def _coordinator(text: str, folder: Path) -> Any:
    place = Home(folder)
    place.settings.write_text(text)
    return place.load()


LOADS: Final[dict[str, tuple[str, Load, str]]] = {
    "job": (JOB, lambda text: load_job(text, "x.yaml"), "  rounds: 3\n"),
    "policy": (POLICY, lambda text: load_policy(text, "x.yaml"), "  minimumCohort: 3\n"),
    "pack": (PACK, lambda text: load_pack(text, "x.yaml"), "  minimumCohort: 3\n"),
    "cases": (CASES, lambda text: load_cases(text, "x.yaml"), "  - {name: two, expect: denied}\n"),
    "data set": (DATA, lambda text: load_description(text, "x.yaml"), "  licence: CC-BY-4.0\n"),
    "node.yaml": (NODE, lambda text: parse_settings(text.encode(), "x.yaml"), "scratch: /tmp\n"),
}
"""a good document, what reads it, and a line that may follow"""


def refused(kind: str, text: str) -> FederationError:
    with pytest.raises((InvalidManifest, InvalidUsage)) as raised:
        LOADS[kind][1](text)
    return raised.value


def line_of(error: FederationError) -> int:
    found = re.match(r"x\.yaml(?::|, line )(\d+)", error.message)
    assert found, error.message
    return int(found[1])


@pytest.mark.parametrize("kind", LOADS)
def test_the_documents_are_read_as_they_are(kind: str) -> None:
    text, load, more = LOADS[kind]
    assert load(text) is not None
    assert load(text + more) is not None


TOP: Final[dict[str, tuple[str, str]]] = {
    "a key twice": ("odd: 1\nodd: 2\n", "stands twice"),
    "a key twice in quotes": ("odd: 1\n'odd': 2\n", "stands twice"),
    "a key twice by an escape": ('odd: 1\n"\\x6fdd": 2\n', "stands twice"),
    "a key twice deep inside": ("odd: {a: {b: [{c: 1, c: 1}]}}\n", "stands twice"),
    "an anchor": ("odd: &a 1\n", "anchors and aliases"),
    "an alias": ("odd: *a\n", "anchors and aliases"),
    "a merge key": ("<<: {odd: 1}\n", "merge keys"),
    "a tag": ("odd: !!str 1\n", "tag"),
    "a tag that runs": ("odd: !!python/object/apply:os.system [ls]\n", "tag"),
    "a tag of its own": ("odd: !rule {a: 1}\n", "tag"),
    "a tag that is none": ("odd: ! 1\n", "tag"),
    "a binary": ("odd: !!binary aGVsbG8=\n", "tag"),
    "a key that is no text": ("1: 2\n", "field name"),
    "a key that is true": ("true: 2\n", "field name"),
    "a key of several": ("? [a, b]\n: 2\n", "field name"),
    "another document": ("---\nodd: 1\n", "not valid YAML|is not YAML"),
    "too deep": ("odd: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + "\n", "nested deeper"),
    "too deep by far": ("odd: " + "{a: " * 20_000 + "\n", "nested deeper"),
    "unfinished": ("odd: 'a\n", "not valid YAML|is not YAML"),
}


@pytest.mark.parametrize("what", TOP)
@pytest.mark.parametrize("kind", LOADS)
def test_yaml_beyond_what_is_needed_is_refused_with_its_line(kind: str, what: str) -> None:
    text, addition = LOADS[kind][0], TOP[what][0]
    error = refused(kind, text + addition)
    assert re.search(TOP[what][1], error.message), error.message
    assert error.hint
    last = len((text + addition).splitlines())
    assert len(text.splitlines()) < line_of(error) <= last + 1


NUMBERS: Final = (
    *(
        "1e3",
        "1E3",
        "1.5e3",
        "1e+3",
        "0x10",
        "0X1F",
        "0o17",
        "010",
        "007",
        "0b11",
        "1_000",
        "1_0.5",
        "+1",
        "+0.5",
        ".5",
        "5.",
    ),
    *(".inf", "-.inf", ".INF", ".nan", ".NaN", "22:30", "1:30:00", "190:20:30.15", "-0x10", "00", "-01", "1__0"),
)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", LOADS)
def test_a_number_that_two_readers_read_in_two_ways_is_refused_with_its_line(kind: str, number: str) -> None:
    text = LOADS[kind][0]
    error = refused(kind, f"{text}odd: {number}\n")
    assert "not written plainly" in error.message or "not a finite number" in error.message
    assert number in error.message
    assert line_of(error) == len(text.splitlines()) + 1
    assert "in quotes" in error.hint


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "Y", "N", "NO", "Yes"])
def test_yes_and_no_are_texts_and_no_truth_values(text: str) -> None:
    """NO is a country; where a truth value must stand it is refused, with its line."""
    assert read_yaml(f"a: {text}\n", "x").value == {"a": text}
    error = refused("policy", POLICY + f"  askAlways: {text}\n")
    assert (line_of(error), "should be a valid boolean" in error.message) == (6, True)
    error = refused("job", JOB + f"  evaluate: {text}\n")
    assert line_of(error) == 7


@pytest.mark.parametrize("number", ["3.0", "1e-1", "'9'", "true", "9.5", "[9]", "~"])
def test_a_whole_number_is_digits_and_nothing_else(number: str) -> None:
    error = refused("policy", POLICY.replace("maxRounds: 9", f"maxRounds: {number}"))
    assert line_of(error) == 5


HIDDEN: Final = {
    "right-to-left override": "\u202e", "left-to-right isolate": "\u2066", "pop isolate": "\u2069", "right-to-left mark": "\u200f",
    "zero width space": "\u200b", "word joiner": "\u2060", "byte order mark": "\ufeff", "soft hyphen": "\xad", "NUL": "\x00",
    "escape": "\x1b", "delete": "\x7f", "next line": "\x85", "line separator": "\u2028", "paragraph separator": "\u2029",
    "lone carriage return": "\r", "tag letter": "\U000e0061", "hangul filler": "\u3164", "noncharacter": "\uffff", "C1": "\x9b",
}  # fmt: skip


@pytest.mark.parametrize("what", HIDDEN)
@pytest.mark.parametrize("where", ["begin", "comment", "value", "key", "quoted"])
@pytest.mark.parametrize("kind", LOADS)
def test_what_people_do_not_see_is_refused_with_its_line_also_in_a_comment(kind: str, where: str, what: str) -> None:
    text, hidden = LOADS[kind][0], HIDDEN[what]
    line = len(text.splitlines()) + 1
    addition = {
        "begin": "",
        "comment": f"# keep{hidden}this\n",
        "value": f"odd: a{hidden}b\n",
        "key": f"o{hidden}dd: 1\n",
        "quoted": f'odd: "a{hidden}b"\n',
    }[where]
    error = refused(kind, hidden + text if where == "begin" else text + addition)
    assert f"U+{ord(hidden):04X}" in error.message
    assert line_of(error) == (1 if where == "begin" else line)


def test_a_rule_that_is_turned_around_for_its_reader_is_refused() -> None:
    """Trojan Source (CVE-2021-42574): what the lawyer sees behind the comment is not where the node reads it."""
    shown_in_a_comment = POLICY + "  # only this lead:\u2067 \u2066]eve[ :sdael\n"
    assert line_of(refused("policy", shown_in_a_comment)) == 6


def test_line_ends_of_other_systems_are_read() -> None:
    assert load_policy(POLICY.replace("\n", "\r\n"), "x.yaml").own.lines["maxRounds"] == 5


def test_names_in_any_writing_are_read() -> None:
    joined = "می\u200cخواهم क्\u200dष"  # Persian and Hindi need the joiners
    assert read_yaml(f"a: {joined}\n", "x").value == {"a": joined}


BOMB: Final = "a: &a [x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{name}'] * 9)}]\n" for name, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("kind", LOADS)
def test_an_alias_bomb_is_refused_at_its_first_anchor(kind: str) -> None:
    began = time.process_time()
    error = refused(kind, LOADS[kind][0] + BOMB)
    assert "anchors and aliases" in error.message
    assert line_of(error) == len(LOADS[kind][0].splitlines()) + 1
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", LOADS)
def test_a_document_over_its_size_is_refused_unread(kind: str) -> None:
    began = time.process_time()
    assert "larger than" in refused(kind, LOADS[kind][0] + "# " + "x" * MAX_BYTES).message
    assert time.process_time() - began < 5


def test_the_coordinator_s_own_settings_are_read_by_the_same_reader(tmp_path: Path) -> None:
    place = tmp_path / "home"
    place.mkdir()
    for text in ("listen: &a x\n", "a: 1\na: 2\n", "a: 1e3\n", "a: \u202e\n", "<<: {}\n"):
        with pytest.raises(InvalidUsage, match=r"not valid YAML as it is read here: .*coordinator\.yaml:[12]: "):
            _coordinator(text, place)


@pytest.mark.parametrize("what", TOP)
def test_a_charter_is_read_by_the_same_reader(tmp_path: Path, what: str) -> None:
    """What the members vote on is what the file says to everybody."""
    path = tmp_path / "charter.yaml"
    path.write_text(f"{HEAD}kind: Charter\nleaseSeconds: 20\n")
    assert read_charter_file(path).lease_seconds == 20
    path.write_text(path.read_text() + TOP[what][0])
    with pytest.raises(InvalidManifest, match=TOP[what][1]) as raised:
        read_charter_file(path)
    assert raised.value.line > 3


@pytest.mark.parametrize("number", ["2e1", "0x14", "020", "2_0", "+20", "0:20", "\u202e20"])
def test_a_charter_s_numbers_are_plain(tmp_path: Path, number: str) -> None:
    path = tmp_path / "charter.yaml"
    path.write_text(f"{HEAD}kind: Charter\nleaseSeconds: {number}\n")
    with pytest.raises(InvalidManifest) as raised:
        read_charter_file(path)
    assert raised.value.line == 3


# ----------------------------------------------------------------------------------------------------- two readers, one meaning

PLAIN: Final = (
    *("1", "-7", "0", "0.5", "1e-6", "1.0e-06", "yes", "No", "~", "null", "true", "False", "2026-01-31", "a", "1.2.3"),
    "'1e3'",
)
SCALARS: Final = st.sampled_from([*NUMBERS, *PLAIN])
KEYS: Final = st.text(max_size=6) | st.sampled_from(["<<", *NUMBERS])
LEAVES: Final = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | KEYS
TREES: Final = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


@settings(deadline=None, max_examples=100)
@given(SCALARS)
def test_a_plain_number_is_the_same_number_to_another_reader_or_is_refused(text: str) -> None:
    """Another reader: YAML 1.1, as PyYAML has it. What both take for a number must be one number."""
    try:
        value = read_yaml(f"a: {text}\n", "x").value["a"]
    except InvalidManifest:
        return
    other = yaml.safe_load(f"a: {text}\n")["a"]
    numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in (value, other)]
    if all(numbers):
        assert value == other
    elif any(numbers):
        assert re.fullmatch(r"-?[0-9]+e-[0-9]+", text), "1e-6, a text to YAML 1.1, is documented"


@settings(deadline=None, max_examples=100)
@given(TREES)
def test_what_programs_write_reads_back_as_it_was(tree: Any) -> None:
    assert read_yaml(write_yaml({"tree": tree}), "x").value == {"tree": tree}
