"""Who read a job's code and vouches for it: Ed25519 over the bundle's digest, framed so that it signs nothing else."""

from __future__ import annotations

from federation.errors import InvalidIdentity
from federation.identity.keys import transcript, verify
from federation.manifest.document import CodeSignature
from federation.manifest.manifest import Manifest


def code_message(bundle_digest: bytes) -> bytes:
    """What a code signer signs."""
    return transcript("concord/code/v1", bundle_digest)


def signers_of(manifest: Manifest) -> frozenset[str]:
    """Keys, in hex, whose signatures over this job's code check."""
    message = code_message(manifest.bundle_digest)
    return frozenset(each.key for each in manifest.spec.code_signatures or () if _checks(each, message))


def _checks(signature: CodeSignature, message: bytes) -> bool:
    try:
        verify(bytes.fromhex(signature.key), message, bytes.fromhex(signature.signature))
    except InvalidIdentity:
        return False
    return True
