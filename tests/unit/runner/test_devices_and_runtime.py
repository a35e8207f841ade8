"""What a node offers, what a worker is shown of it, and what a job's runtime lacks here."""

import os
import platform
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from federation.errors import InvalidUsage
from node_agent.runner import sandbox
from node_agent.runner.devices import Gpu, detect_gpus, device_kind, driver_folders, local_offer, visible
from node_agent.runner.runtime import missing_runtime
from node_agent.runner.sandbox import (
    DOCUMENT,
    PROFILE,
    TEMPORARY_BYTES,
    Mounts,
    SandboxReport,
    check_places,
    detect_sandbox,
    sandbox_command,
)


def card(root, name, vendor, memory_file, memory, render):
    device = root / "sys/class/drm" / name / "device"
    (device / "drm" / render).mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device.parent / memory_file).parent.mkdir(exist_ok=True)
    (device.parent / memory_file).write_text(f"{memory}\n")


@pytest.fixture
def no_nvidia(monkeypatch):
    monkeypatch.setattr("node_agent.runner.devices._nvidia", lambda: ())


def test_amd_and_intel_cards_are_found_in_sysfs(tmp_path, no_nvidia):
    card(tmp_path, "card1", "0x1002", "device/mem_info_vram_total", 64 << 30, "renderD129")
    card(tmp_path, "card0", "0x1002", "device/mem_info_vram_total", 32 << 30, "renderD128")
    (tmp_path / "sys/class/drm/card0-DP-1").mkdir()
    gpus = detect_gpus(tmp_path)
    assert [(gpu.index, gpu.memory_bytes, gpu.kind) for gpu in gpus] == [(0, 32 << 30, "rocm"), (1, 64 << 30, "rocm")]
    assert gpus[1].files == ("/dev/dri/renderD129", "/dev/dri/card1", "/dev/kfd")
    assert device_kind(gpus) == "rocm"


def test_a_processors_own_graphics_is_no_offer(tmp_path, no_nvidia):
    card(tmp_path, "card0", "0x8086", "gt_min_freq_mhz", 300, "renderD128")
    assert detect_gpus(tmp_path) == ()
    card(tmp_path, "card1", "0x8086", "lmem_total_bytes", 16 << 30, "renderD129")
    assert [gpu.kind for gpu in detect_gpus(tmp_path)] == ["xpu"]


def test_a_worker_is_shown_just_its_own_gpus():
    cuda = Gpu(1, "H200", 1 << 37, "cuda", "GPU-b", ("/dev/nvidia1", "/dev/nvidiactl"))
    assert visible([cuda]) == {"CUDA_VISIBLE_DEVICES": "GPU-b", "CONCORD_DEVICE": "cuda"}
    rocm = Gpu(0, "MI300", 1 << 37, "rocm", "0", ())
    assert visible([rocm]) == {"ROCR_VISIBLE_DEVICES": "0", "CONCORD_DEVICE": "cuda"}
    xpu = [Gpu(index, "Max", 1 << 36, "xpu", str(index), ()) for index in (0, 2)]
    assert visible(xpu) == {"ZE_AFFINITY_MASK": "0,2", "CONCORD_DEVICE": "xpu"}
    none = visible([])
    assert none["CUDA_VISIBLE_DEVICES"] == none["ROCR_VISIBLE_DEVICES"] == ""
    assert none["CONCORD_DEVICE"] == "cpu"


def test_a_driver_that_only_the_search_path_names_is_found_in_the_sandbox(tmp_path, sandboxed):
    """As on container platforms that mount NVIDIA's driver where the loader does not look."""
    driver, other = tmp_path / "nvidia" / "lib64", tmp_path / "other"
    for folder in (driver, other, tmp_path / "app", tmp_path / "job" / "work"):
        folder.mkdir(parents=True)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    library = (
        next(words[5] for words in maps if len(words) > 5 and "/libz.so" in words[5]) if zlib.crc32(b"") == 0 else ""
    )
    shutil.copy(library, driver / "libcuda.so.1")
    drivers = driver_folders(os.pathsep.join(["", "relative", str(other), str(driver), str(driver)]))
    assert drivers == (driver,)
    card = Gpu(0, "H200", 1 << 37, "cuda", "GPU-a", ("/dev/null",))
    shown = visible([card], drivers)
    assert shown["LD_LIBRARY_PATH"] == str(driver)
    assert "LD_LIBRARY_PATH" not in visible([card]), "nothing that the agent was given goes further"

    def loads(mounts, environment):
        program = [sys.executable, "-S", "-c", "import ctypes; ctypes.CDLL('libcuda.so.1').zlibVersion"]
        line = sandbox_command(mounts, program, detect_sandbox(), TEMPORARY_BYTES)
        return subprocess.run(
            line, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, timeout=60, check=False
        )

    inside = Mounts(tmp_path / "app", tmp_path / "job", {}, card.files, drivers)
    assert loads(inside, shown).returncode == 0, loads(inside, shown).stderr
    assert b"libcuda.so.1" in loads(Mounts(tmp_path / "app", tmp_path / "job", {}, card.files), shown).stderr
    check_places(tmp_path / "job", drivers=drivers)
    with pytest.raises(InvalidUsage, match="which every job can read"):
        check_places(driver / "job", drivers=drivers)


def test_the_offer_of_this_machine():
    offer = local_offer()
    assert offer.cpus >= 1
    assert offer.memory_bytes > 1 << 28
    assert offer.python == platform.python_version()
    assert offer.device in {"cuda", "rocm", "xpu", "mps", "cpu"}
    assert offer.sandbox in {"bubblewrap", "none"}


def test_the_runtime_that_is_here_lacks_nothing():
    assert (
        missing_runtime(">=3.11", {"numpy": ">=2.0", "flwr[simulation]": ">=1.41,<1.43", "Flwr": "", "pyyaml": ""})
        == ()
    )


@pytest.mark.parametrize(
    ("python", "packages", "words"),
    [
        (">=4", {}, "Python >=4"),
        (">=3.11", {"no-such-package": ">=1"}, "no-such-package>=1"),
        (">=3.11", {"numpy": "==1.0"}, "numpy==1.0"),
        (">=3.11", {"numpy": "1.0"}, "(it has "),
        (">=3.11", {"numpy": "nonsense"}, "numpynonsense"),
        (">=3.11", {"../etc": ""}, "../etc"),
    ],
)
def test_each_lack_ends_the_sentence_that_the_node_begins(python, packages, words):
    """ "This node lacks ...; nothing is installed for a job"."""
    (lack,) = missing_runtime(python, packages)
    assert words in lack
    assert "." not in lack[-1:]


def test_a_missing_bubblewrap_is_said_with_what_to_install():
    report = detect_sandbox("no-such-bubblewrap")
    assert report.kind == "none"
    assert "not installed" in report.reason
    assert DOCUMENT in report.hint


def test_a_bubblewrap_that_fails_is_said_with_its_own_words(tmp_path):
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    program.chmod(0o755)
    report = detect_sandbox(str(program))
    assert report.kind == "none"
    assert "Permission denied" in report.reason
    assert report.hint


@pytest.mark.parametrize(
    ("setting", "value", "reason", "hint"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "Ubuntu 24.04", PROFILE),
        ("kernel/unprivileged_userns_clone", "0", "kernel", "unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "no user namespaces", "max_user_namespaces"),
    ],
)
def test_closed_user_namespaces_are_explained_with_what_opens_them(tmp_path, setting, value, reason, hint):
    (tmp_path / setting).parent.mkdir(parents=True)
    (tmp_path / setting).write_text(f"{value}\n")
    said = sandbox._explain("no permission", tmp_path)
    assert reason in said[0]
    assert hint in said[1]
    assert DOCUMENT in said[1]


def test_the_command_line_shows_a_gpu_only_to_its_job_and_a_file_in_a_folder_of_its_own(tmp_path):
    file = tmp_path / "scans.npz"
    file.write_bytes(b"")
    mounts = Mounts(tmp_path / "b", tmp_path / "s", {"scans": file}, ("/dev/nvidia1",))
    line = sandbox_command(mounts, ["python"], SandboxReport("bubblewrap"), 1 << 20)
    assert line[line.index(str(file)) - 1 : line.index(str(file)) + 2] == [
        "--ro-bind",
        str(file),
        "/concord/data/scans/scans.npz",
    ]
    assert "/dev/nvidia1" in line
    assert "/dev/nvidia0" not in line
    assert "--share-net" not in line
    bare = sandbox_command(Mounts(tmp_path, tmp_path, {}), ["python"], SandboxReport("bubblewrap"), 1 << 20)
    assert not any(part.startswith("/dev/nvidia") or part == "/sys" for part in bare)


def test_the_profile_that_the_hint_names_is_shipped_and_documented():
    here = sandbox.__file__.rpartition("/")[0]
    with open(f"{here}/apparmor/{PROFILE}") as file:
        assert f"profile {PROFILE} " in file.read()
    with open(f"{here}/../../{DOCUMENT}") as file:
        assert PROFILE in file.read()
