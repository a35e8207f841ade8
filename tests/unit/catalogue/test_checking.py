"""A data set against its schema: each kind of fault is found with its column and rows, and no file, however hostile, does more."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import FederationError, InvalidUsage, NotFound
from node_agent.catalogue.cells import FORMULA
from node_agent.catalogue.checking import Checked, Unreadable, check
from node_agent.catalogue.descriptions import Described
from node_agent.settings import DataSet
from tests.unit.catalogue.described import description, schema

GOOD = "age,chol,sex,seen\n63,233.5,1,1981-05-17\n41,,0,1982-01-01\n"


def held(place: Path, columns: list[dict[str, Any]] | None = None, **files: Any) -> DataSet:
    about = description(files=files).spec
    return DataSet(path=str(place), examples=2).with_description(Described(about, schema(columns)))


def checked(tmp_path: Path, table: str | bytes, *reads: str, **files: Any) -> Checked:
    path = tmp_path / "table.csv"
    path.write_bytes(table.encode() if isinstance(table, str) else table)
    return check(held(path, **files), reads)


def faults(result: Checked) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(finding.column, finding.problem, finding.rows) for finding in result.findings]


def test_a_table_that_keeps_its_schema_says_so_and_what_was_not_checked(tmp_path: Path) -> None:
    result = checked(tmp_path, GOOD)
    assert result.ok
    assert (result.rows, result.columns, result.findings) == (2, ("age", "chol", "sex", "seen"), ())
    assert any(left.startswith("units:") for left in result.not_checked)


FAULTS: dict[str, tuple[str, tuple[str, str, tuple[int, ...]]]] = {
    "text for a number": ("x,1,1,1981-05-17", ("age", "is no integer", (2,))),
    "a fraction for an integer": ("6.5,1,1,1981-05-17", ("age", "is no integer", (2,))),
    "below": ("-1,1,1,1981-05-17", ("age", "is below 0", (2,))),
    "above": ("121,1,1,1981-05-17", ("age", "is above 120", (2,))),
    "empty": (",1,1,1981-05-17", ("age", "is empty", (2,))),
    "no number at all": ("1,nan,1,1981-05-17", ("chol", "is no number", (2,))),
    "infinite": ("1,1e999,1,1981-05-17", ("chol", "is no number", (2,))),
    "digits of another script": ("٦٣,1,1,1981-05-17", ("age", "is no integer", (2,))),
    "thousands": ('"1,000",1,1,1981-05-17', ("age", "is no integer", (2,))),
    "hexadecimal": ("0x3f,1,1,1981-05-17", ("age", "is no integer", (2,))),
    "a code that is none": ("1,1,2,1981-05-17", ("sex", "is none of the codes", (2,))),
    "a word for a code": ("1,1,male,1981-05-17", ("sex", "is none of the codes", (2,))),
    "a day that is none": ("1,1,1,1981-02-30", ("seen", "is no date", (2,))),
    "a day in another order": ("1,1,1,17.05.1981", ("seen", "is no date", (2,))),
    "a cell more": ("1,1,1,1981-05-17,9", ("", "have more or fewer cells than the 4 columns", (2,))),
    "a cell less": ("1,1,1", ("", "have more or fewer cells than the 4 columns", (2,))),
    "digits without end": (f"{'9' * 5000},1,1,1981-05-17", ("age", "is no integer", (2,))),
}


@pytest.mark.parametrize(("row", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_its_column_and_row(
    tmp_path: Path, row: str, fault: tuple[str, str, tuple[int, ...]]
) -> None:
    result = checked(tmp_path, f"age,chol,sex,seen\n63,233,1,1981-05-17\n{row}\n")
    assert faults(result) == [fault]
    assert not result.ok


def test_codes_and_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    assert checked(tmp_path, "age,chol,sex,seen\n63.0,2.5e2,1.0,1981-05-17\n").ok


def test_only_what_the_job_reads_counts(tmp_path: Path) -> None:
    broken = "age,chol,sex,seen\n63,high,1,1981-05-17\n"
    assert not checked(tmp_path, broken).ok
    result = checked(tmp_path, broken, "age", "sex")
    assert result.ok
    assert result.columns == ("age", "sex")
    assert any("chol, seen" in left for left in result.not_checked)


def test_a_missing_column_and_columns_in_another_order(tmp_path: Path) -> None:
    result = checked(tmp_path, "seen,more,age,sex\n1981-05-17,x,63,1\n")
    assert faults(result) == [("chol", "is missing", ())]
    assert result.findings[0].words == "column chol is missing"


def test_many_faults_of_a_kind_are_one_line(tmp_path: Path) -> None:
    result = checked(tmp_path, "age,chol,sex,seen\n" + "x,1,1,1981-05-17\n" * 5000)
    (finding,) = result.findings
    assert finding.count == 5000
    assert finding.words == "column age is no integer in rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 4990 more"


def test_a_file_without_a_header_in_another_dialect(tmp_path: Path) -> None:
    names = ["age", "chol", "sex", "seen"]
    result = checked(tmp_path, b"63;?;1;1981-05-17\n", header=names, delimiter=";", empty=["", "?"])
    assert result.ok
    assert result.rows == 1
    assert checked(tmp_path, "âge\n".encode("latin-1") * 2, "sex", encoding="latin-1").rows == 1


TEXT = [{"name": "note", "type": "text", "nullable": True}]


def test_cells_that_a_spreadsheet_would_run_are_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('note\n"=HYPERLINK(""http://example.org"")"\n@SUM(1)\n+1\nplain\n')
    result = check(held(path, TEXT))
    assert result.ok, "it may be what the lab means"
    assert faults(result) == [("note", FORMULA, (1, 2, 3))]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "a line without end": (b"age,chol,sex,seen\n" + b"1" * (3 << 20), "line 2: longer than 1,048,576 bytes"),
    "a header without end": (b"a," * (1 << 20), "line 1: longer than"),
    "NUL bytes": (b"age,chol,sex,seen\n1,\0,1,1981-05-17\n", "line 2: holds a NUL byte"),
    "UTF-16": ("age,chol\n".encode("utf-16"), "line 1: "),
    "no UTF-8": (b"age,chol,sex,seen\n1,\xff,1,1981-05-17\n", "line 2: byte 3 is not utf-8"),
    "a quote that never closes": (b'age,chol,sex,seen\n"' + b"1\n" * 2000, "not closed within 1000 lines"),
    "a quote that closes too early": (b'age,chol,sex,seen\n"1"2,1,1,1981-05-17\n', "line 2: "),
    "a cell without end": (b"age,chol,sex,seen\n" + b"1" * 200_000 + b",1,1,1981-05-17\n", "line 2: field larger than"),
    "more cells than any table": (b"age,chol,sex,seen\n" + b"," * 5000 + b"\n", "line 2: more than 4096 cells"),
    "empty": (b"", "has no header"),
    "a header that says nothing": (b",,,\n1,2,3,4\n", "the header names a column twice, or one without a name"),
    "a program": (b"\x7fELF\x02\x01\x01\0\0\0", "line 1: holds a NUL byte"),
}


@pytest.mark.parametrize(("data", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(Unreadable) as said:
        checked(tmp_path, data)
    assert told in said.value.message
    assert said.value.hint
    assert "\n" not in said.value.message


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with path.open("w") as stream:
        stream.write("age,chol,sex,seen\n")
        for _ in range(20_000):
            stream.write("x,y,z,w\n63,1,1,1981-05-17\n")
    tracemalloc.start()
    result = check(held(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.rows == 40_000
    assert {finding.count for finding in result.findings} == {20_000}
    assert peak < 1 << 20


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet='age,chol"\n\r\0=;é1.0-', max_size=200).map(str.encode))
def test_whatever_the_file_holds_there_is_an_answer(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    try:
        told = [finding.words for finding in checked(folder, data).findings]
    except FederationError as error:
        told = [error.message]
    assert all(words.isprintable() and str(folder) not in words for words in told)


# --------------------------------------------------------------------------------------------------------- other formats

ARRAYS: list[dict[str, Any]] = [
    {"name": "scan", "type": "image", "shape": [4, 4], "minimum": 0, "maximum": 16},
    {"name": "label", "type": "category", "codes": {"0": "zero", "1": "one"}},
    {"name": "weight", "type": "number", "unit": "kg", "nullable": True},
]
SCANS: dict[str, Any] = {
    "scan": np.zeros((3, 4, 4), dtype=np.uint8),
    "label": np.array([0, 1, 1]),
    "weight": np.array([1.5, np.nan, 3.0]),
}
WRONG_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "a pixel too bright": ({"scan": np.full((3, 4, 4), 17, dtype=np.uint8)}, "column scan is above 16 in rows 1, 2, 3"),
    "another shape": ({"scan": np.zeros((3, 5, 4))}, "column scan has the shape [5, 4], and the schema says [4, 4]"),
    "another class": ({"label": np.array([0, 7, 1])}, "column label is none of the codes in row 2"),
    "text for numbers": ({"weight": np.array(["a", "b", "c"])}, "column weight is <U1, and its type is number"),
    "infinity": ({"weight": np.array([1.0, np.inf, 2.0])}, "column weight is no number in row 2"),
    "fewer rows": ({"label": np.array([0, 1])}, "column label has 2 rows, and columns before it 3"),
    "a table for a number": (
        {"weight": np.zeros((3, 2))},
        "column weight has the shape [2], and a number is one number",
    ),
    "a single value": ({"weight": np.float64(3)}, "column weight has no rows: it is a single value"),
    "a column less": ({"weight": None}, "column weight is missing"),
}


def test_arrays_that_keep_their_schema(tmp_path: Path) -> None:
    np.savez(tmp_path / "scans.npz", **SCANS)
    result = check(held(tmp_path, ARRAYS, format="npz", file="scans.npz"))
    assert (result.ok, result.rows, result.findings) == (True, 3, ())


@pytest.mark.parametrize(("change", "told"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_arrays_that_do_not(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    arrays = {name: array for name, array in {**SCANS, **change}.items() if array is not None}
    np.savez(tmp_path / "scans.npz", **arrays)
    result = check(held(tmp_path / "scans.npz", ARRAYS, format="npz"))
    assert [finding.words for finding in result.findings] == [told]


def test_objects_in_an_array_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    np.savez(tmp_path / "trap.npz", **{**SCANS, "weight": np.array([Trap()], dtype=object)}, allow_pickle=True)
    with pytest.raises(Unreadable, match="Python objects"):
        check(held(tmp_path / "trap.npz", ARRAYS, format="npz"))
    assert not (tmp_path / "sprung").exists()
    (tmp_path / "no.npz").write_bytes(b"PK no zip")
    with pytest.raises(Unreadable, match="no npz"):
        check(held(tmp_path / "no.npz", ARRAYS, format="npz"))


def test_images_are_told_by_their_first_bytes_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n rest")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.png").write_bytes(b"<svg/>")
    result = check(held(tmp_path, ARRAYS, format="images"))
    assert [finding.words for finding in result.findings] == ["rows are no images that this check knows in row 2"]
    assert any("what the images show" in left for left in result.not_checked)


@pytest.mark.parametrize("kind", ["parquet", "other"])
def test_a_format_without_a_reader_is_said_to_be_unchecked(tmp_path: Path, kind: str) -> None:
    result = check(held(tmp_path, format=kind))
    assert (result.columns, result.not_checked) == ((), (f"anything: there is no reader for the format {kind}",))
    bare = check(DataSet(path=str(tmp_path), examples=1))
    assert bare.not_checked == ("anything: the data set names no schema",)


def test_a_table_is_looked_for_within_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.csv").write_text(GOOD)
    with pytest.raises(InvalidUsage, match="is a folder") as said:
        check(held(tmp_path / "in"))
    assert "spec.files.file" in said.value.hint
    with pytest.raises(InvalidUsage, match="leads out"):
        check(held(tmp_path / "in", file="../out.csv"))
    (tmp_path / "in" / "link.csv").symlink_to(tmp_path / "out.csv")
    with pytest.raises(InvalidUsage, match="leads out"):
        check(held(tmp_path / "in", file="link.csv"))
    with pytest.raises(NotFound):
        check(held(tmp_path / "in", file="none.csv"))
    with pytest.raises(NotFound):
        check(held(tmp_path / "gone"))
