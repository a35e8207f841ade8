"""`concord-node evidence`: what this node refused and kept, for its operator."""

from __future__ import annotations

from federation.errors import plain
from federation.parsing import parser
from federation.v1 import rounds_pb2
from node_agent.settings import Home
from node_agent.store.evidence import EvidenceFolder, Piece


def print_list(home: Home) -> None:
    """Raises NotFound where no node's home is."""
    home.settings()
    pieces = EvidenceFolder(home.evidence).pieces()
    if not pieces:
        print("nothing was refused that is worth keeping")
    for path, piece in pieces:
        signed = "signed" if piece.signed else "as it came"
        print(plain(f"{path.name[:12]}  {piece.time}  {piece.job_name}  {piece.check}  {piece.kind}  {signed}"))


def print_piece(home: Home, digits: str) -> None:
    """Raises NotFound, or VerificationFailed for a file that was altered."""
    home.settings()
    path, piece = EvidenceFolder(home.evidence).find(digits)
    print(f"file      {path}")
    print(plain(f"job       {piece.job_name} ({piece.job.hex()})"))
    print(plain(f"refused   {piece.time}, check {piece.check}"))
    print(f"what      {plain(piece.detail)}")
    print(f"to do     {plain(piece.hint)}")
    cut = "" if len(piece.message) == piece.message_size else f", of which {len(piece.message)} are kept"
    print(f"message   {piece.kind}, {piece.message_size} bytes{cut}, SHA-256 {piece.message_digest.hex()}")
    if piece.signed:
        print(f"signed    {piece.signed.hex()}")
    for line in _fields(piece):
        print(f"    {line}")


def _fields(piece: Piece) -> list[str]:
    """The message field by field, where it is whole and one: of a stream, its parts lie there one after another."""
    if piece.kind == "PolicyPack":
        return [plain(line) for line in piece.message.decode(errors="replace").splitlines()]
    kind = getattr(rounds_pb2, piece.kind, None)
    if kind is None or len(piece.message) != piece.message_size:
        return []
    message = parser(kind.FromString)(piece.message)
    return [] if message is None else [plain(line) for line in str(message).rstrip("\n").split("\n")]
