"""`make bench`: every benchmark in a process of its own; one JSON line each on stdout. 1 when a goal is missed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

MODULES = {"benchmarks.masking": 120.0, "benchmarks.log": 40.0, "benchmarks.rounds": 420.0}
"""Each with its limit in seconds: together under ten minutes."""


def main() -> int:
    worst = 0
    for module, limit in MODULES.items():
        process = subprocess.Popen([sys.executable, "-m", module])
        try:
            worst = max(worst, process.wait(limit))
        except subprocess.TimeoutExpired:
            print(json.dumps({"benchmark": module, "holds": False, "reason": f"not done in {limit:.0f} s"}), flush=True)
            worst = 1
        except KeyboardInterrupt:
            return 130
        finally:
            _end(process)
    return worst


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks first: a benchmark ends its own processes when it is asked."""
    for number, patience in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue


if __name__ == "__main__":
    sys.exit(main())
