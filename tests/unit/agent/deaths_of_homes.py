"""Scenes in which `concord-node init` and `join` are killed at each step that they make, and what the home is after each death."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from federation.audit.checkpoint import log_key
from federation.errors import InvalidUsage
from federation.identity.credential import open_node_request
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.identity.transport import TransportKey
from federation.policy.rules import load_policy
from node_agent import enrolment
from node_agent.link.enrolment import Joined
from tests.unit.agent.homes import DAY, OWN, Site, federation_of
from tests.unit.agent.killed import each_kill

LOG = str(log_key("health", bytes(32)))


def init(folder: Path) -> None:
    """Every death leaves no home or a whole one, and never a key that another key replaces."""
    made = []
    for step in each_kill(lambda step: Site(folder / str(step)).init()):
        site = Site(folder / str(step))
        key = site.home.identity_key
        before = key.read_bytes() if key.exists() else None
        made.append(site.home.settings_file.exists())
        try:
            site.init()
            assert not made[-1]
        except InvalidUsage:
            assert made[-1]
        assert before in (None, key.read_bytes())
        opened = open_node_request(site.request.read_bytes())
        assert opened.identity_key == SigningKey.from_pem(key.read_bytes()).public
        TransportKey.from_pem(site.home.transport_key.read_bytes())
        load_policy(site.home.policy_file.read_text(), "policy.yaml")
        assert site.home.settings().node == "fr-1"
    assert len(made) > 8
    assert made == sorted(made)


def joined(site: Site) -> bool:
    """Whether this home's node would start; then everything must be there and fit."""
    home = site.home
    if not home.settings().address:
        return False
    roll = Roll.open(home.roll.read_bytes())
    enrolment.check_credential(home, home.credential.read_bytes(), roll, home.settings())
    transport = TransportKey.from_pem(home.transport_key.read_bytes())
    enrolment.check_certificate(home.transport_certificate.read_bytes(), transport, home.settings())
    assert home.ca.read_bytes() == site.authority.certificate_pem
    assert home.witness.joinpath("log.key").read_text() == f"{LOG}\n"
    return True


def answering(site: Site) -> Site:
    """The coordinator's answer as if it had just come: what is killed is the node's own part."""

    async def join(*asked: Any) -> Joined:
        certificate = site.authority.issue(asked[4], OWN, datetime.now(UTC), DAY)
        return Joined(certificate, site.authority.certificate_pem, site.parties.roll.envelope, LOG)

    enrolment.wire.join = join
    return site


def join(folder: Path) -> None:
    """Every death leaves a home that has joined wholly or not at all, and another ticket heals it."""
    parties, outcomes = federation_of(), []

    def made(step: int) -> Site:
        site = answering(Site(folder / str(step), parties))
        if not site.path.exists():
            site.path.mkdir()
            site.init()
        return site

    first = made(0).authority
    Site.authority = first  # type: ignore[method-assign, assignment]
    step = 1
    made(step)
    for step in each_kill(lambda step: made(step).join()):
        site = made(step)
        made(step + 1)
        keys = {path: path.read_bytes() for path in (site.home.identity_key, site.home.transport_key)}
        outcomes.append(joined(site))
        site.join()
        assert joined(site)
        assert {path: path.read_bytes() for path in keys} == keys
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)
    assert len(outcomes) >= 10


def join_again(folder: Path) -> None:
    """The certificate had ended, say: a death leaves a node that starts, for old and new fit each other file by file."""
    site = answering(Site(folder))
    site.init()
    site.join()
    deaths = 0
    for _ in each_kill(lambda _: site.join()):
        assert joined(site)
        deaths += 1
    assert deaths >= 10


def init_and_join(folder: Path) -> None:
    """All three, in one process."""
    for scene in (init, join_again, join):
        place = folder / scene.__name__
        place.mkdir()
        scene(place)
