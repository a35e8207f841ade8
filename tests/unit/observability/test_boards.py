"""What `make observe` waits for: an expression is answered by data and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from examples.observe.__main__ import until
from examples.observe.boards import Boards, expressions
from federation.errors import Unavailable


class Answers:
    """A Prometheus that has data for what ``has`` says."""

    def __init__(self, has: Callable[[str], bool]) -> None:
        self.has = has

    def query(self, expression: str) -> tuple[Any, ...]:
        return (({}, 1.0),) if self.has(expression) else ()


def test_one_expression_without_data_is_one_that_is_waited_for_in_vain() -> None:
    wanted = list(expressions())
    lame = next(each for each in wanted if "concord_job_phase" in each.text)
    boards = Boards(gpus=True)
    prometheus: Any = Answers(lambda text: text != lame.text)

    def all_answered() -> bool:
        boards.ask(prometheus)
        return not boards.pending

    with pytest.raises(Unavailable, match="expressions: not within 0 s"):
        until("expressions", all_answered, 0.0)
    assert boards.pending == [lame]
    assert sum(boards.answered.values()) == len(wanted) - 1
    prometheus.has = lambda _text: True
    until("expressions", all_answered, 0.0)


def test_without_a_gpu_its_expressions_alone_are_left_out() -> None:
    wanted = list(expressions())
    boards = Boards(gpus=False)
    about = [each for each in wanted if each.needs_gpu]
    assert boards.left_out == len(about) == 3
    assert set(boards.pending) == set(wanted) - set(about)
