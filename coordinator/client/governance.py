"""Deciding together: `concord propose`, `vote`, `proposals`, `sign`, `send`, `lock-key`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, get_args

import typer

from coordinator.client.charter_file import kept_seat, read_charter_file
from coordinator.client.documents import kind_of
from coordinator.client.files import PUBLIC_FILE, SECRET_FILE, about, read_file, write_file, write_new_file
from coordinator.client.governing import (
    Asked,
    Governing,
    Wanted,
    key_owner,
    new_proposal,
    next_roll,
    proposal_bytes,
    vote_bytes,
)
from coordinator.client.home import Home
from coordinator.client.log_keys import read_log_key
from coordinator.client.options import DEFAULT_HOME_PATH, FormatOption, HomeOption
from coordinator.client.rolls import SHORT
from coordinator.client.sdk import Federation
from coordinator.client.signing import locked_pem, to_be_signed
from coordinator.client.terminal import Format, as_yaml, data, plain, say, show, table
from federation.errors import InvalidUsage
from federation.governance.amendment import changes_of
from federation.governance.charter import Action, Charter
from federation.governance.proposal import CHOICES, read_proposal
from federation.identity.envelope import add_signature, open_envelope
from federation.identity.keys import key_id
from federation.identity.roll import Roll, open_draft
from federation.identity.transport import fingerprint_of

governance_app = typer.Typer()

ABOUT_THE_ROLL: Final = ("admission", "suspension", "rules", "coordinator")

Offline = Annotated[
    Path | None,
    typer.Option("--offline", help="Sign nothing here: write what is to be signed, for `concord sign` elsewhere."),
]
Days = Annotated[float, typer.Option(min=0.01, max=366, help="How long it is open.")]


# --------------------------------------------------------------------------------------------------------------- deciding


@governance_app.command()
def propose(
    action: Annotated[str, typer.Argument(help=f"One of: {', '.join(get_args(Action))}.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    title: Annotated[str, typer.Option(help="For people: what this is about.")] = "",
    draft: Annotated[Path | None, typer.Option(help="The next roll, from `concord roll amend`.")] = None,
    suspend: Annotated[list[str] | None, typer.Option(help="A member to suspend.")] = None,
    restore: Annotated[list[str] | None, typer.Option(help="A member to take back.")] = None,
    suspend_lead: Annotated[list[str] | None, typer.Option(help="A lead to suspend.")] = None,
    restore_lead: Annotated[list[str] | None, typer.Option(help="A lead to take back.")] = None,
    charter: Annotated[Path | None, typer.Option(help="The new charter (YAML).")] = None,
    address: Annotated[list[str] | None, typer.Option(help="Where the coordinator will be: host:port.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The CA certificate of that coordinator (PEM).")] = None,
    log_key: Annotated[
        Path | None, typer.Option(help="log.key.pub of that coordinator: the public log goes on under this key.")
    ] = None,
    subject: Annotated[
        str, typer.Option(help="What else is decided: its SHA-256 in hex (release, recall, lift).")
    ] = "",
    days: Days = 14.0,
    offline: Offline = None,
) -> None:
    """Ask the members. A new roll comes into force by itself when the votes are there."""
    if action not in get_args(Action):
        raise InvalidUsage(f"{action!r} is nothing to propose.", hint=f"One of: {', '.join(get_args(Action))}.")
    place = Home.at(home)
    if offline is None:
        with Federation.connect(home) as federation:
            held = Governing(federation).fetch_roll()
    else:
        held = place.required_roll()
    new = b""
    if action in ABOUT_THE_ROLL:
        if draft is not None:
            new = read_file(draft, what="The roll")
        else:
            wanted = Wanted(
                suspend=tuple(suspend or ()),
                restore=tuple(restore or ()),
                suspend_leads=tuple(suspend_lead or ()),
                restore_leads=tuple(restore_lead or ()),
                charter=_moved(held.charter, charter, address, ca, log_key),
            )
            new = next_roll(held, wanted)
        with about(draft or Path("the next roll")):
            drafted, signers = open_draft(new)
            changes = changes_of(held, drafted, signers)
        digest, sentence = drafted.digest, "; ".join(change.what for change in changes)
    else:
        digest, sentence = _digest(subject), f"{action} {subject[:SHORT]}"
    now = datetime.now(UTC).replace(microsecond=0)
    proposal = new_proposal(held, action, digest, plain(title or sentence)[:200], now, days)  # type: ignore[arg-type]
    if offline is not None:
        if new:
            beside = offline.with_suffix(".roll.json")
            write_new_file(beside, new, PUBLIC_FILE, what="a file")
            say(f"the roll that is proposed is {beside}: send it along with --draft")
        to_be_signed(proposal_bytes(proposal, None), offline)
        return
    with Federation.connect(home) as federation:
        asked = Governing(federation).propose(proposal_bytes(proposal, place.identity_key()), new)
    data(asked.proposal.digest.hex())
    say(
        f"proposed: {plain(asked.proposal.title)}; the members vote with `concord vote {asked.proposal.digest.hex()[:SHORT]} yes`"
    )


@governance_app.command()
def vote(
    proposal: Annotated[str, typer.Argument(help="Its digest, or the first six digits of it.")],
    choice: Annotated[str, typer.Argument(help="yes, no, abstain; or comment, with --reason.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    reason: Annotated[str, typer.Option(help="For the other members.")] = "",
    offline: Offline = None,
) -> None:
    """Show a proposal and vote on it, with the key of this member's officer. A vote is final."""
    if choice not in CHOICES:
        raise InvalidUsage(f"{choice!r} is no vote.", hint=f"One of: {', '.join(CHOICES)}.")
    place = Home.at(home)
    now = datetime.now(UTC).replace(microsecond=0)
    with Federation.connect(home) as federation:
        governing = Governing(federation)
        asked = governing.proposal(proposal)
        _describe(asked, place.required_roll(), to_people=True)
        if offline is not None:
            to_be_signed(vote_bytes(asked.proposal.digest, choice, reason, now, None), offline)
            return
        signed = vote_bytes(asked.proposal.digest, choice, reason, now, place.identity_key())
        after = governing.vote(signed)
    say(f"said {choice}: {after.standing}, {plain(after.reason)}")


@governance_app.command()
def proposals(
    proposal: Annotated[str, typer.Argument(help="One of them; else all are listed.")] = "",
    home: HomeOption = DEFAULT_HOME_PATH,
    decision: Annotated[
        Path | None, typer.Option(help="Write proposal and votes to a file that proves the decision.")
    ] = None,
    output: FormatOption = Format.table,
) -> None:
    """List what the members are asked, or show one proposal: what it changes, who said what, what is missing."""
    with Federation.connect(home) as federation:
        governing = Governing(federation)
        listed = [governing.proposal(proposal)] if proposal else governing.proposals()
        roll = federation.home.required_roll()
    if decision is not None:
        if not proposal:
            raise InvalidUsage("--decision is about one proposal.", hint="Name it.")
        write_new_file(decision, listed[0].decision(), PUBLIC_FILE, what="a file")
    documents = [asked.as_document(roll) for asked in listed]
    if proposal:
        show(documents[0], output, lambda: _describe(listed[0], roll))
        return
    rows = [
        (
            asked.proposal.digest.hex()[:SHORT],
            asked.proposal.action,
            asked.standing,
            f"{asked.tally.yes}/{asked.tally.total}",
            f"{asked.proposal.closes:%Y-%m-%d %H:%M}",
            plain(asked.proposal.title),
        )
        for asked in listed
    ]
    show(documents, output, lambda: table(("PROPOSAL", "ACTION", "STATE", "YES", "CLOSES", "TITLE"), rows))


@governance_app.command()
def sign(
    file: Annotated[Path, typer.Argument(help="What is to be signed, from --offline or `concord roll amend`.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    out: Annotated[Path | None, typer.Option(help="Where to write it with the signature; else into the file.")] = None,
) -> None:
    """Show a document, and sign it with the key of this home. Needs no network."""
    place = Home.at(home)
    envelope = read_file(file, what="The document")
    kind = kind_of(envelope, file)
    with about(file):
        opened = open_envelope(envelope, kind)
        say(f"a {kind}, SHA-256 {opened.digest.hex()}:")
        for line in as_yaml(opened.document).splitlines():
            say(f"  {plain(line)}")
        signed = add_signature(envelope, kind, place.identity_key())
    if out is None:
        write_file(file, signed)
    else:
        write_new_file(out, signed, PUBLIC_FILE, what="a file")
    say(f"signed by {key_id(place.identity_key().public)}: {out or file}")


@governance_app.command()
def send(
    file: Annotated[Path, typer.Argument(help="A proposal, a vote or a roll that was signed elsewhere.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    draft: Annotated[Path | None, typer.Option(help="With a proposal: the roll that is proposed.")] = None,
) -> None:
    """Hand what was signed on another machine to the coordinator."""
    envelope = read_file(file, what="The document")
    kind = kind_of(envelope, file)
    with Federation.connect(home) as federation:
        governing = Governing(federation)
        if kind == "proposal":
            if draft is None and read_proposal(envelope).action in ABOUT_THE_ROLL:
                raise InvalidUsage("The proposal is about a roll.", hint="Name it with --draft.")
            asked = governing.propose(envelope, read_file(draft, what="The roll") if draft is not None else b"")
            data(asked.proposal.digest.hex())
        elif kind == "vote":
            asked = governing.vote(envelope)
            say(f"{asked.standing}, {plain(asked.reason)}")
        elif kind == "roll":
            say(f"in force: version {governing.amend(envelope).version}")
        else:
            raise InvalidUsage(f"A {kind} is not sent with this command.", hint="It takes proposals, votes and rolls.")


@governance_app.command("lock-key")
def lock_key(home: HomeOption = DEFAULT_HOME_PATH) -> None:
    """Lock this home's identity key with a passphrase. Copies of the old file stay open: erase them."""
    place = Home.at(home)
    pem = locked_pem(place.identity_key())
    write_file(place.identity_key_path, pem, SECRET_FILE)
    say(f"{place.identity_key_path} is locked; without the passphrase it is worth nothing, to you either")


# ----------------------------------------------------------------------------------------------------------------- inside


def _describe(asked: Asked, roll: Roll, *, to_people: bool = False) -> None:
    tell = say if to_people else data
    proposal = asked.proposal
    tell(f"{proposal.action}: {plain(proposal.title)}  ({proposal.digest.hex()})")
    tell(f"  proposed by {key_owner(proposal.signer, roll)}, open until {proposal.closes:%Y-%m-%d %H:%M} UTC")
    for change in asked.changes:
        tell(f"  {'needs ' + change.action if change.action else 'by signature'}: {plain(change.what)}")
    if not asked.changes:
        tell(f"  about {proposal.subject.hex()}")
    for each in asked.votes:
        tell(
            f"  {key_owner(each.signer, roll)} says {each.choice}" + (f": {plain(each.reason)}" if each.reason else "")
        )
    for why in asked.tally.ignored:
        tell(f"  not counted: {why}")
    quorums = ", ".join(f"{roll.charter.quorums[action]} for {action}" for action in asked.actions)
    tell(
        f"  {asked.standing}: {asked.tally.yes} of {asked.tally.total} by weight yes, {quorums} needed; {plain(asked.reason)}"
    )


def _moved(
    charter: Charter, file: Path | None, address: list[str] | None, ca: Path | None, log_key: Path | None
) -> Charter | None:
    """The next charter: of a file, or the present one, with another seat. What a file leaves out of the seat stays."""
    new = kept_seat(read_charter_file(file), charter) if file is not None else charter
    seat = new.coordinator
    if address:
        seat = replace(seat, addresses=tuple(address))
    if ca is not None:
        seat = replace(seat, ca=fingerprint_of(read_file(ca, what="The CA certificate")))
    if log_key is not None:
        seat = replace(seat, log=read_log_key(log_key))
    new = replace(new, coordinator=seat)
    return new if new != charter else None


def _digest(subject: str) -> bytes:
    try:
        digest = bytes.fromhex(subject.removeprefix("sha256:"))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise InvalidUsage("What is decided is named by its SHA-256.", hint="Give it in hex: --subject DIGEST.")
    return digest
