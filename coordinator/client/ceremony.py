"""Founding: `concord member`, `concord lead`, `concord roll`. Works offline, files in and out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from coordinator.client.files import PUBLIC_FILE, read_file, write_file, write_new_file
from coordinator.client.home import Home, Profile
from coordinator.client.options import DEFAULT_HOME_PATH, HomeOption
from coordinator.client.terminal import data, say
from federation.errors import InvalidIdentity
from federation.identity.credential import open_node_request, sign_credential
from federation.identity.envelope import add_signature, seal
from federation.identity.keys import SigningKey
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

member_app = typer.Typer(no_args_is_help=True, help="A member's officer: keys, cards, nodes.")
lead_app = typer.Typer(no_args_is_help=True, help="A research lead: keys and card.")
roll_app = typer.Typer(no_args_is_help=True, help="The membership roll, which every member signs.")


@member_app.command("init")
def member_init(
    id: Annotated[str, typer.Option(help="The member's id: a lower-case DNS label.")],
    name: Annotated[str, typer.Option(help="The member's name, for people.")],
    jurisdiction: Annotated[str, typer.Option(help="ISO 3166 code, such as FR.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    out: Annotated[Path | None, typer.Option(help="Where to write the card for the roll.")] = None,
) -> None:
    """Make the officer's key, and the card that goes on the roll."""
    key = SigningKey.generate()
    entry = RollMember(
        checked_label(id, "member"),
        checked_title(name, "member's name"),
        checked_jurisdiction(jurisdiction),
        key.public,
    )
    Home.at(home).create(Profile("member", id, name, {"jurisdiction": jurisdiction}), key)
    _card(out, member_card(entry, key))
    say(f"made the officer's home {home}; hand the card to whoever drafts the roll")


@member_app.command("sign-node")
def sign_node(
    request: Annotated[Path, typer.Option(help="What concord-node init wrote.")],
    out: Annotated[Path, typer.Option(help="Where to write the credential.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
) -> None:
    """Sign a node of this member."""
    place = Home.at(home)
    officer = place.profile("member")
    envelope = read_file(request, what="The node's request")
    asked = open_node_request(envelope)
    now = datetime.now(UTC).replace(microsecond=0)
    credential = sign_credential(
        envelope,
        asked.federation,
        place.identity_key(),
        officer.id,
        now - timedelta(minutes=5),
        now + timedelta(days=days),
    )
    write_file(out, credential)
    say(f"signed node {asked.node} of {officer.id} in {asked.federation} for {days} days: {out}")


@lead_app.command("init")
def lead_init(
    id: Annotated[str, typer.Option(help="The lead's id: a lower-case DNS label.")],
    member: Annotated[str, typer.Option(help="The member that the lead belongs to.")],
    name: Annotated[str, typer.Option(help="The lead's name, for people.")],
    home: HomeOption = DEFAULT_HOME_PATH,
    out: Annotated[Path | None, typer.Option(help="Where to write the card for the roll.")] = None,
) -> None:
    """Make the lead's key, and the card that goes on the roll."""
    key = SigningKey.generate()
    entry = RollLead(
        checked_label(id, "lead"), checked_label(member, "member"), checked_title(name, "lead's name"), key.public
    )
    Home.at(home).create(Profile("lead", id, name, {"member": member}), key)
    _card(out, lead_card(entry, key))
    say(f"made the lead's home {home}; hand the card to whoever drafts the roll")


@roll_app.command("draft")
def roll_draft(
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    member: Annotated[list[Path], typer.Option(help="A member's card; repeat for each.")],
    out: Annotated[Path, typer.Option(help="Where to write the draft.")],
    lead: Annotated[list[Path] | None, typer.Option(help="A lead's card; repeat for each.")] = None,
    version: Annotated[int, typer.Option(min=1, help="Grows with each new roll.")] = 1,
) -> None:
    """Put the cards together as a roll for the members to sign."""
    members = [open_member_card(read_file(path, what="The member's card")) for path in member]
    leads = [open_lead_card(read_file(path, what="The lead's card")) for path in lead or ()]
    document = draft_roll(checked_label(federation, "federation"), version, members, leads)
    write_new_file(out, seal(document, "roll", ()), PUBLIC_FILE, what="a roll")
    say(
        f"drafted the roll of {federation} with {len(members)} members and {len(leads)} leads: {out}; every member signs it"
    )


@roll_app.command("sign")
def roll_sign(
    roll: Annotated[Path, typer.Option(help="The draft; the signature is added to it.")],
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """Add this member's signature to a roll, after checking that the member stands in it."""
    place = Home.at(home)
    officer = place.profile("member")
    envelope = read_file(roll, what="The roll")
    draft, _signers = open_draft(envelope)
    key = place.identity_key()
    listed = draft.member(officer.id)
    if listed.officer_key != key.public:
        raise InvalidIdentity(
            f"The roll lists another key for {officer.id} than yours.", hint="Do not sign it; ask who drafted it."
        )
    signed = add_signature(envelope, "roll", key)
    write_file(roll, signed)
    _draft, signers = open_draft(signed)
    missing = [member.id for member in draft.members if member.officer_key not in signers]
    say(
        f"{officer.id} signed version {draft.version}, {draft.digest.hex()[:16]}; "
        + (f"still missing: {', '.join(missing)}" if missing else "complete")
    )


@roll_app.command("verify")
def roll_verify(roll: Annotated[Path, typer.Argument(help="The roll.")]) -> None:
    """Check that every member on a roll has signed it."""
    checked = Roll.open(read_file(roll, what="The roll"))
    data(f"{checked.federation} version {checked.version} {checked.digest.hex()}")
    for member in checked.members:
        data(f"  {member.id}  {member.jurisdiction}  {member.name}  signed")


def _card(out: Path | None, card: bytes) -> None:
    if out is None:
        data(card.decode())
    else:
        write_new_file(out, card, PUBLIC_FILE, what="a card")
