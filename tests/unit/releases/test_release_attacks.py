"""What a coordinator, a mirror or a thief could do to a release, by name. Anybody can sign a listing anew: ``relisted``."""

import base64
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidIdentity
from federation.identity.consent import BY_RULE, Binding, Outputs, open_consent
from federation.identity.envelope import canonical, open_envelope, seal
from federation.identity.keys import SigningKey
from federation.releases import evidence
from federation.releases.listing import (
    CARD,
    CONFIG,
    LISTING,
    MANIFEST,
    MODEL,
    ROLL,
    ROSTER,
    STATE,
    TASK,
)
from federation.releases.model import model_pieces, state_pieces
from federation.releases.verify import verify
from federation.secagg import transcripts
from federation.secagg.messages import Abort, Void
from tests.unit.releases.released import Files, Training, founded, identity, relisted, trained, whole


@cache
def _released(federation: str = "health", nonce: int = 0, members: int = 3) -> Mapping[str, bytes]:
    with TemporaryDirectory() as folder:
        return whole(trained(federation, nonce, members).release(Path(folder)))


def released(federation: str = "health", nonce: int = 0, members: int = 3) -> Files:
    return dict(_released(federation, nonce, members))


def failed(files: Mapping[str, bytes], trusted: bytes | None = None) -> set[str]:
    return {check.name for check in verify(files, trusted).checks if not check.ok}


def words(files: Mapping[str, bytes], name: str, trusted: bytes | None = None) -> str:
    return next(check.detail for check in verify(files, trusted).checks if check.name == name and not check.ok)


def a_round(files: Mapping[str, bytes], number: int) -> evidence.SignedRound:
    return evidence.decode(files[f"rounds/{number}.json"], evidence.SignedRound)


def with_round(files: Files, number: int, signed: evidence.SignedRound) -> Files:
    return relisted(files | {f"rounds/{number}.json": evidence.encode(signed)})


# ------------------------------------------------------------------------------------------------------------ any byte


def test_any_altered_byte_of_any_file_shows_whoever_signs_the_list() -> None:
    """Not by the listing: each file has a check of its own, which fails for what the members did not sign."""
    files, draw = released(), random.Random(7)
    for path in sorted(set(files) - {LISTING, CONFIG}):
        places = {0, len(files[path]) - 1, *draw.choices(range(len(files[path])), k=16)}
        for place in sorted(places):
            altered = bytearray(files[path])
            altered[place] ^= 1 << draw.randrange(8)
            found = failed(files | {path: bytes(altered)})
            assert "files" in found
            assert found - {"files", "listing"}, (path, place)


def test_every_single_byte_of_a_consent_counts() -> None:
    data, credential = released()["consents/m1.json"], founded().credentials["m1"]
    open_consent(data, credential)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 0x01
        with pytest.raises(InvalidIdentity):
            open_consent(bytes(altered), credential)


def test_an_altered_config_shows_by_its_digest_even_where_it_holds_only_the_coordinators_word() -> None:
    files = released()
    for place in range(0, len(files[CONFIG]), 17):
        altered = bytearray(files[CONFIG])
        altered[place] ^= 0x01
        assert "files" in failed(files | {CONFIG: bytes(altered)}), place


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_an_altered_listing_shows(data: st.DataObject) -> None:
    files = released()
    place = data.draw(st.integers(0, len(files[LISTING]) - 1))
    altered = bytearray(files[LISTING])
    altered[place] ^= 1 << data.draw(st.integers(0, 7))
    assert failed(files | {LISTING: bytes(altered)}) & {"listing", "files"}


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_whatever_the_bytes_are_the_verifier_answers(data: st.DataObject) -> None:
    files = released()
    path = data.draw(st.sampled_from(sorted(files)))
    junk = data.draw(
        st.binary(max_size=200)
        | st.sampled_from(
            [b"", b"{}", b"[]", b"null", b"1e999", b"[" * 5000, b"\xff\xfe", b'{"a":1,"a":1}', b"9" * 5000]
        )
        | st.integers(0, len(files[path])).map(lambda end: files[path][:end])
    )
    if junk != files[path]:
        report = verify(relisted(files | {path: junk}) if path != LISTING else files | {path: junk})
        assert not report.ok
        assert all(check.detail and "Traceback" not in check.detail for check in report.checks)


# ----------------------------------------------------------------------------------------------------- files as a whole


def test_a_removed_file_shows() -> None:
    files = released()
    for path in files:
        less = {name: data for name, data in files.items() if name != path}
        assert failed(less) & {"listing", "files"}, path
        if path != LISTING:
            assert failed(relisted(less)) - {"listing", "files"}, path


@pytest.mark.parametrize(
    "path", ["notes.txt", "consents/zz.json", "rounds/4.json", "rounds/01.json", "../x", "a/README.md"]
)
def test_an_added_file_shows(path: str) -> None:
    files = released()
    assert "files" in failed(files | {path: b"{}"})
    assert failed(relisted(files | {path: b"{}"}))


def test_an_empty_folder_is_no_release() -> None:
    assert not verify({}).ok


def test_a_good_release_signed_anew_by_a_stranger_is_still_what_the_members_signed() -> None:
    """The listing carries no trust, so it can take none away."""
    assert not failed(relisted(released()))


# ----------------------------------------------------------------------------------------------------------- encodings


def slack(data: bytes) -> bytes:
    """The same bytes in base64 whose last digit has bits that count for nothing."""
    envelope = json.loads(data)
    for entry in envelope["signatures"]:
        text = entry["sig"]
        digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        entry["sig"] = text[:-3] + digits[digits.index(text[-3]) + 1] + text[-2:]
        assert base64.b64decode(entry["sig"]) == base64.b64decode(text)
    return canonical(envelope)


@pytest.mark.parametrize(("path", "check"), [(ROLL, "roll"), (MANIFEST, "manifest"), ("consents/m2.json", "consents")])
def test_base64_slack_is_refused(path: str, check: str) -> None:
    files = released()
    assert check in failed(relisted(files | {path: slack(files[path])}))


def backwards(value: Any) -> Any:
    """Every object's fields in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", [ROLL, MANIFEST, ROSTER, CONFIG, "consents/m1.json", "rounds/1.json", "rounds/3.json"])
@pytest.mark.parametrize(
    "rewrite",
    [
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: data.replace(b'":', b'": ', 1),
        lambda data: json.dumps(backwards(json.loads(data)), separators=(",", ":")).encode(),
        lambda data: data[:-1] + b',"zz":0}',
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
    ],
    ids=["line break", "space before", "space within", "other order", "one more field", "byte order mark", "utf-16"],
)
def test_rewritten_json_is_refused(path: str, rewrite: Callable[[bytes], bytes]) -> None:
    files = released()
    assert failed(relisted(files | {path: rewrite(files[path])}))


def test_hex_in_capitals_is_refused() -> None:
    files = released()
    document = json.loads(files["rounds/1.json"])
    document["certificate"]["survivors"]["context"] = document["certificate"]["survivors"]["context"].upper()
    assert "lower-case hex" in words(relisted(files | {"rounds/1.json": canonical(document)}), "rounds")


# ------------------------------------------------------------------------------------------------------------- the roll


def test_a_whole_release_of_another_federation_is_not_the_trusted_one() -> None:
    other = released("other")
    assert not failed(other), "sound in itself"
    assert failed(other, founded().roll.envelope) >= {"roll", "manifest", "rounds", "model"}


def test_a_roll_with_a_signature_missing() -> None:
    files, parties = released(), founded()
    document = open_envelope(files[ROLL], "roll").document
    less = seal(document, "roll", tuple(parties.officers.values())[:2])
    assert "not signed by m3" in words(relisted(files | {ROLL: less}), "roll")
    extra = seal(document, "roll", (*parties.officers.values(), SigningKey.generate()))
    assert "stranger" in words(relisted(files | {ROLL: extra}), "roll")


# -------------------------------------------------------------------------------------------- the job, the task, consents


def test_a_manifest_that_the_lead_did_not_sign() -> None:
    files = released()
    document = open_envelope(files[MANIFEST], "manifest").document
    assert "manifest" in failed(relisted(files | {MANIFEST: seal(document, "manifest", (SigningKey.generate(),))}))


def test_another_job_of_the_same_lead() -> None:
    files, other = released(), released(nonce=1)
    assert failed(relisted(files | {MANIFEST: other[MANIFEST]})) >= {"roster", "consents", "rounds"}


def test_another_task() -> None:
    files = released()
    assert "task" in failed(relisted(files | {TASK: files[TASK].replace(b"app = None", b"app = Evil")}))


def test_swapped_consents() -> None:
    files = released()
    first, second = files["consents/m1.json"], files["consents/m2.json"]
    assert "consents" in failed(relisted(files | {"consents/m1.json": second, "consents/m2.json": first}))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"job": b"\1" * 32}, "another job"),
        ({"granted": False, "weight": 0}, "did not consent"),
        ({"weight": 8}, "counted for"),
        ({"data_set": "faces"}, "another data set"),
        ({"member": "m2"}, "another node"),
        ({"node": "other"}, "another node"),
    ],
)
def test_a_consent_to_something_else(changes: dict[str, Any], text: str) -> None:
    files = released()
    altered = relisted(files | {"consents/m1.json": trained().consent("m1", **changes)})
    assert text in words(altered, "consents")


def test_a_consent_that_rests_on_a_roll_of_others() -> None:
    """Whoever granted by it was shown other members, or other rules."""
    files, world = released(), trained()
    for roll, fails in ((world.parties.roll.digest, False), (bytes(32), True)):
        binds = Binding((("digits", bytes(32)),), bytes(32), roll, (), Outputs("sum", "", ()), b"")
        altered = relisted(files | {"consents/m1.json": world.consent("m1", binds=binds, given=BY_RULE)})
        assert ("consents" in failed(altered)) is fails
    assert "rests on another roll" in words(altered, "consents")


# ----------------------------------------------------------------------------------------------------------- the roster


def test_a_roster_of_another_federation() -> None:
    files, other = released(), released("other")
    assert "no officer on the roll signed" in words(relisted(files | {ROSTER: other[ROSTER]}), "roster")


def the_roster(files: Mapping[str, bytes]) -> evidence.SignedRoster:
    (only,) = evidence.decode(files[ROSTER], evidence.SignedRosters).epochs
    return only


def with_roster(files: dict[str, bytes], *epochs: evidence.SignedRoster) -> dict[str, bytes]:
    return relisted(files | {ROSTER: evidence.encode(evidence.SignedRosters(epochs))})


def test_a_roster_that_not_everybody_signed() -> None:
    files = released()
    signed = the_roster(files)
    less = replace(signed.certificate, signatures=signed.certificate.signatures[:2])
    assert "Not every member" in words(with_roster(files, replace(signed, certificate=less)), "roster")


def test_a_roster_without_one_of_its_members() -> None:
    files = released(members=4)
    signed = the_roster(files)
    shorter = replace(signed.roster, keys=signed.roster.keys[:3], encapsulations=signed.roster.encapsulations[:3])
    less = replace(signed.certificate, signatures=signed.certificate.signatures[:3])
    found = words(with_roster(files, evidence.SignedRoster(shorter, less)), "roster")
    assert "another list of keys" in found


def test_an_altered_encapsulation() -> None:
    files = released()
    signed = the_roster(files)
    first, *rest = signed.roster.encapsulations
    other = replace(signed.roster, encapsulations=(replace(first, hashes=(b"\1" * 32,) * 2), *rest))
    assert "not signed by m1" in words(with_roster(files, replace(signed, roster=other)), "roster")


def test_no_roster_at_all_and_one_twice() -> None:
    files = released()
    signed = the_roster(files)
    assert "holds no roster" in words(with_roster(files), "roster")
    assert "epochs 1, 2" in words(with_roster(files, signed, signed), "roster")


# ----------------------------------------------------------------------------------------------------------- the rounds


def test_a_removed_last_round() -> None:
    files = released()
    del files["rounds/3.json"]
    assert "lacks rounds/3.json" in words(relisted(files), "rounds")


def test_rounds_in_another_order() -> None:
    files = released()
    swapped = files | {"rounds/1.json": files["rounds/2.json"], "rounds/2.json": files["rounds/1.json"]}
    assert "the file holds round 2" in words(relisted(swapped), "rounds")


def test_too_few_acks() -> None:
    signed = a_round(released(), 1)
    for kept in (0, 1):
        less = replace(signed, certificate=replace(signed.certificate, acks=signed.certificate.acks[:kept]))
        assert "ACKs do not certify" in words(with_round(released(), 1, less), "rounds")


def test_one_ack_counted_twice() -> None:
    files = released()
    document = json.loads(files["rounds/1.json"])
    document["certificate"]["acks"] = [document["certificate"]["acks"][0]] * 2
    assert "rounds" in failed(relisted(files | {"rounds/1.json": canonical(document)}))


def test_too_few_receipts() -> None:
    signed = a_round(released(), 3)
    for kept in (0, 1):
        less = replace(signed, receipts=signed.receipts[:kept])
        assert "receipts do not certify" in words(with_round(released(), 3, less), "rounds")


def test_a_smaller_cohort_under_the_same_acks() -> None:
    files = released(members=4)
    signed = a_round(files, 1)
    survivors = replace(signed.certificate.survivors, entries=signed.certificate.survivors.entries[:3])
    less = replace(signed, certificate=replace(signed.certificate, survivors=survivors))
    assert "other survivors" in words(with_round(files, 1, less), "rounds")


def test_receipts_of_another_job() -> None:
    theirs = a_round(released(nonce=1), 3).receipts
    altered = replace(a_round(released(), 3), receipts=theirs)
    assert "is not signed by" in words(with_round(released(), 3, altered), "rounds")


def test_a_whole_round_of_another_job() -> None:
    assert "rounds" in failed(with_round(released(), 2, a_round(released(nonce=1), 2)))


def test_receipts_that_bind_another_cohort() -> None:
    """q members sign a good receipt for the right round and model, and for a cohort that was never certified."""
    files, world = released(), trained()
    signed = a_round(files, 1)
    bench = world.collector.seats
    found = the_roster(files).certificate.roster_hash
    forged = []
    for receipt in signed.receipts:
        other = replace(receipt, survivors_digest=b"\5" * 32)
        text = transcripts.receipt_transcript(world.job.digest, found, other)
        forged.append(replace(other, signature=identity(bench[receipt.index - 1].member).sign(text)))
    altered = replace(signed, receipts=tuple(forged))
    assert "another cohort" in words(with_round(files, 1, altered), "rounds")


def test_unchecked_words_beside_the_signed_ones() -> None:
    """A first round has no receipts before it, and a first attempt no ABORTs: what stands there would be anybody's."""
    files = released()
    for number, extra in (
        (1, {"receipts": a_round(files, 3).receipts}),
        (2, {"aborts": (Abort(1, 1, 2, 0, bytes(64)),)}),
        (2, {"void": Void(0, (1, 2, 3), a_round(files, 1).certificate)}),
    ):
        signed = a_round(files, number)
        altered = replace(signed, announcement=replace(signed.announcement, **extra))
        found = words(with_round(files, number, altered), "rounds")
        assert "starts from no receipts" in found or "follows no ABORT" in found or "attempt before" in found


class Faithless(Training):
    """Members that all follow the protocol, and sign another model after the round without training."""

    def _apply(self, lab: Any, fetch: Any) -> None:
        if self.terms.header_only(fetch.close.round):
            state = self.states[lab.name]
            self.states[lab.name] = replace(
                state, arrays=state.arrays | {"bias": np.ones(2, dtype=np.float32)}, _digest=[]
            )
        super()._apply(lab, fetch)


def test_a_model_that_changed_in_the_round_without_training(tmp_path: Path) -> None:
    parties = founded()
    world = Faithless(parties, parties.manifest())
    world.begin().run()
    with pytest.raises(Exception, match="no training, and yet the model changed"):
        world.release(tmp_path)


# ------------------------------------------------------------------------------------------------------------ the model


def test_another_model_under_the_members_signatures() -> None:
    files, state = released(), trained().final
    poisoned = replace(state, arrays=state.arrays | {"bias": np.ones(2, dtype=np.float32)}, _digest=[])
    model, whole_state = b"".join(model_pieces(poisoned)), b"".join(state_pieces(poisoned))
    assert failed(relisted(files | {MODEL: model})) == {"model", "bom"}
    assert failed(relisted(files | {STATE: whole_state})) >= {"state", "model", "config", "card"}
    assert failed(relisted(files | {MODEL: model, STATE: whole_state})) >= {"state", "model", "config", "card"}


def test_an_earlier_model_of_the_same_job() -> None:
    files, final = released(), trained().final
    earlier = replace(final, round=final.round - 1, _digest=[])
    assert "state" in failed(relisted(files | {STATE: b"".join(state_pieces(earlier))}))


def test_words_hidden_in_the_model_files() -> None:
    files = released()
    for path in (MODEL, STATE):
        length = int.from_bytes(files[path][:8], "little")
        header = json.loads(files[path][8 : 8 + length])
        header["__metadata__"]["licence"] = "mine"
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        altered = len(text).to_bytes(8, "little") + text + files[path][8 + length :]
        assert "model" in failed(relisted(files | {path: altered})), path


# --------------------------------------------------------------------------------------------- what the coordinator says


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("members", "m1", "weight"), 1024),
        (("members", "m1", "dataSet"), "faces"),
        (("cohorts", "1"), ["m1", "m2"]),
        (("rounds",), 200),
        (("strategy", "name"), "FedAdam"),
        (("model", "stateDigest"), "00" * 32),
        (("metrics", "4"), {"train/loss": 0.1}),
        (("metrics", "1"), {"evaluate/secret": 0.1}),
        (("metrics", "1"), {"train/loss": True}),
        (("metrics", "1"), {"train/loss": "0.1"}),
        (("metrics", "1"), []),
        (("metrics",), None),
    ],
)
def test_a_lie_in_the_config_signed_anew(path: tuple[str, ...], value: object) -> None:
    files = released()
    document = json.loads(files[CONFIG])
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert "config" in failed(relisted(files | {CONFIG: canonical(document)}))


def test_a_lie_in_the_card_signed_anew() -> None:
    files = released()
    altered = files[CARD].replace(b"no differential privacy", b"differential privacy")
    assert altered != files[CARD]
    assert failed(relisted(files | {CARD: altered})) == {"card"}


def test_figures_that_the_members_did_not_sign() -> None:
    files = released()
    document = json.loads(files[CONFIG])
    for number in document["metrics"]:
        document["metrics"][number] = {"train/loss": 0.001}
    assert failed(relisted(files | {CONFIG: canonical(document)})) == {"config"}
    signed = a_round(files, 1)
    altered = tuple(replace(receipt, figures=(1, 1, 1, 1)) for receipt in signed.receipts)
    assert "rounds" in failed(with_round(files, 1, replace(signed, receipts=altered)))
