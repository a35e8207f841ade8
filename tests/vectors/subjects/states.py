"""states: the file of a state, who is asked for it, and what a member that is behind or new checks before it takes it."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.plain import floats, sealed
from tests.plain import transcripts as t
from tests.plain.ciphers import expand
from tests.plain.setup import Epoch, Said, epoch_of, signed
from tests.plain.sums import Numbers, file_of
from tests.vectors.subjects.federations import epoch, rounds

Document = dict[str, Any]
NAME = "five, attempt 1"
"""after it, state_2 is certified by members of epoch 1, "five"; "six" is epoch 2"""


def state_file() -> bytes:
    """Of state_2."""
    state = rounds()[NAME].following
    model = {"weights": Numbers("<f4", (len(state.weights),), floats.bytes_of_singles(state.weights))}
    return file_of(state.round, model, {}, state.scales)


def file_key(made: Epoch, state: int = 2) -> bytes:
    of = rounds()[NAME].following if state == 2 else rounds()[NAME].state
    return expand(made.group(state), t.transcript("state-file", of.digest))


def _files() -> list[Document]:
    state = rounds()[NAME].following
    small = {"w": Numbers("<f4", (2, 1), floats.bytes_of_singles(state.weights[:2])), "n": Numbers("<i8", (), bytes(8))}
    moved = {"m_t/w": small["w"], "v_t/w": small["w"]}
    return [
        {"name": "the file of state_2", "comment": "Of \"five\".", "kind": "file", "round": 2, "scales": state.scales,
         "form": [{"name": "weights", "type": "<f4", "shape": [len(state.weights)],
                   "data": floats.bytes_of_singles(state.weights)}],
         "optimiser": [], "file": state_file()},
        {"name": "with an optimiser", "comment": "A scalar, and an array of two dimensions.", "kind": "file", "round": 7,
         "scales": [-3], "form": [{"name": name, "type": array.type, "shape": list(array.sides), "data": array.data}
                                  for name, array in small.items()],
         "optimiser": [{"name": name, "type": array.type, "shape": list(array.sides), "data": array.data}
                       for name, array in moved.items()],
         "file": file_of(7, small, moved, [-3])},
    ]  # fmt: skip


def _said(
    kind: str, setup: str, member: int, at: str, name: str, fields: Said, comment: str = "", **more: Any
) -> Document:
    what = {"name": f"{kind}: {name}", "comment": comment, "kind": kind, "setup": setup, "member": member, "at": at}
    return {**what, "fields": fields, **more}


def _short(fields: Said) -> Said:
    """What is "five"'s own, by reference."""
    roster, said, five = dict(fields["roster"]), dict(fields["confirmations"]), epoch("five")
    own = {**five.roster(0), **five.confirmed()}
    for found, kind in ((roster, "keys"), (roster, "encapsulations"), (said, "confirmations")):
        places = own[kind]
        found[kind] = [{"ref": f"{kind}/{places.index(each) + 1}"} if each in places else each for each in found[kind]]
    return {"roster": roster, "confirmations": said}


def _lineages() -> list[Document]:
    five = epoch("five")
    roster = five.roster(0)
    key = five.keys[0]

    def of(made: Epoch) -> Said:
        return {"roster": made.roster(0), "confirmations": made.confirmed()}

    def shown(**changes: Any) -> Said:
        return {"roster": {**roster, **changes}, "confirmations": five.confirmed()}

    def confirmed(*said: Said, **changes: Any) -> Said:
        return {"roster": roster, "confirmations": {**five.confirmed(), "confirmations": list(said), **changes}}

    def confirming(index: int, **changes: Any) -> Said:
        """A member signs another one."""
        said = {**five.confirmations[index - 1], **changes}
        return signed(said, five.members[index - 1], t.confirmation_text(five.job, said))

    def keyed(**changes: Any) -> Said:
        """With a key message that br's node signs anew."""
        said = signed({**key, **changes}, five.members[0], t.key_text(five.job, {**key, **changes}))
        return shown(keys=[said, *roster["keys"][1:]])

    def refused(
        name: str, check: str, fields: Said, comment: str = "", setup: str = "six", member: int = 6
    ) -> Document:
        return _said("Lineage", setup, member, "seated", name, _short(fields), comment, check=check)

    all_said = five.confirmations
    unsigned, said, rest = {**key, "nonce_hash": bytes(32)}, roster["encapsulations"], roster["keys"][1:]
    first = {**said[0], "hashes": [bytes(32), *said[0]["hashes"][1:]]}
    first = signed(first, five.members[0], t.encapsulation_text(five.job, first))
    again = epoch_of(five.job, five.members, five.number, 1)
    return [
        refused("of another epoch", "predecessor", of(epoch("four")), "Whole, and not what ours follows."),
        refused("another formation of the same members", "predecessor", of(again)),
        refused("another encapsulation", "predecessor", shown(encapsulations=[first, *said[1:]]), "Another roster."),
        refused("another nonce", "two-rosters", keyed(nonce_hash=bytes(32)), "Encapsulations are for other keys."),
        refused("another weight", "two-rosters", keyed(weight=2)),
        refused("a weight that is no bucket", "weight", keyed(weight=3)),
        refused("a key message is not signed", "key-signature", shown(keys=[unsigned, *rest])),
        refused("an officer signed no such credential", "credential", keyed(credential=b"credential of nobody")),
        refused("two changed over", "roster-order", shown(keys=[rest[0], key, *rest[1:]])),
        refused("a member less", "encapsulation", shown(keys=roster["keys"][:4])),
        refused("nobody confirmed it", "confirmations", confirmed(), "A roster that never stood is no epoch."),
        refused("one did not confirm it", "confirmations", confirmed(*all_said[:4])),
        refused("a confirmation is not signed", "signature",
                confirmed({**all_said[0], "signature": all_said[1]["signature"]}, *all_said[1:])),
        refused("they made other keys", "group-key", confirmed(confirming(1, group_hash=bytes(32)), *all_said[1:])),
        refused("confirmations of another roster", "two-rosters", confirmed(*all_said, roster_hash=bytes(32))),
        refused("three of five came over", "successor", of(five),
                "q = 4 of \"five\" would have to be in it: it was formed without them.", "strangers", 5),
    ]  # fmt: skip


def _catch_ups() -> tuple[list[Document], list[Document]]:
    made, state = rounds()[NAME], rounds()[NAME].following
    five, six, digest = epoch("five"), epoch("six"), state.digest
    receipts = [made.attempt.receipt(index, digest) for index in (1, 2, 4, 5)]

    def blob(of: Epoch) -> bytes:
        return hashlib.sha256(sealed.file(file_key(of), state_file())).digest()

    def fields(of: Epoch, **changes: Any) -> Said:
        return {
            "epoch": of.number,
            "round": 2,
            "state_digest": digest,
            "state_blob": blob(of),
            "receipts": receipts,
            **changes,
        }

    def receipt(index: int, **changes: Any) -> Said:
        said = {**receipts[0], "index": index, **changes}
        return signed(said, five.members[index - 1], t.receipt_text(five.job, five.roster_hash, said))

    cases = [
        _said("CatchUp", "five", 3, "holds state_1", "in the epoch", fields(five), "KG of round 2 opens it.", key=file_key(five)),
        _said("CatchUp", "six", 6, "knows the epoch before", "a newcomer", fields(six),
              "Receipts of \"five\", whose roster it was shown; the file is under KG of \"six\".", key=file_key(six)),
        _said("CatchUp", "six", 1, "knows the epoch before", "one that lost its journal", fields(six), "Like a newcomer.",
              key=file_key(six)),
        _said("CatchUp", "five", 3, "holds state_2", "the state is held already", fields(five), "Nothing is fetched.", key=None),
    ]  # fmt: skip

    def refused(
        name: str, check: str, said: Said, comment: str = "", setup: str = "five", at: str = "holds state_1"
    ) -> Document:
        return _said("CatchUp", setup, 3 if setup == "five" else 6, at, name, said, comment, check=check)

    def mixed(**changes: Any) -> Said:
        """One of them says something else."""
        return fields(five, receipts=[receipts[0], receipt(2, **changes), *receipts[2:]])

    forged = {**receipts[1], "signature": receipts[0]["signature"]}
    invalid = [
        refused("three receipts", "receipts", fields(five, receipts=receipts[:3]), "q is 4."),
        refused("none", "receipts", fields(five, receipts=[])),
        refused("another state than they sign", "receipts", fields(five, state_digest=bytes(32))),
        refused("one is for another state", "receipts", mixed(state_digest=bytes(32))),
        refused("one has other figures", "receipts", mixed(figures=[1, 1])),
        refused("one is of another attempt", "receipts", mixed(context=bytes(32))),
        refused("of another round", "receipts", fields(five, round=3), "They certify state_2, not state_3."),
        refused("one is not signed", "signature", fields(five, receipts=[receipts[0], forged, *receipts[2:]])),
        refused("one is of no member", "stranger", fields(five, receipts=[*receipts[:3], {**receipts[3], "index": 6}])),
        refused("of an epoch in which it has no place", "epoch", fields(six)),
        refused("of the epoch before, unknown yet", "epoch", fields(six), "LINEAGE comes first.", "six", "seated"),
        refused("of an epoch that is over", "epoch", fields(five), "", "six", "knows the epoch before"),
    ]  # fmt: skip
    return cases, invalid


def _provisions() -> tuple[list[Document], list[Document]]:
    five, state, earlier = epoch("five"), rounds()[NAME].following, rounds()[NAME].state.digest

    def asked(**changes: Any) -> Said:
        return {"epoch": 1, "round": 2, "state_digest": state.digest, **changes}

    cases = [
        _said("ProvideState", "five", 1, "holds state_2", "who holds it", asked(), "It puts the sealed file.", key=file_key(five),
              sealed=sealed.file(file_key(five), state_file())),
        _said("ProvideState", "five", 1, "holds state_1", "who does not yet", asked(), "It says nothing.", key=None),
        _said("ProvideState", "five", 1, "holds state_2", "another state of it", asked(state_digest=bytes(32)), "", key=None),
        _said("ProvideState", "five", 1, "holds state_2", "the state before", asked(round=1, state_digest=earlier),
              "q have not signed state_2 yet.", key=file_key(five, 1)),
        _said("ProvideState", "five", 1, "holds state_2, certified", "the state before, later",
              asked(round=1, state_digest=earlier), "Its keys are erased.", key=None),
        _said("ProvideState", "five", 1, "holds state_2, certified", "who holds it, later", asked(), "The same file.",
              key=file_key(five), sealed=sealed.file(file_key(five), state_file())),
    ]  # fmt: skip
    invalid = [_said("ProvideState", "five", 1, "holds state_2", "in another epoch", asked(epoch=2), "", check="epoch")]
    return cases, invalid


def state_document() -> Document:
    whole = {"roster": epoch("five").roster(0), "confirmations": epoch("five").confirmed()}
    lineage = _said("Lineage", "six", 6, "seated", "of the epoch before", _short(whole))
    caught, refused = _catch_ups()
    provided, denied = _provisions()
    return {
        "section": "State",
        "comment": 'After round 1 of "five, attempt 1" in rounds.json. at: seated: it has made the setup (setup.json) and holds no '
        "state; knows the epoch before: and took LINEAGE; holds state_1; holds state_2: it took part and computed it; "
        "holds state_2, certified: and was shown the receipts, as in the CatchUp of one that holds it already. key: under "
        'which the file is sealed; null: the member does nothing. ref: as in setup.json, of "five".',
        "cases": [*_files(), lineage, *caught, *provided],
        "invalid": [*_lineages(), *refused, *denied],
    }
