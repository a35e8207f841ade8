"""Where a job's sandbox runs inside a pod, and where it does not (docs/decisions/0032): real namespaces, real seccomp filters.

There is no kubelet here. The test makes what a kubelet would: a user without rights in a user namespace, no capability, no new
privileges, processes of its own, and a /proc that is whole (procMount: Unmasked) or has masks. Then the container's seccomp
profile is put on, and the agent's own trial of its sandbox runs.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helm.charts import ROOT

PROFILE = json.loads((ROOT / "helm" / "node-agent" / "files" / "concord-node-agent.json").read_text())
NAMESPACES = 0x7E020000
"""the flags of clone that make namespaces, which RuntimeDefault takes from processes without CAP_SYS_ADMIN"""
RUNTIME_DEFAULT: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["unshare", "setns", "mount", "umount2", "pivot_root"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        *(
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 1,
                "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}],
            }
            for flag in (1 << bit for bit in range(32))
            if flag & NAMESPACES
        ),
    ],
}
"""what the runtimes' default profile denies of all that bubblewrap needs"""

POD = """
import ctypes, json, os, sys
import pyseccomp

libc = ctypes.CDLL(None, use_errno=True)
masked, profile, arguments = sys.argv[1] == "masked", json.loads(sys.argv[2]), sys.argv[3:]

def call(name, *words):
    if getattr(libc, name)(*words) != 0:
        raise OSError(ctypes.get_errno(), name)

def write(path, text):
    with open(path, "w") as stream:
        stream.write(text)

user, group = os.geteuid(), os.getegid()
call("unshare", 0x10000000 | 0x00020000 | 0x20000000 | 0x08000000)  # user, mount, process and IPC namespaces
write("/proc/self/setgroups", "deny")
write("/proc/self/uid_map", f"65532 {user} 1")
write("/proc/self/gid_map", f"65532 {group} 1")
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
call("mount", b"none", b"/", None, 0x4000 | 0x40000, None)  # private, recursively
call("mount", b"proc", b"/proc", b"proc", 0xE, None)
if masked:  # one of the places that a container runtime covers
    call("mount", b"/dev/null", b"/proc/keys", None, 0x1000, None)
call("prctl", 38, 1, 0, 0, 0)  # no new privileges
compare = {"SCMP_CMP_EQ": pyseccomp.EQ, "SCMP_CMP_MASKED_EQ": pyseccomp.MASKED_EQ}
filter = pyseccomp.SyscallFilter(defaction=pyseccomp.ALLOW)
for rule in profile["syscalls"]:
    for name in rule["names"]:
        try:
            pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        except ValueError:
            continue  # of another architecture
        held = [
            pyseccomp.Arg(item["index"], compare[item["op"]], item["value"], item.get("valueTwo", 0))
            for item in rule.get("args", ())
        ]
        filter.add_rule(pyseccomp.ERRNO(rule["errnoRet"]), name, *held)
filter.load()
os.execv(sys.executable, [sys.executable, *arguments])  # as nobody's user: with this the capabilities are gone
"""


def in_a_pod(profile: dict[str, Any], script: Path, *, masked: bool) -> subprocess.CompletedProcess[str]:
    """Runs a script as the agent's container would."""
    return subprocess.run(
        [sys.executable, "-c", POD, "masked" if masked else "whole", json.dumps(profile), str(script)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


CONFINED = """
import os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(os.getuid(), os.getgid(), status["CapEff"].strip(), status["NoNewPrivs"].strip(), status["Seccomp"].strip(), os.getpid())
"""


@pytest.mark.usefixtures("sandboxed")
def test_the_pod_of_these_tests_is_confined_as_the_charts_is(tmp_path: Path) -> None:
    script = tmp_path / "confined.py"
    script.write_text(CONFINED)
    assert in_a_pod(PROFILE, script, masked=True).stdout == "65532 65532 0000000000000000 1 2 1\n"


SANDBOX = ROOT / "helm" / "node-agent" / "files" / "sandbox.py"


@pytest.mark.usefixtures("sandboxed")
def test_the_sandbox_runs_under_the_charts_profile_with_a_whole_proc() -> None:
    result = in_a_pod(PROFILE, SANDBOX, masked=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("sandbox: bubblewrap")


@pytest.mark.usefixtures("sandboxed")
def test_it_does_not_run_under_the_runtimes_default_profile() -> None:
    """Why sandbox.mode none denies every job, and why the other mode brings a profile."""
    result = in_a_pod(RUNTIME_DEFAULT, SANDBOX, masked=False)
    assert result.returncode == 1
    assert "sandbox: none" in result.stdout
    assert "No permissions to create new namespace" in result.stderr
    assert "what to do: See docs/how-to/sandbox.md" in result.stderr


@pytest.mark.usefixtures("sandboxed")
def test_it_does_not_run_where_proc_has_masks() -> None:
    """Why procMount is Unmasked, and hostUsers false with it: a new /proc must not show more than the one that is there."""
    result = in_a_pod(PROFILE, SANDBOX, masked=True)
    assert result.returncode == 1
    assert "Can't mount proc" in result.stderr


DENIED = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
for name, call in {
    "ptrace": lambda: libc.ptrace(0, 0, 0, 0),
    "setns": lambda: libc.setns(0, 0),
    "chroot": lambda: libc.chroot(b"/"),
}.items():
    assert call() == -1 and ctypes.get_errno() == errno.EPERM, name
for family in (38, 40):
    try:
        socket.socket(family, socket.SOCK_STREAM)
    except PermissionError:
        continue
    raise SystemExit(f"family {family} is open")
print("denied")
"""


@pytest.mark.usefixtures("sandboxed")
def test_the_profile_denies_what_it_says(tmp_path: Path) -> None:
    script = tmp_path / "denied.py"
    script.write_text(DENIED)
    result = in_a_pod(PROFILE, script, masked=False)
    assert result.stdout == "denied\n", result.stderr
    assert in_a_pod({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}, script, masked=False).returncode == 1


TRAINS = """
import torch
layer = torch.nn.Linear(64, 64)
for _ in range(3):
    layer(torch.randn(32, 64)).sum().backward()
loader = torch.utils.data.DataLoader(torch.arange(8), num_workers=1)
print(sum(int(item) for item in loader))
"""


def test_torch_trains_under_the_profile(tmp_path: Path) -> None:
    script = tmp_path / "trains.py"
    script.write_text(TRAINS)
    result = in_a_pod(PROFILE, script, masked=False)
    assert result.stdout == "28\n", result.stderr


def test_the_profile_names_this_architecture_and_only_known_actions() -> None:
    names = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
    assert names[platform.machine()] in PROFILE["architectures"]
    assert {rule["action"] for rule in PROFILE["syscalls"]} == {"SCMP_ACT_ERRNO"}
    listed = [name for rule in PROFILE["syscalls"] if "args" not in rule for name in rule["names"]]
    assert len(listed) == len(set(listed))
    assert not {"unshare", "clone", "mount", "umount2", "pivot_root"} & set(listed)
