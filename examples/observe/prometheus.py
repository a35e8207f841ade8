"""A real Prometheus on loopback, with the project's rules, for the time of one run."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from federation.errors import Unavailable

RULES: Final = Path(__file__).resolve().parents[2] / "observability" / "rules"
START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0
INSTALL: Final = "Install it: sudo apt-get install prometheus (or make prometheus)."


class Prometheus:
    """``targets``: name -> host:port of each service. ``with`` starts it and ends its process."""

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        self._folder, self._targets = folder, dict(targets)
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def __enter__(self) -> Self:
        program = shutil.which("prometheus")
        if program is None:
            raise Unavailable("Prometheus is not installed.", hint=INSTALL)
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = self._folder / "prometheus.yml"
        settings.write_text(yaml.safe_dump(self.settings(), sort_keys=False))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={settings}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={self.address}",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_ready()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def settings(self) -> dict[str, Any]:
        """As docs/how-to/observe.md has them, but for the pace."""
        return {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in sorted(RULES.glob("*.yaml"))],
            "scrape_configs": [
                {
                    "job_name": "concord",
                    "honor_labels": True,
                    "static_configs": [
                        {"targets": [address], "labels": {"instance": name}} for name, address in self._targets.items()
                    ],
                }
            ],
        }

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=2.0):
                    return
            except OSError:
                time.sleep(0.05)
        self.stop()
        tail = (self._folder / "prometheus.log").read_text(errors="replace")[-2000:]
        raise Unavailable("Prometheus did not start.", hint=f"Its log ends with:\n{tail}")

    def _get(self, path: str, **query: str) -> Any:
        """Raises Unavailable with what Prometheus says."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10.0) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Unavailable(f"Prometheus refuses {query}: {error.read().decode()[:500]}") from error

    def down(self) -> dict[str, str]:
        """Targets that were not scraped well, with the reason."""
        active = self._get("targets", state="active")["activeTargets"]
        found = {target["labels"]["instance"]: target for target in active}
        late = {name: "not there" for name in self._targets if name not in found}
        return late | {
            name: target["lastError"] or target["health"] for name, target in found.items() if target["health"] != "up"
        }

    def rules(self) -> dict[str, str]:
        """Every rule, as group/kind/name/side, with its health: "ok", "unknown" or what is wrong."""
        return {
            f"{group['name']}/{rule['type']}/{rule['name']}/{rule.get('labels', {}).get('side', '')}": rule.get(
                "lastError"
            )
            or rule["health"]
            for group in self._get("rules")["groups"]
            for rule in group["rules"]
        }

    def query(self, expression: str) -> tuple[tuple[dict[str, str], float], ...]:
        """(labels, value) of each series that the expression gives now, without those that are no number."""
        data = self._get("query", query=expression)
        result = (
            [({}, data["result"][1])]
            if data["resultType"] == "scalar"
            else [(each["metric"], each["value"][1]) for each in data["result"]]
        )
        return tuple((labels, float(value)) for labels, value in result if not math.isnan(float(value)))

    def firing(self) -> set[str]:
        return {labels["alertname"] for labels, _ in self.query('ALERTS{alertstate="firing"}')}
