"""Which jobs run where: a pure function of the state. All of a job's nodes or none; by priority, then first come first served.

A job that does not fit waits, and nothing overtakes it on the nodes that it needs. One that could not run even if nothing else did
(it asks for more than there is, or its members are away) holds no node back: it would hold up everybody for ever. Every
decision has a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a node offers, and what is left after the jobs that run there."""

    member: str
    node: str
    jurisdiction: str
    connected: bool
    gpus: tuple[int, ...]
    """memory of each free GPU, bytes"""
    cpus: int
    memory: int
    slices: tuple[int, ...] = ()
    """memory of each free slice of a GPU, bytes; one serves a job that asks for one GPU, and two do not make two"""

    def gpus_for(self, count: int) -> list[int]:
        return sorted(self.gpus + self.slices if count == 1 else self.gpus)

    def less(self, gpus: int, gpu_memory: int, cpus: int, memory: int) -> Capacity:
        """What is left beside a job: the smallest GPUs that fit are taken, as many of them as are there."""
        taken = [size for size in self.gpus_for(gpus) if size >= gpu_memory][:gpus]
        whole, slices = list(self.gpus), list(self.slices)
        for size in taken:
            (whole if size in whole else slices).remove(size)
        return replace(
            self, gpus=tuple(whole), slices=tuple(slices), cpus=self.cpus - cpus, memory=self.memory - memory
        )


@dataclass(frozen=True, slots=True)
class Request:
    job: str
    priority: int
    sequence: int
    """order of submission"""
    gpus: int
    gpu_memory: int
    cpus: int
    memory: int
    min_members: int
    max_members: int
    min_jurisdictions: int
    consented: tuple[tuple[str, str], ...]
    """(member, node) that consented"""


@dataclass(frozen=True, slots=True)
class Decision:
    placements: Mapping[str, tuple[tuple[str, str], ...]]
    """job -> (member, node), sorted by member, one seat for each member"""
    explanations: Mapping[str, str]
    """job -> why it waits, or where it runs"""


def place(nodes: Sequence[Capacity], requests: Sequence[Request], idle: Sequence[Capacity] | None = None) -> Decision:
    """Places what fits, gang by gang. ``idle``: the nodes as they are when no job runs; ``nodes`` when nothing is given."""
    free = {(node.member, node.node): node for node in nodes}
    whole = dict(free) if idle is None else {(node.member, node.node): node for node in idle}
    placements: dict[str, tuple[tuple[str, str], ...]] = {}
    explanations: dict[str, str] = {}
    blocked: set[tuple[str, str]] = set()
    for request in sorted(requests, key=lambda item: (-item.priority, item.sequence)):
        chosen, reason = _seats(free, blocked, request, "can take it now")
        if not chosen:
            possible, never = _seats(whole, set(), request, "could take it even with nothing else running")
            if possible:
                blocked |= {key for key in request.consented if _could(whole.get(key), request)}
            explanations[request.job] = reason if possible else never
            continue
        explanations[request.job] = reason
        placements[request.job] = chosen
        for seat in chosen:
            free[seat] = free[seat].less(request.gpus, request.gpu_memory, request.cpus, request.memory)
    return Decision(placements, explanations)


def _seats(
    free: Mapping[tuple[str, str], Capacity], blocked: set[tuple[str, str]], request: Request, can: str
) -> tuple[tuple[tuple[str, str], ...], str]:
    seats: dict[str, Capacity] = {}
    short: list[str] = []
    for key in sorted(request.consented):
        node = free.get(key)
        if node is None or not node.connected:
            short.append(f"{key[1]} is not connected")
        elif key in blocked:
            short.append(f"{key[1]} is kept for a job before it")
        elif lack := _lack(node, request):
            short.append(f"{key[1]} {lack}")
        else:
            seats.setdefault(node.member, node)
    chosen = _spread(list(seats.values()), request.max_members)
    places = len({node.jurisdiction for node in chosen})
    why = f" ({'; '.join(short[:5])}{'; …' if len(short) > 5 else ''})" if short else ""
    if len(chosen) < request.min_members:
        return (), f"waits: it needs {request.min_members} members at once, and {len(chosen)} {can}{why}"
    if places < request.min_jurisdictions:
        return (), f"waits: it needs {request.min_jurisdictions} jurisdictions, and {places} {can}{why}"
    placed = tuple(sorted((node.member, node.node) for node in chosen))
    return placed, f"runs on {', '.join(node for _member, node in placed)}"


def _spread(nodes: list[Capacity], most: int) -> list[Capacity]:
    """At most ``most`` nodes, new jurisdictions first, then by member."""
    seen: set[str] = set()
    first: list[Capacity] = []
    rest: list[Capacity] = []
    for node in sorted(nodes, key=lambda item: item.member):
        (rest if node.jurisdiction in seen else first).append(node)
        seen.add(node.jurisdiction)
    return (first + rest)[:most]


def _could(node: Capacity | None, request: Request) -> bool:
    return node is not None and node.connected and not _lack(node, request)


def _lack(node: Capacity, request: Request) -> str:
    fitting = sum(memory >= request.gpu_memory for memory in node.gpus_for(request.gpus))
    if fitting < request.gpus:
        return f"has {fitting} of {request.gpus} free GPUs that fit"
    if node.cpus < request.cpus:
        return f"has {node.cpus} of {request.cpus} free CPUs"
    if node.memory < request.memory:
        return f"has {node.memory >> 20} of {request.memory >> 20} MiB free"
    return ""
