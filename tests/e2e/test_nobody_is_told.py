"""While a federation founds itself, trains and releases, its services talk to one another and to nobody else.

Each service's own Python tells of every address it looks up or connects to, by an audit hook that is loaded at its start
(gRPC's own connections go where the ticket says: to loopback here). None of Flower's switches is set from outside.
"""

from pathlib import Path

import yaml

from examples.local_federation import DataSet, LocalFederation, Member

APP = Path(__file__).resolve().parents[1] / "apps" / "tiny"
PLACES = (("at", "AT"), ("bo", "BO"), ("ca", "CA"))

HOOK = """
import os, sys
near = {"127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", None}
def hook(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if not isinstance(address, tuple):
            return
        host = address[0]
    elif event == "urllib.Request":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    with open(os.environ["WITNESS"], "a") as file:
        file.write(f"{'near' if host in near else 'far'} {event} {host} {sys.argv}\\n")
sys.addaudithook(hook)
with open(os.environ["WITNESS"], "a") as file:
    file.write(f"watching {sys.argv}\\n")
"""


def test_a_whole_job_reaches_nobody_but_its_own_federation(tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "data").mkdir()
    witness = tmp_path / "witness"
    job = tmp_path / "job.yaml"
    spec = {"app": str(APP), "dataSet": "numbers", "rounds": 2}
    document = {"apiVersion": "concord/v1", "kind": "TrainingJob", "metadata": {"name": "silent"}, "spec": spec}
    job.write_text(yaml.safe_dump(document))
    members = [Member(name, name, code, {"numbers": DataSet(tmp_path / "data", 8)}) for name, code in PLACES]
    environment = {
        "PYTHONPATH": str(tmp_path / "hooks"), "WITNESS": str(witness), "HOME": str(tmp_path), "FLWR_HOME": str(tmp_path),
        "FLWR_TELEMETRY_ENABLED": "1", "FLWR_DISABLE_UPDATE_CHECK": "",
    }  # fmt: skip
    with LocalFederation(tmp_path / "federation", "quiet", members, environment=environment) as local:
        with local.client() as federation:
            submitted = federation.submit(job)
            *_, last = federation.watch(submitted.name)
        assert last.state == "finished", last.reason
        local.concord("release", "fetch", submitted.name, "--out", tmp_path / "release")
    lines = witness.read_text().splitlines()
    assert sum(line.startswith("watching") for line in lines) >= 1 + len(PLACES)
    assert [line for line in lines if line.startswith("far")] == []
