"""`concord-node inbox | show | grant | deny | revoke`: a person at the lab decides, while the node runs or while it does not.

A node that runs is asked over its socket, and answers when the decision is on disk and signed. Without one the decision is written
into the journal; the node acts on it when it starts. A revocation is a file that any process may write: it counts at once, whoever
holds the journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from federation.errors import InvalidUsage, NotFound, Unavailable, plain
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label
from federation.identity.revocation import Revocation, consent_digest, seal_revocation
from federation.identity.roll import Roll
from federation.manifest.binding import outputs_of
from federation.manifest.manifest import Manifest, open_manifest
from federation.manifest.study import open_study
from node_agent.consent import inbox
from node_agent.control import Handler, ask
from node_agent.settings import Home
from node_agent.store.journal import ConsentRecord, Journal
from node_agent.store.questions import Question
from node_agent.store.revocations import Revocations

if TYPE_CHECKING:
    from node_agent.agent import NodeAgent

LATER = "The node does not run: it signs and says so when it starts."


def handlers_of(agent: NodeAgent) -> Mapping[str, Handler]:
    """What a command may ask of the node that runs."""

    async def grant(request: Mapping[str, Any]) -> str:
        return await agent.inbox.grant(_text(request, "job"), _text(request, "role"), _text(request, "until"))

    async def deny(request: Mapping[str, Any]) -> str:
        words, told = _text(request, "words"), request.get("told") is True
        return await agent.inbox.deny(_text(request, "job"), _text(request, "role"), words, told)

    async def revoke(request: Mapping[str, Any]) -> str:
        record = consented(agent.journal, _text(request, "job"))
        await agent.revoke(record.job, _text(request, "role"), _text(request, "words"))
        return f"{record.name}: revoked. Nothing more is said of it, and the coordinator is told."

    return {"grant": grant, "deny": deny, "revoke": revoke}


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name, "")
    if not isinstance(value, str):
        raise InvalidUsage(f"{name} is no text.")
    return value


def grant(home: Home, job: str, role: str, until: str) -> str:
    """Raises NotFound, InvalidUsage, PolicyDenied, Unavailable."""
    home.settings()
    told = ask(home.control, {"do": "grant", "job": job, "role": role, "until": until})
    if told is not None:
        return told
    with Journal(home.journal, now=moment_text(_now())) as journal:
        question = inbox.find(journal, job)
        inbox.settle(journal, question, "granted", _now(), role=role, until=until)
    return f"{question.name}: granted. {LATER}"


def deny(home: Home, job: str, role: str, words: str, *, tell: bool) -> str:
    """Raises NotFound, InvalidUsage, PolicyDenied, Unavailable."""
    home.settings()
    told = ask(home.control, {"do": "deny", "job": job, "role": role, "words": words, "told": tell})
    if told is not None:
        return told
    with Journal(home.journal, now=moment_text(_now())) as journal:
        question = inbox.find(journal, job)
        inbox.settle(journal, question, "denied", _now(), role=role, words=words, told=tell)
    return f"{question.name}: denied. {LATER}"


def revoke(home: Home, job: str, role: str, words: str) -> str:
    """Raises NotFound, Unavailable."""
    settings = home.settings()
    told = ask(home.control, {"do": "revoke", "job": job, "role": role, "words": words})
    if told is not None:
        return told
    role = checked_label(role or settings.deciders[0], "role")
    with _resting(home) as journal:
        record = consented(journal, job)
    said = Revocation(
        record.job, consent_digest(record.envelope), settings.member, settings.node, "person", role, _now()
    )  # fmt: skip
    key = SigningKey.from_pem(home.read(home.identity_key))
    Revocations(home.revocations).put(record.job, seal_revocation(said, key), words)
    return f"{record.name}: revoked. {LATER}"


def consented(journal: Journal, wanted: str) -> ConsentRecord:
    """A consent that was given, by name (the newest), digest or its first digits; also one that has lapsed. Raises NotFound."""
    lapsed = {record.job for record in journal.jobs("suspended")}
    known = [record for record in journal.consents() if record.granted or record.job in lapsed]
    found = [record for record in known if record.name == wanted][-1:]
    if not found and len(wanted) >= inbox.MIN_PREFIX and set(wanted) <= inbox.HEX:
        found = [record for record in known if record.job.hex().startswith(wanted)]
    if len(found) != 1:
        raise NotFound(
            f"This lab has not consented to anything like {wanted[:80]!r}.", hint="See: concord-node consents"
        )
    return found[0]


def print_inbox(home: Home, output: str = "table", *, everything: bool = False) -> None:
    """What waits; or, with ``everything``, also what was decided or is over, with why. Raises InvalidUsage."""
    if output not in {"table", "json"}:
        raise InvalidUsage(f"There is no output {output!r}.", hint="Use table or json.")
    asked = _questions(home)
    waiting = [question for question in asked if question.state == "waiting"]
    if output == "json":
        print(json.dumps({"questions": [_document(each) for each in (asked if everything else waiting)]}, indent=2))
        return
    for question in sorted(asked, key=lambda each: each.decided) if everything else ():
        if question.state != "waiting":
            print(
                f"{question.name}  {question.job.hex()[:12]}  {question.kind}  lead {question.lead}  {_state(question)}"
            )
    if not waiting:
        print("nothing waits for a person")
    for question in waiting:
        late = "  (over: it will be denied)" if question.deadline <= moment_text(_now()) else ""
        print(
            f"{question.name}  {question.job.hex()[:12]}  {question.kind}  lead {question.lead}  until {question.deadline}{late}"
        )
        for line in question.differences:
            print(f"    outside its study: {line}")
        for line in question.reasons:
            print(f"    policy: {line}")
    if waiting:
        print("See one with `concord-node show`, decide with `concord-node grant` or `concord-node deny`.")


def _document(question: Question) -> dict[str, Any]:
    return {
        "job": question.job.hex(),
        "kind": question.kind,
        "name": question.name,
        "lead": question.lead,
        "asked": question.asked,
        "deadline": question.deadline,
        "state": question.state,
        "decided": question.decided,
        "policy": list(question.reasons),
        "differences": list(question.differences),
    }


def print_question(home: Home, wanted: str) -> None:
    """One question, with what its job is, reads and gives. Raises NotFound."""
    with _journal(home) as journal:
        question = inbox.find(journal, wanted)
    roll = Roll.open(home.read(home.roll, 4 << 20))
    lines = [
        f"{question.name}  {question.job.hex()}",
        f"asked      {question.asked}, until {question.deadline}: {_state(question)}",
    ]
    if question.differences:
        lines += ["differs from the study that was consented to, and in nothing else:"]
        lines += [f"    {line}" for line in question.differences]
    elif question.kind == "study":
        study = open_study(question.manifest, roll)
        lines += [f"study      {line}" for line in study.lines] + _job_lines(study.template, home)
    else:
        lines += _job_lines(open_manifest(question.manifest, roll), home)
    lines += ["policy     allows it, if a person does:", *(f"    {line}" for line in question.reasons)]
    print("\n".join(lines))


def _state(question: Question) -> str:
    if question.state == "waiting":
        return "waits for a person"
    if question.state == "over":
        return f"over at {question.decided}, undecided: {plain(question.words)}"
    by = f" by {question.role}" if question.role else ""
    words = f" ({question.words})" if question.words else ""
    return f"{question.state}{by} at {question.decided}{words}"


def _job_lines(manifest: Manifest, home: Home) -> list[str]:
    spec, outputs = manifest.spec, outputs_of(manifest)
    people = spec.participants
    privacy = "none"
    if spec.privacy is not None:
        privacy = f"{spec.privacy.mechanism}, epsilon {spec.privacy.epsilon:g} per {spec.privacy.unit}"
    folder = home.jobs / manifest.digest.hex() / "bundle"
    wanted = spec.data_set
    data = " ".join([*filter(None, [wanted.name]), *(f"tag:{tag}" for tag in wanted.tags), *spec.extra_data_sets])
    return [
        f"who asks   {manifest.lead.id} of {manifest.lead.member}",
        f"what for   {manifest.job.metadata.description or 'the lead does not say'}",
        f"data       {data}",
        f"code       {manifest.client_app}, SHA-256 {manifest.bundle_digest.hex()}"
        + (f", in {folder}" if folder.exists() else ""),
        f"training   {spec.rounds} rounds of {spec.strategy.name}, at least {people.min_members} members",
        f"privacy    {privacy}",
        f"leaves     sums over the cohort; exact figures: {', '.join(manifest.exact_figures) or 'none'}",
        f"release    the coordinator sees {outputs.view}; {len(outputs.recipients)} sealed recipients"
        + (f"; audience {outputs.audience}" if outputs.audience else ""),
    ]


def _questions(home: Home) -> tuple[Question, ...]:
    home.settings()
    if not home.journal.exists() or not home.journal.stat().st_size:
        return ()
    with _journal(home) as journal:
        return journal.questions()


def _journal(home: Home) -> Journal:
    if not home.journal.exists():
        raise NotFound("Nothing was asked of this node yet.", hint="See: concord-node inbox")
    return Journal(home.journal, read_only=True)


def _resting(home: Home) -> Journal:
    """The journal of a node that does not run, put in order if that was killed; as it lies there while another process holds it."""
    if not home.journal.exists():
        raise NotFound("This lab has not consented to anything yet.", hint="See: concord-node consents")
    try:
        return Journal(home.journal, now=moment_text(_now()))
    except Unavailable:
        return Journal(home.journal, read_only=True)


def _now() -> datetime:
    return datetime.now(UTC)
