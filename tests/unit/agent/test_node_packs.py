"""A running node under policy packs: it denies by them, remembers them over a restart, keeps what was put in their place."""

from __future__ import annotations

from pathlib import Path

from federation.identity.consent import Consent, open_consent
from federation.manifest.manifest import Manifest
from federation.v1 import rounds_pb2
from node_agent.store.evidence import EvidenceFolder
from tests.unit.agent.test_node_consents import Node, asking, manifest_of
from tests.unit.policy.asked import pack_text


def answers(node: Node, *manifests: Manifest) -> list[Consent]:
    """Each time a new process of the node."""
    said = []
    for manifest in manifests:
        credential = node.play(asking(manifest), then=lambda agent: agent.credential)
        (*_, last) = (answer for answer in node.answers() if isinstance(answer, rounds_pb2.ConsentReply))
        said.append(open_consent(last.envelope, credential))
    return said


def test_a_node_denies_by_a_pack_and_refuses_an_older_one_after_a_restart(tmp_path: Path) -> None:
    node = Node(tmp_path)
    manifest = manifest_of(node.parties)
    node.home.packs.mkdir()
    law = node.home.packs / "ke.yaml"
    law.write_text(pack_text({"maxRounds": 1}, serial=4))
    (strict,) = answers(node, manifest)
    assert strict.reasons[0].endswith("this lab allows 1 (national pack ke-law, line 8)")
    law.write_text(pack_text({"maxRounds": 100}, serial=3))
    (lax,) = answers(node, manifest)
    assert not lax.granted
    assert lax.reasons == ("pack: ke.yaml has serial 3, and this node has seen 4 (lab pack ke-law)",)
    ((_, piece),) = EvidenceFolder(node.home.evidence).pieces()
    assert piece.message == law.read_bytes()
    law.write_text(pack_text({"maxRounds": 100}, serial=5))
    assert [consent.granted for consent in answers(node, manifest)] == [True]


def test_a_newer_word_in_a_pack_denies_each_job_and_the_lead_reads_update_needed(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.home.packs.mkdir()
    (node.home.packs / "ke.yaml").write_text(pack_text({"maxKelvin": 300}))
    (said,) = answers(node, manifest_of(node.parties))
    assert not said.granted
    assert said.reasons == (
        "pack: ke.yaml:8: rules.maxKelvin: update needed: rules.maxKelvin is an unknown field, no word of vocabulary 1. "
        "(lab pack ke.yaml)",
    )
    assert str(node.home.root) not in said.reasons[0]
