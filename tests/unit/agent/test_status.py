"""What a node says of itself: whether it takes part, by its own roll, and why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node_agent.settings import Home, NodeSettings
from node_agent.status import print_status, status_of
from node_agent.store.files import private_folder
from node_agent.store.journal import Journal
from tests.unit.agent.test_lapses import ATLAS, BACK, JOB, KEY, OUT, consent
from tests.unit.governance.members import Federation, key, revoked

SETTINGS = NodeSettings(member="fr", node="fr-1", federation="atlas", address="here.example:7443")


def home_with(folder: Path, federation: Federation) -> Home:
    private_folder(folder)
    home = Home(folder)
    private_folder(home.identity_key.parent)
    home.identity_key.write_bytes(KEY.to_pem())
    home.identity_key.chmod(0o600)
    home.roll.write_bytes(federation.roll.envelope)
    home.save(SETTINGS)
    return home


def observing(federation: Federation) -> Federation:
    return federation.amended(("br", "in", "jp", "ke"), "suspension", members=federation.member("fr", tier="observer"))


def own_node_revoked(federation: Federation) -> Federation:
    entry = revoked("fr")
    return federation.amended((), "suspension", key("fr"), revoked=(type(entry)("fr", "fr-1", KEY.public),))


@pytest.mark.parametrize(
    ("federation", "why"),
    [
        (ATLAS, ""),
        (OUT, "The member fr is suspended by the roll, version 2."),
        (BACK, ""),
        (own_node_revoked(ATLAS), "This node of fr is revoked by the roll, version 2."),
        (observing(ATLAS), "The member fr has no nodes: its tier is observer."),
    ],
    ids=["active", "suspended", "taken-back", "node-revoked", "observer"],
)
def test_it_says_whether_it_takes_part_and_why_not(
    tmp_path: Path, federation: Federation, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = home_with(tmp_path, federation)
    said = status_of(home)
    assert (said["takesPart"], said["why"], said["roll"]) == (not why, why, federation.roll.version)
    print_status(home, "table")
    assert ("takes part:   yes" in capsys.readouterr().out) is (not why)


def test_a_job_whose_consent_has_lapsed_is_shown_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = home_with(tmp_path, OUT)
    with Journal(home.journal) as journal:
        journal.answer(consent(ATLAS.roll), b"manifest")
        journal.lapse(JOB, "put out")
    print_status(home, "json")
    said = json.loads(capsys.readouterr().out)
    assert said["jobs"] == [{"job": JOB.hex(), "name": "tiny", "state": "suspended", "reason": "put out"}]
    assert (said["running"], said["coordinator"]) == (False, ["here.example:7443"])
