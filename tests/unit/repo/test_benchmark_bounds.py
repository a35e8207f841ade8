"""The benchmarks' own tools: they end what they start, tell memory, and print the fields that are promised."""

import contextlib
import json
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import secure_aggregation
from benchmarks.processes import PeakMemory, Processes, environment, free_ports
from benchmarks.reading import Reading
from benchmarks.seed_search import source_lines

PARENT = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""


def started(log: Path) -> int:
    while True:
        with contextlib.suppress(FileNotFoundError):
            text = log.read_text()
            if text.endswith("\n"):
                return int(text)


def test_grandchildren_end_too_even_when_they_ignore_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.processes.STOP_SECONDS", 0.5)
    with Processes(tmp_path, {}) as processes:
        parent = processes.start("parent", [sys.executable, "-c", PARENT])
        grandchild = started(tmp_path / "parent.log")
    assert not psutil.pid_exists(parent.pid)
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


def test_peak_memory_is_that_of_the_process(tmp_path: Path) -> None:
    code = "import signal; data = b'x' * 50_000_000; del data; print(0, flush=True); signal.pause()"
    with Processes(tmp_path, {}) as processes:
        process = processes.start("big", [sys.executable, "-c", code])
        started(tmp_path / "big.log")
        with PeakMemory(lambda: {"big": process.pid}) as peak:
            pass
    assert 50_000_000 < peak.bytes["big"] < 100_000_000


def test_ports_differ_and_proxies_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid")
    monkeypatch.setenv("https_proxy", "http://proxy.invalid")
    assert len(set(free_ports(8))) == 8
    assert "proxy.invalid" not in "".join(environment({}).values())
    assert environment({})["FLWR_TELEMETRY_ENABLED"] == "0"


def test_a_line_has_the_promised_fields() -> None:
    line = json.loads(Reading("x", ours=0.1, peer=7.0, unit="s", goal="ratio >= 50", holds=True).line())
    assert line == {
        "benchmark": "x", "ours": 0.1, "peer": 7.0, "unit": "s", "ratio": 70.0, "goal": "ratio >= 50", "holds": True,
    }  # fmt: skip


def test_an_update_goes_through_files_and_processes_to_the_next_state(capsys: pytest.CaptureFixture[str]) -> None:
    """The road of `make soak`, at a size for every day: real files, each role alone, the state against the plain mean."""
    assert secure_aggregation.main(["--only", "billion", "--parameters", "300001"]) == 0
    assert "<= 1 level | holds" in capsys.readouterr().out


def test_the_lines_of_flower_that_the_page_names_are_there() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md").read_text()
    lines = source_lines()
    assert len(lines) == 4
    for line in lines:
        place, _, _ = line.partition(": ")
        assert f"`{place}`" in page
