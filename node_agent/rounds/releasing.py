"""Whether this lab gives the final model of a job away: by what it knows itself, whatever the coordinator says."""

from __future__ import annotations

from federation.errors import InvalidIdentity, PolicyDenied
from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest
from federation.releases.approval import check_approval, subject_of
from federation.releases.gates import judge, withheld
from federation.secagg import wire
from federation.secagg.member import MemberMachine
from federation.v1 import rounds_pb2


def check_release(manifest: Manifest, machine: MemberMachine, asked: rounds_pb2.ProvideRelease, roll: Roll) -> None:
    """``roll``: the one that the node holds.

    Raises PolicyDenied when a gate of the job has failed or the members' vote is not there, ProtocolViolation when q members did
    not sign what is shown.
    """
    receipts = [wire.from_proto(receipt) for receipt in asked.receipts]
    figures = machine.final_figures(receipts, asked.state_digest)
    if reason := withheld(judge(manifest.spec.gates, figures, manifest.terms())):
        raise PolicyDenied(
            f"This lab does not give the final model away: {reason}.",
            hint="Nothing to do: the job's own manifest asks for it.",
        )
    subject = subject_of(manifest.federation, manifest.digest, asked.state_digest, figures)
    members = [seat.member for seat in machine.seats]
    try:
        check_approval(manifest, roll, members, subject, asked.decision or None)
    except InvalidIdentity as error:
        raise PolicyDenied(
            f"This lab does not give the final model away: {error.message}",
            hint=error.hint or "The node asks for the members' vote, by the roll that it holds.",
        ) from error
