"""Numbers modulo t = 2^64 as residues modulo Q, and back: the arithmetic of exact encryption.

A message m is a polynomial with coefficients modulo t, and is held as floor(Q m / t) modulo Q. Sums, and products with
known integers, then wrap modulo Q where the messages wrap modulo t (BFV: Fan, Vercauteren, ePrint 2012/144, without
slots). Q is 0 modulo each of its primes. So floor(Q m / t) is -((Q m) mod t) / t modulo a prime, which takes one
product of words.

Q has four primes, in two pairs p0 p1 and q0 q1. Each pair is a `CrtModulus`, so the compiled loops of `kernels` and
`ntt` work on it. After the products, division by q0 q1 leaves residues of a number v modulo p0 p1. Decryption gives
round(v t / (p0 p1)).

Security rests on ring-LWE with N = 8192, a ternary secret, and noise of standard deviation 3.2. Q has 186 bits; up to
214 bits give 128 bits of security (`seal_context`).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.ntt import NumberTheoreticTransform
from protocols.arithmetic.residues import CrtModulus
from protocols.encryption.bfv.kernels import divide_by_primes, round_to_words
from protocols.encryption.seal_context import seal_context

__all__ = ["BfvContext", "BfvParameters", "Plane", "Wide"]

_WORD_BITS = 64

Wide = tuple[RingArray, RingArray]
"""Residues (..., 2, n) modulo p0 and p1, and modulo q0 and q1."""


@dataclass(frozen=True)
class BfvParameters:
    """Public parameters.

    Args:
        degree: N, a power of two.
        prime_bits: bits of p0, p1, q0, q1.
        flood_bits: b; uniform noise in [-2^b, 2^b) hides the information in a ciphertext's own noise.
    """

    degree: int = 8192
    prime_bits: tuple[int, int, int, int] = (47, 46, 47, 46)
    flood_bits: int = 120


@dataclass(frozen=True)
class Plane:
    """Two of the primes, and the transform modulo them."""

    modulus: CrtModulus
    transform: NumberTheoreticTransform


class BfvContext:
    """Parameters that SEAL accepts, with the modulus Q and its transforms.

    Raises:
        ParameterError: the parameters do not give 128 bits of security, or SEAL does not accept them.
    """

    def __init__(self, parameters: BfvParameters | None = None) -> None:
        self.parameters = parameters or BfvParameters()
        self.degree = self.parameters.degree
        _, (p0, p1, q0, q1) = seal_context(self.parameters)
        self.modulus = p0 * p1 * q0 * q1
        first, second = CrtModulus(p0, p1), CrtModulus(q0, q1)
        self.planes = (
            Plane(first, NumberTheoreticTransform(first, self.degree)),
            Plane(second, NumberTheoreticTransform(second, self.degree)),
        )

    def encode(self, numbers: RingArray) -> Wide:
        """Return floor(Q m / 2^64) as residues (count, 2, n), for numbers m modulo 2^64, uint64 (count, n)."""
        words = numbers * np.uint64(self.modulus % 2**_WORD_BITS)
        first, second = (plane.modulus.negate(plane.modulus.lift(words, -_WORD_BITS)) for plane in self.planes)
        return first, second

    def encode_factors(self, polynomials: RingArray) -> Wide:
        """Return known polynomials modulo 2^64 (count, N), read as signed integers, in NTT form (count, 2, N)."""
        signed = polynomials.view(np.int64)
        first, second = (
            plane.transform.forward(plane.modulus.lift_signed(signed), in_place=True) for plane in self.planes
        )
        return first, second

    def wide(self, integers: NDArray[np.int64], words: RingArray) -> Wide:
        """Return integers h 2^64 + w as residues (count, 2, n), for h signed and 0 <= w < 2^64, both (count, n)."""
        first, second = (
            plane.modulus.add(plane.modulus.lift_signed(integers, _WORD_BITS), plane.modulus.lift(words, 0))
            for plane in self.planes
        )
        return first, second

    def narrow(self, residues: Wide) -> RingArray:
        """Divide integers modulo Q, as residues (count, 2, n), by q0 q1, and round down: residues modulo p0 and p1."""
        low, high = (np.ascontiguousarray(part) for part in residues)
        out = np.empty_like(low)
        primes, divisors = (plane.modulus.primes for plane in self.planes)
        divide_by_primes(low, high, primes, divisors, *self._division, out)
        return out

    def round(self, residues: RingArray) -> RingArray:
        """Return round(v 2^64 / (p0 p1)) modulo 2^64, uint64 (count, n), for integers v as residues (count, 2, n)."""
        out = np.empty((residues.shape[0], residues.shape[2]), dtype=np.uint64)
        modulus = self.planes[0].modulus
        inverses = pow(modulus.p1, -1, modulus.p0), pow(modulus.p0, -1, modulus.p1)
        round_to_words(np.ascontiguousarray(residues), modulus.primes, np.array(inverses, dtype=np.uint64), out)
        return out

    @cached_property
    def _division(self) -> tuple[RingArray, np.uint64]:
        """The inverses that `narrow` multiplies by."""
        kept, dropped = (plane.modulus for plane in self.planes)
        inverses = [[pow(q, -1, p) for p in (kept.p0, kept.p1)] for q in (dropped.p0, dropped.p1)]
        return np.array(inverses, dtype=np.uint64), np.uint64(pow(dropped.p1, -1, dropped.p0))
