"""Where the agent's Python lives must not matter: also below /tmp, which is empty inside the sandbox."""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
PROGRAM = """
import pathlib, subprocess, sys
from node_agent.runner.sandbox import TEMPORARY_BYTES, Mounts, detect_sandbox, sandbox_command
place = pathlib.Path(sys.argv[1])
for name in ("app", "job", "job/work"):
    (place / name).mkdir()
report = detect_sandbox()
assert report.kind == "bubblewrap", report
inside = '''
import os, numpy, sys
open("/tmp/mine", "w").close()
print(sys.prefix, sorted(os.listdir(sys.prefix + "/..")), sorted(os.listdir("/concord")))
'''
arguments = [sys.executable, "-c", inside]
line = sandbox_command(Mounts(place / "app", place / "job", {}), arguments, report, TEMPORARY_BYTES)
print(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
"""


def test_a_python_environment_below_tmp_is_seen_inside_and_nothing_else_of_tmp(sandboxed: None) -> None:
    with tempfile.TemporaryDirectory(prefix="environment-", dir="/tmp") as folder:
        place = Path(folder)
        venv.create(place / "venv", symlinks=True, with_pip=False)
        packages = sysconfig.get_path("purelib", vars={"base": str(place / "venv")})
        Path(packages, "all.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (place / "secret").write_text("of the lab\n")
        ended = subprocess.run(
            [place / "venv/bin/python", "-c", PROGRAM, place],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == f"{place / 'venv'} ['venv'] ['app', 'job', 'lib']"
    assert sys.prefix != str(place / "venv")
