"""Heads: C2SP signed notes, checked against published ones; and nothing altered passes."""

import pytest

from federation.audit.checkpoint import (
    Checkpoint,
    Note,
    VerifierKey,
    check_cosignature,
    cosigned_by,
    log_key,
    open_head,
    sign_head,
)
from federation.errors import InvalidIdentity, VerificationFailed
from federation.identity.keys import SigningKey
from tests.unit.audit.logs import NOW, MadeLog, MadeWitness, some_entries

# The example of golang.org/x/mod/sumdb/note (package documentation), and the key of Go's checksum database (cmd/go).
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
SUM_GOLANG_ORG = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"


def test_published_notes_and_keys():
    key = VerifierKey.parse(PETER)
    assert str(key) == PETER
    assert str(VerifierKey.parse(SUM_GOLANG_ORG)) == SUM_GOLANG_ORG
    note = Note.parse(PETERS_NOTE)
    assert note.signed(key) == 0
    assert note.signed(VerifierKey.parse(SUM_GOLANG_ORG)) is None
    with pytest.raises(VerificationFailed):
        Note.parse(PETERS_NOTE.replace(b"answer", b"Answer")).signed(key)


def test_a_head_has_the_published_layout():
    log = MadeLog(some_entries(5))
    lines = log.note().decode().split("\n")
    assert lines[:2] == ["concord/atlas", "5"]
    assert lines[3] == ""
    assert [line.split(" ")[:2] for line in lines[4:6]] == [["—", "concord/atlas"]] * 2
    assert lines[6:] == [""]
    head = log.head()
    assert (head.size, head.time) == (5, NOW)


def test_every_altered_byte_of_a_head_shows():
    log = MadeLog(some_entries(3))
    note = log.note()
    for place in range(len(note)):
        for bit in (1, 32, 128):
            with pytest.raises(VerificationFailed):
                open_head(note[:place] + bytes([note[place] ^ bit]) + note[place + 1 :], log.key)


def test_a_head_of_another_log_key_or_without_its_time_is_refused():
    log, other = MadeLog(some_entries(3)), MadeLog(some_entries(3))
    with pytest.raises(VerificationFailed, match="not signed by"):
        open_head(other.note(), log.key)
    with pytest.raises(VerificationFailed, match="of the log"):
        open_head(log.note(), log_key("other", log.signing.public))
    lines = log.note().splitlines(keepends=True)
    for left in (lines[:-1], lines[:-2] + lines[-1:]):
        with pytest.raises(VerificationFailed, match="not signed by"):
            open_head(b"".join(left), log.key)


def test_unknown_signatures_are_ignored_and_cosignatures_are_found():
    log, ours, theirs = MadeLog(some_entries(3)), MadeWitness("br"), MadeWitness("ke")
    note = log.note() + ours.line(log.checkpoint(), NOW + 1) + theirs.line(log.checkpoint(), NOW + 2)
    assert open_head(note, log.key).size == 3
    assert cosigned_by(note, [ours.key]) == {"concord/atlas/br/br-1": NOW + 1}
    assert cosigned_by(note, [MadeWitness("fr").key, theirs.key]) == {"concord/atlas/ke/ke-1": NOW + 2}
    assert check_cosignature(ours.line(log.checkpoint(), 7), log.checkpoint(), ours.key) == 7


def test_a_cosignature_is_of_one_head_one_key_one_time():
    log, ours = MadeLog(some_entries(3)), MadeWitness("br")
    line = ours.line(log.checkpoint())
    with pytest.raises(VerificationFailed):
        check_cosignature(line, log.checkpoint(2), ours.key)
    with pytest.raises(VerificationFailed):
        check_cosignature(line, log.checkpoint(), MadeWitness("br").key)
    with pytest.raises(VerificationFailed):
        check_cosignature(line + b"\n", log.checkpoint(), ours.key)
    forged = MadeWitness("br", SigningKey.generate())
    with pytest.raises(VerificationFailed):
        cosigned_by(log.note() + line[:-6] + b"AAA=\n", [ours.key])
    assert cosigned_by(log.note() + forged.line(log.checkpoint()), [ours.key]) == {}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"text only\n",
        b"text\n\n",
        b"\n\n\xe2\x80\x94 a b\n",
        b"text\n\n\xe2\x80\x94 a+b AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 a AAAA\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAAB",
        b"text\n\n- a AAAAAAAB\n",
        b"te\txt\n\n\xe2\x80\x94 a AAAAAAAB\n",
        b"te\xff\n\n\xe2\x80\x94 a AAAAAAAB\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAB=\n",
    ],
)
def test_what_is_no_note(text):
    with pytest.raises(VerificationFailed):
        Note.parse(text)


@pytest.mark.parametrize(
    "text", [b"a\n1\n", b"a\n01\nAA==\n", b"a\n1\nAA==\n", b"a\n-1\n" + b"A" * 43 + b"=\n", b"a b\n0\n" + b"A" * 43 + b"=\n",
             b"a\n1\n" + b"A" * 43 + b"=\nmore\n", b"a\n9999999999999999999\n" + b"A" * 43 + b"=\n"],
)  # fmt: skip
def test_what_is_no_checkpoint(text):
    with pytest.raises(VerificationFailed):
        Checkpoint.parse(text)


def test_what_is_no_key():
    for text in (
        "",
        "a+b+c",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER[:-4],
        PETER.replace("+AR", "+BR"),
        "+" + PETER,
    ):
        with pytest.raises(InvalidIdentity):
            VerifierKey.parse(text)


def test_the_empty_log_can_be_signed():
    log = MadeLog([])
    assert open_head(sign_head(log.checkpoint(), log.signing, NOW), log.key).size == 0
