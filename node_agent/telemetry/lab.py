"""What the survey asks of a running node: its link, halts, witness, journal, papers and workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cryptography import x509

from node_agent.runner.process_tree import descendants, held_bytes
from node_agent.telemetry.survey import Log, Sources, Survey, Term, Workers

if TYPE_CHECKING:
    from node_agent.agent import NodeAgent


def survey_of(agent: NodeAgent) -> Survey:
    """Everything in it may be asked from the web server's thread."""

    def log() -> Log:
        notebook = agent.witness.notebook
        head, state = notebook.head, notebook.state
        return Log(
            0 if head is None else head.size,
            notebook.checked,
            len(state.expected),
            state.stop is not None,
        )

    served = agent.settings.metrics_certificate if agent.settings.metrics else None
    kept = {"credential": Term(agent.credential.not_before, agent.credential.not_after)}
    if served is not None:  # the one that is shown until the next start, whatever lies there by then
        kept["metrics"] = Term.of(x509.load_pem_x509_certificate(agent.home.read(agent.home.root / served)))

    def papers() -> Mapping[str, Term]:
        """The transport certificate is read anew: it renews itself."""
        certificate = x509.load_pem_x509_certificate(agent.home.read(agent.home.transport_certificate))
        return {"transport": Term.of(certificate), **kept}

    def workers() -> Workers:
        pids = agent.halts.workers()
        return Workers(len(pids), held_bytes({pid for each in pids for pid in descendants(each)}))

    return Survey(
        Sources(
            connected=agent.link.connected.is_set,
            jobs=lambda: len(agent.jobs),
            halt_level=lambda: int(agent.halts.level()),
            log=log,
            ledger=agent.journal.ledger,
            budgets=agent.lab.budgets,
            papers=papers,
            home=agent.home.root,
            spools=(agent.home.jobs,),
            workers=workers,
        )
    )
