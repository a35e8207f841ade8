"""Settings come from coordinator.yaml and CONCORD_COORDINATOR_*: one that nothing reads is refused, never passed over."""

from pathlib import Path

import pytest

from coordinator.settings import Home, Settings
from federation.errors import InvalidUsage
from node_agent.settings import refuse_unknown_variables


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "coordinator.yaml").write_text("federation: atlas\nlisten: 127.0.0.1:7443\n")
    return Home(tmp_path)


def test_variables_win_over_the_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCORD_COORDINATOR_HOME", str(home.root))
    monkeypatch.setenv("CONCORD_COORDINATOR_LISTEN", "127.0.0.1:9")
    assert home.load().listen == "127.0.0.1:9"


@pytest.mark.parametrize(
    "name",
    [
        "CONCORD_COORDINATOR_DATABASE_",
        "CONCORD_COORDINATOR_LISTENS",
        "concord_coordinator_port",
        "CONCORD_DATABASE",
        "CONCORD_COORDINATR_LISTEN",
    ],
)
def test_an_unknown_variable_is_refused_by_name_and_its_value_is_not_shown(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "postgresql://user:secret@host/db")
    with pytest.raises(InvalidUsage, match=name) as caught:
        home.load()
    told = f"{caught.value} {caught.value.hint}"
    assert "secret" not in told
    for field in Settings.model_fields:
        assert f"CONCORD_COORDINATOR_{field.upper()}" in told


def test_a_variable_that_is_wrong_is_blamed_and_not_the_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCORD_COORDINATOR_LOG_HEAD_SECONDS", "soon")
    with pytest.raises(InvalidUsage, match=r"variable CONCORD_COORDINATOR_LOG_HEAD_SECONDS: .*number") as caught:
        home.load()
    assert "soon" not in str(caught.value)
    assert caught.value.hint


def test_two_things_at_one_address_are_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCORD_COORDINATOR_METRICS", "127.0.0.1:7443")
    with pytest.raises(InvalidUsage, match="listen and metrics are both") as caught:
        home.load()
    assert caught.value.hint
    for free in ("127.0.0.1:0", ""):
        monkeypatch.setenv("CONCORD_COORDINATOR_METRICS", free)
        monkeypatch.setenv("CONCORD_COORDINATOR_LISTEN", free or "127.0.0.1:0")
        home.load()


def test_one_setting_in_two_spellings_is_a_contradiction(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCORD_COORDINATOR_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("concord_coordinator_listen", "127.0.0.1:2")
    with pytest.raises(InvalidUsage, match="which are one setting") as caught:
        home.load()
    assert "127.0.0.1:2" not in str(caught.value)


def test_what_others_read_is_left_to_them(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONCORD_HOME", "CONCORD_NODE_HOME", "CONCORD_DEBUG", "CONCORD_MEMBER", "CONCORD_PASSPHRASE_FILE"):
        monkeypatch.setenv(name, "0")
    assert home.load().federation == "atlas"
    with pytest.raises(InvalidUsage, match="CONCORD_DATABASE is no setting of a node"):
        refuse_unknown_variables({"CONCORD_DATABASE": "x", "CONCORD_NODE_HOME": "y"})
