"""Founding by the commands: keys that nobody else can read and nothing overwrites, a roll that counts only with every signature."""

import base64
import json
import stat
from pathlib import Path

import pytest

from federation.errors import InvalidIdentity, InvalidUsage, NotFound
from federation.identity.credential import node_request, verify_credential
from federation.identity.envelope import add_signature
from federation.identity.keys import SigningKey, key_id
from federation.identity.roll import Roll, open_member_card
from tests.unit.client.founding import MEMBERS, Cast
from tests.unit.client.typed import concord, done, mode, refused, tree, typed

NOTHING: dict[str, bytes] = {}


@pytest.fixture
def cast(tmp_path: Path) -> Cast:
    return Cast(tmp_path)


@pytest.fixture
def founded(cast: Cast) -> Cast:
    cast.found()
    return cast


# ------------------------------------------------------------------------------------------------------------------ homes


@pytest.mark.parametrize("kind", ["member", "lead"])
def test_a_key_is_readable_by_its_owner_alone(cast: Cast, kind: str) -> None:
    done(cast.member("br") if kind == "member" else cast.lead("br", "ke"))
    home = cast.home("br")
    assert mode(home) == 0o700
    assert mode(home / "keys") == 0o700
    assert mode(home / "keys" / "identity.key") == 0o600
    public = [path for path in home.rglob("*") if path.is_file() and mode(path) & 0o077]
    assert all(b"PRIVATE" not in path.read_bytes() for path in (*public, cast.card("br")))


def test_a_home_is_made_once(cast: Cast) -> None:
    done(cast.member("br"))
    before = tree(cast.home("br"))
    cast.card("br").unlink()
    refused(cast.member("br"), InvalidUsage, "There is already an identity key", "it stays as it is", "--home")
    refused(cast.lead("br", "ke"), InvalidUsage, "There is already an identity key")
    assert tree(cast.home("br")) == before
    assert not cast.card("br").exists()


def test_a_card_does_not_overwrite_and_its_home_is_not_half_made(cast: Cast) -> None:
    cast.card("br").write_text("somebody's")
    refused(cast.member("br"), InvalidUsage, "There is already a file at", "Name another file")
    assert cast.card("br").read_text() == "somebody's"
    assert not cast.home("br").exists()


def test_the_card_stays_in_the_home_for_the_next_roll(cast: Cast) -> None:
    done(cast.member("br", "BR"))
    assert (cast.home("br") / "card.json").read_bytes() == cast.card("br").read_bytes()
    card = open_member_card(cast.card("br").read_bytes())
    assert (card.id, card.name, card.jurisdiction) == ("br", "Laboratory br", "BR")


def test_without_out_the_card_is_the_answer(cast: Cast) -> None:
    words = ("--home", cast.home("br"), "--id", "br", "--name", "L", "--jurisdiction", "BR")
    answer = done(concord("member", "init", *words))
    assert open_member_card(answer.out.rstrip("\n").encode()).id == "br"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--id", "Big Lab", ("'Big Lab' is not a valid name", "lower-case")),
        ("--name", "bell\x07", ("name", "not printable")),
        ("--jurisdiction", "France", ("'France' is not a jurisdiction", "ISO 3166")),
    ],
)
def test_a_bad_name_makes_nothing(cast: Cast, option: str, value: str, words: tuple[str, ...]) -> None:
    options = {"--home": str(cast.home("br")), "--id": "br", "--name": "L", "--jurisdiction": "BR", option: value}
    answer = concord("member", "init", *(word for pair in options.items() for word in pair))
    refused(answer, InvalidIdentity, *words)
    assert "\x07" not in answer.err
    assert tree(cast.folder) == NOTHING


def test_a_key_that_others_may_read_is_not_used(founded: Cast) -> None:
    key = founded.home("br") / "keys" / "identity.key"
    key.chmod(key.stat().st_mode | stat.S_IRGRP)
    refused(founded.sign("br"), InvalidIdentity, "Other users of this machine may read", "chmod 600")


def test_a_damaged_key_is_named(founded: Cast) -> None:
    key = founded.home("br") / "keys" / "identity.key"
    key.write_text("-----BEGIN PRIVATE KEY-----\nno\n")
    refused(founded.sign("br"), InvalidIdentity, str(key))


def test_another_home_than_the_officers_is_refused(founded: Cast) -> None:
    refused(founded.sign("nobody"), NotFound, "is not the home of a member yet", "concord member init --home")
    refused(founded.sign("ana"), InvalidUsage, "is the home of the lead ana, and this takes a member")


# ------------------------------------------------------------------------------------------------------------------- roll


def test_a_roll_counts_when_every_member_has_signed(cast: Cast) -> None:
    for who, jurisdiction in MEMBERS.items():
        done(cast.member(who, jurisdiction))
    done(cast.lead("ana", "br"))
    done(cast.draft())
    refused(concord("roll", "verify", cast.roll), InvalidIdentity, str(cast.roll), "not signed by br")
    assert "still missing: in, ke" in done(cast.sign("br")).err
    assert "still missing: in" in done(cast.sign("ke")).err
    refused(concord("roll", "verify", cast.roll), InvalidIdentity, "not signed by in (Laboratory in)")
    assert "every member has signed" in done(cast.sign("in")).err
    shown = done(concord("roll", "verify", cast.roll)).out
    roll = Roll.open(cast.roll.read_bytes())
    assert roll.digest.hex() in shown
    for member in roll.members:
        assert key_id(member.officer_key) in shown
    assert key_id(roll.lead("ana").key) in shown


def test_who_signs_sees_what_is_signed(cast: Cast) -> None:
    for who in MEMBERS:
        done(cast.member(who))
    done(cast.lead("ana", "br"))
    done(cast.draft())
    said = done(cast.sign("br")).err
    for who in (*MEMBERS, "ana"):
        assert f"{who} " in said
        assert key_id(SigningKey.from_pem((cast.home(who) / "keys" / "identity.key").read_bytes()).public) in said


def test_signing_twice_changes_nothing(founded: Cast) -> None:
    before = founded.roll.read_bytes()
    done(founded.sign("br"))
    assert founded.roll.read_bytes() == before


def test_a_roll_that_lists_another_key_for_the_signer_is_not_signed(founded: Cast, tmp_path: Path) -> None:
    other = Cast(tmp_path / "other")
    other.found()
    before = other.roll.read_bytes()
    refused(founded.sign("br", other.roll), InvalidIdentity, "lists another key for br", "Do not sign it")
    assert other.roll.read_bytes() == before


def test_a_roll_without_the_signer_is_not_signed(founded: Cast) -> None:
    done(founded.member("zz"))
    refused(founded.sign("zz"), InvalidIdentity, str(founded.roll), "'zz' is not a member on the roll")


def altered_signature(envelope: bytes) -> bytes:
    document = json.loads(envelope)
    signature = bytearray(base64.b64decode(document["signatures"][0]["sig"]))
    signature[0] ^= 1
    document["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def altered_name(envelope: bytes) -> bytes:
    document = json.loads(envelope)
    payload = base64.b64decode(document["payload"]).replace(b"Laboratory br", b"Laboratory xx")
    document["payload"] = base64.b64encode(payload).decode()
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


ALTERATIONS = {
    "a signature": altered_signature,
    "a name": altered_name,
    "one signature removed": lambda data: json.dumps(
        {**json.loads(data), "signatures": json.loads(data)["signatures"][1:]}, separators=(",", ":"), sort_keys=True
    ).encode(),
    "a stranger's signature": lambda data: add_signature(data, "roll", SigningKey.generate()),
    "formatted anew": lambda data: json.dumps(json.loads(data), indent=2).encode(),
    "cut short": lambda data: data[:-20],
    "a card": lambda _data: b"{}",
    "too large": lambda data: data + b" " * (5 << 20),
}


@pytest.mark.parametrize("how", ALTERATIONS)
def test_an_altered_roll_is_refused(founded: Cast, how: str) -> None:
    founded.roll.write_bytes(ALTERATIONS[how](founded.roll.read_bytes()))
    kind = InvalidUsage if how == "too large" else InvalidIdentity
    refused(concord("roll", "verify", founded.roll), kind, str(founded.roll))


@pytest.mark.parametrize("how", ["a signature", "a name", "formatted anew", "cut short"])
def test_a_broken_roll_is_not_signed(founded: Cast, how: str) -> None:
    founded.roll.write_bytes(ALTERATIONS[how](founded.roll.read_bytes()))
    before = founded.roll.read_bytes()
    refused(founded.sign("br"), InvalidIdentity, str(founded.roll))
    assert founded.roll.read_bytes() == before


def test_a_draft_is_refused_before_it_is_written(founded: Cast) -> None:
    founded.roll.unlink()
    refused(founded.draft(("br", "ke")), InvalidIdentity, "at least 3 members; the roll lists 2")
    refused(founded.draft(("br", "br", "ke")), InvalidIdentity, "a member twice")
    done(founded.lead("leo", "zz"))
    refused(founded.draft(leads=("leo",)), InvalidIdentity, "leo belongs to zz, which is not on the roll")
    refused(founded.draft(("br", "in", "nobody")), NotFound, "The member's card", "does not exist")
    refused(founded.draft(("br", "in", "ana")), InvalidIdentity, str(founded.card("ana")), "another kind")
    founded.card("ke").write_bytes(altered_signature(founded.card("ke").read_bytes()))
    refused(founded.draft(), InvalidIdentity, str(founded.card("ke")))
    assert not founded.roll.exists()


def test_a_draft_does_not_overwrite_a_roll(founded: Cast) -> None:
    before = founded.roll.read_bytes()
    refused(founded.draft(version=2), InvalidUsage, "There is already a roll at", "Name another file")
    assert founded.roll.read_bytes() == before


# ------------------------------------------------------------------------------------------------------------------ nodes


def sign_node(cast: Cast, request: bytes, *more: str, who: str = "br") -> tuple[Path, list[str | Path]]:
    path, out = cast.folder / "request.json", cast.folder / "credential.json"
    path.write_bytes(request)
    return out, ["member", "sign-node", "--home", cast.home(who), "--request", path, "--out", out, *more]


def test_an_officer_signs_a_node_and_sees_its_key(founded: Cast) -> None:
    key = SigningKey.generate()
    out, words = sign_node(founded, node_request("atlas", "br", "br-1", key), "--days", "7")
    answer = done(concord(*words))
    assert key_id(key.public) in answer.err
    credential = verify_credential(out.read_bytes(), Roll.open(founded.roll.read_bytes()), None)
    assert (credential.member, credential.node, credential.identity_key) == ("br", "br-1", key.public)
    assert (credential.not_after - credential.not_before).days == 7
    refused(concord(*words), InvalidUsage, "There is already a file at")


def test_a_node_of_another_member_is_not_signed(founded: Cast) -> None:
    out, words = sign_node(founded, node_request("atlas", "ke", "ke-1", SigningKey.generate()))
    refused(concord(*words), InvalidIdentity, "The request is for ke in atlas, and you are the officer of br")
    out, words = sign_node(founded, altered_signature(node_request("atlas", "br", "br-1", SigningKey.generate())))
    refused(concord(*words), InvalidIdentity, "request.json")
    assert not out.exists()


def test_a_credential_never_lands_on_a_key(founded: Cast) -> None:
    before = tree(founded.home("br"))
    _out, words = sign_node(founded, node_request("atlas", "br", "br-1", SigningKey.generate()))
    words[words.index("--out") + 1] = founded.home("br") / "keys" / "identity.key"
    refused(concord(*words), InvalidUsage, "There is already a file at")
    assert tree(founded.home("br")) == before


# ---------------------------------------------------------------------------------------------------- the installed command


def test_the_installed_command_founds_a_federation(tmp_path: Path) -> None:
    """Each command of the ceremony once, as it is installed: exit code, where the answer goes, where the remarks go."""
    cards = []
    for who in ("br", "in", "ke"):
        words = ("--home", who, "--id", who, "--name", "Lab", "--jurisdiction", who.upper(), "--out", f"{who}.json")
        made = done(typed("concord", "member", "init", *words, folder=tmp_path))
        assert made.out == ""
        assert f"made the officer's home {who}" in made.err
        cards += ["--member", f"{who}.json"]
    words = ("--home", "ana", "--id", "ana", "--member", "br", "--name", "Ana")
    card = done(typed("concord", "lead", "init", *words, folder=tmp_path)).out
    (tmp_path / "ana.json").write_text(card.rstrip("\n"))
    draft = ("roll", "draft", "--federation", "atlas", *cards, "--lead", "ana.json", "--out", "roll.json")
    assert "with 3 members and 1 lead:" in done(typed("concord", *draft, folder=tmp_path)).err
    unsigned = typed("concord", "roll", "verify", "roll.json", folder=tmp_path)
    refused(unsigned, InvalidIdentity, "not signed by br")
    for who in ("br", "in", "ke"):
        done(typed("concord", "roll", "sign", "--home", who, "--roll", "roll.json", folder=tmp_path))
    assert done(typed("concord", "roll", "verify", "roll.json", folder=tmp_path)).out.startswith("atlas version 1 ")
    (tmp_path / "request.json").write_bytes(node_request("atlas", "ke", "ke-1", SigningKey.generate()))
    sign = ("member", "sign-node", "--home", "ke", "--request", "request.json", "--out", "credential.json")
    done(typed("concord", *sign, folder=tmp_path))
    roll = Roll.open((tmp_path / "roll.json").read_bytes())
    assert verify_credential((tmp_path / "credential.json").read_bytes(), roll, None).node == "ke-1"
