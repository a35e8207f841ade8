"""A program that owns a worker, for tests that kill it: starts a worker of a hanging task, says its pid, and waits.

python worker_owner.py PLACE SANDBOX [ignore-interrupt]
"""

import asyncio
import signal
import sys
from pathlib import Path

from node_agent.runner.worker import Worker, WorkerSpec

APPS = Path(__file__).parents[2] / "apps"


async def main(place: Path, sandbox: str) -> None:
    config = {"fault": "hang", "fault-partition": -1, "fault-round": 0, "path": ""}
    spec = WorkerSpec(
        bundle=APPS / "faulty",
        data_sets={},
        scratch=place / "job",
        log=place / "task.log",
        client_app="faulty.client_app:app",
        run_config=config,
        sandbox=sandbox,
    )
    worker = await Worker.start(spec)
    call = asyncio.create_task(worker.train(place / "job/model.safetensors", place / "job/out", {}, 600))
    await asyncio.wait({call}, timeout=0.3)
    print(worker.pid, flush=True)
    try:
        await call
    finally:
        await worker.close()


if __name__ == "__main__":
    # Also where the tests run in the background of a shell, which has SIGINT ignored.
    ignored = "ignore-interrupt" in sys.argv
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
