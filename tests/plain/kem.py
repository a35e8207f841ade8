"""ML-KEM-768 (FIPS 203): encapsulation with given randomness, from the definitions, without fast transforms."""

from __future__ import annotations

import hashlib
from functools import cache

Q = 3329
SIZE = 256
RANK = 3
Poly = list[int]


def _reversed7(number: int) -> int:
    return int(f"{number:07b}"[::-1], 2)


ROOTS = [pow(17, 2 * _reversed7(place) + 1, Q) for place in range(128)]
"""A polynomial in the transformed domain is its remainders modulo X^2 - root, one pair for each."""
POWERS = [[pow(root, k, Q) for k in range(128)] for root in ROOTS]
INVERSE = [[pow(root, -k, Q) for root in ROOTS] for k in range(128)]


def _transformed(poly: Poly) -> Poly:
    even, odd = poly[0::2], poly[1::2]
    found = []
    for powers in POWERS:
        found.append(sum(a * b for a, b in zip(even, powers, strict=True)) % Q)
        found.append(sum(a * b for a, b in zip(odd, powers, strict=True)) % Q)
    return found


def _restored(pairs: Poly) -> Poly:
    even, odd, scale = pairs[0::2], pairs[1::2], pow(128, -1, Q)
    found = []
    for powers in INVERSE:
        found.append(sum(a * b for a, b in zip(even, powers, strict=True)) * scale % Q)
        found.append(sum(a * b for a, b in zip(odd, powers, strict=True)) * scale % Q)
    return found


def _product(one: Poly, other: Poly) -> Poly:
    found = []
    for place, root in enumerate(ROOTS):
        a, b = one[2 * place : 2 * place + 2]
        c, d = other[2 * place : 2 * place + 2]
        found += [(a * c + b * d * root) % Q, (a * d + b * c) % Q]
    return found


def _added(*polys: Poly) -> Poly:
    return [sum(column) % Q for column in zip(*polys, strict=True)]


def _uniform(seed: bytes) -> Poly:
    """SampleNTT: 12-bit pieces of SHAKE128, those below q."""
    data, found = hashlib.shake_128(seed).digest(3 * 1024), []
    for at in range(0, len(data), 3):
        a, b, c = data[at : at + 3]
        found += [value for value in (a + 256 * (b % 16), b // 16 + 16 * c) if value < Q]
    return found[:SIZE]


def _small(seed: bytes, number: int) -> Poly:
    """SamplePolyCBD with eta = 2."""
    data = int.from_bytes(hashlib.shake_256(seed + bytes([number])).digest(128), "little")
    bits = [data >> place & 1 for place in range(4 * SIZE)]
    return [(bits[4 * at] + bits[4 * at + 1] - bits[4 * at + 2] - bits[4 * at + 3]) % Q for at in range(SIZE)]


def _unpacked(data: bytes, width: int) -> Poly:
    number = int.from_bytes(data, "little")
    return [number >> (width * place) & ((1 << width) - 1) for place in range(SIZE)]


def _packed(poly: Poly, width: int) -> bytes:
    """Compressed to ``width`` bits each."""
    number = 0
    for place, value in enumerate(poly):
        number |= ((value * 2 ** (width + 1) + Q) // (2 * Q) % 2**width) << (width * place)
    return number.to_bytes(32 * width, "little")


@cache
def encapsulate(public: bytes, message: bytes) -> tuple[bytes, bytes]:
    """The secret and its ciphertext. ``message``: the 32 bytes that a library draws."""
    hashed = hashlib.sha3_512(message + hashlib.sha3_256(public).digest()).digest()
    secret, seed = hashed[:32], hashed[32:]
    key = [_unpacked(public[384 * row : 384 * row + 384], 12) for row in range(RANK)]
    rho = public[384 * RANK :]
    small = [_small(seed, number) for number in range(2 * RANK + 1)]
    random = [_transformed(poly) for poly in small[:RANK]]
    parts = []
    for column in range(RANK):
        # entry (row, column) of the matrix is sampled from rho || column || row; the transpose is multiplied
        products = [_product(_uniform(rho + bytes([column, row])), random[row]) for row in range(RANK)]
        parts.append(_added(_restored(_added(*products)), small[RANK + column]))
    bits = _unpacked(message, 1)
    inner = _restored(_added(*(_product(row, other) for row, other in zip(key, random, strict=True))))
    last = _added(inner, small[2 * RANK], [bit * ((Q + 1) // 2) for bit in bits])
    return secret, b"".join(_packed(part, 10) for part in parts) + _packed(last, 4)
