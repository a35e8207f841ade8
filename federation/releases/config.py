"""config.json, and the predicate of the statement: what the verified files say, for programs.

Whoever verifies makes both again, from what the members signed, and they must come out the same byte for byte.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from federation.identity.envelope import canonical
from federation.identity.fields import moment_text
from federation.privacy.terms import Privacy
from federation.releases.facts import Facts
from federation.releases.listing import MODEL, SEALED
from federation.sealing import key_id_of
from federation.secagg.messages import Seat

FORMAT: Final = "concord/release/v1"


def config_of(facts: Facts) -> bytes:
    """config.json: canonical JSON."""
    manifest, terms = facts.manifest, facts.manifest.terms()
    document: dict[str, Any] = {
        "format": FORMAT,
        "federation": manifest.federation,
        "roll": {"version": facts.roll.version, "digest": facts.roll.digest.hex()},
        "job": {"name": manifest.name, "digest": manifest.digest.hex(), "lead": manifest.lead.id},
        "created": manifest.created,
        "release": {
            "subject": facts.subject.hex(),
            "approvedBy": list(facts.approved_by),
            "licence": manifest.spec.release.licence,
            "audience": manifest.spec.release.audience,
        },
        "strategy": {"name": manifest.strategy.name, **manifest.strategy.parameters},
        "rounds": terms.rounds,
        "finalEvaluation": terms.final_evaluation,
        **_numbers(manifest.privacy),
        "runConfig": manifest.run_config,
        "model": _model(facts),
        "members": {seat.member: _member(facts, seat) for seat in facts.seats},
        "log": {
            "key": str(facts.log.key),
            "first": facts.log.first,
            "size": facts.log.size,
            "time": moment_of(facts.log.time),
            "witnesses": list(facts.log.witnesses),
        },
        "cohorts": {str(each.round): list(each.cohort) for each in facts.rounds},
        "metrics": {str(each.round): dict(each.metrics) for each in facts.rounds},
        "gates": [
            {
                "gate": each.gate,
                "value": each.value,
                "atLeast" if each.at_least else "atMost": each.bound,
                "of": each.where,
            }
            for each in facts.verdicts
        ],
    }
    return canonical(document)


def _member(facts: Facts, seat: Seat) -> dict[str, Any]:
    consent, revocation = facts.consents[seat.member], facts.revocations.get(seat.member)
    document = {
        "node": seat.node,
        "jurisdiction": seat.jurisdiction,
        "dataSet": consent.data_set,
        "weight": seat.weight,
        "consent": {
            "issued": moment_text(consent.issued),
            "expires": moment_text(consent.expires),
            "ended": None if revocation is None else {"cause": revocation.cause, "at": moment_text(revocation.issued)},
        },
    }
    described = facts.described[seat.member]
    return document | ({"described": [entry.document for entry in described]} if described else {})


def moment_of(seconds: int) -> str:
    return moment_text(datetime.fromtimestamp(seconds, UTC))


def predicate_of(facts: Facts) -> dict[str, Any]:
    """Of the in-toto statement (docs/protocol/release.md, "Statement")."""
    manifest = facts.manifest
    return {
        "federation": manifest.federation,
        "roll": facts.roll.digest.hex(),
        "job": manifest.digest.hex(),
        "task": manifest.bundle_digest.hex(),
        "release": facts.subject.hex(),
        "state": facts.state_digest.hex(),
        "members": [seat.member for seat in facts.seats],
        "rounds": len(facts.rounds),
        "gates": [verdict.words for verdict in facts.verdicts],
        "approvedBy": list(facts.approved_by),
    }


def _numbers(privacy: Privacy | None) -> dict[str, Any]:
    if privacy is None:
        return {}
    numbers = {
        "mechanism": privacy.mechanism,
        "unit": privacy.unit,
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "noiseMultiplier": privacy.noise_multiplier,
    }
    return {"privacy": numbers}


def _model(facts: Facts) -> dict[str, Any]:
    digest = facts.state_digest.hex()
    if facts.state is None:
        keys = [
            {"name": each.name, "key": key_id_of(key)}
            for each, key in zip(facts.manifest.spec.release.recipients, facts.manifest.recipients, strict=True)
        ]
        return {"file": SEALED, "stateDigest": digest, "recipients": keys}
    arrays = {
        name: {"dtype": array.dtype.str.lstrip("<|="), "shape": list(array.shape)}
        for name, array in facts.state.arrays.items()
    }
    return {"file": MODEL, "stateDigest": digest, "arrays": arrays}
