"""A charter as people write it: YAML with the words of the roll's document; what is left out is as in the standard charter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from coordinator.client.files import read_file
from federation.errors import InvalidIdentity, InvalidManifest, InvalidUsage
from federation.governance.charter import FIELDS, Charter, Seat, read_charter
from federation.manifest.yaml_source import read_yaml
from federation.policy.pack import load_base_pack

LIMIT: Final = 1 << 20
KIND: Final = {"apiVersion": "concord/v1", "kind": "Charter"}
BASE_POLICY: Final = "basePolicy"
BASE_POLICY_FILE: Final = "basePolicyFile"


def read_charter_file(path: Path) -> Charter:
    """Raises InvalidManifest for what is no YAML, InvalidIdentity for what is no charter; both also for its base pack, with file,
    line and sentence: a pack that nodes cannot follow would have each of them deny every job."""
    data = read_file(path, LIMIT, what="The charter")
    try:
        source = read_yaml(data.decode(), str(path))
    except UnicodeDecodeError:
        raise InvalidManifest(f"{path} is not text in UTF-8.", hint="Save it as UTF-8.") from None
    if not isinstance(source.value, dict):
        raise InvalidIdentity(f"{path} is not a charter.", hint="`concord charter show` prints one to begin with.")
    written = dict(source.value)
    for name, value in KIND.items():
        if written.pop(name, value) != value:
            raise InvalidIdentity(f"{path}: {name} is not {value}.", hint="A charter is of kind Charter, concord/v1.")
    where = f"basePolicy of {path}"
    if (beside := written.pop(BASE_POLICY_FILE, None)) is not None:
        if written.get(BASE_POLICY) is not None:
            raise InvalidIdentity(f"{path} has both {BASE_POLICY} and {BASE_POLICY_FILE}.", hint="Keep one of them.")
        where, written[BASE_POLICY] = _base_policy(path, beside)
    standard = Charter.standard().as_document()
    for name in ("quorums", "halt", "coordinator"):
        if isinstance(written.get(name), dict):
            written[name] = {**standard[name], **written[name]}
    unknown = sorted(set(written) - set(FIELDS))
    if unknown:
        raise InvalidIdentity(
            f"{path}: unknown {', '.join(map(str, unknown))[:200]}.", hint=f"A charter has {', '.join(FIELDS)}."
        )
    try:
        charter = read_charter({**standard, **written})
    except InvalidIdentity as error:
        raise InvalidIdentity(f"{path}: {error.message}", hint=error.hint) from None
    if charter.base_policy is not None:
        load_base_pack(charter.base_policy, where)
    return charter


def kept_seat(new: Charter, held: Charter) -> Charter:
    """A file that says nothing of the coordinator leaves it where it is; one that names no log key leaves that."""
    if new.coordinator == Seat():
        return replace(new, coordinator=held.coordinator)
    if new.coordinator.log is None:
        return replace(new, coordinator=replace(new.coordinator, log=held.coordinator.log))
    return new


def charter_document(charter: Charter) -> dict[str, Any]:
    """To be written as YAML; ``read_charter_file`` reads it back."""
    return {**KIND, **charter.as_document()}


def _base_policy(path: Path, beside: object) -> tuple[str, str]:
    """(its path, what it says)"""
    if not isinstance(beside, str):
        raise InvalidIdentity(f"{path}: {BASE_POLICY_FILE} is not a path.")
    try:
        named = path.parent / beside
        return str(named), read_file(named, LIMIT, what="The base policy").decode()
    except UnicodeDecodeError:
        raise InvalidUsage(f"{beside} is not text in UTF-8.", hint="Save it as UTF-8.") from None
