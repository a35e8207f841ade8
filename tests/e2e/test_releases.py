"""Who gets a release, and who does not: gates, in a real federation."""

import pytest

from federation.errors import NotFound
from tests.e2e.commands import refused, said
from tests.e2e.runs import Runs


@pytest.mark.timeout(120)
def test_a_release_is_withheld_when_a_gate_of_its_job_fails(three: Runs) -> None:
    """Blind: no member seals the model, so that not even the lead can read it."""
    gates = {"quality": [{"figure": "eval_loss", "atMost": 0.001}]}
    job = three.run(three.document("withheld", gates=gates))
    assert job.state == "finished"
    assert job.reason.startswith("release withheld: gate quality eval_loss: 0.9")
    assert job.reason.endswith(" > 0.001")
    assert not job.release
    home = ("--home", three.local.lead_home)
    assert job.reason in said("concord", "describe", job.name, *home).out
    assert job.reason in said("concord", "watch", job.name, *home).out
    refused(
        said("concord", "release", "fetch", job.name, "--out", three.folder / "none", *home),
        NotFound,
        "release withheld: gate quality eval_loss",
    )


@pytest.mark.timeout(120)
def test_a_release_whose_gates_pass_says_so(three: Runs) -> None:
    job = three.run(three.document("gated", gates={"quality": [{"figure": "eval_loss", "atMost": 100}]}))
    assert job.state == "finished"
    assert job.release
    three.release(job.name)
    card = (three.folder / f"release-{job.name}" / "README.md").read_text()
    assert "quality eval\\_loss: " in card
