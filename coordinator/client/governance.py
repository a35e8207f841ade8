"""Deciding together: `concord charter`, `roll`, `propose`, `vote`, `proposals`, `sign`, `send`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

import typer

from coordinator.client.ceremony import lines_of, member_app, roll_app, tiers_of
from coordinator.client.charter_file import charter_document, kept_seat, read_charter_file
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
from coordinator.client.sdk import Federation
from coordinator.client.signing import locked_pem, to_be_signed
from coordinator.client.terminal import Format, as_yaml, data, plain, say, show, table
from federation.errors import InvalidIdentity, InvalidUsage
from federation.governance.amendment import changes_of, needed
from federation.governance.charter import Action, Charter
from federation.governance.history import amendments_of
from federation.governance.proposal import CHOICES, read_proposal
from federation.identity.credential import open_node_request
from federation.identity.envelope import add_signature, open_envelope
from federation.identity.keys import SigningKey, key_id, public_of
from federation.identity.names import checked_label
from federation.identity.roll import (
    RevokedNode,
    Roll,
    RollMember,
    member_card,
    open_draft,
    open_lead_card,
    open_member_card,
)
from federation.identity.transport import fingerprint_of

Document = TypeVar("Document")

charter_app = typer.Typer(no_args_is_help=True, help="The charter: who votes, and what each decision needs.")
governance_app = typer.Typer()

ABOUT_THE_ROLL: Final = ("admission", "suspension", "rules", "coordinator")
KIND_PREFIX: Final = "application/vnd.concord."
KIND_SUFFIX: Final = ".v1+json"
SHORT: Final = 12

Offline = Annotated[
    Path | None,
    typer.Option("--offline", help="Sign nothing here: write what is to be signed, for `concord sign` elsewhere."),
]
Days = Annotated[float, typer.Option(min=0.01, max=366, help="How long it is open.")]
RollFile = Annotated[Path | None, typer.Option("--roll", help="A roll's file; else the roll of the home.")]


# ---------------------------------------------------------------------------------------------------------------- charter


@charter_app.command("show")
def charter_show(
    home: HomeOption = DEFAULT_HOME_PATH, roll: RollFile = None, output: FormatOption = Format.yaml
) -> None:
    """Print the charter in force; without a roll the standard one. It is a file to begin with: `concord roll draft --charter`."""
    held = _roll_of(roll) if roll is not None else Home.at(home).roll()
    charter = held.charter if held is not None else Charter.standard()
    document = charter_document(charter)
    show(document, output, lambda: data(as_yaml(document)))
    say(
        f"of {held.federation}, version {held.version}"
        if held is not None
        else "the standard charter: no roll was named"
    )


@charter_app.command("check")
def charter_check(file: Annotated[Path, typer.Argument(help="The charter (YAML).")]) -> None:
    """Check a charter that somebody wrote, and say what each decision would need."""
    charter = read_charter_file(file)
    for tier in charter.tiers:
        vote = f"a vote of weight {tier.weight}" if tier.votes else "no vote"
        data(f"tier {tier.name}: {vote}, {'nodes' if tier.nodes else 'no nodes'}")
    for action, quorum in charter.quorums.items():
        data(f"{action} needs {f'{quorum} of the weight of all who have a vote' if quorum.asked else 'no vote'}")
    data("the charter is in order")


# ------------------------------------------------------------------------------------------------------------------- roll


@roll_app.command("show")
def roll_show(home: HomeOption = DEFAULT_HOME_PATH, roll: RollFile = None) -> None:
    """Print the newest roll: members with tier, state and weight, leads, revoked nodes."""
    held = _roll_of(roll) if roll is not None else Home.at(home).required_roll()
    for line in lines_of(held):
        data(line)


@roll_app.command("history")
def roll_history(
    home: HomeOption = DEFAULT_HOME_PATH, roll: RollFile = None, output: FormatOption = Format.table
) -> None:
    """Every version of the roll: what it changed, and who decided it. All of it is checked again."""
    held = _roll_of(roll) if roll is not None else Home.at(home).required_roll()
    first = held.past[0] if held.past else held
    listed: list[dict[str, Any]] = [
        {"version": first.version, "digest": first.digest.hex(), "changes": ["founded"], "votes": {}}
    ]
    for step in amendments_of(held.envelope):
        votes = dict(step.decision.tally.choices) if step.decision is not None else {}
        listed.append(
            {
                "version": step.roll.version,
                "digest": step.roll.digest.hex(),
                "changes": [change.what for change in step.changes],
                "votes": votes,
            }
        )
    rows = [
        (
            str(item["version"]),
            item["digest"][:SHORT],
            "; ".join(item["changes"]),
            " ".join(f"{who}:{said}" for who, said in item["votes"].items()) or "by signature",
        )
        for item in listed
    ]
    show(listed, output, lambda: table(("VERSION", "DIGEST", "CHANGES", "DECIDED BY"), rows))


@roll_app.command("fetch")
def roll_fetch(
    home: HomeOption = DEFAULT_HOME_PATH,
    out: Annotated[Path | None, typer.Option(help="Where to write a copy, with its history.")] = None,
) -> None:
    """Take the newest roll from the coordinator, if it continues the one that this home trusts."""
    with Federation.connect(home) as federation:
        roll = Governing(federation).fetch_roll()
    if out is not None:
        write_file(out, roll.envelope)
    say(f"{roll.federation}, version {roll.version}, {roll.digest.hex()}")


@roll_app.command("take")
def roll_take(
    roll: Annotated[Path, typer.Argument(help="A newer roll with its history, from another member.")],
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """Take a newer roll from a file, if it continues the one that this home trusts: the coordinator hides it, or was moved."""
    place = Home.at(home)
    taken = place.trust_roll(read_file(roll, what="The roll"))
    place.settle_key(taken)
    say(f"{taken.federation}, version {taken.version}, {taken.digest.hex()}")


@roll_app.command("amend")
def roll_amend(
    out: Annotated[Path, typer.Option(help="Where to write the draft.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    roll: RollFile = None,
    admit: Annotated[list[Path] | None, typer.Option(help="A new member's card.")] = None,
    tier: Annotated[list[str] | None, typer.Option(help="MEMBER=TIER.")] = None,
    lead: Annotated[list[Path] | None, typer.Option(help="A lead's card: a new lead, or a new key.")] = None,
    key: Annotated[list[Path] | None, typer.Option(help="A member's card with its new key.")] = None,
    suspend: Annotated[list[str] | None, typer.Option(help="A member.")] = None,
    restore: Annotated[list[str] | None, typer.Option(help="A member that is taken back.")] = None,
    suspend_lead: Annotated[list[str] | None, typer.Option(help="A lead.")] = None,
    restore_lead: Annotated[list[str] | None, typer.Option(help="A lead that is taken back.")] = None,
    revoke: Annotated[list[Path] | None, typer.Option(help="A node's credential or request.")] = None,
    unrevoke: Annotated[list[str] | None, typer.Option(help="MEMBER/NODE.")] = None,
    charter: Annotated[Path | None, typer.Option(help="The new charter (YAML).")] = None,
) -> None:
    """Draft the next roll. It says what it would need: signatures (`concord roll sign`), and votes (`concord propose`)."""
    held = _roll_of(roll) if roll is not None else Home.at(home).required_roll()
    agreed = kept_seat(read_charter_file(charter), held.charter) if charter is not None else held.charter
    cards = [_card(path) for path in admit or ()]
    own = [word for word in tier or () if word.partition("=")[0] in {card.id for card in cards}]
    wanted = Wanted(
        admit=tuple(replace(card, tier=name) for card, name in tiers_of(cards, own, agreed)),
        leads=tuple(_opened(path, "The lead's card", open_lead_card) for path in lead or ()),
        keys=tuple(_card(path) for path in key or ()),
        tiers=_tiers([word for word in tier or () if word not in own]),
        suspend=tuple(suspend or ()),
        restore=tuple(restore or ()),
        suspend_leads=tuple(suspend_lead or ()),
        restore_leads=tuple(restore_lead or ()),
        revoke=tuple(_revoked(path) for path in revoke or ()),
        unrevoke=tuple(unrevoke or ()),
        charter=agreed if charter is not None else None,
    )
    draft = next_roll(held, wanted)
    write_new_file(out, draft, PUBLIC_FILE, what="a roll")
    for line in _needs(held, draft):
        say(line)
    say(f"drafted version {held.version + 1}: {out}")


@roll_app.command("put")
def roll_put(
    file: Annotated[Path, typer.Argument(help="The next roll, signed by whom it needs.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    decision: Annotated[Path | None, typer.Option(help="The decision, where votes were collected as files.")] = None,
) -> None:
    """Bring a new roll to the coordinator that needs no vote, or whose decision you have."""
    envelope = read_file(file, what="The roll")
    votes = read_file(decision, what="The decision") if decision is not None else b""
    with Federation.connect(home) as federation:
        roll = Governing(federation).amend(envelope, votes)
    say(f"in force: version {roll.version}, {roll.digest.hex()}")


@member_app.command("rotate")
def member_rotate(
    out: Annotated[Path, typer.Option(help="Where to write the next roll.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    lost: Annotated[
        bool, typer.Option("--lost", help="The old key is gone or was stolen: a vote replaces it.")
    ] = False,
    locked: Annotated[bool, typer.Option("--lock", help="Lock the new key with a passphrase.")] = False,
) -> None:
    """Make a new key for this member's officer, and the roll that lists it. The home uses it as soon as that is in force."""
    place = Home.at(home)
    officer, held = place.profile("member"), place.required_roll()
    entry = held.member(officer.id)
    fresh = place.next_key()
    if fresh is None:
        fresh = SigningKey.generate()
        pem = locked_pem(fresh) if locked else fresh.to_pem()
        write_new_file(place.next_key_path, pem, SECRET_FILE, what="a next key")
    card = RollMember(entry.id, entry.name, entry.jurisdiction, fresh.public)
    draft = add_signature(next_roll(held, Wanted(keys=(card,))), "roll", fresh)
    if not lost:
        draft = add_signature(draft, "roll", place.identity_key())
    write_new_file(out, draft, PUBLIC_FILE, what="a roll")
    write_file(place.card_path, member_card(card, fresh))
    after = f"concord propose admission --draft {out}" if lost else f"concord roll put {out}"
    say(f"made a new key, {key_id(fresh.public)}; next: {after}")
    say("once it is in force, sign this member's nodes anew: `concord member sign-node`, and they join again")


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
    kind = _kind(envelope, file)
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
    kind = _kind(envelope, file)
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


def _needs(held: Roll, draft: bytes) -> list[str]:
    """What a draft changes, and what it still lacks."""
    drafted, signers = open_draft(draft)
    try:
        changes = changes_of(held, drafted, signers)
    except InvalidIdentity as error:
        return [f"{error.message} {error.hint}"]
    actions = ", ".join(sorted(needed(changes)))
    vote = f"it needs a vote: concord propose {actions.split(',')[0]} --draft FILE" if actions else "it needs no vote"
    return [*(change.what for change in changes), vote]


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


def _kind(envelope: bytes, path: Path) -> str:
    try:
        named = str(json.loads(envelope)["payloadType"])
        base64.b64decode(json.loads(envelope)["payload"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidIdentity(
            f"{path} is no document to sign.", hint="It comes from --offline, or `concord roll amend`."
        ) from None
    if not named.startswith(KIND_PREFIX) or not named.endswith(KIND_SUFFIX):
        raise InvalidIdentity(f"{path} is a document of a kind that Concord does not know.")
    return named[len(KIND_PREFIX) : -len(KIND_SUFFIX)]


def _roll_of(path: Path) -> Roll:
    return _opened(path, "The roll", Roll.open)


def _card(path: Path) -> RollMember:
    return _opened(path, "The member's card", open_member_card)


def _opened(path: Path, what: str, opener: Callable[[bytes], Document]) -> Document:
    envelope = read_file(path, what=what)
    with about(path):
        return opener(envelope)


def _tiers(words: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [word.partition("=") for word in words]
    if not all(equals and tier for _, equals, tier in pairs):
        raise InvalidUsage("--tier takes MEMBER=TIER.", hint="Such as --tier se=observer.")
    return tuple((name, tier) for name, _, tier in pairs)


def _revoked(path: Path) -> RevokedNode:
    """From the node's request, or from its credential."""
    envelope = read_file(path, what="The node's request or credential")
    kind = _kind(envelope, path)
    with about(path):
        if kind == "node-request":
            asked = open_node_request(envelope)
            return RevokedNode(asked.member, asked.node, asked.identity_key)
        document = open_envelope(envelope, "node-credential").document
        return RevokedNode(
            checked_label(document.get("member"), "member"),
            checked_label(document.get("node"), "node"),
            public_of(document.get("identityKey")),
        )
