"""The install steps of both Containerfiles, replayed into empty folders; and both services started from what came of it.

They start as the charts start them: the first container's script, the environment, the command, and the scripts of `helm test`,
taken from the rendered pods. Needs the package index that `make setup` needs, and pip's cache makes it quick.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.processes import free_ports
from tests.e2e.commands import eventually, said
from tests.helm.charts import Document, over, pod, rendered
from tests.images.containerfile import IMAGES, replay
from tests.images.pods import ADDRESS, Machine, end, named

pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]
"""the first that asks for them waits for both installations"""

TAKES_ROLL = "cat > $TMPDIR/roll.json && concord-coordinator found --roll $TMPDIR/roll.json"
"""as the notes say it, with /tmp elsewhere"""
MEMBERS = {"br": "BR", "ke": "KE", "in": "IN"}
CUDA = ("cuda-", "nvidia-", "triton==")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both at once; byte code is not made, since nothing runs for long. PIP_FLAGS are those of `make`."""
    flags = f"--no-compile {os.environ.get('PIP_FLAGS', '')}"
    folders = {image: tmp_path_factory.mktemp(image) for image in IMAGES}
    with ThreadPoolExecutor(len(folders)) as pool:
        made = {image: pool.submit(replay, image, folder, flags) for image, folder in folders.items()}
        return {image: future.result() for image, future in made.items()}


def asked(prefix: Path, code: str) -> str:
    result = subprocess.run(
        [prefix / "bin" / "python3", "-I", "-c", code], capture_output=True, text=True, check=False, cwd="/", env={}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


INSTALLED = """
from importlib.metadata import distributions
print(*sorted(f"{item.metadata['Name'].lower().replace('_', '-')}=={item.version.partition('+')[0]}" for item in distributions()))
"""


def test_an_image_holds_locked_versions_and_no_installer(images: dict[str, Path]) -> None:
    lines = (Path(__file__).resolve().parents[2] / "constraints.txt").read_text().splitlines()
    lock = {line.lower().replace("_", "-") for line in lines if not line.startswith("#")}
    for image, prefix in images.items():
        installed = set(asked(prefix, INSTALLED).split())
        ours = {name for name in installed if name.startswith("concord-federation==")}
        assert len(ours) == 1
        unlocked = installed - ours - lock
        if image == "node-agent":  # the lock is of every build of torch, and the CUDA build brings its libraries
            unlocked = {name for name in unlocked if not name.startswith(CUDA)}
        assert unlocked == set(), image
        assert not any(name.startswith(("pip==", "pytest==", "mypy==", "helm-python-sdk==")) for name in installed)


def test_the_coordinator_has_no_torch_and_the_node_has(images: dict[str, Path]) -> None:
    code = "from importlib.util import find_spec; print(find_spec('torch') is not None)"
    assert asked(images["coordinator"], code) == "False"
    assert asked(images["node-agent"], code) == "True"
    assert asked(images["coordinator"], "import coordinator.main, coordinator.service; print('imported')") == "imported"


@pytest.fixture
def hub(images: dict[str, Path], tmp_path: Path) -> Machine:
    return Machine(tmp_path / "hub", images["coordinator"])


@pytest.fixture
def lab(images: dict[str, Path], tmp_path: Path) -> Machine:
    return Machine(tmp_path / "lab", images["node-agent"])


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            end(process)


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def signed_roll(folder: Path) -> bytes:
    """A roll of three members, signed by their officers' own commands."""
    cards: list[str | Path] = []
    for member, jurisdiction in MEMBERS.items():
        card = folder / f"{member}.json"
        words = (
            "--id",
            member,
            "--name",
            f"Laboratory of {jurisdiction}",
            "--jurisdiction",
            jurisdiction,
            "--out",
            card,
        )
        assert said("concord", "member", "init", "--home", folder / f"officer-{member}", *words).code == 0
        cards += ["--member", card]
    roll = folder / "roll.json"
    assert said("concord", "roll", "draft", "--federation", "atlas", *cards, "--out", roll).code == 0
    for member in MEMBERS:
        assert said("concord", "roll", "sign", "--home", folder / f"officer-{member}", "--roll", roll).code == 0
    return roll.read_bytes()


def test_both_services_start_as_the_charts_start_them(
    hub: Machine, lab: Machine, tmp_path: Path, ended: list[subprocess.Popen[bytes]]
) -> None:
    members, figures, own = free_ports(3)
    hub.changed = {"CONCORD_COORDINATOR_LISTEN": f"{ADDRESS}:{members}"}
    documents = rendered("coordinator", {"metrics": {"port": figures}})
    spec, probe = pod(documents, "coordinator"), pod(documents, "test")
    hub.files(documents)
    home, service = named(spec, "home"), named(spec, "coordinator")
    keys = Path(hub.here("/var/lib/concord/coordinator/keys"))

    assert (made := hub.run(home)).returncode == 0, made.stderr
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    for path in keys.iterdir():
        path.chmod(0o660)  # as a kubelet leaves them on a volume that was moved
    assert hub.run(home).returncode == 0
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}

    ended.append(hub.start(service, tmp_path / "coordinator.log"))
    eventually(lambda: answers(figures, "/readyz"))
    roll = signed_roll(tmp_path)
    found = hub.run(service, ["/bin/sh", "-c", TAKES_ROLL], roll)
    assert found.returncode == 0, found.stderr
    words = [str(members) if word == "7443" else word for word in named(probe, "reach")["command"]]
    words[2] = ADDRESS
    reached = hub.run(named(probe, "reach"), words)
    assert reached.returncode == 0, reached.stderr
    assert "/readyz: ready" in reached.stdout

    values: Document = {
        "coordinator": {"address": f"{ADDRESS}:{members}", "cidrs": [f"{ADDRESS}/32"]},
        "metrics": {"port": own},
    }
    waiting = rendered("node-agent", values)
    lab.files(waiting)
    waits = lab.run(named(pod(waiting, "agent"), "home"))
    assert waits.returncode == 2
    assert "has not joined" in waits.stderr
    assert "what to do: Have the member's officer sign" in waits.stderr
    (request,) = (line for line in waits.stdout.splitlines() if line.startswith("{"))

    join = Path(lab.here("/run/secrets/join"))
    join.mkdir(parents=True)
    (tmp_path / "request.json").write_text(request)
    officer, credential = tmp_path / "officer-br", join / "credential.json"
    signing = ("--home", officer, "--request", tmp_path / "request.json", "--out", credential)
    assert said("concord", "member", "sign-node", *signing).code == 0
    line = (
        f"concord-coordinator ticket --member br --node br-1 --address {ADDRESS}:{members} --out t >&2 && cat t && rm t"
    )
    ticket = hub.run(service, ["/bin/sh", "-c", line])
    assert ticket.returncode == 0, ticket.stderr
    (join / "ticket.json").write_text(ticket.stdout)
    (join / "roll.json").write_bytes(roll)
    for path in join.iterdir():
        path.chmod(0o440)  # as a Secret is mounted for a group

    joining = rendered("node-agent", over(values, {"join": {"existingSecret": "join"}}))
    spec = pod(joining, "agent")
    assert (joined := lab.run(named(spec, "home"))).returncode == 0, joined.stderr
    ended.append(lab.start(named(spec, "agent"), tmp_path / "node.log"))
    eventually(lambda: answers(own, "/readyz"))
    route = lab.run(named(pod(joining, "test"), "route"))
    assert route.returncode == 0, route.stderr
    assert f"{ADDRESS}:{members} can be reached" in route.stdout
    assert [end(process) for process in ended] == [0, 0], (tmp_path / "node.log").read_text()[-2000:]
    assert lab.run(named(spec, "home")).returncode == 0, "a second start joins no second time"


def test_given_keys_stay_in_memory_and_half_a_secret_is_refused(hub: Machine) -> None:
    made = rendered("coordinator", {})
    hub.files(made)
    assert hub.run(named(pod(made, "coordinator"), "home")).returncode == 0
    elsewhere = Path(hub.here("/var/lib/concord/coordinator"))
    files = {
        name: (elsewhere / name).read_bytes()
        for name in ("ca.pem", "coordinator.yaml", "keys/ca.key", "keys/release.key")
    }

    given = rendered("coordinator", {"keys": {"existingSecret": "keys"}})
    home = named(pod(given, "coordinator"), "home")
    secret = Path(hub.here("/run/secrets/concord"))
    secret.mkdir(parents=True)
    refused = hub.run(home)
    assert refused.returncode == 2
    assert "holds keys on the volume, and a Secret with keys is given" in refused.stderr

    elsewhere.rename(elsewhere.with_name("elsewhere"))
    for name, data in files.items():
        (secret / Path(name).name).write_bytes(data)
    refused = hub.run(home)
    assert refused.returncode == 2
    assert "has no log.key" in refused.stderr
    (secret / "log.key").write_bytes(files["keys/release.key"])
    assert hub.run(home).returncode == 0
    assert (elsewhere / "keys").resolve() == Path(hub.here("/run/concord")).resolve() / "keys"
    held = [path for path in elsewhere.rglob("*") if path.is_file()]
    assert {path.name for path in held} == {"ca.pem", "coordinator.yaml"}

    refused = hub.run(named(pod(made, "coordinator"), "home"))
    assert refused.returncode == 2
    assert "Set keys.existingSecret again" in refused.stderr


def test_a_node_with_given_keys_asks_to_be_vouched_for_with_them(lab: Machine, tmp_path: Path) -> None:
    given = rendered("node-agent", {"keys": {"existingSecret": "keys"}})
    lab.files(given)
    secret = Path(lab.here("/run/secrets/keys"))
    secret.mkdir(parents=True)
    home = named(pod(given, "agent"), "home")
    assert "has no identity.key" in lab.run(home).stderr
    made = tmp_path / "elsewhere"
    names = ("--federation", "atlas", "--member", "br", "--node", "br-1", "--out", tmp_path / "request.json")
    assert said("concord-node", "init", "--home", made, *names).code == 0
    for name in ("identity.key", "transport.key"):
        (secret / name).write_bytes((made / "keys" / name).read_bytes())
    (secret / "catalogue.key").write_bytes(bytes(32))
    waits = lab.run(home)
    assert waits.returncode == 2
    assert (tmp_path / "request.json").read_text() in waits.stdout, "the same node, by the same key"
    keys = Path(lab.here("/var/lib/concord/node/keys"))
    assert keys.resolve() == Path(lab.here("/run/concord")).resolve() / "keys"
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("name", "value", "code", "words"),
    [
        (
            "CONCORD_COORDINATOR_DATABASE",
            "postgresql://user:secret@127.0.0.1:1/concord",
            8,
            "127.0.0.1:1 cannot be reached",
        ),
        (
            "CONCORD_COORDINATOR_DATABSE",
            "postgresql://user:secret@127.0.0.1:1/concord",
            2,
            "is no setting of a coordinator",
        ),
    ],
    ids=["a server that is not there", "a variable that nothing reads"],
)
def test_a_database_url_is_used_or_refused_and_never_passed_over(
    hub: Machine, name: str, value: str, code: int, words: str
) -> None:
    """The image has the driver, and no coordinator goes on with SQLite where its operators believe in PostgreSQL."""
    documents = rendered("coordinator", {})
    hub.files(documents)
    spec = pod(documents, "coordinator")
    assert hub.run(named(spec, "home")).returncode == 0
    service = named(spec, "coordinator")
    service["env"].append({"name": name, "value": value})
    started = hub.run(service)
    assert started.returncode == code, started.stderr
    assert words in started.stderr
    assert "secret" not in started.stderr
