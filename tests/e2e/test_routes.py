"""Networks as they are: proxies with and without credentials, proxies that break, proxies that cannot work."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import yaml

from examples.local_federation import LocalFederation, services_environment
from federation.errors import InvalidUsage, Unavailable, exit_code
from tests.e2e.commands import clear, eventually, refused, said
from tests.e2e.proxies import ConnectProxy
from tests.e2e.runs import Runs, members_of, plain_average

HOST = "coordinator.outside.test"
NAME = f"{HOST}:7443"
"""Only the proxies know this host: whoever does not go through one does not arrive."""
PASSWORD = "p@ss:w/rd é"
QUOTED = "p%40ss%3Aw%2Frd%20%C3%A9"
PLACES = (("ar", "AR"), ("be", "BE"), ("ch", "CH"))
NOBODY = "http://127.0.0.1:9"


class Institutions:
    """``ar`` goes straight, ``be`` through an open proxy; ``ch`` and the lead through one that wants credentials."""

    def __init__(self, folder: Path, local: LocalFederation, opened: ConnectProxy, locked: ConnectProxy) -> None:
        self.runs = Runs(local, folder)
        self.local, self.opened, self.locked = local, opened, locked
        self.ways: dict[str, dict[str, str]] = {
            "ar": {"http_proxy": NOBODY, "HTTPS_PROXY": NOBODY},
            "be": {"HTTPS_PROXY": f"http://{opened.address}", "http_proxy": NOBODY},
            "ch": {"http_proxy": f"lab:{QUOTED}@{locked.address}", "no_proxy": "elsewhere.test,10.0.0.0/8"},
        }

    def ticket(self, name: str, *whose: str) -> Path:
        out = self.local.folder / f"{name}-outside.json"
        home = self.local.coordinator.home
        answer = said("concord-coordinator", "ticket", "--home", home, *whose, "--address", NAME, "--out", out)
        assert answer.code == 0, answer
        return out

    def join(self, member: str) -> None:
        """The member's node joins anew at the address that only proxies know."""
        ticket = self.ticket(member, "--member", member, "--node", f"{member}-1")
        credential = self.local.folder / f"{member}-1-credential.json"
        with environment(self.ways[member]):
            home = self.local.nodes[member].home
            answer = said("concord-node", "join", "--home", home, "--ticket", ticket, "--credential", credential)
        assert answer.code == 0, answer
        assert f"to {NAME} through the proxy 127.0.0.1:" in answer.err, answer


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ, variables):
        yield


@pytest.fixture(scope="module")
def institutions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Institutions]:
    folder = tmp_path_factory.mktemp("proxies")
    local = LocalFederation(folder / "federation", "proxied", members_of(folder / "data", *PLACES))
    with contextlib.ExitStack() as stack:
        stack.callback(local.stop)
        local.found()
        listening = yaml.safe_load((local.coordinator.home / "coordinator.yaml").read_text())["listen"]
        hosts = {NAME: int(listening.rpartition(":")[2])}
        opened = stack.enter_context(ConnectProxy(hosts))
        locked = stack.enter_context(ConnectProxy(hosts, f"lab:{PASSWORD}"))
        here = Institutions(folder, local, opened, locked)
        for member in local.members:
            local.enrol(member)
            local.nodes[member.id].environment = here.ways[member.id]
        here.join("be")
        here.join("ch")
        with environment(here.ways["ch"]):
            ticket = here.ticket("lead", "--lead", "lead")
            answer = said("concord", "login", "--home", local.lead_home, "--ticket", ticket)
            assert answer.code == 0, answer
        local.start_nodes()
        yield here


def test_a_job_through_proxies_and_the_password_is_nowhere(institutions: Institutions) -> None:
    here = institutions
    cut: list[int] = []

    def each(job: object) -> None:
        """In the second round every connection through both proxies is cut."""
        current = job.current  # type: ignore[attr-defined]
        if not cut and current is not None and current.round == 2:
            cut.append(here.opened.cut() + here.locked.cut())

    with environment(here.ways["ch"]):
        document = here.runs.document(
            "outside", rounds=3, run_config={"pause": 0.5}, deadlines={"reconnectSeconds": 10}
        )
        job = here.runs.run(document, each=each)
        assert job.state == "finished", job.reason
        found = here.runs.model(job.name)["vector"]
    assert sum(cut) >= 2, "no connection went through the proxies"
    assert all(item.cohort == ("ar", "be", "ch") for item in job.rounds if item.phase == "closed")
    np.testing.assert_allclose(found, plain_average(3, 3), atol=3 * 2.0**-11)
    routes = {member: here.local.nodes[member].log.read_text() for member in ("ar", "be", "ch")}
    assert f"straight to 127.0.0.1:{here.opened.hosts[NAME]} (loopback)" in routes["ar"]
    assert f"to {NAME} through the proxy {here.opened.address} (HTTPS_PROXY is set)" in routes["be"]
    assert f"to {NAME} through the proxy {here.locked.address} (http_proxy is set)" in routes["ch"]
    assert set(here.opened.asked) == set(here.locked.asked) == {f"{NAME} 200"}
    assert here.opened.passed() >= 3, "be joined, connected, and came back after the cut"
    written = [path for path in here.local.folder.rglob("*") if path.is_file()]
    assert len(written) > 30
    for path in written:
        found_in = [word for word in (QUOTED, PASSWORD) if word.encode() in path.read_bytes()]
        assert not found_in, path


def test_a_proxy_that_wants_credentials_says_so_to_the_lead_and_the_lab(institutions: Institutions) -> None:
    here = institutions
    for proxy in (f"http://{here.locked.address}", f"http://lab:hunter2@{here.locked.address}"):
        with environment({"https_proxy": proxy}):
            answer = said("concord", "get", "jobs", "--home", here.local.lead_home)
        refused(answer, Unavailable, f"The proxy {here.locked.address}", "HTTP 407", "name:password@")
        assert "hunter2" not in answer.err
    node = here.local.nodes["be"]
    node.stop()
    node.environment = {"HTTPS_PROXY": f"http://{here.locked.address}"}
    before = len(node.log.read_text())
    node.start()
    try:
        eventually(lambda: "HTTP 407" in node.log.read_text()[before:], 20.0)
        assert node.alive, "it goes on trying: a proxy may come to its senses"
    finally:
        node.stop()
        node.environment = here.ways["be"]
        node.start()
        node.wait_ready()


def test_a_proxy_that_allows_other_hosts_only(institutions: Institutions) -> None:
    here = institutions
    with ConnectProxy({}) as closed, environment({"all_proxy": f"http://{closed.address}"}):
        answer = said("concord", "get", "jobs", "--home", here.local.lead_home)
    refused(answer, Unavailable, "HTTP 403", "allow CONNECT", "no_proxy")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080", ("ALL_PROXY names a socks5 proxy", "no_proxy")),
        ("https_proxy", "https://lab:hunter2@127.0.0.1:3129", ("https_proxy names a https proxy", "no_proxy")),
        ("HTTP_PROXY", "http://:bad", ("HTTP_PROXY does not name a proxy", "host:port")),
    ],
)
def test_a_proxy_that_cannot_work_is_refused_at_once(
    institutions: Institutions, variable: str, value: str, words: tuple[str, ...]
) -> None:
    """By the node as by the lead, before anything is dialled."""
    here = institutions
    with environment({variable: value}):
        refused(said("concord", "get", "jobs", "--home", here.local.lead_home), InvalidUsage, *words)
    node = here.local.nodes["be"]
    node.stop()
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "node_agent.main", "run", "--home", str(node.home)],
            env={**services_environment(), variable: value},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    finally:
        node.start()
        node.wait_ready()
    assert ended.returncode == exit_code(InvalidUsage(""))
    clear(ended.stderr[ended.stderr.index("error: ") :].strip().splitlines(), InvalidUsage, *words)
    assert "hunter2" not in ended.stdout + ended.stderr
