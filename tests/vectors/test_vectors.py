"""The vectors are what the plain implementation makes, and the product does with each what it says, at every entry point."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation import sealing
from federation.errors import InvalidManifest, VerificationFailed
from federation.manifest.strategy import StrategySpec
from federation.privacy.noise import Noise, masses_of
from federation.privacy.terms import FigureNoise, Privacy
from federation.secagg import audit, boxes, merkle, proof, shamir, sum_mac, transcripts
from federation.secagg import encoding as codes
from federation.secagg.certificate import Announced, Ed25519Verifier
from federation.secagg.events import Mask, MaskPlan, TagPlan
from federation.secagg.header import Header
from federation.secagg.masking import UNSIGNED, Keystream
from federation.secagg.messages import Unmasked
from federation.secagg.opening import Sum, level_sum_bound, open_sum
from federation.secagg.parameters import Encoding, Quorums
from federation.secagg.suite import STANDARD
from federation.weights.state import ModelState, read_state, write_state
from tests.plain.attempt import Rules
from tests.plain.audit import audited
from tests.plain.sums import Refused
from tests.vectors import product
from tests.vectors.files import HERE, b, bench, bs, cases, fails, ints, load, message, referred, refuses, unhexed
from tests.vectors.generate import FORMAT, SUBJECTS, document
from tests.vectors.subjects.federations import JOB, LABEL, epoch, rounds
from tests.whole import added, encode, mean_of, outer_step, root_of


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_the_file_is_what_the_generator_makes(subject: str) -> None:
    assert (HERE / f"{subject}.json").read_text() == document(subject), "python -m tests.vectors.generate"


def test_every_file_has_a_subject_and_every_case_a_name() -> None:
    assert {path.stem for path in HERE.glob("*.json")} == set(SUBJECTS)
    for subject in SUBJECTS:
        found = load(subject)
        assert (found["format"], found["subject"]) == (FORMAT, subject)
        for part in ("cases", "invalid"):
            names = [case["name"] for case in found[part]]
            assert len(set(names)) == len(names), subject
        assert all("check" in case or "error" in case for case in found["invalid"])


# ----------------------------------------------------------------------------------------------------------- primitives


@cases("quorums")
def test_quorums(case: Any) -> None:
    found = Quorums.of(case["n"])
    assert (found.f, found.q, found.t, found.m) == (case["f"], case["q"], case["t"], case["m"])
    assert {str(bits): Encoding.level_bound_of(bits, found.n) for bits in (8, 16, 32)} == case["L"]


@cases("quorums", "invalid")
def test_no_quorums(case: Any) -> None:
    assert case["error"] == InvalidManifest.code
    fails(case, lambda: Quorums.of(case["n"]))


def typed(field: Any) -> Any:
    ((kind, value),) = field.items()
    return {
        "int": lambda: value,
        "text": lambda: value,
        "bytes": lambda: b(value),
        "list": lambda: [typed(each) for each in value],
    }[kind]()


@cases("transcripts")
def test_transcripts(case: Any) -> None:
    label, fields = case.get("label", case["name"]), [typed(each) for each in case["fields"]]
    text = transcripts.transcript(label, *fields)
    assert text == b(case["transcript"])
    assert transcripts.digest(label, *fields) == b(case["sha256"])
    found, parts = transcripts.fields_of(text)
    assert (found, len(parts)) == (label, len(fields))


@cases("transcripts", "invalid")
def test_no_transcripts(case: Any) -> None:
    fails(case, lambda: transcripts.fields_of(b(case["transcript"])))


@cases("shares")
def test_shares(case: Any) -> None:
    draws, secret = iter(bs(case["coefficient draws"])), b(case["secret"])
    shares = {each["holder"]: b(each["share"]) for each in case["shares"]}
    assert shamir.split(secret, case["threshold"], list(shares), lambda size: next(draws)) == shares
    for first in range(len(shares) - case["threshold"] + 1):
        some = dict(list(shares.items())[first : first + case["threshold"]])
        assert shamir.rebuild(some) == secret


@cases("shares", "invalid")
def test_no_shares(case: Any) -> None:
    fails(case, lambda: shamir.rebuild({each["holder"]: b(each["share"]) for each in case["shares"]}))


@cases("keystreams")
def test_keystreams(case: Any) -> None:
    stream = Keystream(80, case["cipher"]).fill(b(case["seed"]), int(case["index"]), 80)
    assert stream.tobytes() == b(case["keystream"])
    for bits, words in case["words"].items():
        assert stream.view(UNSIGNED[int(bits)])[:3].tolist() == ints(words)


@cases("merkle")
def test_trees(case: Any) -> None:
    tree, leaves = merkle.MerkleRoot(), bs(case["leaves"])
    for leaf in leaves:
        tree.add(leaf)
    assert tree.root() == b(case["root"])
    for place, path in enumerate(case["paths"]):
        assert list(merkle.path_of([merkle.leaf_hash(leaf) for leaf in leaves], place)) == bs(path)
        assert merkle.root_from_path(leaves[place], place, len(leaves), bs(path)) == tree.root()


@cases("merkle", "invalid")
def test_no_paths(case: Any) -> None:
    assert merkle.root_from_path(b(case["leaf"]), case["place"], case["leaves"], bs(case["path"])) != b(case["root"])


# -------------------------------------------------------------------------------------------------------------- numbers


def chunk(case: Any) -> tuple[Any, Encoding, np.ndarray, Any]:
    """An encoder that is led to the case's chunk: chunks before it are zero."""
    terms = product.terms_of(bytes(32), Rules(case["bits"], 1, (), 8, False, case["cipher"]))
    code = codes.encoding_of(terms, case["n"], case["w_unit"])
    index = case.get("index", 0)
    data = np.concatenate([np.zeros(8 * index, np.float32), np.frombuffer(b(case["difference"]), "<f4")])
    plan = MaskPlan(bytes(32), (), b(case["dither"]), case["cipher"])
    scales = np.full(index + 1, case["exponent"], np.int8)
    return terms, code, data, encode(data, Header.of(terms, case["weight"], 0.0, {}), plan, code, scales)


@cases("levels")
def test_levels(case: Any) -> None:
    _, code, _, encode = chunk(case)
    pieces = list(encode)
    assert code.level_bound == case["L"]
    found = np.frombuffer(pieces[case["index"]], f"<i{case['bits'] // 8}")
    assert found.tolist() == case["levels"]
    assert int(np.frombuffer(pieces[-1], "<i8")[2]) == case["saturated"]


@cases("levels", "invalid")
def test_no_levels(case: Any) -> None:
    with np.errstate(over="ignore"):
        fails(case, lambda: list(chunk(case)[3]))


@cases("headers")
def test_headers(case: Any) -> None:
    def number(text: str) -> float:
        return float(struct.unpack("<d", b(text))[0])

    terms = product.terms_of(bytes(32), Rules(16, case["clip norm"], tuple(case["metrics"]), 4))
    figures = {name: number(value) for name, value in case["figures"].items()}
    header = Header.of(terms, case["weight"], number(case["squared norm"]), figures)
    words = header.words(codes.encoding_of(terms, 5, case["w_unit"]), case["saturated"])
    assert words.tolist() == case["words"]


@cases("sum_mac")
def test_sum_macs(case: Any) -> None:
    mac = sum_mac.SumMac(b(case["key"]), case["longest"])
    for index, levels in enumerate(case["chunks"]):
        mac.add_rows(index, [np.array(levels, f"<i{case['bits'] // 8}")])
    mac.add_header(ints(case["header"]))
    assert list(mac.tag) == ints(case["tag"])
    pad = sum_mac.pad_of(b(case["pad seed"]))
    assert list(pad) == ints(case["pad"])
    assert sum_mac.words_of(mac.tag, pad) == case["words"]
    assert sum_mac.agrees(mac.tag, case["words"], [b(case["pad seed"])])


# ----------------------------------------------------------------------------------------------------------------- keys


@cases("keys")
def test_keys(case: Any) -> None:
    kind = case["kind"]
    if kind == "public":
        assert STANDARD.public(b(case["private"])) == (b(case["exchange_key"]), b(case["kem_key"]))
        return
    made: dict[str, Callable[[], bytes]] = {
        "agree": lambda: STANDARD.agree(b(case["private"]), b(case["exchange_key"])),
        "decapsulate": lambda: STANDARD.decapsulate(b(case["private"]), b(case["ciphertext"])),
        "pair": lambda: boxes.pair_root(
            STANDARD, b(case["agreed"]), b(case["encapsulated"]), b(case["roster_hash"]), case["other"], case["one"]
        ),
        "group": lambda: boxes.group_key(STANDARD, bs(case["parts"]), b(case["roster_hash"])),
        "nonce-hash": lambda: transcripts.nonce_hash(b(case["job"]), case["member"], b(case["secret"])),
        "part-hash": lambda: transcripts.group_part_hash(b(case["job"]), case["member"], b(case["secret"])),
        "beacon": lambda: transcripts.beacon(b(case["roster_hash"]), bs(case["nonces"])),
        "group-hash": lambda: transcripts.group_key_hash(b(case["key"])),
        "expand": lambda: expanded(case),
    }
    assert made[kind]() == b(case["out"])


def expanded(case: Any) -> bytes:
    """By the function that makes this key, from the fields of its info; and by HKDF itself."""
    key, info = b(case["key"]), b(case["info"])
    label, fields = transcripts.fields_of(info)
    assert label == case["of"]
    by_hand = STANDARD.expand(key, info)

    def number(place: int) -> int:
        return int.from_bytes(fields[place], "big")

    made: dict[str, Callable[[], bytes]] = {
        "ratchet": lambda: boxes.ratchet(STANDARD, key, number(0)),
        "mask": lambda: boxes.mask_seed(STANDARD, key, fields[0]),
        "blind": lambda: boxes.blind_seed(STANDARD, key, fields[0], number(1)),
        "tag": lambda: boxes.tag_key(STANDARD, key, fields[0]),
        "pad": lambda: boxes.tag_pad(STANDARD, key, fields[0], number(1)),
        "box": lambda: boxes._box_key(STANDARD, key, fields[0], number(1), number(2)),
        "part": lambda: boxes._part_key(STANDARD, key, number(0), number(1)),
        "state-file": lambda: boxes.state_key(STANDARD, key, fields[0]),
    }
    assert made[label]() == by_hand
    return by_hand


@cases("keys", "invalid")
def test_no_keys(case: Any) -> None:
    """At the ciphers; as a roster that holds such a key is refused by name in test_refused_setups."""
    made: dict[str, Callable[[], Any]] = {
        "agree": lambda: STANDARD.agree(b(case["private"]), b(case["exchange_key"])),
        "encapsulate": lambda: STANDARD.encapsulate(b(case["kem_key"])),
    }
    with pytest.raises(ValueError):
        made[case["kind"]]()


@cases("boxes")
def test_boxes(case: Any) -> None:
    root, owner, holder = b(case["root"]), case["owner"], case["holder"]
    if case["kind"] == "part":
        roster, part = b(case["roster_hash"]), b(case["part"])
        assert boxes.seal_part(STANDARD, root, roster, owner, holder, part) == b(case["ciphertext"])
        assert boxes.unseal_part(STANDARD, root, roster, owner, holder, b(case["ciphertext"])) == part
        return
    ctx, edges, shares = b(case["context"]), case["edges"], bs(case["shares"])
    assert boxes.seal(STANDARD, root, ctx, owner, holder, edges, shares) == b(case["ciphertext"])
    assert boxes.unseal(STANDARD, root, ctx, owner, holder, edges, b(case["ciphertext"])) == tuple(shares)


@cases("boxes", "invalid")
def test_no_boxes(case: Any) -> None:
    root, owner, holder, sealed = b(case["root"]), case["owner"], case["holder"], b(case["ciphertext"])
    if case["kind"] == "part":
        fails(case, lambda: boxes.unseal_part(STANDARD, root, b(case["roster_hash"]), owner, holder, sealed))
    else:
        fails(case, lambda: boxes.unseal(STANDARD, root, b(case["context"]), owner, holder, case["edges"], sealed))


# -------------------------------------------------------------------------------------------------------------- sealing


@cases("sealing")
def test_sealed_files(case: Any) -> None:
    key, file, sealed = b(case["key"]), b(case["file"]), b(case["sealed"])
    salt = sealing.salt_of(key, product.blob(file))
    assert b"".join(sealing.seal(key, salt, [file])) == sealed
    assert b"".join(sealing.unseal(key, [sealed])) == file
    if "recipients" not in case:
        return
    purpose = sealing.release_purpose(JOB, b(case["state_digest"]))
    assert purpose == b(case["purpose"])
    for said in case["sealings"]:
        for place, recipient in enumerate(case["recipients"]):
            assert sealing.recipient_key(b(recipient["private"])) == b(recipient["public"])
            assert sealing.unwrap(b(recipient["private"]), b(said["wrapped"][place]), purpose) == key
    sealings = [message("Sealing", said) for said in case["sealings"]]
    assert bench(case["setup"]).check_sealings(sealings, b(case["state_digest"]), 2) == product.blob(sealed)


@cases("sealing", "invalid")
def test_no_sealed_files(case: Any) -> None:
    if case["kind"] == "file":
        assert case["error"] == VerificationFailed.code
        fails(case, lambda: b"".join(sealing.unseal(b(case["key"]), [b(case["sealed"])])))
    elif case["kind"] == "wrapped":
        fails(case, lambda: sealing.unwrap(b(case["private"]), b(case["wrapped"]), b(case["purpose"])))
    else:
        said = [message("Sealing", each) for each in case["sealings"]]
        fails(case, lambda: bench(case["setup"]).check_sealings(said, b(case["state_digest"]), case["recipients"]))


# ---------------------------------------------------------------------------------------------------- setups and rounds


@cases("setup")
def test_setups(case: Any) -> None:
    """Every member's machine draws the given bytes and says the given messages."""
    made = epoch(case["name"])
    terms = product.terms_of(b(case["job"]), rounds()["three"].attempt.rules)
    for index, member in enumerate(case["members"], start=1):
        lab = product.Lab(made, index, terms, f"{LABEL}/{case['name']}")
        drawn = [b(member["private"]), b(member["nonce"]), b(member["part"])]
        lab.draws = lambda size, left=drawn: left.pop(0)  # type: ignore[assignment, misc]
        said = lab.setup()
        lists = ("keys", "encapsulations", "signatures", "openings", "confirmations")
        kinds = ("KeyMessage", "Encapsulation", "RosterSignature", "Opening", "Confirmation")
        assert [product.sent(each) for _, each in said] == [
            product.sent(message(kind, case[name][index - 1])) for kind, name in zip(kinds, lists, strict=True)
        ]
        assert lab.machine.position.roster_hash == b(case["roster_hash"])
    assert bench(case["name"]).quorums == Quorums.of(len(case["members"]))


SETUP = ("Form", "Candidates", "Roster", "RosterCertificate", "Openings", "Confirmations")


@cases("setup", "invalid")
def test_refused_setups(case: Any) -> None:
    made = epoch(case["setup"])
    terms = product.terms_of(JOB, rounds()["three"].attempt.rules)
    lab = product.Lab(made, case["member"], terms, f"{LABEL}/{case['setup']}")
    source = next(each for each in load("setup")["cases"] if each["name"] == case["setup"])
    told = {
        "Form": made.form(),
        "Candidates": made.candidates(),
        "Roster": made.roster(case["member"]),
        "RosterCertificate": made.certificate(),
        "Openings": made.opened_for(case["member"]),
    }
    if "candidates" in case:
        told["Candidates"] = unhexed(referred(case["candidates"], source), "Candidates")
    last = case["after"] or SETUP[SETUP.index(case["kind"]) - 1]
    for kind in SETUP[: SETUP.index(last) + 1]:
        lab.told(kind, told[kind])
    refuses(lab, message(case["kind"], referred(case["fields"], source)), case["check"])


@cases("rounds")
def test_rounds(case: Any) -> None:
    """The encoder, the trailer, the unmasking and the next state, from the file's bytes alone."""
    rules = case["rules"]
    plain = Rules(
        rules["ringBits"], rules["clipNorm"], tuple(rules["metrics"]), rules["chunkParameters"],
        rules["coordinatorView"] == "blind", rules["cipher"], rules["minScaleExponent"], rules["maxScaleExponent"],
    )  # fmt: skip
    made, terms = epoch(case["setup"]), product.terms_of(JOB, plain)
    seats, ctx = bench(case["setup"]), b(case["context"])
    state = product.state_of(case["state"]["round"], b(case["state"]["weights"]), case["state"]["scales"])
    assert state.digest() == b(case["state"]["digest"])
    fields = (JOB, 1, seats.roster_hash, case["ready"], case["round"], case["attempt"], state.digest())
    assert transcripts.context(*fields) == ctx
    code = codes.encoding_of(terms, made.n, made.unit)
    scales = np.array(case["state"]["scales"], np.int8)
    updates = {}
    for member, said in zip(case["members"], case["uploads"], strict=True):
        masks = tuple(mask_of(each) for each in member["masks"])
        tag = tag_of(b(case["tag key"]), [b(member["pad seed"])])
        plan = MaskPlan(ctx, masks, b(member["dither"]), plain.cipher, tag)
        weight = made.members[member["index"] - 1].weight
        figures = {name: struct.unpack("<d", b(value))[0] for name, value in member["figures"].items()}
        header = Header.of(terms, weight, struct.unpack("<d", b(member["squared norm"]))[0], figures)
        difference = np.frombuffer(b(member["difference"]), "<f4").copy()
        pieces = list(encode(difference, header, plan, code, scales))
        assert [piece.hex() for piece in pieces] == member["chunks"]
        updates[member["index"]] = b"".join(pieces)
        assert root_of(updates[member["index"]], terms, code) == b(said["root"])
        upload = message("Upload", said)
        assert transcripts.trailer_hash(upload.trailer) == b(member["trailer_hash"])
        seats.check_upload(
            upload, Announced(case["round"], case["attempt"], ctx, state.digest(), tuple(case["ready"]), {})
        )
    survivors = message("Survivors", case["survivors"])
    assert transcripts.survivors_digest(survivors) == b(case["survivors_digest"])
    unmask = MaskPlan(ctx, tuple(mask_of(each) for each in case["unmasking"]), b"", plain.cipher)
    assert added([updates[index] for index in case["cohort"]], terms, code, unmask) == b(case["sum"])
    found = opened(case["name"], b(case["sum"]))
    assert [part.tolist() for part in found.chunks()] == case["opened"]["levels"]
    assert list(found.header) == ints(case["opened"]["header"])
    assert mean_of(found, scales).tobytes() == b(case["mean"])
    moved = product.next_scales(scales, found, len(case["cohort"]), code.level_bound, terms)
    following = product.stepped(state, mean_of(found, scales), moved)
    assert following.scales.tolist() == case["next"]["scales"]
    assert following.arrays["weights"].tobytes() == b(case["next"]["weights"])
    assert following.digest() == b(case["next"]["digest"])
    assert (
        seats.check_receipts([message("Receipt", said) for said in case["after"]], case["round"]) == following.digest()
    )


def mask_of(mask: Any) -> Any:
    return Mask(b(mask["seed"]), mask["sign"])


def tag_of(key: bytes, pads: list[bytes]) -> Any:
    return TagPlan(key, tuple(pads))


def opened(name: str, data: bytes) -> Sum:
    """As a member of the round reads it."""
    attempt = rounds()[name].attempt
    terms, made = product.terms_of(JOB, attempt.rules), attempt.epoch
    code = codes.encoding_of(terms, made.n, made.unit)
    masks = tuple(mask_of({"seed": seed.hex(), "sign": -1}) for seed in attempt.blinds)
    tag = tag_of(attempt.tag_key, [attempt.pads[index] for index in attempt.cohort])
    plan = MaskPlan(attempt.context, masks, b"", attempt.rules.cipher, tag)
    return open_sum(data, plan, terms, code, len(attempt.cohort), attempt.weight, attempt.parameters)


@cases("strategies")
def test_strategies(case: Any) -> None:
    state, spec = product.form_of(case), StrategySpec(case["strategy"], case["parameters"])
    assert state.digest() == b(case["state"]["digest"])
    for each in case["rounds"]:
        after = each["next"]
        state = outer_step(spec, state, np.frombuffer(b(each["mean"]), "<f8"), np.array(after["scales"], np.int8))
        assert state.round == after["round"]
        for found, told in ((state.arrays, after["arrays"]), (state.optimiser, after["optimiser"])):
            assert [(name, array.tobytes()) for name, array in found.items()] == [
                (array["name"], b(array["data"])) for array in told
            ]
        assert state.digest() == b(after["digest"])


@cases("states", kind="file")
def test_files_of_states(case: Any, tmp_path: Path) -> None:
    def arrays(entries: Any) -> dict[str, Any]:
        return {each["name"]: np.frombuffer(b(each["data"]), each["type"]).reshape(each["shape"]) for each in entries}

    state = ModelState(
        case["round"], arrays(case["form"]), arrays(case["optimiser"]), np.array(case["scales"], np.int8)
    )
    write_state(tmp_path / "state", state)
    assert (tmp_path / "state").read_bytes() == b(case["file"])
    assert read_state(tmp_path / "state").digest() == state.digest()


@cases("sums")
def test_sums(case: Any) -> None:
    found = opened(case["round"], b(case["sum"]))
    assert [level for part in found.chunks() for level in part.tolist()] == case["levels"]


@cases("sums", "invalid")
def test_no_sums(case: Any) -> None:
    fails(case, lambda: opened(case["round"], b(case["sum"])))
    with pytest.raises(Refused, match=case["check"]):
        rounds()[case["round"]].attempt.opened(b(case["sum"]))


# ---------------------------------------------------------------------------------------------------------------- noise


def number(text: str) -> float:
    (value,) = struct.unpack("<d", b(text))
    return value


def noisy(case: Any) -> tuple[Any, Encoding]:
    """What the job of a case fixes."""
    figures = case.get("figure bound")
    noise = None if figures is None else FigureNoise(case["figure multiplier"], figures)
    privacy = Privacy(case.get("mechanism", "skellam"), "member", case["noise multiplier"], 1.0, 1e-6, noise)
    metrics, chunk = tuple(case.get("metrics", ())), case.get("chunkParameters", 1 << 16)
    rules = Rules(case["bits"], 1, metrics, chunk, False, lowest=case["exponent"], highest=case["exponent"])
    terms = replace(product.terms_of(bytes(32), rules), privacy=privacy, clip_norm=float(case["clip norm"]))
    return terms, codes.encoding_of(terms, case["n"], case.get("w_unit", 1))


@cases("noise", kind="variance")
def test_how_much_noise(case: Any) -> None:
    """In float64, within some last bits: each member adds its own, and nobody recomputes it."""
    _, code = noisy(case)
    assert code.sensitivity(case["parameters"]) == pytest.approx(number(case["Delta"]), rel=1e-14)
    assert code.noise_variance(case["parameters"]) == pytest.approx(number(case["variance"]), rel=1e-14)
    assert code.level_bound == case["L"]
    assert level_sum_bound(code, case["n"], case["parameters"]) == case["bound of a sum of n"]


@cases("noise", kind="draw")
def test_noise(case: Any) -> None:
    variance, index = number(case["variance"]), int(case["index"])
    found = Noise(case["mechanism"], variance, b(case["key"])).draw(index, case["count"])
    assert [[place, int(found[place])] for place, _ in case["values"]] == case["values"]
    assert hashlib.sha256(found.astype("<i8").tobytes()).hexdigest() == case["sha256"]
    masses, zero = masses_of(case["mechanism"], variance), case["reach"]
    assert len(masses) == 2 * zero + 1
    assert masses[zero : zero + 2] == ints(case["masses of 0 and 1"])


def contributed(case: Any) -> list[bytes]:
    """A member's update without masks, as its agent makes it."""
    terms, code = noisy(case)
    difference = np.frombuffer(b(case["difference"]), "<f4")
    scales = np.full(code.chunks(difference.size), case["exponent"], np.int8)
    figures = {name: number(text) for name, text in (case["figures"] or {}).items()}
    plan = MaskPlan(bytes(32), (), b(case["dither"]))
    held = codes.settled_dither(difference, case["weight"], plan, code, scales)
    noises = codes.noises_of(terms, code, plan, difference.size)
    return list(encode(difference, Header.of(terms, case["weight"], 0.0, figures), held, code, scales, *noises))


@cases("noise", kind="member")
def test_what_a_member_sends_with_noise(case: Any) -> None:
    pieces = contributed(case)
    assert [piece.hex() for piece in pieces[:-1]] == case["chunks"]
    assert np.frombuffer(pieces[-1], "<i8")[:-4].tolist() == ints(case["header"])


@cases("noise", "invalid", kind="variance")
def test_no_such_noise(case: Any) -> None:
    _, code = noisy(case)
    fails(case, lambda: Noise(case["mechanism"], code.noise_variance(case["parameters"]), bytes(32)))


@cases("noise", "invalid", kind="member")
def test_nothing_is_sent(case: Any) -> None:
    fails(case, lambda: contributed(case))


# ---------------------------------------------------------------------------------------------------------------- audit


def look(case: Any) -> None:
    attempt = rounds()[case["round"]].attempt
    terms = product.terms_of(JOB, attempt.rules)
    code = codes.encoding_of(terms, attempt.epoch.n, attempt.epoch.unit)
    total = b(case["sum"]) if "sum" in case else attempt.sum
    fetch = product.fetched(attempt, terms)
    source = next(each for each in load("rounds")["cases"] if each["name"] == case["round"])
    parts = []
    for part in referred(case["shown"], source):
        reveal = None if part["reveal"] is None else message("Reveal", part["reveal"])
        upload = None if part["upload"] is None else message("Upload", part["upload"])
        seeds = tuple((each["peer"], b(each["seed"])) for each in part["seeds"])
        parts.append(
            audit.Shown(Unmasked(part["index"], reveal, upload, seeds), b(part["data"]), tuple(bs(part["path"])))
        )
    place = audit.Place.of(case["place"], len(total), terms, code)
    audit.check_audit(bench(source["setup"]), fetch, terms, code, place, parts, total)


def plainly_looked(case: Any) -> None:
    attempt = rounds()[case["round"]].attempt
    source = next(each for each in load("rounds")["cases"] if each["name"] == case["round"])
    parts = []
    for part in referred(case["shown"], source):
        reveal = None if part["reveal"] is None else unhexed(part["reveal"], "Reveal")
        upload = None if part["upload"] is None else unhexed(part["upload"], "Upload")
        seeds = [{"peer": each["peer"], "seed": b(each["seed"])} for each in part["seeds"]]
        parts.append(
            {
                **part,
                "data": b(part["data"]),
                "path": bs(part["path"]),
                "reveal": reveal,
                "upload": upload,
                "seeds": seeds,
            }
        )
    audited(attempt, case["place"], parts, b(case["sum"]) if "sum" in case else attempt.sum)


@cases("audits")
def test_audits(case: Any) -> None:
    look(case)
    plainly_looked(case)


@cases("audits", "invalid")
def test_no_audits(case: Any) -> None:
    fails(case, lambda: look(case))
    if case["check"] != "signature":
        with pytest.raises(Refused, match=case["check"]):
            plainly_looked(case)


# ---------------------------------------------------------------------------------------------------------- convictions


def convicted(text: str) -> proof.Proof:
    found = proof.read(text.encode())
    found.check(Ed25519Verifier())
    return found


@cases("convictions")
def test_convictions(case: Any) -> None:
    found, seats = convicted(case["file"]), bench("three")
    assert found.to_bytes() == case["file"].encode()
    assert found.identity_key == b(case["identity key"])
    ctx = rounds()[case["round"]].attempt.context
    assert proof.convicted(found, seats.seats, ctx, Ed25519Verifier()) == case["convicted"]
    with pytest.raises(VerificationFailed):
        proof.convicted(found, seats.seats, bytes(32), Ed25519Verifier())


@cases("convictions", "invalid")
def test_no_convictions(case: Any) -> None:
    fails(case, lambda: convicted(case["file"]))


# ----------------------------------------------------------------------------------------------------------------- wire


@cases("wire")
def test_wire(case: Any) -> None:
    found = product.read(case["kind"], b(case["wire"]))
    assert product.sent(found) == b(case["wire"])
    assert message(case["kind"], case["fields"]) == found


@cases("wire", "invalid")
def test_no_wire(case: Any) -> None:
    fails(case, lambda: product.read(case["kind"], b(case["wire"])))
