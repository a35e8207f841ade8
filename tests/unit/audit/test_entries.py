"""Entries: a closed list, one encoding, and nothing in them that a person wrote."""

import contextlib
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from federation.audit.entry import FIELDS, MAX_ENTRY, SHAPES, Entry, entry_of, open_entry
from federation.errors import InvalidUsage, VerificationFailed

JOB = "ab" * 32
SAMPLES = {"job": JOB, "proposal": "cd" * 32, "release": "ef" * 32, "roll": "01" * 32, "subject": "02" * 32,
           "party": "node", "choice": "yes", "scope": "job", "level": "stop", "outcome": "closed"}  # fmt: skip


def sample(name):
    return SAMPLES.get(name, "7" if FIELDS[name].fullmatch("7") and not FIELDS[name].fullmatch("a") else "br")


@st.composite
def entries(draw):
    kind = draw(st.sampled_from(sorted(SHAPES)))
    shape = SHAPES[kind]
    names = [*shape.required, *draw(st.sets(st.sampled_from(shape.optional)) if shape.optional else st.just(()))]
    document = draw(st.none() | st.binary(min_size=32, max_size=32))
    return Entry(kind, draw(st.integers(0, 2**53 - 1)), {name: sample(name) for name in names}, document)


@given(entries())
def test_an_entry_reads_back_and_is_canonical_json(entry):
    data = entry.encode()
    assert len(data) <= MAX_ENTRY
    assert data == rfc8785.dumps(json.loads(data))
    assert open_entry(data) == entry


@given(entries(), st.data())
def test_no_other_bytes_say_the_same(entry, data):
    """Not one altered byte reads as an entry of the same meaning, and no spaces, order or case."""
    written = entry.encode()
    place = data.draw(st.integers(0, len(written) - 1))
    other = written[:place] + bytes([written[place] ^ (1 << data.draw(st.integers(0, 7)))]) + written[place + 1 :]
    with contextlib.suppress(VerificationFailed):
        assert open_entry(other) != entry
    document = json.loads(written)
    for again in (
        json.dumps(document).encode(),
        written + b"\n",
        b" " + written,
        written.replace(b'"v":1', b'"v":1.0'),
    ):
        with pytest.raises(VerificationFailed):
            open_entry(again)


def test_a_subject_is_words_in_order_or_by_name():
    by_order = entry_of("consent", f"{JOB} br br-1 granted", bytes(32), 1.5)
    by_name = entry_of("consent", f"state=granted node=br-1 member=br job={JOB}", bytes(32), 1.5)
    assert by_order == by_name
    assert by_order.time == 1500
    assert entry_of("founding", "atlas", None, 0).fields == {"federation": "atlas"}


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("gossip", "br"),
        ("consent", f"{JOB} br br-1"),
        ("consent", f"{JOB} br br-1 granted because"),
        ("consent", "job br br-1 granted"),
        ("consent", f"{JOB} Br br-1 granted"),
        ("consent", f"{JOB} br br-1 état"),
        ("consent", f"job={JOB} member=br node=br-1 state=granted state=granted"),
        ("consent", f"job={JOB} member=br node=br-1 state=granted reason=no"),
        ("halt", "planet stop"),
        ("round-closed", f"{JOB} 01 1 closed"),
        ("vote", f"{JOB} br perhaps"),
        ("submission", '{"a":1}'),
    ],
)
def test_what_is_not_on_the_list_is_not_logged(kind, subject):
    with pytest.raises(InvalidUsage):
        entry_of(kind, subject, None, 0)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "submission", "job": JOB, "time": 1, "v": 2},
        {"kind": "submission", "job": JOB, "time": -1, "v": 1},
        {"kind": "submission", "job": JOB, "time": True, "v": 1},
        {"kind": "submission", "job": JOB, "time": 1, "v": 1, "reason": "because"},
        {"kind": "submission", "job": JOB, "time": 1, "v": 1, "document": "AB" * 32},
        {"kind": "submission", "job": JOB.upper(), "time": 1, "v": 1},
        {"kind": "submission", "job": [JOB], "time": 1, "v": 1},
        {"kind": ["submission"], "job": JOB, "time": 1, "v": 1},
        {"job": JOB, "time": 1, "v": 1},
        [1],
    ],
)
def test_a_foreign_entry_is_refused(document):
    with pytest.raises(VerificationFailed):
        open_entry(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def test_every_kind_has_a_shape_of_known_fields():
    for shape in SHAPES.values():
        assert set(shape.fields) <= set(FIELDS)
        assert len(set(shape.fields)) == len(shape.fields)
