"""What this machine offers to jobs: its accelerators, processors, memory, and sandbox. Never imports torch.

A device kind is a word: "cuda", "rocm", "xpu", "mps", "cpu". A worker finds it in CONCORD_DEVICE (as torch names it:
ROCm's is "cuda" too) and sees only the accelerators that it was given, through the variables of each maker and, in
the sandbox, through the device files that are bound.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from node_agent.runner.nvml import Nvml, opened
from node_agent.runner.sandbox import detect_sandbox

TORCH_NAMES: Final = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "mps": "mps", "cpu": "cpu"}
VENDORS: Final = {"0x1002": "rocm", "0x8086": "xpu"}
SLICES: Final = 1024
"""indices of slices begin here; no machine has so many cards"""
OPTIONAL: Final = re.compile(r".*/(nvidia-uvm-tools|card[0-9]+)")
"""for debuggers and screens"""
DRIVER_LIBRARY: Final = "libcuda.so.1"
HIDE_ALL: Final = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""}


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card, or a slice of one (MIG). ``index``: its own for as long as it is there, whatever becomes of others; ``address``: what
    the maker's own variable takes to name it; ``files``: the device files that it needs."""

    index: int
    model: str
    memory_bytes: int
    kind: str = "cuda"
    address: str = ""
    files: tuple[str, ...] = ()
    is_slice: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """``device``: "cuda", "rocm", "xpu", "mps" or "cpu"; ``python``: "3.11.7"; ``sandbox``: "bubblewrap" or "none"."""

    gpus: tuple[Gpu, ...]
    cpus: int
    memory_bytes: int
    python: str
    device: str
    sandbox: str


def local_offer() -> Offer:
    """Asks the machine anew; a few milliseconds, but for the sandbox, which is tried once."""
    gpus = detect_gpus()
    return Offer(
        gpus=gpus,
        cpus=_cpus(),
        memory_bytes=_memory(),
        python=platform.python_version(),
        device=device_kind(gpus),
        sandbox=detect_sandbox().kind,
    )


def device_kind(gpus: Sequence[Gpu]) -> str:
    if gpus:
        return gpus[0].kind
    return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"


def detect_gpus(root: Path = Path("/")) -> tuple[Gpu, ...]:
    """The accelerators of one maker: NVIDIA's by NVML, else AMD's or Intel's by sysfs under ``root``; none is fine."""
    return _nvidia() or _sysfs(root)


def _nvidia() -> tuple[Gpu, ...]:
    """Without cards that do not say what they are: one that has fallen off the bus takes no other away."""
    with opened() as nvml:
        return () if nvml is None else tuple(_told_by(nvml))


def _told_by(nvml: Nvml) -> Iterator[Gpu]:
    """A card that is cut into slices has nothing to lend but these."""
    library = nvml.library
    shared = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps")
    for index, card in nvml.cards():
        minor = nvml.told(library.nvmlDeviceGetMinorNumber, card)
        devices = [(index, card)]
        if is_cut := nvml.is_cut(card):
            devices = [(SLICES * (number + 1) + index, part) for number, part in nvml.slices(card)]
        for own, device in devices:
            name, address = nvml.told(library.nvmlDeviceGetName, device), nvml.told(library.nvmlDeviceGetUUID, device)
            memory = nvml.told(library.nvmlDeviceGetMemoryInfo, device)
            if None not in (name, address, minor, memory):
                files = (f"/dev/nvidia{minor}", *shared)
                yield Gpu(own, str(name), int(memory.total), "cuda", str(address), files, is_cut)


def _sysfs(root: Path) -> tuple[Gpu, ...]:
    """Cards of the kernel's DRM class with memory of their own (an Intel processor's graphics has none)."""
    found: list[Gpu] = []
    cards = [path for path in (root / "sys/class/drm").glob("card*") if path.name[4:].isdigit()]
    for card in sorted(cards, key=lambda path: int(path.name[4:])):
        kind = VENDORS.get(_read(card / "device/vendor"), "")
        memory = _read(card / "device/mem_info_vram_total") or _read(card / "lmem_total_bytes")
        if not kind or not memory.isdigit() or (found and found[0].kind != kind):
            continue
        render = [f"/dev/dri/{path.name}" for path in sorted((card / "device/drm").glob("renderD*"))]
        model = _read(card / "device/product_name") or {"rocm": "AMD GPU", "xpu": "Intel GPU"}[kind]
        files = (*render, f"/dev/dri/{card.name}", *(("/dev/kfd",) if kind == "rocm" else ()))
        found.append(Gpu(len(found), model, int(memory), kind, str(len(found)), files))
    return tuple(found)


def shut(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """Device files without which a job cannot use these cards, and which this process cannot open, or which are not there."""
    needed = dict.fromkeys(
        file
        for gpu in gpus
        for file in gpu.files
        if not OPTIONAL.fullmatch(file) and (gpu.is_slice or not file.endswith("/nvidia-caps"))
    )
    return tuple(file for file in needed if not os.access(file, os.R_OK if Path(file).is_dir() else os.R_OK | os.W_OK))


def driver_folders(search: str) -> tuple[Path, ...]:
    """Of the loader's path (LD_LIBRARY_PATH), the folders with NVIDIA's driver. Container platforms that mount it outside the
    loader's own places show it so, and a worker, whose environment is made anew, would not find it."""
    folders = [Path(place).resolve() for place in search.split(os.pathsep) if place.startswith(os.sep)]
    return tuple(dict.fromkeys(folder for folder in folders if (folder / DRIVER_LIBRARY).is_file()))


def visible(gpus: Sequence[Gpu], drivers: Sequence[Path] = ()) -> dict[str, str]:
    """The variables that show a worker the ``gpus`` it was given and their ``drivers`` (folders), and hide all others."""
    if not gpus:
        # Level Zero's mask cannot be empty; without device files, and with an empty selector, no Intel GPU is seen.
        return {**HIDE_ALL, "ONEAPI_DEVICE_SELECTOR": "opencl:cpu", "CONCORD_DEVICE": "cpu"}
    kind, addresses = gpus[0].kind, ",".join(gpu.address for gpu in gpus)
    name = {"CONCORD_DEVICE": TORCH_NAMES[kind]}
    if drivers:
        name["LD_LIBRARY_PATH"] = os.pathsep.join(str(folder) for folder in drivers)
    if kind == "cuda":
        return {"CUDA_VISIBLE_DEVICES": addresses, **name}
    if kind == "rocm":
        return {"ROCR_VISIBLE_DEVICES": addresses, **name}
    return {"ZE_AFFINITY_MASK": addresses, **name}


def _cpus() -> int:
    """Processors that this process may use: its affinity, and its control group's quota where there is one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        count = min(count, max(1, int(quota) // int(period)))
    return count


def _memory() -> int:
    total = int(psutil.virtual_memory().total)
    limit = _read(Path("/sys/fs/cgroup/memory.max"))
    return min(total, int(limit)) if limit.isdigit() else total


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
