"""What a consent says of its data: the lab's published entries and nothing else; signed, of the versions that it binds, and for
those for whom the release is."""

import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from federation.catalogue.entry import Entry
from federation.errors import InvalidIdentity, InvalidUsage
from federation.governance.charter import Audience, Charter
from federation.identity.consent import BY_RULE, Binding, Consent, Outputs, open_consent, seal_consent
from federation.releases.verify import verify
from tests.unit.agent.test_consent_decision import JOB, PARTIES, SETS, answer
from tests.unit.releases.released import Files, founded, identity, relisted, trained, whole

PLAIN = Entry(name="digits", title="Scans of digits", size=512)
BINDS = Binding((("digits", bytes(32)), ("ages", b"\1" * 32)), bytes(32), bytes(32), (), Outputs("sum", "", ()), b"")


def told(*published: Entry, text: str = JOB, audience: Audience = "members", **changes: Any) -> list[dict[str, Any]]:
    """What goes with the consent of a lab that publishes this, under a charter whose releases are for ``audience``."""
    charter = dataclasses.replace(PARTIES.roll.charter, audience=audience)
    roll = dataclasses.replace(PARTIES.roll, charter=charter)
    said = answer(text, published=lambda: published, roll=roll, **changes)
    assert said.granted, said.reasons
    return [json.loads(each) for each in said.described]


def test_the_published_entry_of_its_data_goes_with_a_consent_and_no_other() -> None:
    assert told() == []
    assert told(PLAIN) == [PLAIN.document]
    assert told(Entry(name="ages", title="Ages"), PLAIN) == [PLAIN.document], "the job does not use the other"
    extra = JOB + "  extraDataSets: [ages]\n"
    assert [each["name"] for each in told(Entry(name="ages", title="Ages"), PLAIN, text=extra)] == ["digits", "ages"]


def test_an_entry_of_data_that_have_changed_since_is_left_out() -> None:
    for version, shown in ((bytes(32), 1), (b"\1" * 32, 0)):
        assert len(told(PLAIN.model_copy(update={"version": version.hex()}))) == shown


def test_where_the_release_is_for_the_public_only_what_the_lab_lets_go_there_does() -> None:
    open_entry = PLAIN.model_copy(update={"releases": True})
    public = JOB + "  release: {audience: public}\n"
    for audience, text, shown in (
        ("public", JOB, 0),
        ("public", JOB + "  release: {audience: members}\n", 1),
        ("members", public, 1),
        ("participants", public, 1),
        ("public", public, 0),
    ):
        assert len(told(PLAIN, text=text, audience=audience)) == shown, (audience, text)
        assert told(open_entry, text=text, audience=audience) == [open_entry.document]


def test_a_long_entry_goes_without_its_columns() -> None:
    columns = [{"name": f"column{number:04}", "type": "number", "meaning": "m" * 90} for number in range(400)]
    long = Entry.model_validate({"name": "digits", "title": "Wide", "columns": columns})
    assert len(long.canonical) > 16 << 10
    assert told(long) == [{"name": "digits", "title": "Wide"}]


def test_a_damaged_catalogue_stops_no_consent() -> None:
    def damaged() -> tuple[Entry, ...]:
        raise InvalidUsage("digits.entry is not what was published.")

    said = answer(published=damaged)
    assert said.granted
    assert said.described == ()


def test_a_denial_describes_nothing() -> None:
    said = answer(published=lambda: (PLAIN,), data_sets={"digits": SETS["digits"].model_copy(update={"path": "/none"})})
    assert not said.granted
    assert said.described == ()


# ------------------------------------------------------------------------------------------------------- the signed document


def sealed(**changes: Any) -> bytes:
    said = trained().consent("m1", binds=BINDS, given=BY_RULE, described=(PLAIN.canonical,))
    consent = open_consent(said, founded().credentials["m1"])
    return seal_consent(dataclasses.replace(consent, **changes), identity("m1"))


def opened(envelope: bytes) -> Consent:
    return open_consent(envelope, founded().credentials["m1"])


def test_it_reads_back_and_a_consent_without_is_written_as_before() -> None:
    assert opened(sealed()).described == (PLAIN.canonical,)
    assert b"described" not in sealed(described=()), "the payload is base64, the field is in none"
    assert opened(sealed(described=())).described == ()


def test_what_binds_no_data_describes_none() -> None:
    with pytest.raises(InvalidIdentity, match="binds no data describes none"):
        sealed(binds=None)


# ------------------------------------------------------------------------------------------------------------ in a release


def released(*described: Entry, binds: Binding | None = BINDS) -> Files:
    world = trained()
    if binds is not None:
        binds = dataclasses.replace(binds, roll=world.parties.roll.digest)
    with TemporaryDirectory() as folder:
        consents = {name: world.consent(name) for name in world.names}
        consents["m1"] = world.consent(
            "m1", binds=binds, given=BY_RULE, described=tuple(each.canonical for each in described)
        )
        return whole(world.release(Path(folder), consents=consents))


def test_a_release_tells_what_laboratories_publish_of_their_data() -> None:
    versioned = Entry(name="ages", description="Ages | of *all*\nwards", version=(b"\1" * 32).hex(), tags=["ward"])
    files = released(PLAIN, versioned)
    report = verify(files)
    assert report.ok, report
    (consents,) = [check.detail for check in report.checks if check.name == "consents"]
    assert "They describe 2 data sets, of just the versions that they bind." in consents
    config = json.loads(files["config.json"])
    assert config["members"]["m1"]["described"] == [PLAIN.document, versioned.document]
    assert "described" not in config["members"]["m2"]
    card = files["README.md"].decode()
    assert "- m1, digits: Scans of digits; from 512 to 1023 examples." in card
    assert "- m1, ages: Ages \\| of \\*all\\* wards; tags ward; version 0101" in card
    assert "- m2, digits: the laboratory published no more than the name." in card
    bom = json.loads(files["bom.cdx.json"])
    data = bom["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"]
    assert data[0]["description"] == "at m1 in FR; it never left the member; Scans of digits; from 512 to 1023 examples"


@pytest.mark.parametrize(
    ("described", "why"),
    [
        ((Entry(name="faces"),), "describes another data set than it binds"),
        ((Entry(name="ages"), PLAIN), "describes another data set than it binds"),
        ((PLAIN, PLAIN), "describes another data set than it binds"),
        (
            (PLAIN.model_copy(update={"version": "22" * 32}),),
            "describes another version of digits than it consented to",
        ),
    ],
)
def test_no_release_is_made_with_a_description_of_other_data(described: tuple[Entry, ...], why: str) -> None:
    with pytest.raises(Exception, match=why):
        released(*described)


def test_a_description_that_was_put_in_or_taken_out_shows() -> None:
    """It is the node's signed word: nobody else can say what a laboratory's data are."""
    files = released(PLAIN)
    for other in (released(), released(PLAIN.model_copy(update={"title": "Something else"}))):
        mixed = relisted(files | {"consents/m1.json": other["consents/m1.json"]})
        assert "log" in {check.name for check in verify(mixed).checks if not check.ok}


def test_the_standard_charter_serves_members() -> None:
    """So that descriptions go, unless the members decide otherwise, to those who may read the catalogue anyway."""
    assert Charter.standard().audience == "members"
