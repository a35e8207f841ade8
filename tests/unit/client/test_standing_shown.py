"""Who was put out is shown so by the reader's own roll, whatever the coordinator says of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordinator.client.ceremony import lines_of
from coordinator.client.describe import members_document, members_table
from coordinator.client.views import node_of
from federation.identity.credential import node_request, sign_credential
from federation.identity.roll import RevokedNode
from federation.v1 import jobs_pb2
from tests.unit.governance.members import NOON, Federation, founded, key

ATLAS = founded()
KEY = key("node fr-1")
OTHERS = ("br", "in", "jp", "ke")
SUSPENDED = ATLAS.amended(OTHERS, "suspension", members=ATLAS.member("fr", state="suspended"))
REVOKED = ATLAS.amended((), "suspension", key("fr"), revoked=(RevokedNode("fr", "fr-1", KEY.public),))
OBSERVER = ATLAS.amended(OTHERS, "suspension", members=ATLAS.member("fr", tier="observer"))
LEADLESS = ATLAS.amended((), "suspension", key("br"), leads=ATLAS.lead("ana", state="suspended"))


def told() -> jobs_pb2.NodeView:
    """What a coordinator says that shows fr's node as if nothing were."""
    request = node_request("atlas", "fr", "fr-1", KEY)
    credential = sign_credential(request, "atlas", key("fr"), "fr", NOON, NOON + timedelta(days=90))
    return jobs_pb2.NodeView(member="fr", node="fr-1", state="active", connected=True, credential=credential)


@pytest.mark.parametrize(
    ("federation", "state"),
    [(ATLAS, "active"), (SUSPENDED, "suspended"), (REVOKED, "revoked"), (OBSERVER, "suspended"), (LEADLESS, "active")],
    ids=["active", "member", "node", "tier", "lead"],
)
def test_no_coordinator_shows_a_node_as_active_that_the_members_have_put_out(
    federation: Federation, state: str
) -> None:
    assert node_of(told(), federation.roll).state == state


def test_members_and_roll_show_each_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {each["id"]: each for each in members_document(REVOKED.roll)}
    assert (shown["fr"]["state"], shown["fr"]["revokedNodes"]) == ("active", ["fr-1"])
    shown = {each["id"]: each for each in members_document(LEADLESS.roll)}
    assert shown["br"]["leads"] == ["ana (suspended)"]
    shown = {each["id"]: each for each in members_document(SUSPENDED.roll)}
    assert (shown["fr"]["state"], shown["fr"]["weight"]) == ("suspended", 0)
    members_table(REVOKED.roll)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("fr "))
    assert line.endswith("fr-1")
    for federation, words in (
        (SUSPENDED, "member fr  FR  Laboratory fr"),
        (REVOKED, "revoked node fr-1 of fr"),
        (LEADLESS, "lead ana of br  Ana"),
    ):
        assert any(words in line for line in lines_of(federation.roll))
    assert any(line.endswith("suspended") for line in lines_of(LEADLESS.roll) if "lead ana" in line)
