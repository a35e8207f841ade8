"""The ledger: charged before an upload, once, never more than was consented to or budgeted, and never forgotten."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from federation.errors import BudgetExhausted, InvalidUsage, VerificationFailed
from federation.privacy.accounting import Charge, Query, epsilon_of
from federation.privacy.budget import Budget, account
from federation.privacy.terms import DP_SGD, MEMBER, RECORD, SKELLAM
from node_agent.consent.spending import accept_loss, print_budget
from node_agent.settings import DataSet, Home, NodeSettings, PrivacyBudget
from node_agent.store.journal import SCHEMA, ConsentRecord, Journal

JOB, OTHER = b"\x01" * 32, b"\x02" * 32
CHARGE = Charge((Query(SKELLAM, MEMBER, 4.0, 100.0, 3),))
ROUNDS = 5
FIVE = epsilon_of({CHARGE: 5}, 1e-6, MEMBER)
ROOM = Budget(FIVE * 1.0001, 1e-6, MEMBER)
NONE: dict[str, Budget] = {}


def record(job: bytes = JOB, name: str = "digits") -> ConsentRecord:
    return ConsentRecord(job, name, "ada", True, ("yes",), b"signed", "2027-01-15T08:00:00Z")


def context(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def consented(path: Path, job: bytes = JOB, times: int = ROUNDS, charge: Charge = CHARGE) -> Journal:
    journal = Journal(path)
    journal.answer(record(job), b"manifest", {"digits": {charge: times}})
    return journal


def spent(journal: Journal) -> int:
    return sum(times for entry in journal.ledger("digits") for times in entry.charged.values())


def test_a_charge_is_made_once_however_often_it_is_asked(path: Path) -> None:
    with consented(path) as journal:
        for _ in range(3):
            journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
        assert spent(journal) == 1
        journal.charge(JOB, context(2), (1, 1), CHARGE, NONE)
        assert spent(journal) == 2
    with Journal(path) as journal:
        assert spent(journal) == 2


def test_no_more_than_was_consented_to_whatever_a_coordinator_announces(path: Path) -> None:
    with consented(path) as journal:
        for number in range(ROUNDS):
            journal.affords(JOB, CHARGE, NONE)
            journal.charge(JOB, context(number), (number + 1, 0), CHARGE, NONE)
        with pytest.raises(BudgetExhausted, match="used up the privacy that this lab consented"):
            journal.affords(JOB, CHARGE, NONE)
        with pytest.raises(BudgetExhausted, match="used up"):
            journal.charge(JOB, context(99), (1, 7), CHARGE, NONE)
        assert spent(journal) == ROUNDS


def test_a_charge_of_another_kind_or_of_no_job_is_refused(path: Path) -> None:
    louder = Charge((Query(SKELLAM, MEMBER, 1.0, 100.0, 3),))
    with consented(path) as journal:
        with pytest.raises(BudgetExhausted, match="used up"):
            journal.charge(JOB, context(1), (1, 0), louder, NONE)
        with pytest.raises(BudgetExhausted, match="has not consented to spend"):
            journal.charge(OTHER, context(1), (1, 0), CHARGE, NONE)
        assert spent(journal) == 0


def test_the_budget_is_over_all_jobs_and_refuses_before_it_is_exceeded(path: Path) -> None:
    with consented(path, JOB, 4) as journal:
        journal.answer(record(OTHER), b"manifest", {"digits": {CHARGE: 4}})
        budgets = {"digits": ROOM}
        for number in range(3):
            journal.charge(JOB, context(number), (number + 1, 0), CHARGE, budgets)
        journal.end_job(JOB, "finished")
        for number in (10, 11):
            journal.charge(OTHER, context(number), (number, 0), CHARGE, budgets)
        with pytest.raises(BudgetExhausted, match="would be exceeded"):
            journal.charge(OTHER, context(12), (12, 0), CHARGE, budgets)
        standing = account(journal.ledger("digits"), ROOM, 0.0, "")
        assert standing.spent == pytest.approx(FIVE)
        assert standing.spent <= ROOM.epsilon


def test_an_active_job_holds_its_plan_and_an_ended_one_what_it_spent(path: Path) -> None:
    with consented(path) as journal:
        journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
        (entry,) = journal.ledger("digits")
        assert sum(entry.held.values()) == ROUNDS
        journal.end_job(JOB, "failed")
        (entry,) = journal.ledger("digits")
        assert sum(entry.held.values()) == 1
        assert account([entry], ROOM, 0.0, "").spent == pytest.approx(epsilon_of({CHARGE: 1}, 1e-6, MEMBER))


def test_a_forgone_attempt_is_free_again_and_can_never_be_charged_again(path: Path) -> None:
    with consented(path, times=1) as journal:
        journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
        journal.forgo(JOB, context(1))
        assert spent(journal) == 0
        with pytest.raises(BudgetExhausted, match="given up"):
            journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
        journal.charge(JOB, context(2), (1, 1), CHARGE, NONE)
        assert spent(journal) == 1


def test_a_record_budget_counts_a_members_job_and_a_member_budget_refuses_a_records_job(path: Path) -> None:
    steps = Charge((Query(DP_SGD, RECORD, 2.0, 0.0, 0, 0.01, 10),))
    with consented(path, charge=steps) as journal:
        journal.charge(JOB, context(1), (1, 0), steps, {"digits": Budget(10.0, 1e-6, RECORD)})
        with pytest.raises(BudgetExhausted, match="would be exceeded"):
            journal.charge(JOB, context(2), (2, 0), steps, {"digits": Budget(1e6, 1e-6, MEMBER)})


KILLED = """
import os, signal, sys
from pathlib import Path
from node_agent.store.journal import Journal
from tests.unit.agent.test_privacy_ledger import CHARGE, JOB, context
journal = Journal(Path(sys.argv[1]))
if sys.argv[2] == "in the middle":
    def stop(text):
        if text.startswith("COMMIT"):
            os.kill(os.getpid(), signal.SIGKILL)
    journal._database.set_trace_callback(stop)
journal.charge(JOB, context(7), (1, 0), CHARGE, {})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "left"), [("in the middle", 0), ("after", 1)])
def test_killed_between_charge_and_upload_it_is_charged_once_or_nothing_was_promised(
    path: Path, when: str, left: int
) -> None:
    """Before the charge is on disk nobody has been told to upload; after it, the same attempt charges nothing more."""
    consented(path).close()
    died = subprocess.run([sys.executable, "-c", KILLED, str(path), when], cwd=Path.cwd(), check=False)
    assert died.returncode == -signal.SIGKILL
    with Journal(path) as journal:
        assert spent(journal) == left
        journal.charge(JOB, context(7), (1, 0), CHARGE, NONE)
        assert spent(journal) == 1


@pytest.mark.parametrize("loss", ["older copy", "lost", "no anchor"])
def test_a_journal_that_is_not_what_it_was_charges_nothing_until_a_person_allows_for_it(path: Path, loss: str) -> None:
    with consented(path) as journal:
        journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
        copy = path.read_bytes()
        journal.charge(JOB, context(2), (2, 0), CHARGE, NONE)
    if loss == "older copy":
        path.write_bytes(copy)
    elif loss == "lost":
        path.unlink()
    else:
        path.with_name("journal.db.anchor").unlink()
    for _ in range(2):  # starting again heals nothing
        with Journal(path, now="2027-01-16T08:00:00Z") as journal:
            journal.answer(record(), b"manifest", {"digits": {CHARGE: ROUNDS}})
            for act in (
                lambda journal=journal: journal.charge(JOB, context(3), (3, 0), CHARGE, NONE),
                lambda journal=journal: journal.affords(JOB, CHARGE, NONE),
                lambda journal=journal: journal.ledger("digits"),
            ):
                with pytest.raises(BudgetExhausted, match="Nobody can say what was spent") as said:
                    act()
                assert "--accept-loss" in said.value.hint
    with Journal(path) as journal:
        journal.accept_loss()
        journal.charge(JOB, context(3), (3, 0), CHARGE, NONE)
        assert spent(journal) == {"older copy": 2, "lost": 1, "no anchor": 3}[loss]


def test_a_damaged_entry_is_said_and_not_skipped(path: Path) -> None:
    with consented(path) as journal:
        journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE charges SET charge='[]'")
    database.close()
    with Journal(path) as journal, pytest.raises(VerificationFailed, match="cannot be read"):
        journal.charge(JOB, context(2), (2, 0), CHARGE, NONE)


def test_a_journal_from_before_there_was_a_ledger_gets_one(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript(SCHEMA + "PRAGMA user_version=1;")
    database.close()
    with Journal(path, read_only=True) as journal:
        assert journal.ledger("digits") == ()
    with consented(path) as journal:
        journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
        assert spent(journal) == 1


# ----------------------------------------------------------------------------------------------- concord-node budget


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    budget = PrivacyBudget(epsilon=3.0, delta=1e-6, unit="member")
    sets = {
        "digits": DataSet(path="/srv/digits", examples=100, privacy_budget=budget),
        "open": DataSet(path="/srv/open", examples=100),
    }
    home.save(NodeSettings(member="fr", node="fr-1", federation="atlas", data_sets=sets))
    return home


def test_the_budget_command_shows_what_was_spent_reserved_and_left(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    print_budget(home)
    assert "digits  unit member, delta 1e-06, epsilon of 3" in capsys.readouterr().out
    with consented(home.journal) as journal:
        journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
        print_budget(home, "json")  # beside a running node
    digits, free = json.loads(capsys.readouterr().out)["dataSets"]
    assert digits["spent"] == pytest.approx(epsilon_of({CHARGE: 1}, 1e-6, MEMBER))
    assert digits["spentAndReserved"] == pytest.approx(FIVE)
    assert digits["left"] == pytest.approx(3.0 - FIVE)
    assert (digits["jobs"][0]["uploadsCharged"], digits["jobs"][0]["uploadsPlanned"]) == (1, ROUNDS)
    assert digits["jobs"][0]["mechanisms"] == ["skellam"]
    assert (free["budget"], free["spent"]) == (None, 0.0)
    print_budget(home)
    shown = capsys.readouterr().out
    assert "uploads 1 of 5" in shown
    assert "no budget, no limit" in shown
    with pytest.raises(InvalidUsage, match="no output"):
        print_budget(home, "xml")


def test_the_budget_command_says_when_nobody_can_tell(home: Home) -> None:
    with consented(home.journal) as journal:
        journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
    home.journal.unlink()
    Journal(home.journal).close()
    with pytest.raises(BudgetExhausted, match="the journal was removed"):
        print_budget(home)
    accept_loss(home)
    print_budget(home)


def test_a_loss_that_accepting_finds_itself_is_accepted_and_named_by_its_moment(home: Home) -> None:
    with consented(home.journal) as journal:
        journal.charge(JOB, context(1), (1, 0), CHARGE, NONE)
    home.journal.unlink()
    accept_loss(home)
    print_budget(home)
    with Journal(home.journal, read_only=True) as journal:
        assert journal.restored.endswith("Z")
