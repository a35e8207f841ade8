"""A proxy that cuts what is silent for a minute, as many do; `make test` has one that cuts after half of that."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MINUTE = 60.0

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]


def test_a_proxy_that_cuts_what_is_silent_for_a_minute_cuts_no_node(tmp_path: Path) -> None:
    command = [
        *("unshare", "--user", "--map-root-user", "--net"),
        *(sys.executable, "-m", "tests.e2e.lab_network", str(tmp_path), str(MINUTE)),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    opened, at_the_end, cut, cut_for_silence = told["links"]
    assert (cut, opened) == (0, at_the_end), "the node's connections held"
    assert cut_for_silence >= 1, "and the one on which nobody spoke did not"
    assert told["longest silence"] < MINUTE
