"""A job's figures as pictures, event files, runs of MLflow, and tables in a notebook: the same numbers in each, harmless texts."""

import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from coordinator.client import event_files, markup
from coordinator.client.curves import file_name, points_of
from coordinator.client.event_files import EventFiles
from coordinator.client.figures import is_accuracy, is_loss
from coordinator.client.home import Home
from coordinator.client.keeping import kept
from coordinator.client.mlflow_runs import DIGEST, MlflowRun
from coordinator.client.plotting import any_letter, picture_of
from coordinator.client.sdk import Federation
from coordinator.client.terminal import COLOURS
from coordinator.client.views import Job, Jobs, job_of
from federation.errors import InvalidUsage
from tests.unit.client.scripted import Coordinator
from tests.unit.client.told import job_told, nodes_told, round_told
from tests.unit.client.typed import concord, done, refused

LOSSES = {1: 0.9, 2: 0.6, 3: 0.4}


def told(server: Coordinator, **more: object) -> object:
    """Three rounds, the second in its second attempt; the fourth is under way."""
    rounds = [
        round_told(1, metrics={"evaluate/loss": 0.9, "train/loss": 1.0, "recall": 0.3}),
        round_told(2, "aborted", cohort=(), reason="us did not answer"),
        round_told(2, attempt=1, metrics={"evaluate/loss": 0.6, "evaluate/acc": 0.7}, cohort=("fr", "ke"), lost=("us",)),
        round_told(3, metrics={"evaluate/loss": 0.4, "evaluate/acc": math.nan}, phase_seconds={"collecting": 1, "revealing": 2}),
        round_told(4, "collecting", metrics={}, bytes_up=0),
    ]  # fmt: skip
    return job_told(server.parties, **{"rounds": rounds, "rounds_closed": 3, **more})


@pytest.fixture
def job(server: Coordinator) -> Job:
    return job_of(told(server))


def test_only_what_is_settled_becomes_a_point(job: Job) -> None:
    points = list(points_of(job))
    assert [point.round for point in points] == [1, 2, 3]
    assert [point.metrics["evaluate/loss"] for point in points] == [0.9, 0.6, 0.4]
    assert "evaluate/acc" not in points[2].metrics, "what is no number is not drawn"
    assert [point.cohort for point in points] == [3, 2, 3]
    moments = [point.moment for point in points]
    assert moments == sorted(moments)
    assert moments[2] - moments[0] == pytest.approx(3 * 1.25), "an attempt that failed took its time, too"


# ------------------------------------------------------------------------------------------------------------- pictures


def panels(job: Job) -> dict[str, Any]:
    """By title; drawn with every warning an error, as the layout warns where it gives up."""
    figure = picture_of(job).figure
    with any_letter():
        figure.draw_without_rendering()
    return {axis.get_title(): axis for axis in figure.axes}


def curves(axis: Any) -> dict[str, dict[int, float]]:
    """By label, without the marks of attempts and of what is no number."""
    named = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    return {line.get_label(): {int(x): float(y) for x, y in line.get_xydata()} for line in named}


def bars(axis: Any) -> dict[str, list[float]]:
    return {box.get_label(): [float(each.get_height()) for each in box] for box in axis.containers}


def presence(axis: Any) -> dict[str, list[int]]:
    """Of each member, round by round: 1 in the sum, 2 lost, 0 neither."""
    (image,) = axis.get_images()
    names = [label.get_text() for label in axis.get_yticklabels()]
    return {name: [int(each) for each in row] for name, row in zip(names, image.get_array(), strict=True)}


def test_a_picture_holds_each_figure(job: Job) -> None:
    axes = panels(job)
    assert curves(axes["Loss"]) == {"evaluate/loss": {1: 0.9, 2: 0.6, 3: 0.4}, "train/loss": {1: 1.0}}
    assert curves(axes["Other declared metrics"]) == {"recall": {1: 0.3}}
    assert bars(axes["Masked updates received"]).popitem()[1] == pytest.approx([3.0] * 3)
    assert axes["Masked updates received"].get_ylabel() == "MiB"
    assert bars(axes["Time by phase"]) == {
        "collecting": [1, 1, 1], "revealing": [0, 0, 2], "attempts without a sum": [0, 1.25, 0]
    }  # fmt: skip
    assert presence(axes["Members in the sum"]) == {"fr": [1, 1, 1], "ke": [1, 1, 1], "us": [1, 2, 1]}


def test_phases_are_stacked_in_the_order_in_which_a_round_goes_through_them(job: Job) -> None:
    seconds = {"revealing": 4.0, "certifying": 3.0, "announced": 1.0, "collecting": 2.0}
    axis = panels(replace(job, rounds=tuple(replace(each, phase_seconds=seconds) for each in job.rounds)))[
        "Time by phase"
    ]
    assert list(bars(axis))[:4] == ["announced", "collecting", "certifying", "revealing"]


def test_where_a_figure_is_no_number_the_curve_ends_and_says_so(job: Job) -> None:
    values = (0.9, math.nan, 0.4)
    rounds = tuple(replace(job.rounds[0], round=n, metrics={"train/loss": value}) for n, value in enumerate(values, 1))
    axis = panels(replace(job, rounds=rounds, state="finished"))["Loss"]
    drawn = curves(axis)["train/loss"]
    assert (drawn[1], drawn[3]) == (0.9, 0.4)
    assert math.isnan(drawn[2]), "nothing leads across the gap"
    broken = next(line for line in axis.get_lines() if line.get_label() == "_broken")
    assert [int(x) for x in broken.get_xdata()] == [2]


@pytest.mark.parametrize("last", [1, 11, 500])
def test_every_panel_numbers_the_same_whole_rounds(job: Job, last: int) -> None:
    rounds = tuple(replace(job.rounds[0], round=number) for number in range(1, last + 1))
    for axis in panels(replace(job, rounds=rounds, rounds_total=last, state="finished")).values():
        assert axis.get_xlim() == (0.5, last + 0.5)
        shown = [float(tick) for tick in axis.get_xticks() if 0.5 <= tick <= last + 0.5]
        assert shown
        assert all(tick.is_integer() for tick in shown)


def test_the_round_that_only_evaluates_is_called_final(job: Job) -> None:
    rounds = tuple(replace(job.rounds[0], round=number) for number in (1, 2, 3))
    axis = panels(replace(job, rounds=rounds, rounds_total=2, state="finished"))["Loss"]
    words = {
        float(tick): label.get_text() for tick, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
    }
    assert [words[number] for number in (1.0, 2.0, 3.0)] == ["1", "2", "final"]


@pytest.mark.parametrize(
    ("values", "top"),
    [((0.1, 0.98), 1.02), ((12.0, 98.0), 98.0), ((-0.2, 0.9), 0.9)],
    ids=["share", "per cent", "below"],
)
def test_no_accuracy_lies_outside_its_panel(job: Job, values: tuple[float, float], top: float) -> None:
    rounds = tuple(replace(job.rounds[0], round=n, metrics={"evaluate/acc": v}) for n, v in enumerate(values, 1))
    low, high = panels(replace(job, rounds=rounds, state="finished"))["Accuracy"].get_ylim()
    assert low <= min(values)
    assert high >= top


@pytest.mark.parametrize(
    "more",
    [
        {"metrics": {"train/$\\frac{$ loss": 1.0, "_loss": 2.0, "loss 損失": 3.0}},
        {"metrics": {"train/loss": 1e308, "evaluate/loss": -1e308}},
        {"metrics": {f"train/figure-{number}": 1.0 for number in range(99)}},
        {"seconds": math.nan, "phase_seconds": {"collecting": math.inf, "made up": 1.0, "revealing": -3.0}},
        {"cohort": tuple(f"laboratory-of-a-long-name-{number}" for number in range(13)), "bytes_up": 0},
        {"cohort": tuple(f"m{number}" for number in range(300)), "lost": ("m1",)},
        {"round": 2**63},
    ],
    ids=["names", "numbers", "many figures", "times", "long names", "many members", "a round of no job"],
)
def test_no_coordinator_spoils_the_picture(job: Job, more: dict[str, Any]) -> None:
    odd = replace(job.rounds[0], **{"round": 2, **more})
    job = replace(job, name="x$\\frac{$" * 40, reason="$" * 999, state="held", rounds=(job.rounds[0], odd))
    for title, axis in panels(job).items():
        box = axis.get_position()
        assert box.width > 0.15, title
        assert box.height > 0.2, title


@pytest.mark.parametrize(
    ("name", "loss", "accuracy"),
    [
        ("train/loss", True, False), ("evaluate/eval_loss", True, False), ("train/mseLoss", True, False),
        ("evaluate/glossary", False, False), ("evaluate/eval_acc", False, True), ("train/top5-accuracy", False, True),
        ("train/acceleration", False, False), ("evaluate/accuracies", False, True), ("vaccinated", False, False),
    ],
)  # fmt: skip
def test_a_figure_is_a_loss_or_an_accuracy_by_the_words_of_its_name(name: str, loss: bool, accuracy: bool) -> None:
    assert (is_loss(name), is_accuracy(name)) == (loss, accuracy)


def test_plot_writes_both_forms_or_neither(server: Coordinator, home: Home, tmp_path: Path) -> None:
    server.jobs = [told(server)]
    stem = tmp_path / "curves"
    answer = done(concord("plot", "tiny", "--home", home.path, "--out", stem))
    assert answer.out.split() == [f"{stem}.png", f"{stem}.svg"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")
    root = ElementTree.fromstring((tmp_path / "curves.svg").read_text())
    assert root.tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["curves.png", "curves.svg"]
    gone = refused(concord("plot", "tiny", "--home", home.path, "--out", tmp_path / "no" / "curves"), InvalidUsage)
    assert "is not there" in gone.err


def test_before_a_round_there_is_nothing_to_draw(server: Coordinator, home: Home, tmp_path: Path) -> None:
    server.jobs = [told(server, rounds=[], rounds_closed=0)]
    answer = refused(concord("plot", "tiny", "--home", home.path, "--out", tmp_path / "curves"), InvalidUsage)
    assert "nothing to draw" in answer.err
    assert not list(tmp_path.glob("curves*"))


def test_without_matplotlib_it_says_what_to_install(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InvalidUsage) as missing:
        picture_of(job)
    assert "concord-federation[pictures]" in missing.value.hint


# ----------------------------------------------------------------------------------------------------------- event files


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder))
    read.Reload()
    return {name: [(each.step, each.value) for each in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_a_watch_leaves_the_curves_once_however_often_it_is_repeated(server: Coordinator, home: Home) -> None:
    rounds = [round_told(number, metrics={"evaluate/loss": loss}) for number, loss in LOSSES.items()]
    views = [told(server, rounds=rounds[:count], rounds_closed=count) for count in (0, 1, 1, 2, 3)]
    for _ in range(2):
        server.watched = [*views, told(server, rounds=rounds, state="finished")]
        answer = done(concord("watch", "tiny", "--home", home.path))
        (folder,) = (home.path / "runs").iterdir()
        assert f"tensorboard --logdir {home.path / 'runs'}" in answer.err
        found = scalars(folder)
        assert found["evaluate/loss"] == [(number, pytest.approx(loss)) for number, loss in LOSSES.items()]
        assert found["round/cohort"] == [(number, 3.0) for number in LOSSES]
        assert {"round/seconds", "round/bytes_up", "phase/collecting"} <= set(found)


def test_no_curves_are_kept_where_none_are_wanted(server: Coordinator, home: Home, tmp_path: Path) -> None:
    server.watched = [told(server, state="finished")]
    done(concord("watch", "tiny", "--home", home.path, "--no-events"))
    assert not (home.path / "runs").exists()
    server.watched = [told(server, state="finished")]
    done(concord("watch", "tiny", "--home", home.path, "--events", tmp_path / "mine"))
    assert len(list((tmp_path / "mine").glob("*/events.out.tfevents.*"))) == 1
    both = refused(concord("watch", "tiny", "--home", home.path, "--no-events", "--events", tmp_path), InvalidUsage)
    assert "contradict" in both.err


def test_a_folder_that_cannot_be_written_ends_no_watch(server: Coordinator, home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server.watched = [told(server), told(server, state="finished")]
    answer = done(concord("watch", "tiny", "--home", home.path, "--events", tmp_path / "file"))
    assert answer.err.count("cannot be written") == 1
    assert answer.out.endswith("job/tiny finished: runs on fr-1, ke-1, us-1\n")


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a/b", ".", "tiny\u202e"])
def test_a_coordinator_chooses_no_place_on_the_leads_disk(job: Job, tmp_path: Path, name: str) -> None:
    named = replace(job, name=name)
    assert file_name(named) == job.digest.hex()[:12]
    with EventFiles(tmp_path / "runs") as curves:
        curves.tell(named)
    assert [path.parent.name for path in (tmp_path / "runs").rglob(event_files.PATTERN)] == [job.digest.hex()[:12]]


# ---------------------------------------------------------------------------------------------------------------- MLflow


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")
def test_a_run_of_mlflow_is_taken_up_where_it_was_left(server: Coordinator, home: Home, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    rounds = [round_told(number, metrics={"evaluate/loss": loss}) for number, loss in LOSSES.items()]
    for views in ([told(server, rounds=rounds[:2])], [told(server, rounds=rounds, state="finished")]):
        run = MlflowRun(uri)
        for _ in kept((job_of(view) for view in views), [run]):
            pass
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [each for each in client.search_experiments() if each.name.startswith("concord/")]
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "evaluate/loss")
    assert [(each.step, each.value) for each in history] == list(LOSSES.items())
    assert found.info.status == "FINISHED"
    assert found.data.tags[DIGEST] == job_of(told(server)).digest.hex()
    assert found.data.params["lead"] == "lead"
    assert found.data.params["strategy.name"]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")
def test_mlflow_that_takes_nothing_is_named_before_the_watch_and_ends_none(
    server: Coordinator, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    bad = f"sqlite:///{tmp_path}/file/mlflow.db"
    assert (
        "did not take the run"
        in refused(concord("watch", "tiny", "--home", home.path, "--mlflow", bad), InvalidUsage).err
    )
    server.watched = [told(server), told(server, state="finished")]
    monkeypatch.setattr(MlflowRun, "_begin", lambda self, job: math.log(0))
    answer = done(concord("watch", "tiny", "--home", home.path, "--mlflow", f"sqlite:///{tmp_path}/mlflow.db"))
    assert answer.err.count("did not take the run") == 1
    assert answer.out.endswith("job/tiny finished: runs on fr-1, ke-1, us-1\n")


def test_without_mlflow_it_says_what_to_install(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    answer = refused(concord("watch", "tiny", "--home", home.path, "--mlflow", "sqlite:///mlflow.db"), InvalidUsage)
    assert "concord-federation[mlflow]" in answer.err


# -------------------------------------------------------------------------------------------------------------- notebooks


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self._open = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.cells[-1] += data


def cells_of(html: str) -> Cells:
    found = Cells()
    found.feed(html)
    found.close()
    return found


WORDS = st.text() | st.sampled_from(sorted(COLOURS))


@given(rows=st.lists(st.tuples(WORDS, WORDS), max_size=5))
def test_no_text_of_a_peer_becomes_markup(rows: list[tuple[str, str]]) -> None:
    """But for the badge of a word that is, whole, a state."""
    found = cells_of(markup.table(("A", "B"), rows))
    assert [re.sub(r"[\r\x00]", "", each) for each in found.cells] == [
        re.sub(r"[\r\x00]", "", word) for word in ("A", "B", *(word for row in rows for word in row))
    ]
    states = [word for row in rows for word in row if COLOURS.get(word) in markup.SHADES]
    assert found.tags - ({"span"} if states else set()) <= {"table", "thead", "tbody", "tr", "td", "th"}
    assert ("span" in found.tags) == bool(states)


def test_a_state_is_read_on_a_light_page_and_on_a_dark_one() -> None:
    """White letters on a colour of their own: 4.5 to 1 at least, as WCAG 2.1 asks of text (1.4.3)."""

    def light(shade: str) -> float:
        parts = [int(shade[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for shade in markup.SHADES.values():
        assert 1.05 / (light(shade) + 0.05) >= 4.5, shade
    assert f"color:#fff;border-radius:3px;padding:0 5px;background:{markup.SHADES['32']}" in markup.cell("granted")
    assert "background" not in markup.cell("grant")


def test_the_sdks_objects_are_tables_in_a_notebook(server: Coordinator, home: Home, job: Job) -> None:
    server.jobs, server.nodes = [told(server, name="<script>x</script>")], nodes_told()
    with Federation.connect(home.path) as federation:
        jobs, state = federation.jobs(), federation.describe()
    assert isinstance(jobs, Jobs)
    shown = cells_of(jobs._repr_html_())
    assert "script" not in shown.tags
    assert "<script>x</script>" in shown.cells
    nodes = cells_of(state._repr_html_()).cells
    assert {"fr-1", "active", "suspended", "FR"} <= set(nodes)
    whole = cells_of(job._repr_html_()).cells
    assert {"granted", "aborted", "2.1", "data set x is not lent; too few", "0.9000"} <= set(whole)
