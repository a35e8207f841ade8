"""Who is a member, which node is a member's, what a node consented to, and who may withdraw a job."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from federation.errors import InvalidIdentity
from federation.identity.consent import Consent, open_consent, seal_consent
from federation.identity.credential import node_request, open_node_request, sign_credential, verify_credential
from federation.identity.envelope import open_envelope, seal
from federation.identity.keys import SigningKey
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
from federation.identity.withdrawal import open_withdrawal, seal_withdrawal, withdrawn_job
from tests.unit.identity.parties import NOW, found, roll_document

PARTIES = found()
NODE = SigningKey.generate()
CREDENTIAL = PARTIES.credential("ke", NODE)
CONSENT = Consent(
    job=bytes(32),
    member="ke",
    node="ke-1",
    granted=True,
    reasons=("lead lead is allowed",),
    data_set="digits",
    weight=256,
    figures=("evaluate/loss", "train/loss"),
    lacks=(),
    issued=NOW,
    expires=NOW + timedelta(days=1),
)


def test_a_roll_with_every_signature_opens() -> None:
    roll = PARTIES.roll
    assert [member.id for member in roll.members] == ["ch", "fr", "ke", "no", "us"]
    assert roll.member("no").jurisdiction == "NO"
    assert roll.lead("lead").member == "ch"
    assert roll.lead_of_key(PARTIES.lead_key.public) == roll.lead("lead")
    assert roll.lead_of_key(NODE.public) is None
    assert Roll.open(roll.envelope) == roll


def test_who_is_not_on_the_roll_is_nobody() -> None:
    for ask in (PARTIES.roll.member, PARTIES.roll.lead):
        with pytest.raises(InvalidIdentity, match="not a"):
            ask("atlantis")


def test_a_roll_that_one_member_has_not_signed_is_a_draft() -> None:
    document = open_envelope(PARTIES.roll.envelope, "roll").document
    officers = dict(PARTIES.officers)
    missing = officers.pop("fr")
    draft = seal(document, "roll", tuple(officers.values()))
    with pytest.raises(InvalidIdentity, match="not signed by fr"):
        Roll.open(draft)
    _, signers = open_draft(draft)
    assert missing.public not in signers
    assert len(signers) == 4


def test_a_roll_that_a_stranger_signed_is_refused() -> None:
    document = open_envelope(PARTIES.roll.envelope, "roll").document
    with pytest.raises(InvalidIdentity, match="stranger"):
        Roll.open(seal(document, "roll", (*PARTIES.officers.values(), SigningKey.generate())))


def change(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**document, **changes}


def test_rolls_that_mislead_are_refused() -> None:
    document = open_envelope(PARTIES.roll.envelope, "roll").document
    members, leads = document["members"], document["leads"]
    first, second = members[0], members[1]
    for wrong, match in (
        (change(document, members=members[:2]), "at least 3"),
        (change(document, members=[first, *members]), "twice"),
        (change(document, members=[first, {**second, "officerKey": first["officerKey"]}, *members[2:]]), "key twice"),
        (change(document, members=members[::-1]), "sorted"),
        (change(document, leads=[{**leads[0], "key": first["officerKey"]}]), "key twice"),
        (change(document, leads=[{**leads[0], "member": "atlantis"}]), "not on the roll"),
        (change(document, members=[{**first, "jurisdiction": "ch"}, *members[1:]]), "jurisdiction"),
        (change(document, members=[{**first, "id": "CH"}, *members[1:]]), "valid name"),
        (change(document, members=[{**first, "name": "a\x1b[31m"}, *members[1:]]), "printable"),
        (change(document, members=[{**first, "vote": 9}, *members[1:]]), "unknown vote"),
        (change(document, version=0), "whole number"),
        (change(document, version=True), "whole number"),
        (change(document, federation="a/b"), "valid name"),
        ({key: value for key, value in document.items() if key != "leads"}, "lacks leads"),
    ):
        with pytest.raises(InvalidIdentity, match=match):
            Roll.open(seal(wrong, "roll", tuple(PARTIES.officers.values())))


def test_a_draft_is_checked_before_anybody_signs_it() -> None:
    keys = {id: SigningKey.generate() for id in ("ch", "fr")}
    with pytest.raises(InvalidIdentity, match="at least 3"):
        roll_document(keys, SigningKey.generate())
    same = RollMember("ch", "A", "CH", keys["ch"].public)
    with pytest.raises(InvalidIdentity, match="twice"):
        draft_roll("health", 1, [same, same, same], [])


def test_cards_are_signed_by_the_keys_that_they_name() -> None:
    officer, other = SigningKey.generate(), SigningKey.generate()
    member = RollMember("ch", "A laboratory", "CH", officer.public)
    lead = RollLead("lead", "ch", "A lead", officer.public)
    assert open_member_card(member_card(member, officer)) == member
    assert open_lead_card(lead_card(lead, officer)) == lead
    with pytest.raises(InvalidIdentity, match="not signed"):
        open_member_card(member_card(member, other))
    with pytest.raises(InvalidIdentity, match="not signed"):
        open_lead_card(lead_card(lead, other))


def test_a_credential_names_the_node_and_takes_the_jurisdiction_from_the_roll() -> None:
    assert (CREDENTIAL.member, CREDENTIAL.node, CREDENTIAL.jurisdiction) == ("ke", "ke-1", "KE")
    assert CREDENTIAL.identity_key == NODE.public


def test_a_credential_holds_within_its_dates_only() -> None:
    for day in (-1, 366):
        with pytest.raises(InvalidIdentity, match="not now"):
            verify_credential(CREDENTIAL.envelope, PARTIES.roll, NOW + timedelta(days=day))
    assert verify_credential(CREDENTIAL.envelope, PARTIES.roll, None) == CREDENTIAL


def test_an_officer_signs_for_the_own_member_and_federation_only() -> None:
    request = node_request("health", "ke", "ke-1", NODE)
    officer, end = PARTIES.officers["ke"], NOW + timedelta(days=1)
    with pytest.raises(InvalidIdentity, match="you are the officer of fr"):
        sign_credential(request, "health", PARTIES.officers["fr"], "fr", NOW, end)
    with pytest.raises(InvalidIdentity, match="in climate"):
        sign_credential(request, "climate", officer, "ke", NOW, end)
    with pytest.raises(InvalidIdentity, match="end before"):
        sign_credential(request, "health", officer, "ke", end, NOW)


def test_nobody_asks_for_a_node_with_a_key_that_they_do_not_hold() -> None:
    document = open_envelope(node_request("health", "ke", "ke-1", NODE), "node-request").document
    with pytest.raises(InvalidIdentity, match="not signed"):
        open_node_request(seal(document, "node-request", (SigningKey.generate(),)))


def test_a_consent_reads_back_as_it_was_given() -> None:
    assert open_consent(seal_consent(CONSENT, NODE), CREDENTIAL) == CONSENT
    denial = replace(
        CONSENT, granted=False, weight=0, reasons=("rules.leads: lead x is not allowed",), lacks=("torch",)
    )
    assert open_consent(seal_consent(denial, NODE), CREDENTIAL) == denial
    assert not denial.valid_at(NOW)
    assert CONSENT.valid_at(NOW)
    assert not CONSENT.valid_at(CONSENT.expires + timedelta(seconds=1))


def test_a_consent_of_another_node_is_refused() -> None:
    with pytest.raises(InvalidIdentity, match="not signed by the node"):
        open_consent(seal_consent(CONSENT, SigningKey.generate()), CREDENTIAL)
    with pytest.raises(InvalidIdentity, match="another node"):
        open_consent(seal_consent(replace(CONSENT, node="ke-2"), NODE), CREDENTIAL)


@pytest.mark.parametrize("weight", [0, 3, 100])
def test_a_granted_weight_is_a_public_bucket(weight: int) -> None:
    with pytest.raises(InvalidIdentity, match="power of two"):
        open_consent(seal_consent(replace(CONSENT, weight=weight), NODE), CREDENTIAL)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("granted", 1),
        ("granted", "true"),
        ("job", "00"),
        ("job", "AB" * 32),
        ("weight", True),
        ("weight", -4),
        ("reasons", "because"),
        ("reasons", [1]),
        ("issued", "2026-1-31T12:00:00Z"),
        ("issued", "2026-01-31T12:00:00+00:00"),
        ("issued", "2026-02-30T12:00:00Z"),
        ("issued", 0),
        ("extra", 1),
    ],
)
def test_a_malformed_consent_is_refused(field: str, value: object) -> None:
    document = open_envelope(seal_consent(CONSENT, NODE), "consent").document
    with pytest.raises(InvalidIdentity):
        open_consent(seal({**document, field: value}, "consent", (NODE,)), CREDENTIAL)


def test_only_the_lead_of_a_job_withdraws_it() -> None:
    job, key = bytes(range(32)), PARTIES.lead_key
    envelope = seal_withdrawal(job, "wrong learning rate", key)
    assert open_withdrawal(envelope, job, key.public).reason == "wrong learning rate"
    assert withdrawn_job(envelope) == job
    with pytest.raises(InvalidIdentity, match="not signed by the lead"):
        open_withdrawal(seal_withdrawal(job, "", NODE), job, key.public)
    with pytest.raises(InvalidIdentity, match="another job"):
        open_withdrawal(envelope, bytes(32), key.public)
