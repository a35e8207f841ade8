"""An officer whose key is gone, with its home or without: which commands bring the member back, and that a vote is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordinator.client.home import Home
from federation.errors import InvalidIdentity
from federation.governance.ballot import decision_bytes
from federation.governance.history import extended
from federation.governance.proposal import Vote, open_proposal, seal_vote
from federation.identity.roll import Roll
from tests.unit.client.founding import MEMBERS, Cast
from tests.unit.client.typed import concord, done


@pytest.fixture
def cast(tmp_path: Path) -> Cast:
    made = Cast(tmp_path)
    made.found()
    for who in MEMBERS:
        done(concord("roll", "take", made.roll, "--home", made.home(who)))
    return made


def the_key_is_lost(cast: Cast, next_roll: Path) -> None:
    (cast.home("ke") / "keys" / "identity.key").unlink()
    done(concord("member", "rotate", "--lost", "--home", cast.home("ke"), "--out", next_roll))


def the_home_is_lost(cast: Cast, next_roll: Path) -> None:
    shutil.rmtree(cast.home("ke"))
    cast.card("ke").unlink()
    done(cast.member("ke", "KE"))
    done(concord("roll", "amend", "--key", cast.card("ke"), "--home", cast.home("br"), "--out", next_roll))
    done(cast.sign("ke", next_roll))


@pytest.mark.parametrize("lost", [the_key_is_lost, the_home_is_lost])
def test_two_thirds_of_the_members_give_an_officer_a_new_key(cast: Cast, tmp_path: Path, lost: object) -> None:
    held = Roll.open(cast.roll.read_bytes())
    draft, asked = tmp_path / "roll-2.json", tmp_path / "proposal.json"
    lost(cast, draft)  # type: ignore[operator]
    words = ("propose", "admission", "--draft", draft, "--offline", asked, "--home", cast.home("br"))
    done(concord(*words))
    done(concord("sign", asked, "--home", cast.home("br")))
    proposal = open_proposal(asked.read_bytes(), held)
    votes = [
        seal_vote(Vote(proposal.digest, "yes", "", proposal.opened), Home.at(cast.home(who)).identity_key())
        for who in ("br", "in")
    ]
    with pytest.raises(InvalidIdentity):
        extended(held, draft.read_bytes(), decision_bytes(asked.read_bytes(), votes[:1]))
    with pytest.raises(InvalidIdentity):
        extended(held, draft.read_bytes(), None)
    after = extended(held, draft.read_bytes(), decision_bytes(asked.read_bytes(), votes))
    (tmp_path / "after.json").write_bytes(after.envelope)
    if not (cast.home("ke") / "roll.json").exists():
        done(concord("roll", "take", cast.roll, "--home", cast.home("ke")))
    done(concord("roll", "take", tmp_path / "after.json", "--home", cast.home("ke")))
    own = Home.at(cast.home("ke")).identity_key().public
    assert own == after.member("ke").officer_key != held.member("ke").officer_key
    assert after.member("ke").active
