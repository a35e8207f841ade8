"""Whether this lab gives the final model of a job away: by what it knows itself, whatever the coordinator says."""

from __future__ import annotations

from federation.errors import PolicyDenied
from federation.manifest.manifest import Manifest
from federation.releases.gates import judge, withheld
from federation.secagg import wire
from federation.secagg.member import MemberMachine
from federation.v1 import rounds_pb2


def check_release(manifest: Manifest, machine: MemberMachine, asked: rounds_pb2.ProvideRelease) -> None:
    """Raises PolicyDenied when a gate of the job has failed, ProtocolViolation when q members did not sign what is shown."""
    receipts = [wire.from_proto(receipt) for receipt in asked.receipts]
    figures = machine.final_figures(receipts, asked.state_digest)
    if reason := withheld(judge(manifest.spec.gates, figures, manifest.terms())):
        raise PolicyDenied(
            f"This lab does not give the final model away: {reason}.",
            hint="Nothing to do: the job's own manifest asks for it.",
        )
