"""A key that a passphrase opens, and where the passphrase may come from."""

import os
from pathlib import Path

import pytest

from coordinator.client.signing import opened_key, passphrase
from federation.errors import InvalidIdentity, InvalidUsage
from federation.identity.keys import SigningKey
from federation.identity.locked_key import LEAST_COST, is_locked, lock, public_part, unlock
from federation.identity.signer import Signer

KEY = SigningKey.generate()
WORDS = "correct horse battery"
LOCKED = lock(KEY, WORDS, bytes(16), bytes(12), LEAST_COST)


def test_a_locked_key_opens_with_its_passphrase_alone() -> None:
    assert unlock(LOCKED, WORDS).public == KEY.public == public_part(LOCKED)
    assert is_locked(LOCKED)
    assert not is_locked(KEY.to_pem())
    assert isinstance(KEY, Signer)
    for wrong in ("", WORDS + " ", WORDS.upper()):
        with pytest.raises(InvalidIdentity, match="does not open"):
            unlock(LOCKED, wrong)
    with pytest.raises(InvalidIdentity, match="shorter than"):
        lock(KEY, "short", bytes(16), bytes(12))


def test_the_file_tells_nothing_of_the_key() -> None:
    for line in KEY.to_pem().splitlines()[1:-1]:
        assert line not in LOCKED
    assert WORDS.encode() not in LOCKED


def test_each_altered_byte_of_the_file_shows() -> None:
    for place in range(0, len(LOCKED), 9):
        altered = bytearray(LOCKED)
        altered[place] ^= 1
        with pytest.raises(InvalidIdentity):
            unlock(bytes(altered), WORDS)


@pytest.mark.parametrize("cost", ["13", "21", "17.0", "true"])
def test_a_file_that_asks_for_endless_work_is_refused(cost: str) -> None:
    with pytest.raises(InvalidIdentity):
        unlock(LOCKED.replace(b'"cost":14', f'"cost":{cost}'.encode()), WORDS)


def test_a_passphrase_comes_from_a_private_file_a_descriptor_or_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key = tmp_path / "words", tmp_path / "identity.key"
    path.write_text(WORDS + "\n")
    path.chmod(0o644)
    with pytest.raises(InvalidIdentity, match="may read the passphrase"):
        passphrase("", {"CONCORD_PASSPHRASE_FILE": str(path)})
    path.chmod(0o600)
    assert passphrase("", {"CONCORD_PASSPHRASE_FILE": str(path)}) == WORDS
    with path.open("rb") as stream:
        assert passphrase("", {"CONCORD_PASSPHRASE_FD": str(stream.fileno())}) == WORDS
    for number in ("three", "999"):
        with pytest.raises(InvalidUsage, match="is no open file"):
            passphrase("", {"CONCORD_PASSPHRASE_FD": number})
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(InvalidUsage, match="no terminal to ask"):
            passphrase("", {})
    monkeypatch.setenv("CONCORD_PASSPHRASE_FILE", str(path))
    assert opened_key(key, LOCKED).public == KEY.public
    assert opened_key(key, KEY.to_pem()).public == KEY.public
