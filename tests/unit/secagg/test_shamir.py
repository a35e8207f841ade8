"""t of n shares rebuild the secret, t - 1 do not."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import ProtocolViolation
from federation.secagg import shamir


@settings(deadline=None, max_examples=50)
@given(secret=st.binary(min_size=32, max_size=32), n=st.integers(2, 12), data=st.data())
def test_any_t_shares_rebuild_the_secret(secret: bytes, n: int, data: st.DataObject) -> None:
    t = data.draw(st.integers(1, n))
    shares = shamir.split(secret, t, range(1, n + 1), os.urandom)
    chosen = data.draw(st.permutations(sorted(shares)))[:t]
    assert shamir.rebuild({x: shares[x] for x in chosen}) == secret


def test_the_field_is_a_prime_field_and_holds_every_secret() -> None:
    assert pow(2, shamir.PRIME - 1, shamir.PRIME) == 1
    for secret in (bytes(32), b"\xff" * 32):
        shares = shamir.split(secret, 3, (1, 4, 9), os.urandom)
        assert shamir.rebuild(shares) == secret
        assert all(len(share) == shamir.SHARE_BYTES for share in shares.values())


def test_one_share_short_gives_nothing() -> None:
    """Every secret is as likely: for any guess there is a share that the missing holder could have had."""
    secret, guess = bytes(range(32)), bytes(32)
    shares = shamir.split(secret, 3, (1, 2, 3), os.urandom)
    weights = shamir.lagrange((1, 2, 3))
    known = sum(weights[x] * int.from_bytes(shares[x], "big") for x in (1, 2))
    missing = (int.from_bytes(guess, "big") - known) * pow(weights[3], -1, shamir.PRIME) % shamir.PRIME
    assert shamir.rebuild({1: shares[1], 2: shares[2], 3: missing.to_bytes(33, "big")}) == guess


def test_a_value_beyond_the_secret_range_names_the_dealer() -> None:
    with pytest.raises(ProtocolViolation):
        shamir.rebuild({1: (2**256).to_bytes(33, "big")})
