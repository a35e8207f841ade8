"""setup: whole setups, and rosters, certificates, openings and confirmations that a member refuses."""

from __future__ import annotations

from typing import Any

from tests.plain import transcripts as t
from tests.plain.ciphers import drawn, seal, sign
from tests.plain.quorums import quorums
from tests.plain.setup import Epoch, Member, encapsulation_draw, part_key, signed
from tests.vectors.subjects.federations import epoch

Document = dict[str, Any]


def _case(name: str) -> Document:
    made = epoch(name)
    return {
        "name": name,
        "job": made.job,
        "epoch": made.number,
        "formation": made.formation,
        "predecessor": made.predecessor,
        "quorums": quorums(made.n)._asdict(),
        "members": [
            {
                "id": member.id, "identity seed": member.seed, "identity key": member.identity, "private": member.private,
                "nonce": member.nonce, "part": member.part, "weight": member.weight,
            }
            for member in made.members
        ],
        "encapsulation draws": {
            f"{i},{j}": encapsulation_draw(made.members[i - 1].id, made.members[j - 1].id) for i, j in made.roots
        },
        "keys": made.keys,
        "keys_hash": made.keys_hash,
        "encapsulations": made.encapsulations,
        "kem secrets": {f"{i},{j}": secret for (i, j), secret in made.kem_secrets.items()},
        "roster_hash": made.roster_hash,
        "signatures": made.signatures,
        "roots": {f"{i},{j}": root for (i, j), root in made.roots.items()},
        "openings": made.openings,
        "beacon": made.beacon,
        "group_key": made.group_key,
        "confirmations": made.confirmations,
    }  # fmt: skip


class _Forge:
    """What a coordinator shows to member 1 of ``three``; it holds the keys of those who lie with it."""

    def __init__(self) -> None:
        self.made: Epoch = epoch("three")
        self.cases: list[Document] = []

    def key(self, index: int, **changes: Any) -> Document:
        """The key message of a member that signs other fields."""
        said = {**self.made.keys[index - 1], **changes}
        return signed(said, self.made.members[index - 1], t.key_text(self.made.job, said))

    def refused(self, kind: str, name: str, check: str, fields: Document, comment: str = "", stage: str = "") -> None:
        """``stage``: the last step that the member has made, where it is not the one before this message."""
        self.cases.append(
            {"name": name, "comment": comment, "setup": "three", "member": 1, "after": stage, "kind": kind, "fields": fields,
             "check": check}
        )  # fmt: skip

    def keys(self, *changed: tuple[int, Document]) -> list[Any]:
        """The setup's own, by reference, but for those that are given by place."""
        found: list[Any] = [{"ref": f"keys/{index}"} for index in range(1, self.made.n + 1)]
        for place, key in changed:
            found[place - 1] = key
        return found

    def candidates(self, name: str, check: str, keys: list[Any], comment: str = "", **more: Any) -> None:
        fields = {"epoch": 1, "formation": 0, "keys": keys}
        self.refused("Candidates", name, check, fields, comment, **more)


def _candidates(forge: _Forge) -> None:
    made = forge.made
    second, third = made.keys[1], made.keys[2]
    stranger = Member.of("vectors/stranger", "xx", 1)
    swapped = {**second, "exchange_key": third["exchange_key"]}
    forge.candidates(
        "a swapped key", "key-signature", forge.keys((2, swapped)), "The coordinator puts in another X25519 key."
    )
    forge.candidates(
        "a swapped encapsulation key", "key-signature", forge.keys((2, {**second, "kem_key": third["kem_key"]}))
    )
    unknown = {**second, "credential": stranger.credential}
    unknown = signed(unknown, stranger, t.key_text(made.job, unknown))
    forge.candidates(
        "an invented member", "credential", forge.keys((2, unknown)), "No officer on the roll signed its credential."
    )
    forge.candidates("a member twice", "duplicate", forge.keys((3, forge.key(2, exchange_key=third["exchange_key"]))))
    for field, what in (
        ("exchange_key", "X25519 key"), ("kem_key", "encapsulation key"), ("nonce_hash", "nonce hash"), ("group_hash", "part hash"),
    ):  # fmt: skip
        copied = forge.key(3, **{field: second[field]})
        forge.candidates(
            f"one {what} twice", "duplicate", forge.keys((3, copied)), "A member copies another's, and signs it."
        )
    forge.candidates("a weight that is no power of two", "weight", forge.keys((3, forge.key(3, weight=3))))
    forge.candidates(
        "a weight above the cap", "weight", forge.keys((3, forge.key(3, weight=2**21))), "The cap is 2^20."
    )
    forge.candidates("another formation", "formation", forge.keys((3, forge.key(3, formation=1))))
    forge.candidates("another predecessor", "formation", forge.keys((3, forge.key(3, predecessor=b"\x01" * 32))))
    forge.candidates("not sorted", "roster-order", [{"ref": "keys/1"}, {"ref": "keys/3"}, {"ref": "keys/2"}])
    forge.candidates("two members", "roster-size", forge.keys()[:2])
    forge.candidates("without our own", "own-entry", forge.keys()[1:])
    forge.candidates("our own, altered", "own-entry", forge.keys((1, {**made.keys[0], "weight": 1})))
    forge.candidates(
        "a second list of keys", "two-rosters", forge.keys((3, forge.key(3, weight=2))), "After we encapsulated for the first.",
        stage="Candidates",
    )  # fmt: skip


def _rosters(forge: _Forge) -> None:
    made = forge.made
    stripped = [{**each, "ciphertexts": []} for each in made.encapsulations]

    def roster(name: str, check: str, comment: str = "", member: int = 1, **changes: Any) -> None:
        encapsulations = [{"ref": f"encapsulations/{index}"} for index in range(1, made.n + 1)]
        ciphertexts = made.roster(member)["ciphertexts"]
        fields = {
            "epoch": 1,
            "formation": 0,
            "keys": forge.keys(),
            "encapsulations": encapsulations,
            "ciphertexts": ciphertexts,
            **changes,
        }
        forge.refused("Roster", name, check, fields, comment)
        forge.cases[-1]["member"] = member

    def refs(*changed: tuple[int, Document]) -> list[Any]:
        found: list[Any] = [{"ref": f"encapsulations/{index}"} for index in range(1, made.n + 1)]
        for place, said in changed:
            found[place - 1] = said
        return found

    def resigned(index: int, **changes: Any) -> Document:
        said = {**stripped[index - 1], **changes}
        return signed(said, made.members[index - 1], t.encapsulation_text(made.job, said))

    roster("an encapsulation is missing", "encapsulation", encapsulations=refs()[:2])
    other = resigned(2, keys_hash=bytes(32))
    roster("an encapsulation for other keys", "two-rosters", encapsulations=refs((2, other)))
    roster("too few ciphertexts signed", "encapsulation", encapsulations=refs((2, resigned(2, hashes=[]))))
    forged = {**stripped[1], "hashes": [bytes(32)]}
    roster("an encapsulation that is not signed", "signature", encapsulations=refs((2, forged)))
    mine = resigned(1, hashes=[bytes(32), bytes(32)])
    roster("our own encapsulation, altered", "own-entry", "Even with our signature.", encapsulations=refs((1, mine)))
    swapped = made.encapsulations[0]["ciphertexts"][0]
    roster("a swapped ciphertext", "ciphertext", "Member 3 gets the one for member 2.", 3,
           ciphertexts=[swapped, made.encapsulations[1]["ciphertexts"][0]])  # fmt: skip
    roster("a ciphertext is missing", "ciphertexts", "", 3, ciphertexts=[made.encapsulations[0]["ciphertexts"][1]])
    roster(
        "other keys than those that were encapsulated for", "two-rosters", keys=forge.keys((3, forge.key(3, weight=2)))
    )


def _unusable(forge: _Forge) -> None:
    """Member 3 sends keys that nobody can use."""
    made = forge.made
    kem = made.keys[2]["kem_key"]
    forge.candidates(
        "an encapsulation key that is not reduced",
        "encapsulation-key",
        forge.keys((3, forge.key(3, kem_key=b"\xff" * 3 + kem[3:]))),
        "A coefficient above q.",
    )
    key = forge.key(3, exchange_key=bytes(32))
    hashed = t.keys_hash(made.job, [*made.keys[:2], key])
    encapsulations = []
    for each in made.encapsulations:
        numbered = enumerate(each["ciphertexts"], start=each["index"] + 1)
        hashes = [t.digest("ciphertext", hashed, each["index"], place, ciphertext) for place, ciphertext in numbered]
        said = {**each, "keys_hash": hashed, "hashes": hashes, "ciphertexts": []}
        encapsulations.append(signed(said, made.members[each["index"] - 1], t.encapsulation_text(made.job, said)))
    candidates = {"epoch": 1, "formation": 0, "keys": forge.keys((3, key))}
    roster = {**candidates, "encapsulations": encapsulations, "ciphertexts": []}
    forge.refused("Roster", "an X25519 key of small order", "exchange-key", roster, "All secrets with it are zero.")
    forge.cases[-1]["candidates"] = candidates


def _rest(forge: _Forge) -> None:
    made = forge.made
    rh, members = made.roster_hash, made.members
    certificate = {"epoch": 1, "roster_hash": rh, "signatures": made.signatures}
    last = made.signatures[2]
    other = signed(
        {**last, "roster_hash": bytes(32)}, members[2], t.roster_text(made.job, 1, {**last, "roster_hash": bytes(32)})
    )
    kind = "RosterCertificate"
    forge.refused(kind, "n - 1 signatures", "roster-signatures", {**certificate, "signatures": made.signatures[:2]})
    forge.refused(kind, "a forged signature", "signature",
                  {**certificate, "signatures": [*made.signatures[:2], {**last,
                   "signature": made.signatures[1]["signature"]}]})  # fmt: skip
    forge.refused(
        kind,
        "a signature on another roster",
        "two-rosters",
        {**certificate, "signatures": [*made.signatures[:2], other]},
    )
    forge.refused(kind, "of another roster", "two-rosters", {**certificate, "roster_hash": bytes(32)})

    def openings(
        name: str, check: str, place: int, said: Document | None, comment: str = "", sign_it: bool = True
    ) -> None:
        held = made.opened_for(1)["openings"]
        if said is None:
            held = held[: place - 1] + held[place:]
        else:
            changed = {**held[place - 1], **said}
            held[place - 1] = (
                signed(changed, members[place - 1], t.opening_text(made.job, changed)) if sign_it else changed
            )
        forge.refused("Openings", name, check, {"epoch": 1, "roster_hash": rh, "openings": held}, comment)

    openings("one is missing", "openings", 3, None)
    openings(
        "an uncommitted nonce", "nonce", 3, {"nonce": drawn("another nonce", 32)}, "Signed; it would move the beacon."
    )
    openings("a forged nonce", "signature", 3, {"nonce": drawn("another nonce", 32)}, sign_it=False)
    openings("no part for us", "openings", 3, {"boxes": []})
    box = next(box for box in made.openings[2]["boxes"] if box["holder"] == 2)
    openings("a part that is sealed for another", "group-part", 3, {"boxes": [{**box, "holder": 1}]})
    lie = seal(part_key(made.roots[1, 3], 3, 1), drawn("another part", 32), t.transcript("part-data", rh, 3, 1))
    openings(
        "an uncommitted part",
        "group-part",
        3,
        {"boxes": [{"holder": 1, "ciphertext": lie}]},
        "Well sealed; unequal keys would follow.",
    )

    held = made.confirmations
    confirmed = {"epoch": 1, "roster_hash": rh, "confirmations": held}
    lied = {**held[2], "beacon": bytes(32)}
    lied = signed(lied, members[2], t.confirmation_text(made.job, lied))
    split = {**held[2], "group_hash": bytes(32)}
    split = signed(split, members[2], t.confirmation_text(made.job, split))
    forged = {**held[2], "signature": sign(members[1].seed, t.confirmation_text(made.job, held[2]))}
    kind = "Confirmations"
    forge.refused(kind, "n - 1 confirmations", "confirmations", {**confirmed, "confirmations": held[:2]})
    forge.refused(kind, "another beacon", "group-key", {**confirmed, "confirmations": [*held[:2], lied]})
    forge.refused(kind, "another group key", "group-key", {**confirmed, "confirmations": [*held[:2], split]})
    forge.refused(kind, "a forged confirmation", "signature", {**confirmed, "confirmations": [*held[:2], forged]})


def setup_document() -> Document:
    forge = _Forge()
    _candidates(forge)
    _rosters(forge)
    _unusable(forge)
    _rest(forge)
    return {
        "section": "Setup",
        "comment": "Everything that each member draws, derives and says. \"six\" follows \"five\". A credential is opaque here: "
        "the identity key is what its officer signed. Encapsulation draws, KEM secrets and roots by \"lower,higher\" index. "
        "Invalid: what the coordinator tells to a member that has made all steps before (candidates: with these); ref: the "
        "setup's own message, an encapsulation without its ciphertexts. Jurisdictions and minimum members do not restrict.",
        "cases": [_case(name) for name in ("three", "four", "five", "six")],
        "invalid": forge.cases,
    }  # fmt: skip
