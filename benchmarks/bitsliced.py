"""AES-256 of one block under many keys at once: what makes a search of mask seeds fast without compiled code.

Bit k of a 64-bit word belongs to the k-th key of the word, so that one numpy operation is one gate of the circuit under
every key. The S-box is the circuit of Boyar and Peralta (eprint 2011/332); round keys are made beside the rounds, since
every key is new. Bytes that are the same in all words (most of them, in the first rounds) are computed once.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.uint64]
"""[bit, byte, word]: bit 0 is the least significant of its byte"""

ONES: Final = np.uint64(2**64 - 1)
COUNTING: Final = tuple(np.uint64(sum(1 << key for key in range(64) if key >> bit & 1)) for bit in range(6))
"""bit b of the numbers 0..63, as a word"""
ROUNDS: Final = 14
NUMBER_AT: Final = 16
NUMBER_BYTES: Final = 5
"""A key's number is in bytes 16 to 20, least significant first: in the second round key, where it enters latest."""

GATES: Final = """
y14=x3^x5 y13=x0^x6 y9=x0^x3 y8=x0^x5 t0=x1^x2 y1=t0^x7 y4=y1^x3 y12=y13^y14 y2=y1^x0 y5=y1^x6 y3=y5^y8 t1=x4^y12
y15=t1^x5 y20=t1^x1 y6=y15^x7 y10=y15^t0 y11=y20^y9 y7=x7^y11 y17=y10^y11 y19=y10^y8 y16=t0^y11 y21=y13^y16 y18=x0^y16
t2=y12&y15 t3=y3&y6 t4=t3^t2 t5=y4&x7 t6=t5^t2 t7=y13&y16 t8=y5&y1 t9=t8^t7 t10=y2&y7 t11=t10^t7 t12=y9&y11
t13=y14&y17 t14=t13^t12 t15=y8&y10 t16=t15^t12 t17=t4^t14 t18=t6^t16 t19=t9^t14 t20=t11^t16 t21=t17^y20 t22=t18^y19
t23=t19^y21 t24=t20^y18 t25=t21^t22 t26=t21&t23 t27=t24^t26 t28=t25&t27 t29=t28^t22 t30=t23^t24 t31=t22^t26 t32=t31&t30
t33=t32^t24 t34=t23^t33 t35=t27^t33 t36=t24&t35 t37=t36^t34 t38=t27^t36 t39=t29&t38 t40=t25^t39 t41=t40^t37 t42=t29^t33
t43=t29^t40 t44=t33^t37 t45=t42^t41 z0=t44&y15 z1=t37&y6 z2=t33&x7 z3=t43&y16 z4=t40&y1 z5=t29&y7 z6=t42&y11 z7=t45&y17
z8=t41&y10 z9=t44&y12 z10=t37&y3 z11=t33&y4 z12=t43&y13 z13=t40&y5 z14=t29&y2 z15=t42&y9 z16=t45&y14 z17=t41&y8
t46=z15^z16 t47=z10^z11 t48=z5^z13 t49=z9^z10 t50=z2^z12 t51=z2^z5 t52=z7^z8 t53=z0^z3 t54=z6^z7 t55=z16^z17
t56=z12^t48 t57=t50^t53 t58=z4^t46 t59=z3^t54 t60=t46^t57 t61=z14^t57 t62=t52^t58 t63=t49^t58 t64=z4^t59 t65=t61^t62
t66=z1^t63 t67=t64^t65 s0=t59^t63 s3=t53^t66 s1=t64^s3 s2=t55^t67 s4=t51^t66 s5=t47^t65 s6=t56^t62 s7=t48^t60
"""
"""The S-box without its constant 0x63; x0 and s0 are the most significant bits."""
CONSTANT: Final = [0, 1, 5, 6]

SHIFTED: Final = [5 * place % 16 for place in range(16)]
"""where ShiftRows takes each byte from; bytes are numbered column by column"""
FEW_VARY: Final = 4
"""rounds in which bytes are the same in all words"""


class _SubBytes:
    """The S-box for planes of one shape, in buffers small enough to stay in the processor's cache."""

    def __init__(self, places: int, words: int) -> None:
        self.given: Planes = np.empty((8, places, words), np.uint64)
        self.made: Planes = np.empty((8, places, words), np.uint64)
        views: dict[str, Any] = {f"x{7 - bit}": self.given[bit] for bit in range(8)}
        views |= {f"s{7 - bit}": self.made[bit] for bit in range(8)}
        gates = [gate.replace("&", "^").replace("=", "^").split("^") for gate in GATES.split()]
        last = {name: place for place, gate in enumerate(gates) for name in gate}
        free: list[Any] = []
        self._program = []
        for place, ((result, left, right), gate) in enumerate(zip(gates, GATES.split(), strict=True)):
            if result not in views:
                views[result] = free.pop() if free else np.empty((places, words), np.uint64)
            work = np.bitwise_and if "&" in gate else np.bitwise_xor
            self._program.append((work, views[left], views[right], views[result]))
            free += [views[name] for name in {left, right} if name[0] not in "xs" and last[name] == place]

    def __call__(self) -> Planes:
        for work, left, right, result in self._program:
            work(left, right, result)
        self.made[CONSTANT] ^= ONES
        return self.made


_sub_bytes = cache(_SubBytes)


def _substitute(planes: Planes, out: Planes) -> None:
    """SubBytes from ``planes`` into ``out``; a byte that is the same in all words is computed for one."""
    varies = (planes != planes[..., :1]).any(axis=(0, 2))
    for places, words in ((np.flatnonzero(varies), planes.shape[2]), (np.flatnonzero(~varies), 1)):
        if places.size:
            layer = _sub_bytes(int(places.size), words)
            layer.given[:] = planes[:, places, :words]
            out[:, places] = layer()


class FirstBlocks:
    """AES-256 of ``block`` under ``keys_a_call`` keys a call: ``base`` with a number in its place."""

    def __init__(self, block: bytes, base: bytes, words: int = 512) -> None:
        """``words``: a power of two."""
        self.keys_a_call = 64 * words
        bits = np.unpackbits(np.frombuffer(block + base, np.uint8), bitorder="little").reshape(48, 8).T
        planes = np.broadcast_to(np.where(bits[..., np.newaxis], ONES, np.uint64(0)), (8, 48, words)).copy()
        self._block, self._key = planes[:, :16], planes[:, 16:]
        places = np.arange(words)
        self._words = words
        self._round_keys = (np.empty_like(self._block), np.empty_like(self._block))
        self._shifted, self._pair = np.empty_like(self._block), np.empty_like(self._block)
        self._rows, self._pair_rows = (each.reshape(8, 4, 4, words) for each in (self._shifted, self._pair))
        self._low = self.keys_a_call.bit_length() - 1
        for bit in range(self._low):
            self._plane(bit)[:] = COUNTING[bit] if bit < 6 else np.where(places >> (bit - 6) & 1, ONES, np.uint64(0))

    def _plane(self, bit: int) -> npt.NDArray[np.uint64]:
        plane: npt.NDArray[np.uint64] = self._key[bit % 8, NUMBER_AT + bit // 8]
        return plane

    def under(self, first: int) -> Planes:
        """Ciphertexts [bit, byte, word] under the keys ``first`` to ``first + keys_a_call - 1``: ``first`` is a
        multiple."""
        if first % self.keys_a_call or not 0 <= first < 1 << 8 * NUMBER_BYTES:
            raise ValueError(f"{first} is not where a call can begin")
        for bit in range(self._low, 8 * NUMBER_BYTES):
            self._plane(bit)[:] = ONES if first >> bit & 1 else 0
        layer = _sub_bytes(20, self._words)
        work, out, state, pair = layer.given, layer.made, layer.given[:, :16], self._pair
        before, now = self._round_keys
        before[:], now[:] = self._key[:, :16], self._key[:, 16:]
        np.bitwise_xor(self._block, before, out=state)
        for number in range(1, ROUNDS):
            for place in range(4):
                work[:, 16 + place] = now[:, 12 + (place + number % 2) % 4]
            if number <= FEW_VARY:
                _substitute(work, out)
            else:
                layer()
            np.take(out, SHIFTED, axis=1, out=self._shifted, mode="clip")
            for row in range(4):
                np.bitwise_xor(self._rows[:, :, row], self._rows[:, :, (row + 1) % 4], out=self._pair_rows[:, :, row])
            mixed = state.reshape(8, 4, 4, self._words)
            for row in range(4):
                np.bitwise_xor(
                    self._rows[:, :, (row + 1) % 4], self._pair_rows[:, :, (row + 2) % 4], out=mixed[:, :, row]
                )
            state[1:] ^= pair[:-1]
            for bit in (0, 1, 3, 4):
                state[bit] ^= pair[7]
            state ^= now
            before[:, :4] ^= out[:, 16:]
            if number % 2:
                before[number // 2, 0] ^= ONES
            for column in range(4, 16, 4):
                before[:, column : column + 4] ^= before[:, column - 4 : column]
            before, now = now, before
        layer()
        ciphertexts: Planes = out[:, SHIFTED] ^ now
        return ciphertexts


def beginnings(planes: Planes) -> npt.NDArray[np.uint32]:
    """The first four bytes of each ciphertext, little-endian, key by key."""
    bits = np.unpackbits(np.ascontiguousarray(planes[:, :4]).view(np.uint8), axis=2, bitorder="little")
    octets = bits[0]
    for bit in range(1, 8):
        octets |= bits[bit] << bit
    return np.ascontiguousarray(octets.T).view("<u4")[:, 0]
