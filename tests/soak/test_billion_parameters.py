"""One billion parameters through three members and the coordinator, on real files, each role alone in its process.

Wants 30 GB of disk (TMPDIR says where) and some minutes. What it prints is the benchmark's own table.
"""

import pytest

from benchmarks import secure_aggregation

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def test_memory_stays_within_64_mib_above_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Attack 36, at full size: members and coordinator, and the state that comes out is the plain mean within a level."""
    with capsys.disabled():
        assert secure_aggregation.main(["--only", "billion"]) == 0
