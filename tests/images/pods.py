"""Containers of a rendered pod as processes of this machine: the chart's command, environment and files, under another root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.helm.charts import Document, containers, of_kind, pods

ADDRESS = "127.0.0.1"
"""the pod's"""
PLACES = (
    *("/var/lib/concord", "/etc/concord", "/etc/policy", "/run/secrets", "/run/concord", "/run/web"),
    *("/run/database", "/tmp"),
)
"""what a container has of its own: volumes"""


@dataclass
class Machine:
    """Where the paths of a pod lie here. ``prefix``: the environment that the image's install steps made."""

    root: Path
    prefix: Path
    changed: Mapping[str, str] = field(default_factory=dict)
    """variables that differ from the chart's: a free port, say"""
    address: str = ADDRESS

    def here(self, text: str) -> str:
        for path in PLACES:
            if text == path or text.startswith(f"{path}/"):
                return str(self.root / text.lstrip("/"))
        return text

    def files(self, documents: list[Document]) -> None:
        """The volumes: empty folders, and the files of the ConfigMaps, each where it is mounted, and none of before."""
        for path in ("var/lib/concord", "run/concord", "tmp"):
            (self.root / path).mkdir(parents=True, exist_ok=True)
        data = {document["metadata"]["name"]: document["data"] for document in of_kind(documents, "ConfigMap")}
        for _, _, spec in pods(documents):
            held = {volume["name"]: volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume}
            for container in containers(spec):
                for mount in container.get("volumeMounts", ()):
                    if held.get(mount["name"]) in data:
                        self.put(mount["mountPath"], data[held[mount["name"]]])

    def put(self, place: str, texts: Mapping[str, str]) -> None:
        """A ConfigMap or Secret as a folder."""
        folder = Path(self.here(place))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o440)  # as a Secret is mounted for a group

    def environment(self, container: Document) -> dict[str, str]:
        values = {
            "TMPDIR": str(self.root / "tmp"),
            "PATH": f"{self.prefix / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "FLWR_TELEMETRY_ENABLED": "0",
        }
        for item in container.get("env", ()):
            if "value" in item:
                values[item["name"]] = self.here(item["value"].replace("$(POD_IP)", self.address))
        return values | {name: value for name, value in self.changed.items() if name in values}

    def start(self, container: Document, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return subprocess.Popen(
                [self.here(word) for word in container["command"]], env=self.environment(container), cwd=self.root,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip

    def run(
        self, container: Document, command: Sequence[str] | None = None, given: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The container's own command to its end, or another one in it, as `kubectl exec` would."""
        words = [self.here(word) for word in command or container["command"]]
        ended = subprocess.run(
            words,
            env=self.environment(container),
            cwd=self.root,
            input=given,
            capture_output=True,
            check=False,
            timeout=90,
        )
        return subprocess.CompletedProcess(
            words, ended.returncode, ended.stdout.decode(), ended.stderr.decode(errors="replace")
        )


def named(spec: Document, name: str) -> Document:
    (container,) = (container for container in containers(spec) if container["name"] == name)
    return container


def end(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, as a kubelet sends it; the exit status."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
