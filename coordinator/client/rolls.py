"""The roll and its charter: `concord charter`, `concord roll` after the founding, and a member's new key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from coordinator.client.ceremony import lines_of, member_app, roll_app, tiers_of
from coordinator.client.charter_file import charter_document, kept_seat, read_charter_file
from coordinator.client.documents import card_of, opened, revoked_node, roll_of
from coordinator.client.files import PUBLIC_FILE, SECRET_FILE, read_file, write_file, write_new_file
from coordinator.client.governing import Governing, Wanted, next_roll
from coordinator.client.home import Home
from coordinator.client.options import DEFAULT_HOME_PATH, FormatOption, HomeOption
from coordinator.client.sdk import Federation
from coordinator.client.signing import locked_pem
from coordinator.client.terminal import Format, as_yaml, data, say, show, table
from federation.errors import InvalidIdentity, InvalidUsage
from federation.governance.amendment import changes_of, needed
from federation.governance.charter import Charter
from federation.governance.history import amendments_of
from federation.identity.envelope import add_signature
from federation.identity.keys import SigningKey, key_id
from federation.identity.roll import Roll, RollMember, member_card, open_draft, open_lead_card

charter_app = typer.Typer(no_args_is_help=True, help="The charter: who votes, and what each decision needs.")

SHORT: Final = 12

RollFile = Annotated[Path | None, typer.Option("--roll", help="A roll's file; else the roll of the home.")]


# ---------------------------------------------------------------------------------------------------------------- charter


@charter_app.command("show")
def charter_show(
    home: HomeOption = DEFAULT_HOME_PATH, roll: RollFile = None, output: FormatOption = Format.yaml
) -> None:
    """Print the charter in force; without a roll the standard one. It is a file to begin with: `concord roll draft --charter`."""
    held = roll_of(roll) if roll is not None else Home.at(home).roll()
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
    held = roll_of(roll) if roll is not None else Home.at(home).required_roll()
    for line in lines_of(held):
        data(line)


@roll_app.command("history")
def roll_history(
    home: HomeOption = DEFAULT_HOME_PATH, roll: RollFile = None, output: FormatOption = Format.table
) -> None:
    """Every version of the roll: what it changed, and who decided it. All of it is checked again."""
    held = roll_of(roll) if roll is not None else Home.at(home).required_roll()
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
    held = roll_of(roll) if roll is not None else Home.at(home).required_roll()
    agreed = kept_seat(read_charter_file(charter), held.charter) if charter is not None else held.charter
    cards = [card_of(path) for path in admit or ()]
    own = [word for word in tier or () if word.partition("=")[0] in {card.id for card in cards}]
    wanted = Wanted(
        admit=tuple(replace(card, tier=name) for card, name in tiers_of(cards, own, agreed)),
        leads=tuple(opened(path, "The lead's card", open_lead_card) for path in lead or ()),
        keys=tuple(card_of(path) for path in key or ()),
        tiers=_tiers([word for word in tier or () if word not in own]),
        suspend=tuple(suspend or ()),
        restore=tuple(restore or ()),
        suspend_leads=tuple(suspend_lead or ()),
        restore_leads=tuple(restore_lead or ()),
        revoke=tuple(revoked_node(path) for path in revoke or ()),
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


# ----------------------------------------------------------------------------------------------------------------- inside


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


def _tiers(words: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [word.partition("=") for word in words]
    if not all(equals and tier for _, equals, tier in pairs):
        raise InvalidUsage("--tier takes MEMBER=TIER.", hint="Such as --tier se=observer.")
    return tuple((name, tier) for name, _, tier in pairs)
