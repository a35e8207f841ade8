"""Who keeps what a watch sees, beside showing it: event files, a tracking server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from coordinator.client.terminal import say
from coordinator.client.views import Job
from federation.errors import FederationError


class Keeper(Protocol):
    def tell(self, job: Job) -> None:
        """Raises FederationError when it can keep no more."""


def kept(views: Iterable[Job], keepers: Sequence[Keeper]) -> Iterator[Job]:
    """The views, each told to every keeper after it was shown. One that fails is named once, and the watch goes on."""
    able = list(keepers)
    for job in views:
        yield job
        for keeper in list(able):
            try:
                keeper.tell(job)
            except FederationError as error:
                able.remove(keeper)
                say(f"warning: {error.message} {error.hint}")
