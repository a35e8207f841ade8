"""The sum MAC against plain integers, and against whoever alters a sum."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from federation.errors import ProtocolViolation
from federation.secagg import encoding as codes
from federation.secagg import sum_mac
from federation.secagg.events import Mask, MaskPlan, TagPlan
from federation.secagg.header import Header, header_words
from federation.secagg.masking import Keystream
from federation.secagg.opening import Sum, open_sum
from federation.secagg.parameters import AES_256_CTR, CHACHA20
from tests.simulation.harness import terms_of
from tests.whole import added, encode

KEY = bytes(range(32))
MEMBERS = 5
SIZE = 50
CONTEXT = bytes(32)


def stream(key: bytes, number: int, count: int) -> list[int]:
    data = Keystream(8 * count).fill(key, number, 8 * count).tobytes()
    words = [int.from_bytes(data[8 * at : 8 * at + 8], "little") & sum_mac.PRIME for at in range(count)]
    return [0 if word == sum_mac.PRIME else word for word in words]


def plain_tag(chunks: list[list[int]], header: list[int], longest: int) -> tuple[int, int]:
    """The definition, in integers of any size."""
    tags = []
    for which in range(2):
        rho, total = stream(KEY, which, longest), 0
        for index, chunk in enumerate(chunks):
            sigma = stream(KEY, 4 + index, 2)[which]
            total += sigma * sum(element * level for element, level in zip(rho, chunk, strict=False))
        total += sum(element * word for element, word in zip(stream(KEY, 2 + which, len(header)), header, strict=True))
        tags.append(total % sum_mac.PRIME)
    return tags[0], tags[1]


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("extreme", ["random", "lowest", "highest"])
def test_the_tag_is_that_of_plain_integers(bits: int, extreme: str) -> None:
    kind = np.dtype(f"<i{bits // 8}")
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    sizes = [1 << 16, 1 << 16, 77]
    dice = np.random.default_rng(bits)
    values = {"random": None, "lowest": low, "highest": high}[extreme]
    chunks = [
        dice.integers(low, high, size, kind, endpoint=True) if values is None else np.full(size, values, kind)
        for size in sizes
    ]
    header = [(1 << 60) - 1, -(1 << 60), 0, 5]
    mac = sum_mac.SumMac(KEY, sizes[0])
    for index in (2, 0, 1):
        mac.add_rows(index, [chunks[index]])
    mac.add_header(header)
    assert mac.tag == plain_tag([chunk.tolist() for chunk in chunks], header, sizes[0])


@pytest.fixture(params=[(bits, cipher) for bits in (8, 16, 32) for cipher in (AES_256_CTR, CHACHA20)], ids=str)
def summed(request: Any) -> dict[str, Any]:
    """Five members' updates with blind masks and tags, added up."""
    bits, cipher = request.param
    terms = terms_of(ring_bits=bits, cipher=cipher, initial_scale_exponent=-6 if bits > 8 else -2)
    code = codes.encoding_of(terms, MEMBERS, 4)
    scales = np.full(code.chunks(SIZE), terms.initial_scale_exponent, np.int8)
    blind = {index: bytes([index]) * 32 for index in range(2)}
    pads = [bytes([100 + index]) * 32 for index in range(MEMBERS)]
    updates, plain = [], []
    for index in range(MEMBERS):
        difference = np.random.default_rng(index).normal(0, 1, SIZE).astype(np.float32)
        header = Header.of(terms, 1, 0.5, {"train/loss": 0.1 * index})
        masks = (Mask(blind[index], +1),) if index in blind else ()
        dither, tag = bytes([50 + index]) * 32, TagPlan(KEY, (pads[index],))
        updates.append(
            b"".join(encode(difference, header, MaskPlan(CONTEXT, masks, dither, cipher, tag), code, scales))
        )
        plain.append(b"".join(encode(difference, header, MaskPlan(CONTEXT, (), dither, cipher), code, scales)))
    masks = tuple(Mask(seed, -1) for seed in blind.values())
    return {
        "terms": terms,
        "code": code,
        "data": added(updates, terms, code),
        "plain": added(plain, terms, code),
        "plan": MaskPlan(CONTEXT, masks, b"", cipher, TagPlan(KEY, tuple(pads))),
        "width": bits // 8,
    }


def opened(case: dict[str, Any], data: bytes | None = None, **plan: Any) -> Sum:
    made = MaskPlan(
        **{
            name: plan.get(name, getattr(case["plan"], name))
            for name in ("context", "masks", "dither", "cipher", "tag")
        }
    )
    held = case["data"] if data is None else data
    return open_sum(held, made, case["terms"], case["code"], MEMBERS, MEMBERS, SIZE)


def test_a_member_opens_exactly_the_plain_sum(summed: dict[str, Any]) -> None:
    total = opened(summed)
    words = header_words(summed["terms"])
    found = b"".join(chunk.tobytes() for chunk in total.chunks())
    assert found == summed["plain"][: -8 * words]
    known = np.frombuffer(summed["plain"][-8 * words :], "<i8")[:-4]
    assert list(total.header[:-4]) == known.tolist()
    if summed["plan"].masks:
        assert summed["data"][:-8] != summed["plain"][:-8]


def shifted(case: dict[str, Any], place: int, by: int) -> bytes:
    """One ring element moved, mod 2^B."""
    width, data = case["width"], bytearray(case["data"])
    at = place * width
    value = (int.from_bytes(data[at : at + width], "little") + by) % (1 << (8 * width))
    data[at : at + width] = value.to_bytes(width, "little")
    return bytes(data)


def test_altered_sum_fails_the_mac(summed: dict[str, Any]) -> None:
    """Attack 16: whoever knows nothing of the group key alters one level, anywhere, by one."""
    for place in range(SIZE):
        for by in (1, -1):
            with pytest.raises(ProtocolViolation) as refused:
                opened(summed, shifted(summed, place, by))
            assert refused.value.check == "sum-mac"


def test_the_mac_words_cannot_be_moved_alone(summed: dict[str, Any]) -> None:
    for word in range(1, 5):
        for by in (1, 1 << 31, 1 << 61):
            data = bytearray(summed["data"])
            at = len(data) - 8 * word
            value = (int.from_bytes(data[at : at + 8], "little") + by) % (1 << 64)
            data[at : at + 8] = value.to_bytes(8, "little")
            with pytest.raises(ProtocolViolation) as refused:
                opened(summed, bytes(data))
            assert refused.value.check == "sum-mac"


@pytest.mark.parametrize("change", [(1 << 31) - 1, (1 << 61) - 1, -((1 << 31) - 1)])
def test_a_prime_added_to_a_sum_fails_the_mac(change: int) -> None:
    """Attack 39: a difference that vanishes mod 2^31 - 1 does not vanish mod 2^61 - 1, and one that does is no
    difference of 32-bit sums."""
    first = np.array([5, -7, 0], "<i4")
    second = first.copy()
    second[1] = np.int64(int(first[1]) + change).astype(np.uint64).astype(np.uint32).view(np.int32)
    tags = []
    for levels in (first, second):
        mac = sum_mac.SumMac(KEY, 3)
        mac.add_rows(0, [levels])
        tags.append(mac.tag)
    assert tags[0][0] != tags[1][0]
    assert tags[0][1] != tags[1][1]


def test_a_sum_without_one_member_or_with_one_twice_fails_the_mac(summed: dict[str, Any]) -> None:
    """The cohort's pads are those of the certificate: another cohort's sum has other pads."""
    tag = summed["plan"].tag
    for pads in (tag.pads[:-1], (*tag.pads, tag.pads[0]), (*tag.pads[:-1], bytes(32))):
        with pytest.raises(ProtocolViolation) as refused:
            opened(summed, tag=TagPlan(KEY, pads))
        assert refused.value.check == "sum-mac"


def test_another_key_fails_the_mac(summed: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        opened(summed, tag=TagPlan(bytes(32), summed["plan"].tag.pads))
    assert refused.value.check == "sum-mac"


def test_changes_that_a_single_vector_would_miss_are_seen(summed: dict[str, Any]) -> None:
    """One chunk moved into another's place: the vector rho is the same for all, the coefficient sigma is not."""
    width, size = summed["width"], summed["code"].chunk_parameters
    plain = [chunk.copy() for chunk in opened(summed).chunks()]
    mac, swapped = sum_mac.SumMac(KEY, size), sum_mac.SumMac(KEY, size)
    mac.add_rows(0, [plain[0]])
    mac.add_rows(1, [plain[1]])
    swapped.add_rows(1, [plain[0]])
    swapped.add_rows(0, [plain[1]])
    assert width
    assert mac.tag != swapped.tag


def test_a_tag_tells_nothing_of_its_update_without_the_pad() -> None:
    """The same update, two pads: words that have nothing in common."""
    mac = sum_mac.SumMac(KEY, 3)
    mac.add_rows(0, [np.array([1, 2, 3], "<i2")])
    dice = random.Random(1)
    seen = {tuple(sum_mac.words_of(mac.tag, sum_mac.pad_of(dice.randbytes(32)))) for _ in range(100)}
    assert len(seen) == 100
    assert len({words[0] for words in seen}) == 100
