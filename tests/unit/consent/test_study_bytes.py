"""What a run of a study uploads is counted before it leaves, and a study whose bytes are used up ends its run. Real drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from federation.identity.consent import BY_RULE, seal_consent
from federation.identity.fields import moment_text
from federation.manifest.study import Study, Used, open_study
from node_agent.rounds import training
from node_agent.store.journal import ConsentRecord, Journal
from tests.unit.agent.hall import Bench, Hall, Office
from tests.unit.consent.test_consent_over import bound, hall_of
from tests.unit.manifest.studied import now, sealed_study


@pytest.fixture(autouse=True)
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Worker", Bench)


def placed(hall: Hall, office: Office, size: str) -> Study:
    """The hall's job has a place in a study of ``size`` bytes at this lab."""
    study = open_study(sealed_study(hall.parties, bytes=size), hall.parties.roll)
    said = office.consent(job=study.digest, binds=bound(hall, office), given=BY_RULE)
    envelope = seal_consent(said, office.key)
    record = ConsentRecord(study.digest, study.name, "lead", True, ("yes",), envelope, moment_text(now()))
    with Journal(office.journal_path) as journal:
        journal.answer_study(record, study.envelope)
        assert journal.take_run(study.digest, hall.manifest.digest, 4, moment_text(now()), lambda _used: ()) == ()
    return study


def counted(office: Office, study: Study) -> Used:
    with Journal(office.journal_path, read_only=True) as journal:
        return journal.study_used(study.digest)


def test_each_attempt_is_counted_once_with_the_bytes_that_left(tmp_path: Path) -> None:
    hall = hall_of(tmp_path)
    office = hall.offices["fr"]
    study = placed(hall, office, "1Mi")
    hall.play()
    assert hall.done is not None
    assert office.over == []
    sent = counted(office, study)
    assert (sent.runs, sent.rounds) == (1, 4)
    sizes = sent.bytes / len(hall.closed)
    assert sizes == int(sizes) > 0


def test_a_study_whose_bytes_are_used_up_ends_the_run_and_nothing_more_is_uploaded(tmp_path: Path) -> None:
    whole = hall_of(tmp_path)
    study = placed(whole, whole.offices["fr"], "1Mi")
    whole.play()
    each = counted(whole.offices["fr"], study).bytes // len(whole.closed)

    (tmp_path / "less").mkdir()
    hall = hall_of(tmp_path / "less")
    office = hall.offices["fr"]
    study = placed(hall, office, str(2 * each + 1))
    hall.play()
    assert hall.done is not None
    assert set(office.over) == {"expired"}
    assert counted(office, study).bytes == 2 * each
    assert [len(closed.certificate.survivors.cohort) for closed in hall.closed] == [4, 4, 3, 3]
