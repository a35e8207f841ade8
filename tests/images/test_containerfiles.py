"""The images' Containerfiles, the compose file, and what may enter a build; read, since there is no engine here."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.images.containerfile import IMAGES, ROOT, context, ignored, patterns, stages

ROOMS = ("federation", "coordinator", "node_agent", "models")


@pytest.mark.parametrize("image", IMAGES)
def test_bases_are_pinned_by_a_digest_that_the_builder_names(image: str) -> None:
    arguments, found = stages(IMAGES[image])
    assert arguments["BASE_DIGEST"] is None
    assert arguments["BASE"]
    assert "/" not in str(arguments["BASE"]).partition(":")[0], "no registry's host in the project"
    own = {stage.name for stage in found}
    assert {stage.base for stage in found} - own == {"${BASE}@${BASE_DIGEST}"}


@pytest.mark.parametrize("image", IMAGES)
def test_what_runs_is_a_stage_of_its_own_without_rights(image: str) -> None:
    arguments, found = stages(IMAGES[image])
    last = found[-1]
    assert len(found) >= 2
    assert last.name == ""
    assert last.all("USER") == ["65532:65532"]
    assert last.all("COPY") == ["--from=build ${PREFIX} ${PREFIX}"]
    assert arguments["PREFIX"] == "/opt/concord"
    after = last.steps[[step.word for step in last.steps].index("USER") :]
    assert "RUN" not in {step.word for step in after}
    assert not any("pip" in step.rest for step in last.steps)
    assert last.all("ENTRYPOINT") == [f'["concord-{image.removesuffix("-agent")}"]']
    environment = " ".join(last.all("ENV"))
    assert "FLWR_TELEMETRY_ENABLED=0" in environment
    assert re.search(r"CONCORD_\w+_HOME=/var/lib/concord/\w+", environment)


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_fetched_but_by_the_package_tools(image: str) -> None:
    _, found = stages(IMAGES[image])
    words = {step.word for stage in found for step in stage.steps}
    assert words <= {"ARG", "RUN", "COPY", "WORKDIR", "ENV", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}
    for stage in found:
        for run in stage.all("RUN"):
            assert not re.search(r"\b(curl|wget|git|sudo|chmod 777)\b|https?://", run), run
            if " install " in run and "pip" in run:
                assert "-c constraints.txt" in run


def test_the_node_has_its_sandbox_and_the_coordinator_no_torch() -> None:
    _, node = stages(IMAGES["node-agent"])
    (apt,) = [run for stage in node for run in stage.all("RUN") if "apt-get" in run]
    assert apt.index("bubblewrap") < apt.index("rm -rf /var/lib/apt/lists")
    assert {stage.base for stage in node[1:]} == {"base"}
    assert "EXTRAS=node" in node[1].all("ARG")
    _, coordinator = stages(IMAGES["coordinator"])
    assert "EXTRAS=postgresql" in coordinator[0].all("ARG")
    assert not [run for stage in coordinator for run in stage.all("RUN") if "apt-get" in run]


SECRET = (
    *("federation/keys/identity.key", "coordinator/home/ca.pem", "node_agent/journal.db", "coordinator.db"),
    *(
        "models/digits/data/scans.npz",
        "models/heart_disease/data/cleveland.csv",
        "policy.yaml",
        ".env",
        "federation/.env",
    ),
    *(
        "coordinator/ticket.json",
        "node_agent/br-ticket.json",
        "deploy/join/credential.json",
        "officer-br/keys/officer.key",
    ),
    *("runs/demo/node-br/keys/identity.key", ".git/config", ".venv/lib/x.py", "tests/conftest.py"),
    "models/digits/__pycache__/task.cpython-311.pyc",
)


@pytest.mark.parametrize("path", SECRET)
def test_keys_data_and_history_do_not_enter_a_build(path: str) -> None:
    assert ignored(path, patterns())


NAMES = (
    *(
        "ca.key",
        "web.key",
        "id_rsa",
        "id_ed25519",
        "deploy_rsa",
        "private.pem",
        "tls.crt",
        "bundle.p12",
        "store.pfx",
        "a.jks",
    ),
    *(
        "vault.kdbx",
        "me.gpg",
        "me.asc",
        "putty.ppk",
        "server.der",
        ".netrc",
        ".pypirc",
        ".git-credentials",
        ".env",
        ".env.local",
    ),
    *(
        "secrets.yaml",
        "secrets",
        "token",
        "api-token",
        "password",
        "db_password.txt",
        "passwd",
        "credential.json",
        "credentials",
    ),
    *(
        "ticket.json",
        "br-ticket.json",
        "request.json",
        "roll.json",
        "node.yaml",
        "policy.yaml",
        "coordinator.yaml",
        "host.keytab",
    ),
    *(
        "journal.db",
        "journal.db-wal",
        "coordinator.sqlite3",
        "dump.sql",
        "dump.sql.gz",
        "backup.tar",
        "keys.tar",
        "home.zip",
    ),
    *(
        "scans.npz",
        "scans.npy",
        "patients.csv",
        "patients.tsv",
        "patients.parquet",
        "patients.xlsx",
        "a.dcm",
        "b.nii.gz",
        "c.png",
    ),
    *(
        "model.safetensors",
        "model.pt",
        "weights.bin",
        "x.pkl",
        "notes.txt",
        "run.log",
        "core.1234",
        "train.jsonl",
        "events.tfevents",
    ),
)
"""of what people leave beside sources"""
FOLDERS = (
    "",
    *(f"{room}/" for room in ROOMS),
    "models/digits/",
    "models/digits/app/",
    "node_agent/runner/",
    "deploy/",
    "runs/demo/",
)


def test_planted_keys_and_data_do_not_enter_a_build_wherever_they_lie(tmp_path: Path) -> None:
    good = [f"{room}/x.py" for room in ROOMS] + ["models/digits/card.md", "pyproject.toml"]
    planted = [f"{folder}{name}" for folder in FOLDERS for name in NAMES]
    planted += [f"{room}/data/x.py" for room in ROOMS] + [
        "federation/keys/identity",
        "officer-br/keys/officer",
        "setup.py",
    ]
    for path in (*good, *planted):
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("planted")
    assert context(tmp_path) == sorted(good)


def test_all_that_is_kept_of_the_rooms_enters_a_build_and_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        kept = listed.stdout.split("\0")
    else:  # a copy without history
        kept = [str((Path(folder) / name).relative_to(ROOT)) for folder, _, files in os.walk(ROOT) for name in files]
    wanted = {path for path in kept if path.split("/")[0] in ROOMS and "__pycache__" not in path}
    wanted |= {"pyproject.toml", "constraints.txt", "README.md"}
    sent = set(context(ROOT))
    assert wanted <= sent, "the images would lack these"
    assert {path.split("/")[0] for path in sent} == {*ROOMS, "pyproject.toml", "constraints.txt", "README.md"}


def compose() -> dict[str, dict[str, object]]:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert set(document) >= {"services", "volumes", "networks"}
    return dict(document["services"])


@pytest.mark.parametrize("name", compose())
def test_every_service_of_the_compose_file_is_confined(name: str) -> None:
    service = compose()[name]
    assert service["user"] == "65532:65532"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]  # type: ignore[operator]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(service)
    for port in service.get("ports", ()):  # type: ignore[attr-defined]
        assert port == "127.0.0.1:7443:7443"


def test_a_compose_node_reaches_the_coordinator_alone_and_shares_no_volume_with_it() -> None:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = document["services"]
    assert document["networks"]["federation"] == {"internal": True}
    for name in ("node", "node-home"):
        assert services[name]["networks"] == ["federation"]
    sources = {name: {item.partition(":")[0] for item in service["volumes"]} for name, service in services.items()}
    assert sources["coordinator"] & sources["node"] == set()
    assert all(item.endswith(":ro") for item in services["node"]["volumes"] if item.startswith("./"))
    for name in ("node", "node-home"):
        assert "coordinator" not in sources[name]


def test_what_the_compose_file_names_is_there() -> None:
    """Build arguments are those of the Containerfile; scripts and profiles are the charts' own."""
    for service in compose().values():
        build = service.get("build")
        if isinstance(build, dict):
            arguments, _ = stages(ROOT / build["dockerfile"])
            assert set(build["args"]) <= set(arguments)
            assert {name for name, default in arguments.items() if default is None} <= set(build["args"])
        for item in (*service["volumes"], *service["security_opt"]):  # type: ignore[misc]
            source = item.partition(":")[0].removeprefix("seccomp=")
            if "helm/" in source:
                assert (ROOT / source).is_file()
