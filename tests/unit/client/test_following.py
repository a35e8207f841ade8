"""`concord watch` and `logs --follow`: each change once, to the job's end, over breaks of the connection and restarts."""

import contextlib
import io
import os
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.client import sdk, watching
from coordinator.client.home import Home
from coordinator.client.sdk import Federation
from coordinator.client.views import Job, job_of
from federation.errors import FederationError, InvalidUsage, NotFound, Unavailable, exit_code
from federation.identity.withdrawal import open_withdrawal
from federation.manifest.manifest import open_manifest
from federation.v1 import jobs_pb2
from tests.unit.client.scripted import Coordinator, coordinator, fail, logged_in
from tests.unit.client.told import job_told, round_told
from tests.unit.client.typed import concord, done, refused, told_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts nobody waits."""
    monkeypatch.setattr(sdk, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(sdk, "MAX_PAUSE_SECONDS", 0.01)


def running(server: Coordinator, *rounds: object, **more: object) -> object:
    return job_told(server.parties, rounds=rounds, **more)


def story(server: Coordinator) -> list[object]:
    first, second = round_told(1), round_told(2)
    return [
        running(server, rounds_closed=0),
        running(server, round_told(1, "collecting", metrics={}, bytes_up=0), rounds_closed=0),
        running(server, round_told(1, metrics={}), rounds_closed=1),  # its figures come with the receipts
        running(server, first, rounds_closed=1),
        running(server, first, round_told(2, "aborted", reason="us did not answer"), rounds_closed=1),
        running(
            server,
            first,
            round_told(2, "aborted", reason="us did not answer"),
            round_told(2, attempt=1),
            rounds_closed=2,
        ),
        running(
            server, first, second, round_told(11), rounds_closed=10, state="finished", reason="the release is published"
        ),
    ]


STORY = """job/tiny running: runs on fr-1, ke-1, us-1
  round 1 collecting  cohort fr ke us
  round 1 closed  cohort fr ke us  loss 0.5000  accuracy 0.8750  up 3.0 MiB  seconds 1.25
  round 2 aborted  cohort fr ke us  loss 0.5000  accuracy 0.8750  up 3.0 MiB  seconds 1.25  us did not answer
  round 2.1 closed  cohort fr ke us  loss 0.5000  accuracy 0.8750  up 3.0 MiB  seconds 1.25
  round 2 closed  cohort fr ke us  loss 0.5000  accuracy 0.8750  up 3.0 MiB  seconds 1.25
  round final closed  cohort fr ke us  loss 0.5000  accuracy 0.8750  up 3.0 MiB  seconds 1.25
job/tiny finished: the release is published
"""


def test_a_round_without_figures_is_told_when_the_next_begins(server: Coordinator) -> None:
    """A job may declare none; the line of its last round comes with the end."""
    none, ended = round_told(1, metrics={}), round_told(2, metrics={})
    views = [
        running(server, none),
        running(server, none, round_told(2, "collecting", metrics={}, bytes_up=0)),
        running(server, none, ended),
        running(server, none, ended, state="finished", reason="the release is published"),
    ]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        watching.watch(job_of(view) for view in views)
    words = [line.split("  cohort")[0].strip() for line in out.getvalue().splitlines() if "round " in line]
    assert words == ["round 1 closed", "round 2 collecting", "round 2 closed"]


def test_a_watch_tells_each_change_once(server: Coordinator, home: Home) -> None:
    server.watched = story(server)
    assert done(concord("watch", "tiny", "--home", home.path)).out == STORY


@given(breaks=st.lists(st.integers(0, 4), max_size=4), repeats=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_wherever_the_connection_breaks_the_story_is_the_same(breaks: list[int], repeats: int) -> None:
    """A stream that is opened anew begins with the view of that moment, which was told already."""
    server = coordinator()
    views: list[object] = []
    for place, view in enumerate(story(server)):
        views.append(view)
        if place == repeats:
            views.append(view)
        views += [None, view] * breaks.count(place)
    server.watched = views
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            home = logged_in(Path(folder) / "home", server)
            with mock.patch.object(sdk, "PAUSE_SECONDS", 0.001):
                answer = done(concord("watch", "tiny", "--home", home.path))
    finally:
        server.stop()
    assert answer.out == STORY
    assert answer.err.count("Trying again") == len(breaks)


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("failed", 1), ("withdrawn", 7), ("stopped", 7)])
def test_the_exit_code_tells_how_the_job_ended(server: Coordinator, home: Home, state: str, code: int) -> None:
    server.watched = [running(server, state=state)]
    answer = concord("watch", "tiny", "--home", home.path)
    assert answer.code == code
    assert ("concord logs tiny" in answer.err) == (state == "failed")


def test_a_job_that_is_not_there_is_not_waited_for(server: Coordinator, home: Home) -> None:
    server.error = NotFound("There is no job 'tiny'.", hint="See: concord get jobs")
    refused(concord("watch", "tiny", "--home", home.path), NotFound, "There is no job 'tiny'")
    refused(concord("logs", "tiny", "--follow", "--home", home.path), NotFound, "There is no job 'tiny'")
    assert server.calls == ["Watch", "Get"]


def test_a_watch_outlives_a_coordinator_that_is_started_again(server: Coordinator, home: Home) -> None:
    told: list[FederationError] = []
    back = threading.Event()

    def away(failure: FederationError) -> None:
        """The coordinator is gone: it comes back on the same port."""
        told.append(failure)
        server.watched = [running(server, state="finished")]
        server.start()
        back.set()

    server.watched = [running(server)]
    seen: list[str] = []
    with Federation.connect(home.path, environment={}) as federation:
        for job in federation.watch("tiny", away=away):
            seen.append(job.state)
            if not back.is_set():
                server.stop()
    assert seen == ["running", "finished"]
    assert [type(failure) for failure in told] == [Unavailable]


def test_a_coordinator_that_never_comes_back_is_given_up(server: Coordinator, home: Home) -> None:
    hundreds = iter(range(0, 10_000, 100))
    clock = SimpleNamespace(monotonic=lambda: float(next(hundreds)), sleep=lambda _seconds: None)
    server.watched = [running(server)]
    with (
        mock.patch.object(sdk, "time", clock),
        Federation.connect(home.path, environment={}) as federation,
    ):
        views = federation.watch("tiny", patience=250.0)
        next(views)
        server.stop()
        with pytest.raises(Unavailable):
            next(views)
    server.start()  # for the fixture to stop


def streams_that_age(server: Coordinator, monkeypatch: pytest.MonkeyPatch, *streams: list[object]) -> None:
    """Each stream sends its views and then stays open, silent, until the client opens another."""
    remaining = list(streams)

    def watched(request: object, context: grpc.ServicerContext) -> object:
        aged = threading.Event()
        context.add_callback(aged.set)
        yield from remaining.pop(0)
        aged.wait(10)

    server.stop()
    server.Watch = watched  # type: ignore[method-assign]
    server.start()
    monkeypatch.setattr(sdk, "STREAM_SECONDS", 0.3)


def test_a_stream_that_grows_old_is_opened_anew_and_nothing_is_wrong(
    server: Coordinator, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = running(server, state="finished")
    streams_that_age(server, monkeypatch, [running(server)], [running(server)], [ended])
    told: list[FederationError] = []
    with Federation.connect(home.path, environment={}) as federation:
        states = [job.state for job in federation.watch("tiny", patience=0.0, away=told.append)]
    assert (states, told) == (["running", "finished"], [])


def test_a_coordinator_that_takes_the_connection_and_stays_silent_is_given_up(
    server: Coordinator, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams_that_age(server, monkeypatch, [running(server)], [], [], [], [], [], [])
    told: list[FederationError] = []
    with (
        Federation.connect(home.path, environment={}) as federation,
        pytest.raises(Unavailable, match="did not answer in time"),
    ):
        list(federation.watch("tiny", patience=0.1, away=told.append))
    assert len(told) == 1


def test_a_refusal_in_the_middle_ends_the_watch(server: Coordinator, home: Home) -> None:
    """Only what may pass is waited for: the second stream is refused."""

    def watched(request: object, context: grpc.ServicerContext) -> object:
        server.calls.append("Watch")
        if len(server.calls) > 1:
            fail(context, NotFound("The job is gone.", hint="Ask."))
        yield running(server)
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    server.stop()
    server.Watch = watched  # type: ignore[method-assign]
    server.start()
    answer = told_of(concord("watch", "tiny", "--home", home.path), NotFound, "The job is gone")
    assert answer.out == "job/tiny running: runs on fr-1, ke-1, us-1\n"


def test_logs_are_followed_without_repeating_a_line(server: Coordinator, home: Home) -> None:
    server.jobs = [running(server)]
    attempts: list[int] = []

    def logs(request: object, context: grpc.ServicerContext) -> object:
        attempts.append(len(attempts))
        yield jobs_pb2.LogLine(time="t1", text="submitted by lead")
        yield jobs_pb2.LogLine(time="t2", member="fr", text="granted")
        if len(attempts) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        yield jobs_pb2.LogLine(time="t3", text="finished")

    server.stop()
    server.Logs = logs  # type: ignore[method-assign]
    server.start()
    answer = done(concord("logs", "tiny", "--follow", "--home", home.path))
    assert answer.out == "t1 coordinator: submitted by lead\nt2 fr: granted\nt3 coordinator: finished\n"
    assert len(attempts) == 2


# ------------------------------------------------------------------------------------------------------------------- cancel


def test_a_withdrawal_is_signed_for_this_very_job(server: Coordinator, home: Home) -> None:
    server.jobs = [running(server)]
    assert done(concord("cancel", "tiny", "--reason", "wrong data", "--home", home.path)).out == "job/tiny withdrawn\n"
    job = open_manifest(server.parties.submit(), server.parties.roll)
    withdrawal = open_withdrawal(server.withdrawn[0], job.digest, job.lead.key)
    assert withdrawal.reason == "wrong data"


def test_a_job_that_has_ended_is_not_withdrawn(server: Coordinator, home: Home) -> None:
    server.jobs = [running(server, state="finished")]
    answer = concord("cancel", "tiny", "--home", home.path)
    refused(answer, InvalidUsage, "has already ended: it is finished")
    assert server.withdrawn == []


# -------------------------------------------------------------------------------------------------------------- on a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def live(views: list[Job], columns: int = 120, lines: int = 40) -> str:
    out = Terminal()
    with (
        contextlib.redirect_stdout(out),
        mock.patch.dict(os.environ, {"TERM": "xterm", "COLUMNS": str(columns), "LINES": str(lines), "NO_COLOR": "1"}),
    ):
        last = watching.watch(iter(views))
    assert last is views[-1]
    return out.getvalue()


def last_of(picture: str) -> str:
    """The last picture, without what moves the cursor and makes letters bold."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", picture[picture.rindex("job/tiny") :])


def rows_in(picture: str) -> list[list[str]]:
    """Of the last picture: the headings, then a row for each round; columns stand two blanks apart."""
    last = [line.rstrip() for line in last_of(picture).splitlines()]
    first = next((number for number, line in enumerate(last) if line.startswith("round  ")), len(last))
    shown = [re.split(r"  +", line) for line in last[first:] if not re.match(r"round \d", line)]
    return [row for row in shown if row != [""]]


def rounds_in(picture: str) -> list[str]:
    return [row[0] for row in rows_in(picture)[1:]]


def test_a_terminal_shows_the_newest_rounds_the_bar_and_the_end(server: Coordinator) -> None:
    views = [job_of(view) for view in story(server)]
    picture = live(views)
    last = picture[picture.rindex("job/tiny") :]
    assert last.startswith("job/tiny finished: the release is published")
    assert "10 of 10 rounds" in last
    assert rounds_in(picture) == ["1", "2", "final"]


def test_a_terminal_shows_no_more_rounds_than_fit(server: Coordinator) -> None:
    many = job_of(running(server, *(round_told(number) for number in range(1, 101)), rounds_total=100))
    rows = rounds_in(live([many]))
    assert rows == [str(number) for number in range(101 - watching.SHOWN_ROUNDS, 101)]


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("members", [("fr", "ke", "us"), tuple(f"laboratory-of-a-long-name-{n}" for n in range(9))])
def test_each_round_is_one_line_that_fits_and_no_figure_is_cut(
    server: Coordinator, columns: int, members: tuple[str, ...]
) -> None:
    lost = members[-1:]
    job = job_of(
        running(server, *(round_told(n, cohort=members[:-1], lost=lost) for n in range(1, 30)), rounds_total=30)
    )
    picture = live([job], columns)
    assert max(len(line) for line in last_of(picture).splitlines()) <= columns
    rows = rows_in(picture)
    assert rounds_in(picture) == [str(number) for number in range(10, 30)]
    for row in rows[1:]:
        named = dict(zip(rows[0], row, strict=True))
        assert (named["phase"], named["loss"], named["accuracy"]) == ("closed", "0.5000", "0.8750")
        assert named["cohort"] in {" ".join(members[:-1]), str(len(members) - 1)}
        assert named["lost"] == lost[0] or named["lost"].endswith("…")
        assert ("up" in named) is (columns >= watching.WIDE)


def test_on_a_low_terminal_the_newest_rounds_stay_in_sight(server: Coordinator) -> None:
    many = job_of(running(server, *(round_told(number) for number in range(1, 101)), rounds_total=100))
    assert rounds_in(live([many], lines=12)) == [str(number) for number in range(95, 101)]


def test_why_an_attempt_failed_stands_below(server: Coordinator) -> None:
    job = job_of(
        running(server, round_told(1, "aborted", cohort=(), reason="us did not answer"), round_told(1, attempt=1))
    )
    assert "round 1 aborted: us did not answer" in live([job], 60)


def test_a_terminal_never_shows_markup_or_escapes_of_a_name(server: Coordinator) -> None:
    job = job_of(running(server, round_told(1, cohort=["[red]fr[/red]"]), name="[bold]x\x1b[2J"))
    picture = live([job])
    assert "[red]fr[/red]" in picture
    assert "[bold]x [2J" in picture
    assert "\x1b[2J" not in picture


def test_a_dumb_terminal_gets_lines(server: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setenv("TERM", "dumb")
    with contextlib.redirect_stdout(out):
        watching.watch(job_of(view) for view in story(server))
    assert out.getvalue() == STORY


def test_ctrl_c_leaves_the_job_alone(server: Coordinator, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_views: Callable[[], object]) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr("coordinator.client.main.watch", interrupted)
    answer = concord("watch", "tiny", "--home", home.path)
    assert answer.code == exit_code(KeyboardInterrupt())
    assert "the job goes on; `concord watch tiny` shows it again" in answer.err
    assert server.withdrawn == []
