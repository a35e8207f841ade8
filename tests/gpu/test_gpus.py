"""On a machine with an NVIDIA GPU: a job gets the card that it asked for, inside its sandbox, and gives it back whole.

`make gpu-test` runs these alone. Without a GPU, or without bubblewrap, they fail: they are not for other machines.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from coordinator.client.views import Job
from examples.local_federation import DataSet, LocalFederation, Member
from models.digits import partition
from models.digits.baselines import accuracy_of
from node_agent.halt.gpus import holders
from node_agent.runner.devices import detect_gpus
from node_agent.runner.worker import Worker, WorkerSpec
from node_agent.telemetry.gpus import readings
from tests.e2e.commands import eventually, said
from tests.e2e.runs import APPS, Runs, watch, workers
from tests.e2e.test_watching import samples

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

WARM = APPS / "warm"
DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits" / "app"
SEEN = ["on_gpu", "cards", "files", "teraflops"]
FIGURES = {"train": SEEN, "evaluate": []}
LABS = (("ar", "AR"), ("be", "BE"), ("ch", "CH"))
GIB = 1 << 30


def driver_says(*questions: str) -> list[list[str]]:
    """nvidia-smi's answers, a line for each card: another reader of the same driver."""
    command = ["nvidia-smi", f"--query-gpu={','.join(questions)}", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return [[part.strip() for part in line.split(",")] for line in told.stdout.splitlines()]


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Three nodes that share this machine's cards: each lends what it sees to one job at a time."""
    folder: Path = tmp_path_factory.mktemp("gpu")
    shards = partition.write(folder / "digits", [name for name, _ in LABS])
    rules = {"figures": [*SEEN, "train_loss", "eval_loss", "eval_acc"]}
    members = [
        Member(name, f"Laboratory {name}", code, {"digits": DataSet(shards[name].path, shards[name].examples)}, rules)
        for name, code in LABS
    ]
    with LocalFederation(folder / "federation", "gpu", members) as local:
        yield Runs(local, folder)


def seen(job: Job) -> dict[str, float]:
    assert job.state == "finished", job.reason
    (*_, last) = [each.metrics for each in job.rounds if f"train/{SEEN[0]}" in each.metrics]
    return {name: last[f"train/{name}"] for name in SEEN}


def test_what_a_node_offers_is_what_the_driver_says(labs: Runs) -> None:
    cards = driver_says("index", "name", "uuid", "memory.total")
    assert cards, "these tests are for a machine with an NVIDIA GPU"
    offered = detect_gpus()
    assert [[str(gpu.index), gpu.model, gpu.address] for gpu in offered] == [card[:3] for card in cards]
    for gpu, card in zip(offered, cards, strict=True):
        assert abs(gpu.memory_bytes / (1 << 20) - float(card[3])) < 0.02 * float(card[3])
    told = said("concord-node", "doctor", "--home", labs.local.nodes["ar"].home)
    assert any("gpu" in line and cards[0][1] in line for line in told.out.splitlines()), told
    assert said("concord", "get", "nodes", "--home", labs.local.lead_home).out.count(cards[0][1]) == len(LABS)


def test_a_job_trains_on_the_card_that_it_asked_for(labs: Runs) -> None:
    """The card is warm, busy and full while it does, by the node's metrics, and is given back."""
    before = readings()[0]
    path = labs.document(
        "warm", app=WARM, dataSet="digits", rounds=3, metrics=FIGURES, resources={"gpus": 1, "gpuMemory": "8Gi"},
        run_config={"seconds": 2.0, "gigabytes": 2.0},
    )  # fmt: skip
    busy, used, warmth = 0.0, 0, 0.0
    with labs.submitted(path) as (client, name):
        while not (job := client.job(name)).ended:
            now = samples(labs.local.nodes["be"])
            busy = max(busy, now["concord_node_gpu_utilisation_ratio", ("0",)])
            used = max(used, int(now["concord_node_gpu_memory_used_bytes", ("0",)]))
            warmth = max(warmth, now["concord_node_gpu_temperature_celsius", ("0",)])
            time.sleep(0.1)
    figures_seen = seen(job)
    assert (figures_seen["on_gpu"], figures_seen["cards"], figures_seen["files"]) == (1.0, 1.0, 1.0)
    print(
        f"\n{driver_says('name')[0][0]}: {figures_seen['teraflops']:.0f} Tflop/s each of {len(LABS)} workers",
        busy,
        warmth,
    )
    assert busy > 0.5
    assert used - (before.used or 0) > 3 * 2 * GIB, "three workers held 2 GiB each"
    assert 10 < warmth < 110
    eventually(lambda: (readings()[0].used or 0) - (before.used or 0) < GIB)
    assert not workers(labs)


def test_a_job_that_asked_for_none_finds_none(labs: Runs) -> None:
    job = labs.run(
        labs.document(
            "cold",
            app=WARM,
            dataSet="digits",
            rounds=1,
            metrics=FIGURES,
            run_config={"width": 128, "seconds": 0.1},
        )
    )
    figures = seen(job)
    assert (figures["on_gpu"], figures["cards"], figures["files"]) == (0.0, 0.0, 0.0)


def test_a_job_that_asks_for_more_memory_than_a_card_has_is_not_placed(labs: Runs) -> None:
    path = labs.document(
        "vast",
        app=WARM,
        dataSet="digits",
        rounds=1,
        metrics=FIGURES,
        resources={"gpus": 1, "gpuMemory": "900Gi"},
    )
    with labs.submitted(path) as (client, name):
        eventually(lambda: "GPUs that fit" in client.job(name).reason or client.job(name).ended)
        assert "GPUs that fit" in client.job(name).reason
        labs.local.concord("cancel", name)


def test_a_stopped_job_holds_no_memory_of_a_card(labs: Runs) -> None:
    """The acknowledgement of a stop says that the driver counts none of the job's processes any more; so does nvidia-smi."""
    before = readings()[0]
    path = labs.document(
        "halted", app=WARM, dataSet="digits", rounds=5, metrics=FIGURES, resources={"gpus": 1},
        run_config={"seconds": 120.0, "gigabytes": 4.0},
    )  # fmt: skip
    with labs.submitted(path) as (client, name):
        watch(client, name, until=lambda job: job.current is not None and job.current.phase == "collecting")
        eventually(lambda: (readings()[0].used or 0) - (before.used or 0) > 12 * GIB, seconds=60)
        running = set(workers(labs))
        held = holders() & running
        began = time.monotonic()
        answer = said("concord", "halt", name, "--level", "stop", "--reason", "enough", "--home", labs.local.lead_home)
        print(f"\nstopped {len(held)} holders of the card's memory in {time.monotonic() - began:.2f} s")
        assert answer.code == 0, answer
        for member, _ in LABS:
            assert f"{member}/{member}-1 stop after" in answer.out
        assert not holders() & running
        used = float(driver_says("memory.used")[0][0]) * (1 << 20)
        assert used - (before.used or 0) < GIB, "free when it was acknowledged, not later"
        assert workers(labs) == []


def test_the_card_is_lent_to_one_job_at_a_time(labs: Runs) -> None:
    """A node's second job waits for the card, and both finish."""
    paths = [
        labs.document(
            "turn",
            app=WARM,
            dataSet="digits",
            rounds=1,
            metrics=FIGURES,
            resources={"gpus": 1},
            run_config={"seconds": 2.0},
        )
        for _ in range(2)
    ]
    with labs.submitted(paths[0]) as (client, one), labs.submitted(paths[1]) as (_, other):
        for name in (one, other):
            assert seen(watch(client, name))["cards"] == 1.0


def test_digits_are_learnt_on_the_card(labs: Runs) -> None:
    """The demo's own task, on GPUs: what it learns is as good as on processors."""
    accuracy = {}
    for name, resources in (("card", {"gpus": 1}), ("processor", {})):
        path = labs.document(
            name, app=DIGITS, dataSet="digits", rounds=10, resources=resources,
            strategy={"name": "FedAvgM", "serverMomentum": 0.5}, model={"seed": 3},
            metrics={"train": ["train_loss"], "evaluate": ["eval_loss", "eval_acc"]},
        )  # fmt: skip
        job = labs.run(path)
        assert job.state == "finished", job.reason
        held_out = partition.held_out(labs.folder / "digits")
        accuracy[name] = accuracy_of(labs.release(job.name) / "model.safetensors", held_out)
    print(f"\naccuracy: {accuracy}")
    assert accuracy["card"] > 0.9
    assert abs(accuracy["card"] - accuracy["processor"]) < 0.03


async def rate_in_the_sandbox(folder: Path, width: int, seconds: float) -> float:
    """Of one worker that has the card alone, started as a node starts it."""
    model = folder / "job" / "model.safetensors"
    model.parent.mkdir(parents=True)
    save_file({"weights": np.zeros(8, dtype=np.float32)}, model)
    spec = WorkerSpec(
        bundle=WARM,
        data_sets={},
        scratch=model.parent,
        log=folder / "task.log",
        client_app="warm.task:app",
        run_config={"width": width, "seconds": seconds, "gigabytes": 0.0},
        gpus=(0,),
    )
    worker = await Worker.start(spec)
    try:
        reply = await worker.train(model, model.parent / "out", {}, 120)
    finally:
        await worker.close()
    return reply.metrics["teraflops"]


HIDDEN = """
import asyncio, ctypes, glob, os, pathlib, sys
for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
    assert any(name in line for line in open("/proc/self/maps")) or ctypes.CDLL(name), name
from tests.gpu.test_gpus import rate_in_the_sandbox
print(asyncio.run(rate_in_the_sandbox(pathlib.Path(sys.argv[1]), 1024, 0.1)))
"""


def places_of(library: str) -> list[Path]:
    """Where the loader finds a library of the driver on this machine."""
    told = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    return [Path(line.split(" => ")[1]) for line in told.splitlines() if line.strip().startswith(library)]


def test_a_driver_that_only_the_search_path_names_serves_a_job(tmp_path: Path) -> None:
    """As where a platform mounts it in a place of its own: here, what the loader would find by itself is hidden."""
    driver, empty = tmp_path / "driver", tmp_path / "empty"
    driver.mkdir()
    empty.touch()
    hidden = {place for name in ("libcuda.so", "libnvidia-ml.so") for place in places_of(name)}
    real = {place.resolve() for place in hidden}
    assert real, "the loader knows of no driver at all"
    for folder in {place.parent for place in real}:
        for library in [*folder.glob("libcuda*"), *folder.glob("libnvidia*")]:
            shutil.copy(library, driver / library.name)
    commands = [f"mount --bind {shlex.quote(str(empty))} {shlex.quote(str(place))}" for place in sorted(real)]
    run = shlex.join([sys.executable, "-c", HIDDEN, str(tmp_path / "job")])
    for search, code in ((str(driver), 0), ("", 1)):
        script = " && ".join([*commands, f"exec {run}"])
        environment = {**os.environ, "LD_LIBRARY_PATH": search}
        told = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            check=False,
        )
        assert told.returncode == code, told.stderr
        shutil.rmtree(tmp_path / "job", ignore_errors=True)


def test_the_sandbox_costs_the_card_nothing(tmp_path: Path) -> None:
    """The same products in a plain process, before and after, and in a worker; each has the card alone."""
    width, seconds = 8192, 4.0
    program = "import sys; sys.path.insert(0, sys.argv[1]); from warm.task import rate; print(rate(%d, %f, 0.0))"

    def plain() -> float:
        command = [sys.executable, "-c", program % (width, seconds), str(WARM)]
        environment = {**os.environ, "CONCORD_DEVICE": "cuda"}
        return 1e-12 * float(subprocess.check_output(command, text=True, timeout=120, env=environment))

    before = plain()
    inside = asyncio.run(rate_in_the_sandbox(tmp_path, width, seconds))
    after = plain()
    print(f"\nTflop/s in bfloat16: plain {before:.0f} and {after:.0f}, in the sandbox {inside:.0f}")
    assert inside > 0.9 * min(before, after)
