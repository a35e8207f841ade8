"""The policy that holds on this node now: the lab's own file, the base pack that the roll's charter names, and what is in policy.d.

A pack that is older than the one that this node has seen, says something else under the same serial, or is gone is refused: every
job is denied until somebody sees to it, and what was offered is kept as evidence. The base pack goes when a newer roll has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from federation.errors import FederationError, InvalidManifest, InvalidUsage, NotFound, ProtocolViolation
from federation.identity.fields import moment_text
from federation.identity.roll import Roll
from federation.policy.pack import Pack, Unread, load_base_pack, load_pack
from federation.policy.rules import Policy, load_policy
from node_agent.settings import Home
from node_agent.store.evidence import Piece
from node_agent.store.packs import PackMemory, SeenPack

PACK_LIMIT: Final = 1 << 20
CHECK: Final = "pack-downgraded"
NO_JOB: Final = bytes(32)
Keep = Callable[[Piece], Any]


@dataclass(frozen=True, slots=True)
class _Offered:
    pack: Pack
    place: str
    text: bytes
    roll: int


def read_policy(home: Home, source: str) -> Policy:
    """policy.yaml as it is now. Raises NotFound, InvalidUsage or InvalidManifest, with what to do."""
    try:
        text = home.read(home.policy_file).decode()
    except UnicodeDecodeError:
        raise InvalidUsage(f"{source} is not UTF-8 text.", hint="Save it as UTF-8, or put back the old file.") from None
    return load_policy(text, source)


def held_policy(home: Home, source: str, roll: Roll, keep: Keep | None) -> Policy:
    """All of it. ``keep``: what takes evidence; None: nothing is kept and nothing is remembered, as where somebody only looks.

    Raises what ``read_policy`` raises; a pack with which something is wrong does not raise, it denies.
    """
    policy = read_policy(home, source)
    offered: list[_Offered] = []
    unread: list[Unread] = []
    for read in (*_of_folder(home), *_of_charter(roll)):
        if isinstance(read, Unread):
            unread.append(read)
        else:
            offered.append(read)
    memory = PackMemory(home.pack_memory)
    try:
        seen = memory.packs()
    except InvalidUsage as error:
        return policy.under(
            [each.pack for each in offered], [*unread, Unread(home.pack_memory.name, "lab", error.message)]
        )
    refused = dict(_downgrades(offered, seen))
    for each in offered:
        if keep is not None and each.pack.name in refused:
            keep(_evidence(each, refused[each.pack.name], roll))
    gone = [] if unread else list(_gone(offered, seen, roll))
    good = {each.pack.name: each for each in offered if each.pack.name not in refused}
    dropped = {
        name for name, held in seen.items() if held.layer == "base" and name not in good and roll.version > held.roll
    }
    after = {name: held for name, held in seen.items() if name not in dropped or name in refused}
    after |= {
        name: SeenPack(each.pack.layer, each.pack.serial, each.pack.digest, each.roll) for name, each in good.items()
    }
    if keep is not None and after != seen:
        memory.remember(after)
    sentences = [Unread(name, "lab", sentence) for name, sentence in refused.items()]
    return policy.under([each.pack for each in offered], [*unread, *sentences, *gone])


def forget(home: Home, name: str) -> None:
    """Takes a pack out of this node's memory: the lab's own decision. Raises NotFound."""
    memory = PackMemory(home.pack_memory)
    seen = memory.packs()
    if name not in seen:
        known = f"It has seen: {', '.join(sorted(seen))}." if seen else "It has seen none."
        raise NotFound(f"This node has seen no policy pack {name}.", hint=known)
    memory.remember({other: held for other, held in seen.items() if other != name})


def read_pack(path: Path) -> tuple[Pack, bytes]:
    """A file of policy.d, and its bytes. Raises InvalidManifest, OSError, UnicodeDecodeError."""
    with path.open("rb") as stream:
        data = stream.read(PACK_LIMIT + 1)
    if len(data) > PACK_LIMIT:
        raise InvalidManifest(f"{path.name} is larger than {PACK_LIMIT >> 20} MiB.")
    pack = load_pack(data.decode(), path.name)
    if pack.layer == "base":
        raise InvalidManifest(
            f"{path.name}: a base pack comes with the membership roll, by vote, and not as a file.",
            hint="Take the file away.",
        )
    return pack, data


def _of_folder(home: Home) -> Iterator[_Offered | Unread]:
    try:
        paths = sorted(path for path in home.packs.iterdir() if _is_pack(path))
    except FileNotFoundError:
        return
    except OSError as error:
        yield Unread(home.packs.name, "lab", f"the packs cannot be read: {error.strerror}")
        return
    for path in paths:
        try:
            pack, data = read_pack(path)
        except (OSError, UnicodeDecodeError) as error:
            yield Unread(path.name, "lab", f"it cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}")
        except InvalidManifest as error:
            yield Unread(path.name, "lab", error.message)
        else:
            yield _Offered(pack, path.name, data, 0)


def _is_pack(path: Path) -> bool:
    """Example cases lie beside the packs."""
    return path.suffix in {".yaml", ".yml"} and not path.name.endswith((".cases.yaml", ".cases.yml"))


def _of_charter(roll: Roll) -> Iterator[_Offered | Unread]:
    text = roll.charter.base_policy
    if text is None:
        return
    place = f"base pack of roll {roll.version}"
    try:
        pack = load_base_pack(text, place)
    except FederationError as error:
        yield Unread(place, "base", error.message)
    else:
        yield _Offered(pack, place, text, roll.version)


def _downgrades(offered: list[_Offered], seen: dict[str, SeenPack]) -> Iterator[tuple[str, str]]:
    for each in offered:
        pack, held = each.pack, seen.get(each.pack.name)
        base = next((other for other in seen.values() if other.layer == "base"), None) if pack.layer == "base" else None
        if base is not None and each.roll < base.roll:
            yield pack.name, f"{each.place} is older than the one of roll {base.roll}, which this node has seen"
        elif held is None:
            continue
        elif held.layer != pack.layer:
            yield (
                pack.name,
                f"{each.place} says that it is a {pack.layer} pack, and this node knows it as a {held.layer} pack",
            )
        elif pack.serial < held.serial:
            yield pack.name, f"{each.place} has serial {pack.serial}, and this node has seen {held.serial}"
        elif pack.serial == held.serial and pack.digest != held.digest:
            yield (
                pack.name,
                f"{each.place} says something else than the pack of serial {held.serial} that this node has seen",
            )


def _gone(offered: list[_Offered], seen: dict[str, SeenPack], roll: Roll) -> Iterator[Unread]:
    for name in sorted(set(seen) - {each.pack.name for each in offered}):
        held = seen[name]
        if held.layer == "base" and roll.version > held.roll:
            continue
        hint = "the roll must name it" if held.layer == "base" else f"put it back, or concord-node policy forget {name}"
        yield Unread(name, "lab", f"this node has seen the pack {name}, serial {held.serial}, and it is gone; {hint}")


def _evidence(each: _Offered, sentence: str, roll: Roll) -> Piece:
    violation = ProtocolViolation(
        f"The policy pack {each.pack.name}: {sentence}.",
        check=CHECK,
        hint="Put back the newer pack. Jobs are denied until then.",
        evidence=roll.envelope if each.roll else b"",
    )
    return Piece.of(NO_JOB, "", moment_text(datetime.now(UTC)), violation, "PolicyPack", [each.text])
