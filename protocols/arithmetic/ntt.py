"""The number-theoretic transform: polynomials modulo X^N + 1 and a prime, to values at the roots, and back.

This is the negacyclic transform of Harvey ("Faster arithmetic for number-theoretic transforms", 2014), with powers of
the smallest primitive 2N-th root in bit-reversed order. It gives the very numbers that SEAL's transform gives; the
tests compare them. It works in place on arrays. With SEAL's own transform, every array would have to go through SEAL's
files: loaded, saved and decompressed.
"""

from functools import lru_cache

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.kernels import compiled, remainder
from protocols.arithmetic.residues import CrtModulus
from protocols.errors import ParameterError

__all__ = ["NumberTheoreticTransform"]


class NumberTheoreticTransform:
    """The transforms of residues (count, 2, N): every polynomial modulo p0 and modulo p1.

    Args:
        modulus: Q; both primes are 1 modulo 2N.
        degree: N, a power of two.

    Raises:
        ParameterError: a prime has no primitive 2N-th root of unity.
    """

    def __init__(self, modulus: CrtModulus, degree: int) -> None:
        self._primes, self._degree = modulus.primes, degree
        powers = [_powers(p, degree) for p in (modulus.p0, modulus.p1)]
        self._roots, self._inverse_roots = (np.stack([pair[k] for pair in powers]) for k in range(2))
        scale = [pow(degree, -1, p) for p in (modulus.p0, modulus.p1)]
        self._scale = np.array(scale, dtype=np.uint64)

    def forward(self, polynomials: RingArray, in_place: bool = False) -> RingArray:
        """Transform coefficients (count, 2, N) to NTT form (bit-reversed order); `in_place` overwrites them."""
        out = self._room(polynomials, in_place)
        _forward(out, self._roots, self._primes)
        return out

    def inverse(self, values: RingArray, in_place: bool = False) -> RingArray:
        """Transform values in NTT form (count, 2, N) to coefficients; `in_place` overwrites them."""
        out = self._room(values, in_place)
        _inverse(out, self._inverse_roots, self._scale, self._primes)
        return out

    def _room(self, array: RingArray, in_place: bool) -> RingArray:
        if array.ndim != 3 or array.shape[1:] != (2, self._degree) or array.dtype != np.uint64:
            raise ParameterError(
                f"expected uint64 residues (count, 2, {self._degree}), got {array.dtype} {array.shape}"
            )
        if in_place and not array.flags.c_contiguous:
            raise ParameterError("expected contiguous residues for a transform in place, got others")
        return array if in_place else np.array(array, order="C")


@lru_cache(maxsize=16)
def _powers(prime: int, degree: int) -> tuple[RingArray, RingArray]:
    """Return psi^bitreverse(i) and the inverses, for i < N and the smallest primitive 2N-th root psi."""
    psi = _smallest_root(prime, 2 * degree)
    ascending = np.empty(degree, dtype=np.uint64)
    power = 1
    for i in range(degree):
        ascending[i] = power
        power = power * psi % prime
    order = np.zeros(degree, dtype=np.int64)
    for bit in range(degree.bit_length() - 1):
        order |= ((np.arange(degree) >> bit) & 1) << (degree.bit_length() - 2 - bit)
    # psi^-i = -psi^(N - i), and psi^0 = 1.
    inverses = np.concatenate([ascending[:1], np.uint64(prime) - ascending[:0:-1]])
    return ascending[order], inverses[order]


def _smallest_root(prime: int, order: int) -> int:
    """Return the smallest primitive root of unity of the given order, which is a power of two."""
    if (prime - 1) % order:
        raise ParameterError(f"expected primes that are 1 modulo {order}, got {prime}")
    candidates = (pow(base, (prime - 1) // order, prime) for base in range(2, 1000))
    root = next(c for c in candidates if pow(c, order // 2, prime) == prime - 1)
    square, smallest, power = root * root % prime, root, root
    for _ in range(order // 2):
        smallest = min(smallest, power)
        power = power * square % prime
    return smallest


@compiled
def _forward(x, roots, primes):  # type: ignore[no-untyped-def]
    """Cooley-Tukey butterflies, in place."""
    for i in range(x.shape[0]):
        for r in range(2):
            p, a = primes[r], x[i, r]
            step, blocks = a.size >> 1, 1
            while step:
                for k in range(blocks):
                    w = roots[r, blocks + k]
                    w_over_p = np.float64(w) / np.float64(p)
                    low, high = a[2 * k * step : (2 * k + 1) * step], a[(2 * k + 1) * step : (2 * k + 2) * step]
                    for j in range(step):
                        v = remainder(high[j] * w, np.float64(high[j]) * w_over_p, p)
                        difference, total = low[j] - v, low[j] + v
                        high[j] = min(difference, difference + p)
                        low[j] = min(total, total - p)
                blocks <<= 1
                step >>= 1


@compiled
def _inverse(x, roots, scale, primes):  # type: ignore[no-untyped-def]
    """Gentleman-Sande butterflies, in place, then multiplication by 1 / N."""
    for i in range(x.shape[0]):
        for r in range(2):
            p, a = primes[r], x[i, r]
            step, blocks = 1, a.size >> 1
            while blocks:
                for k in range(blocks):
                    w = roots[r, blocks + k]
                    w_over_p = np.float64(w) / np.float64(p)
                    low, high = a[2 * k * step : (2 * k + 1) * step], a[(2 * k + 1) * step : (2 * k + 2) * step]
                    for j in range(step):
                        total, v = low[j] + high[j], low[j] + p - high[j]
                        low[j] = min(total, total - p)
                        v = min(v, v - p)
                        high[j] = remainder(v * w, np.float64(v) * w_over_p, p)
                blocks >>= 1
                step <<= 1
            s_over_p = np.float64(scale[r]) / np.float64(p)
            for j in range(a.size):
                a[j] = remainder(a[j] * scale[r], np.float64(a[j]) * s_over_p, p)
