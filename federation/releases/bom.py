"""bom.cdx.json: the release as a CycloneDX 1.6 bill of materials for machine learning (ECMA-424), with the model's card.

It says again, for programs, what the verified files say; a verifier makes it again, byte for byte. What members keep at home is
named, and never located. The timestamp is when the lead signed the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from federation.identity.envelope import canonical
from federation.privacy.statement import sentence_of
from federation.releases.described import words_of
from federation.releases.facts import LIMITS, Facts
from federation.releases.listing import MANIFEST, MODEL, SEALED, TASK
from federation.secagg.messages import Seat

SCHEMA: Final = "http://cyclonedx.org/schema/bom-1.6.schema.json"


def bom_of(facts: Facts, digests: Mapping[str, bytes]) -> bytes:
    """``digests``: SHA-256 of the release's other files, by path."""
    manifest = facts.manifest
    file = SEALED if facts.state is None else MODEL
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{facts.state_digest.hex()}",
        "name": manifest.name,
        "version": facts.state_digest.hex(),
        "description": manifest.job.metadata.description or f"Trained by {len(facts.seats)} members of a federation.",
        "group": manifest.federation,
        "hashes": [_hash(digests[file])],
        "modelCard": _card(facts),
        "properties": [
            _property("job", manifest.digest.hex()),
            _property("release", facts.subject.hex()),
            _property("state", facts.state_digest.hex()),
            _property("roll", facts.roll.digest.hex()),
            _property("file", file),
        ],
    }
    if (licence := manifest.spec.release.licence) is not None:
        model["licenses"] = [{"expression": licence}]
    task = {
        "type": "application",
        "bom-ref": f"task:{manifest.bundle_digest.hex()}",
        "name": "task",
        "version": manifest.bundle_digest.hex(),
        "description": "the code that members ran, as the lead signed it",
        "hashes": [_hash(digests[TASK])],
        "properties": [_property("file", TASK), _property("clientApp", manifest.client_app)],
    }
    packages = [
        {
            "type": "library",
            "bom-ref": f"package:{name}",
            "name": name,
            "description": "asked of each node by the manifest",
            "properties": [_property("versions", str(versions) or "any")],
        }
        for name, versions in sorted(manifest.spec.runtime.packages.items())
    ]
    document = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{_uuid(facts.subject)}",
        "version": 1,
        "metadata": {
            "timestamp": manifest.created,
            "lifecycles": [{"phase": "post-build"}],
            "authors": [{"name": manifest.lead.name}],
            "component": model,
            "properties": [_property("manifest", digests[MANIFEST].hex())],
        },
        "components": [task, *packages],
        "dependencies": [
            {"ref": model["bom-ref"], "dependsOn": [task["bom-ref"]]},
            {"ref": task["bom-ref"], "dependsOn": [each["bom-ref"] for each in packages]},
        ],
    }
    return canonical(document)


def _card(facts: Facts) -> dict[str, Any]:
    manifest = facts.manifest
    last = facts.rounds[-1]
    considerations: dict[str, Any] = {
        "technicalLimitations": list(LIMITS),
        "fairnessAssessments": [
            {"groupAtRisk": verdict.where, "harms": f"the worst of all groups: {verdict.words}"}
            for verdict in facts.verdicts
            if verdict.where
        ],
        "ethicalConsiderations": [_memorisation(facts)],
    }
    if manifest.spec.purposes:
        considerations["useCases"] = list(manifest.spec.purposes)
    return {
        "modelParameters": {
            "datasets": [
                {
                    "type": "dataset",
                    "name": facts.data_sets[seat.member],
                    "description": _described(facts, seat),
                    "governance": {"owners": [{"organization": {"name": facts.roll.member(seat.member).name}}]},
                }
                for seat in facts.seats
            ],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": name, "value": f"{value:.6g}", "slice": f"round {last.round}, {len(last.cohort)} members"}
                for name, value in sorted(last.metrics.items())
            ]
        },
        "considerations": considerations,
    }


def _described(facts: Facts, seat: Seat) -> str:
    """In the laboratory's own words, where it published any."""
    place = f"at {seat.member} in {seat.jurisdiction}; it never left the member"
    told = [entry for entry in facts.described[seat.member] if entry.name == facts.data_sets[seat.member]]
    return "; ".join((place, *(word for entry in told for word in words_of(entry))))


def _memorisation(facts: Facts) -> dict[str, str]:
    privacy = facts.manifest.privacy
    measured = [each.words for each in facts.verdicts if each.gate in {"canaries", "membership"}]
    gates = f"gates: {'; '.join(measured)}" if measured else "no gate measures it"
    noise = "no differential privacy" if privacy is None else sentence_of(privacy)
    return {"name": "memorisation of training data", "mitigationStrategy": f"{noise}; {gates}"}


def _hash(digest: bytes) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.hex()}


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"concord:{name}", "value": value}


def _uuid(subject: bytes) -> str:
    """Of the release's subject, in the form of a version 8 UUID (RFC 9562)."""
    digits = bytearray(subject[:16])
    digits[6], digits[8] = digits[6] & 0x0F | 0x80, digits[8] & 0x3F | 0x80
    text = digits.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
