"""What a coordinator tells, as the messages that it sends: a job in the middle of its rounds, and its nodes."""

from __future__ import annotations

from typing import Any

from federation.identity.envelope import open_envelope
from federation.v1 import jobs_pb2, rounds_pb2
from tests.unit.identity.parties import Parties

COHORT = ("fr", "ke", "us")


def round_told(number: int, phase: str = "closed", attempt: int = 0, **more: Any) -> Any:
    values: dict[str, Any] = {
        "round": number, "attempt": attempt, "phase": phase, "ready": COHORT, "cohort": COHORT, "seconds": 1.25,
        "bytes_up": 3 << 20, "weight": 96.0,
        "metrics": {"train/loss": 0.75, "evaluate/loss": 0.5, "evaluate/accuracy": 0.875},
        "phase_seconds": {"collecting": 1.0},
    }  # fmt: skip
    return jobs_pb2.RoundView(**{**values, **more})


def job_told(parties: Parties, **more: Any) -> Any:
    """Two of ten rounds are closed, the third runs without one member."""
    envelope = parties.submit()
    consents = [
        jobs_pb2.ConsentView(member="fr", node="fr-1", state="granted", reasons=["lead lead is allowed"]),
        jobs_pb2.ConsentView(member="ke", node="ke-1", state="granted", reasons=["lead lead is allowed"]),
        jobs_pb2.ConsentView(member="us", node="us-1", state="denied", reasons=["data set x is not lent", "too few"]),
    ]
    values: dict[str, Any] = {
        "job": open_envelope(envelope, "manifest").digest,
        "name": "tiny", "state": "running", "reason": "runs on fr-1, ke-1, us-1", "lead": "lead",
        "created": "2026-01-31T12:00:00Z", "rounds_total": 10, "rounds_closed": 2, "consents": consents,
        "rounds": [
            round_told(1),
            round_told(2, "aborted", cohort=(), reason="us did not answer"),
            round_told(2, attempt=1),
            round_told(3, "collecting", lost=("us",), cohort=("fr", "ke"), metrics={}, bytes_up=0),
        ],
        "roster": COHORT, "epoch": 1, "manifest": envelope, "release": b"",
        "lines": ["2026-01-31T12:00:01.000Z coordinator: submitted by lead"],
    }  # fmt: skip
    return jobs_pb2.JobView(**{**values, **more})


def nodes_told() -> list[Any]:
    card = rounds_pb2.Gpu(model="H200", memory_bytes=141 << 30)
    offer = rounds_pb2.Offer(
        gpus=[card, card], cpus=32, memory_bytes=256 << 30, hours="20:00-06:00", sandbox="bubblewrap", python="3.11.9"
    )
    node = jobs_pb2.NodeView(
        member="fr", node="fr-1", jurisdiction="FR", state="active", connected=True, last_seen="2026-01-31T12:00:00Z"
    )
    node.offer.CopyFrom(offer)
    away = jobs_pb2.NodeView(member="ke", node="ke-1", jurisdiction="KE", state="suspended", connected=False)
    return [node, away]
