"""Arithmetic of the two rings in use: shares in Z_2^64 (fixed point) and CKKS coefficients in Z_Q, Q = p0 p1.

A real x is held as round(x 2^f) mod 2^64 (f = 16), and shared as u0 + u1 = x mod 2^64 with u0 uniform; either
share alone is uniform and says nothing. Elements of Z_Q are held as residues modulo p0 and p1 and become two-limb
integers (hi 2^64 + lo) only to be shifted back into Z_2^64. All of it is exact: no value passes through a float,
except as a quotient *estimate* in `multiply_mod` whose error is corrected.
"""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.errors import ParameterError

__all__ = ["FRACTION_BITS", "CrtModulus", "RingArray", "decode", "encode", "multiply_mod", "random_ring", "share"]

RingArray = NDArray[np.uint64]
"""Elements of Z_2^64, or residues: numpy uint64, any shape."""

FRACTION_BITS = 16
"""Fixed point: a real x is round(x 2^16) in Z_2^64."""

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def encode(values: ArrayLike, fraction_bits: int = FRACTION_BITS) -> RingArray:
    """Encode reals as fixed point, round to nearest even.

    Args:
        values: real numbers, any shape, |x| < 2^(62 - fraction_bits).

    Raises:
        ParameterError: a value is not finite or too large.
    """
    scaled = np.rint(np.asarray(values, dtype=np.float64) * 2.0**fraction_bits)
    if not np.all(np.abs(scaled) < 2.0**62):  # also catches nan
        raise ParameterError(f"fixed point takes finite |x| < 2^{62 - fraction_bits}, got a value outside")
    return scaled.astype(np.int64).view(np.uint64)


def decode(ring: RingArray, fraction_bits: int = FRACTION_BITS) -> NDArray[np.float64]:
    """Decode fixed point to float64; the upper half of the ring is negative."""
    return np.ascontiguousarray(ring).view(np.int64).astype(np.float64) / 2.0**fraction_bits


def random_ring(shape: int | tuple[int, ...]) -> RingArray:
    """Draw uniform elements of Z_2^64 from the system's CSPRNG."""
    count = int(np.prod(shape))
    return np.frombuffer(bytearray(os.urandom(8 * count)), dtype=np.uint64).reshape(shape)


def share(ring: RingArray) -> tuple[RingArray, RingArray]:
    """Split ring elements into two additive shares, each of them uniform."""
    first = random_ring(ring.shape)
    return first, ring - first


def multiply_mod(a: RingArray, b: RingArray | np.uint64, modulus: int) -> RingArray:
    """Multiply residues: a b mod p, exactly, for a, b < p < 2^50.

    The quotient is estimated in float64 and is off by at most one, so the remainder, computed mod 2^64, lies in
    (-2p, 2p) and is corrected.
    """
    p = np.uint64(modulus)
    quotient = a.astype(np.float64) * np.asarray(b).astype(np.float64) / modulus
    remainder = (a * b - quotient.astype(np.uint64) * p).view(np.int64)
    remainder += np.where(remainder < 0, np.int64(modulus), np.int64(0))
    return np.where(remainder >= modulus, remainder - np.int64(modulus), remainder).view(np.uint64)


@dataclass(frozen=True)
class CrtModulus:
    """The ring Z_Q, Q = p0 p1, as residues of shape (..., 2, n): axis -2 runs over the two primes.

    Args:
        p0, p1: distinct primes with p1 < p0 < 2^48 (so that a residue travels in six bytes).
    """

    p0: int
    p1: int

    def __post_init__(self) -> None:
        if not 1 < self.p1 < self.p0 < 2**48:
            raise ParameterError(f"CrtModulus takes primes p1 < p0 < 2^48, got p0={self.p0}, p1={self.p1}")

    @property
    def primes(self) -> RingArray:
        """The primes as a column of shape (2, 1), to broadcast against residues."""
        return np.array([[self.p0], [self.p1]], dtype=np.uint64)

    def add(self, a: RingArray, b: RingArray) -> RingArray:
        """Add residues of shape (..., 2, n)."""
        total = a + b
        return np.where(total >= self.primes, total - self.primes, total)

    def subtract(self, a: RingArray, b: RingArray) -> RingArray:
        """Subtract residues of shape (..., 2, n)."""
        return np.where(a >= b, a - b, a + self.primes - b)

    def lift(self, values: RingArray, scale_bits: int, offset: int = 0) -> RingArray:
        """Map the integers (v + offset) 2^scale_bits, 0 <= v < 2^64, to residues of shape (..., 2, n).

        The shares-to-ciphertext conversion lifts the client's share with offset 0 and the server's with -2^64.
        """
        planes = []
        for p in (self.p0, self.p1):
            residue = values % np.uint64(p) + np.uint64(offset % p)
            residue = np.where(residue >= p, residue - np.uint64(p), residue)
            planes.append(multiply_mod(residue, np.uint64(pow(2, scale_bits, p)), p))
        return np.stack(planes, axis=-2)

    def lift_signed(self, values: NDArray[np.int64], scale_bits: int = 0) -> RingArray:
        """Map the signed integers v 2^scale_bits to residues of shape (..., 2, n)."""
        planes = []
        for p in (self.p0, self.p1):
            residue = np.mod(values, np.int64(p)).view(np.uint64)
            planes.append(multiply_mod(residue, np.uint64(pow(2, scale_bits, p)), p) if scale_bits else residue)
        return np.stack(planes, axis=-2)

    def shift_right(self, residues: RingArray, bits: int) -> RingArray:
        """Compose residues (..., 2, n) to the integer v in [0, Q); return floor(v / 2^bits) mod 2^64, (..., n).

        v = r0 + p0 k with k = (r1 - r0) / p0 mod p1, in two 64-bit limbs; 0 < bits < 64.
        """
        if not 0 < bits < 64:
            raise ParameterError(f"shift_right takes 0 < bits < 64, got {bits}")
        r0, r1 = residues[..., 0, :], residues[..., 1, :]
        r0_mod_p1 = r0 % np.uint64(self.p1)
        difference = np.where(r1 >= r0_mod_p1, r1 - r0_mod_p1, r1 + np.uint64(self.p1) - r0_mod_p1)
        k = multiply_mod(difference, np.uint64(pow(self.p0, -1, self.p1)), self.p1)
        high, low = self._multiply_limbs(k)
        low += r0
        high += (low < r0).astype(np.uint64)
        return (low >> np.uint64(bits)) | (high << np.uint64(64 - bits))

    def _multiply_limbs(self, k: RingArray) -> tuple[RingArray, RingArray]:
        """Return (high, low) limbs of p0 k for k < 2^48, by 32-bit halves."""
        p_high, p_low = np.uint64(self.p0 >> 32), np.uint64(self.p0 & 0xFFFFFFFF)
        k_high, k_low = k >> _32, k & _LOW
        middle = p_low * k_high + p_high * k_low + ((p_low * k_low) >> _32)
        return p_high * k_high + (middle >> _32), np.uint64(self.p0) * k

    def random(self, shape: tuple[int, ...]) -> RingArray:
        """Draw elements uniform over Z_Q, as residues of shape (*shape[:-1], 2, shape[-1]).

        Uniform residues modulo both primes are uniform over Z_Q (Chinese remainder theorem). Each residue is drawn by
        rejection: the low bits of the system's CSPRNG, again until below the prime. Reducing a random word instead
        would be biased.
        """
        count = int(np.prod(shape))
        planes = [_random_below(p, count).reshape(shape) for p in (self.p0, self.p1)]
        return np.stack(planes, axis=-2)


def _random_below(bound: int, count: int) -> RingArray:
    """Draw `count` uniform integers in [0, bound) by rejection sampling; bound < 2^48."""
    bits = (bound - 1).bit_length()
    mask = np.uint64((1 << bits) - 1)
    kept: list[RingArray] = []
    missing = count
    while missing:
        draws = np.zeros((missing + missing // 8 + 16, 8), dtype=np.uint8)
        draws[:, :6] = np.frombuffer(os.urandom(6 * len(draws)), dtype=np.uint8).reshape(-1, 6)
        words = draws.view(np.uint64).ravel() & mask
        kept.append(words[words < bound][:missing])
        missing -= len(kept[-1])
    return np.concatenate(kept)
