"""Jobs whose one round has no training: the machines sum a header, of one model or of none, as they do in the last round of others.

No document asks for such a job in this version; the machines, the encoding and the checks on a sum are ready for it.
"""

from __future__ import annotations

from typing import Any

import pytest

from federation.secagg.figures import mean_figures, public_words
from federation.secagg.header import ONE
from tests.simulation.harness import World
from tests.simulation.stand_ins import Quick


def run(kind: type[World], **changes: Any) -> World:
    """One metric: member i has 0.25 * i."""
    world = kind(5, rounds=0, final_evaluation=True, weights=[1] * 5, **changes)
    world.sums_seen = []  # type: ignore[attr-defined]
    opened = world.opened

    def seen(fetch: Any) -> Any:
        read = opened(fetch)
        world.sums_seen.append(read)  # type: ignore[attr-defined]
        return read

    world.opened = seen  # type: ignore[method-assign]
    return world


def checked(world: World, cohort: tuple[int, ...]) -> None:
    assert world.done is not None, world.stuck
    (closed,) = world.closed
    assert closed.certificate.survivors.cohort == cohort
    assert world.terms.header_only(1)
    for read in world.sums_seen:  # type: ignore[attr-defined]
        assert read.header[0] == len(cohort)
        words = public_words(read.header, world.terms)
        assert words == (sum(index * ONE // 4 for index in cohort), len(cohort) * ONE)
        assert mean_figures(words, world.terms) == {"train/loss": sum(cohort) / 4 / len(cohort)}
    assert len(world.sums_seen) >= world.collector._certain.quorums.q  # type: ignore[attr-defined]


@pytest.mark.parametrize("blind", [True, False])
@pytest.mark.parametrize("size", [20, 0], ids=["a model", "no model"])
def test_a_job_may_be_one_round_without_training(blind: bool, size: int) -> None:
    """Real ciphers, through the wire's bytes."""
    world = run(World, blind=blind, size=size, through_wire=True)
    world.begin().run()
    checked(world, (1, 2, 3, 4, 5))
    assert world.audits > 0


@pytest.mark.parametrize("kind", ["Upload", "Ack", "Reveal", "Receipt"])
@pytest.mark.parametrize("before", [True, False])
def test_a_member_may_be_lost_at_any_step_of_it(kind: str, before: bool) -> None:
    world = run(Quick, size=0)
    (world.kill_before if before else world.kill_after).add(("m2", kind))
    world.begin().run()
    checked(world, (1, 3, 4, 5) if kind == "Upload" and before else (1, 2, 3, 4, 5))
