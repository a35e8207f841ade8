"""Founding: `concord member`, `concord lead`, `concord roll`. Works offline, files in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from coordinator.client.charter_file import read_charter_file
from coordinator.client.files import PUBLIC_FILE, about, check_absent, read_file, write_file, write_new_file
from coordinator.client.home import Home, Profile
from coordinator.client.log_keys import read_log_key
from coordinator.client.options import DEFAULT_HOME_PATH, HomeOption
from coordinator.client.signing import locked_pem, to_be_signed
from coordinator.client.terminal import data, say
from federation.errors import InvalidIdentity, InvalidUsage
from federation.governance.charter import Charter
from federation.identity.credential import open_node_request, sign_credential
from federation.identity.envelope import add_signature, seal
from federation.identity.keys import SigningKey, key_id
from federation.identity.names import checked_jurisdiction, checked_label, checked_title
from federation.identity.roll import (
    Roll,
    RollLead,
    RollMember,
    draft_roll,
    lead_card,
    member_card,
    open_draft,
    open_lead_card,
    open_member_card,
)

Document = TypeVar("Document")

member_app = typer.Typer(no_args_is_help=True, help="A member's officer: keys, cards, nodes.")
lead_app = typer.Typer(no_args_is_help=True, help="A research lead: keys and card.")
roll_app = typer.Typer(no_args_is_help=True, help="The membership roll, which every member signs.")


@member_app.command("init")
def member_init(
    id: Annotated[str, typer.Option(help="The member's id: a lower-case DNS label.")],
    name: Annotated[str, typer.Option(help="The member's name, for people.")],
    jurisdiction: Annotated[str, typer.Option(help="ISO 3166 code, such as FR.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    out: Annotated[Path | None, typer.Option(help="Where to write the card for the roll; else to stdout.")] = None,
    lock: Annotated[bool, typer.Option("--lock", help="Lock the key with a passphrase.")] = False,
) -> None:
    """Make the officer's key, and the card that goes on the roll."""
    key = SigningKey.generate()
    entry = RollMember(
        checked_label(id, "member"),
        checked_title(name, "member's name"),
        checked_jurisdiction(jurisdiction),
        key.public,
    )
    place = Home.at(home)
    _found(place, Profile("member", id, name, {"jurisdiction": jurisdiction}), key, member_card(entry, key), out, lock)
    say(f"made the officer's home {place.path}: its keys stay there, and a backup of it in a safe")


@member_app.command("sign-node")
def sign_node(
    request: Annotated[Path, typer.Option(help="What concord-node init wrote.")],
    out: Annotated[Path, typer.Option(help="Where to write the credential.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Sign nothing here: write it for `concord sign` on the machine with the key."),
    ] = False,
) -> None:
    """Sign a node of this member."""
    place = Home.at(home)
    officer = place.profile("member")
    envelope = read_file(request, what="The node's request")
    now = datetime.now(UTC).replace(microsecond=0)
    with about(request):
        asked = open_node_request(envelope)
        credential = sign_credential(
            envelope,
            asked.federation,
            None if offline else place.identity_key(),
            officer.id,
            now - timedelta(minutes=5),
            now + timedelta(days=days),
        )
    if offline:
        to_be_signed(credential, out)
        return
    write_new_file(out, credential, PUBLIC_FILE, what="a file")
    say(f"signed node {asked.node} of {officer.id} in {asked.federation} for {days} days: {out}")
    say(f"its key is {key_id(asked.identity_key)}: ask the laboratory whether that is its own")


@lead_app.command("init")
def lead_init(
    id: Annotated[str, typer.Option(help="The lead's id: a lower-case DNS label.")],
    member: Annotated[str, typer.Option(help="The member that the lead belongs to.")],
    name: Annotated[str, typer.Option(help="The lead's name, for people.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    out: Annotated[Path | None, typer.Option(help="Where to write the card for the roll; else to stdout.")] = None,
    lock: Annotated[bool, typer.Option("--lock", help="Lock the key with a passphrase.")] = False,
) -> None:
    """Make the lead's key, and the card that goes on the roll."""
    key = SigningKey.generate()
    entry = RollLead(
        checked_label(id, "lead"), checked_label(member, "member"), checked_title(name, "lead's name"), key.public
    )
    place = Home.at(home)
    _found(place, Profile("lead", id, name, {"member": member}), key, lead_card(entry, key), out, lock)
    say(f"made the lead's home {place.path}: its keys stay there")


@roll_app.command("draft")
def roll_draft(
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    member: Annotated[list[Path], typer.Option(help="A member's card; repeat for each.")],
    out: Annotated[Path, typer.Option(help="Where to write the draft.")],
    lead: Annotated[list[Path] | None, typer.Option(help="A lead's card; repeat for each.")] = None,
    version: Annotated[int, typer.Option(min=1, help="Of the first roll; later ones count on from it.")] = 1,
    charter: Annotated[
        Path | None, typer.Option(help="The charter (YAML); else the standard one, `concord charter show`.")
    ] = None,
    tier: Annotated[
        list[str] | None, typer.Option(help="MEMBER=TIER; else the charter's first tier with a vote.")
    ] = None,
    log_key: Annotated[
        Path | None,
        typer.Option(help="log.key.pub of the coordinator's home: the key that the public log is signed with."),
    ] = None,
) -> None:
    """Put the cards and the charter together as a roll for the founding members to sign."""
    agreed = read_charter_file(charter) if charter is not None else Charter.standard()
    if log_key is not None:
        agreed = replace(agreed, coordinator=replace(agreed.coordinator, log=read_log_key(log_key)))
    cards = [_opened(path, "The member's card", open_member_card) for path in member]
    members = [replace(card, tier=name) for card, name in tiers_of(cards, tier, agreed)]
    leads = [_opened(path, "The lead's card", open_lead_card) for path in lead or ()]
    document = draft_roll(checked_label(federation, "federation"), version, members, leads, agreed)
    write_new_file(out, seal(document, "roll", ()), PUBLIC_FILE, what="a roll")
    parts = f"{_count(len(members), 'member')} and {_count(len(leads), 'lead')}"
    say(f"drafted the roll of {federation}, version {version}, with {parts}: {out}; now each member's officer signs it")
    if agreed.coordinator.log is None:
        say("it names no key for the public log: every node will believe the first that it is shown. Better: --log-key")


@roll_app.command("sign")
def roll_sign(
    roll: Annotated[Path, typer.Option(help="The draft; the signature is added to it.")],
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """Show a roll and add this member's signature to it, after checking that the member stands in it with its own key."""
    place = Home.at(home)
    officer = place.profile("member")
    envelope = read_file(roll, what="The roll")
    key = place.identity_key()
    with about(roll):
        draft, _signers = open_draft(envelope)
        listed = draft.member(officer.id)
    for line in lines_of(draft):
        say(line)
    if listed.officer_key != key.public:
        raise InvalidIdentity(
            f"The roll lists another key for {officer.id} than yours.", hint="Do not sign it; ask who drafted it."
        )
    signed = add_signature(envelope, "roll", key)
    write_file(roll, signed)
    if draft.previous:
        say(
            f"{officer.id} signed version {draft.version}, {draft.digest.hex()}, which follows {draft.previous.hex()[:16]}"
        )
        return
    _draft, signers = open_draft(signed)
    missing = [member.id for member in draft.members if member.officer_key not in signers]
    say(
        f"{officer.id} signed version {draft.version}, {draft.digest.hex()}; "
        + (f"still missing: {', '.join(missing)}" if missing else "every member has signed")
    )


@roll_app.command("verify")
def roll_verify(roll: Annotated[Path, typer.Argument(help="The roll.")]) -> None:
    """Check a roll: every founding member has signed it, and each change since has its signatures and its votes."""
    checked = _opened(roll, "The roll", Roll.open)
    for line in lines_of(checked):
        data(line)
    if checked.past:
        data(f"every founding member has signed version {checked.past[0].version}; each change since has what it needs")
    else:
        data("every member has signed")


def _found(home: Home, profile: Profile, key: SigningKey, card: bytes, out: Path | None, lock: bool) -> None:
    """Makes the home. The card also stays in it, so that a new roll can be drafted from it some day."""
    beside = out is not None and out.expanduser().absolute() != home.card_path.absolute()
    if out is not None and beside:
        check_absent(out, what="a file")
    home.create(profile, key, card, locked_pem(key) if lock else None)
    if out is None:
        data(card.decode())
    elif beside:
        write_new_file(out, card, PUBLIC_FILE, what="a file")
    say(f"hand {out or 'this card'} to whoever drafts the roll")


def tiers_of(
    cards: Sequence[RollMember], words: Sequence[str] | None, charter: Charter
) -> Iterator[tuple[RollMember, str]]:
    """Each card with its tier. ``words``: MEMBER=TIER. Raises InvalidUsage for a member that has no card here."""
    pairs = [word.partition("=") for word in words or ()]
    named = {name: tier for name, _, tier in pairs}
    unknown = sorted(set(named) - {card.id for card in cards})
    if unknown or not all(named.values()):
        raise InvalidUsage(
            f"--tier {', '.join(unknown) or words} names no member here.",
            hint="It takes MEMBER=TIER, such as se=observer.",
        )
    first = next(tier.name for tier in charter.tiers if tier.votes)
    for card in cards:
        yield card, charter.tier(named.get(card.id, first)).name


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def lines_of(roll: Roll) -> Iterator[str]:
    """What a signature on this roll says, to be compared by the members."""
    yield f"{roll.federation} version {roll.version} {roll.digest.hex()}"
    for member in roll.members:
        weight = roll.voters.get(member.id, 0)
        standing = f"{member.tier}, {f'vote {weight}' if weight else 'no vote'}" if member.active else "suspended"
        name = f"{member.jurisdiction}  {member.name}"
        yield f"  member {member.id}  {name}  {key_id(member.officer_key)}  {standing}"
    for lead in roll.leads:
        standing = "" if lead.active else "  suspended"
        yield f"  lead {lead.id} of {lead.member}  {lead.name}  {key_id(lead.key)}{standing}"
    for entry in roll.revoked:
        yield f"  revoked node {entry.node} of {entry.member}  {key_id(entry.key)}"
    charter = roll.charter
    yield f"  quorums: {', '.join(f'{action} {quorum}' for action, quorum in charter.quorums.items())}"
    seat = charter.coordinator
    if seat.addresses or seat.ca is not None:
        ca = f", CA {seat.ca.hex()[:16]}" if seat.ca is not None else ""
        yield f"  coordinator: {' '.join(seat.addresses) or 'as its tickets say'}{ca}"
    yield f"  public log: {seat.log or 'no key is named, and every node believes the first that it is shown'}"


def _opened(path: Path, what: str, opener: Callable[[bytes], Document]) -> Document:
    envelope = read_file(path, what=what)
    with about(path):
        return opener(envelope)
