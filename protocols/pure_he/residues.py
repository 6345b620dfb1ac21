"""Residues modulo primes of up to 60 bits: products, public random polynomials, and bytes for the wire.

A ring-LWE ciphertext or key is a pair (c0, c1) with c1 uniform. SEAL draws c1. The client replaces it by a c1' that a
public 32-byte seed expands to, and c0 by c0' = c0 + (c1 - c1') s. The new pair decrypts to the same message with the
same noise. The client sends the seed instead of c1', which halves the bytes. It packs each residue into as few whole
bytes as its prime needs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.kernels import add_mod, compiled, remainder
from protocols.arithmetic.randomness import keystream
from protocols.errors import ParameterError, ProtocolError

__all__ = ["expand_uniform", "multiply_mod", "pack", "packed_bytes", "subtract_mod", "sum_mod", "unpack"]

_MAX_POLYNOMIALS = 1 << 16
_SPARE_TRIES = 64


def multiply_mod(a: RingArray, b: RingArray, prime: int) -> RingArray:
    """Multiply residues below a prime of at most 60 bits, element by element; exact.

    The loop splits b into halves of 30 bits. So every quotient is below 2^31, and float64 estimates it to within one.
    """
    if not 0 < prime < 2**60 + 2**30:
        raise ParameterError(f"expected a prime of at most 60 bits, got {prime}")
    a, b = np.broadcast_arrays(a, b)
    out = np.empty(a.shape, dtype=np.uint64)
    _multiply(a.ravel(), b.ravel(), np.uint64(prime), out.reshape(-1))
    return out


@compiled
def _multiply(a, b, p, out):  # type: ignore[no-untyped-def]
    """out = a b mod p < 2^61, element by element."""
    half, inverse = np.uint64(1 << 30), 1.0 / np.float64(p)
    for i in range(a.size):
        high, low = b[i] >> np.uint64(30), b[i] & (half - np.uint64(1))
        over = np.float64(a[i]) * inverse
        x = remainder(a[i] * high, over * np.float64(high), p)
        x = remainder(x * half, np.float64(x) * inverse * np.float64(half), p)
        out[i] = add_mod(x, remainder(a[i] * low, over * np.float64(low), p), p)


def subtract_mod(a: RingArray, b: RingArray, prime: int) -> RingArray:
    """Return a - b modulo a prime below 2^63, for residues a and b."""
    difference = a - b
    return np.minimum(difference, difference + np.uint64(prime))


def sum_mod(residues: RingArray, prime: int) -> int:
    """Return the sum of at most 2^32 residues modulo a prime."""
    low = int((residues & np.uint64(2**32 - 1)).sum(dtype=np.uint64))
    high = int((residues >> np.uint64(32)).sum(dtype=np.uint64))
    return (low + (high << 32)) % prime


def expand_uniform(seed: bytes, primes: Sequence[int], count: int, degree: int) -> RingArray:
    """Expand a public seed to uniform residue polynomials, (count, primes, degree).

    Every polynomial has its own part of the keystream of AES-256-CTR under the seed. A try is a word's low bits, and
    tries that are not below the prime are rejected. The polynomials are taken to be in NTT form, in which
    uniform polynomials are uniform as well.

    Raises:
        ParameterError: more than 65536 polynomials.
    """
    if count * len(primes) > _MAX_POLYNOMIALS:
        raise ParameterError(f"expected at most {_MAX_POLYNOMIALS} polynomials from a seed, got {count * len(primes)}")
    out = np.empty((count, len(primes), degree), dtype=np.uint64)
    for index in range(count):
        for row, prime in enumerate(primes):
            counter = (index * len(primes) + row).to_bytes(2, "big") + bytes(14)
            mask = np.uint64((1 << (prime - 1).bit_length()) - 1)
            kept, tries = np.empty(0, dtype=np.uint64), degree + _SPARE_TRIES
            while kept.size < degree:
                candidates = keystream(seed, counter, tries) & mask
                kept = candidates[candidates < np.uint64(prime)]
                tries *= 2
            out[index, row] = kept[:degree]
    return out


def packed_bytes(primes: Sequence[int], count: int, degree: int) -> int:
    """Return the size of `count` packed polynomials."""
    return count * degree * sum(_width(prime) for prime in primes)


def pack(residues: RingArray, primes: Sequence[int]) -> NDArray[np.uint8]:
    """Pack residues (count, primes, degree) into as few whole bytes as each prime needs: uint8 (bytes,)."""
    parts = []
    for polynomials in residues:
        for polynomial, prime in zip(polynomials, primes, strict=True):
            octets = np.ascontiguousarray(polynomial.astype("<u8")).view(np.uint8).reshape(-1, 8)
            parts.append(octets[:, : _width(prime)].reshape(-1))
    return np.concatenate(parts)


def unpack(wire: NDArray[np.uint8], primes: Sequence[int], count: int, degree: int, what: str) -> RingArray:
    """Unpack residues (count, primes, degree) that `pack` packed.

    Args:
        what: names the message in errors.

    Raises:
        ProtocolError: the message has another size, or a residue is not below its prime.
    """
    if wire.shape != (packed_bytes(primes, count, degree),):
        raise ProtocolError(f"{what}: expected {packed_bytes(primes, count, degree)} bytes, got {wire.shape}")
    out, start = np.zeros((count, len(primes), degree), dtype=np.uint64), 0
    for index in range(count):
        for row, prime in enumerate(primes):
            width = _width(prime)
            octets = np.zeros((degree, 8), dtype=np.uint8)
            octets[:, :width] = wire[start : start + degree * width].reshape(degree, width)
            out[index, row] = octets.view("<u8").reshape(-1)
            start += degree * width
            if np.any(out[index, row] >= np.uint64(prime)):
                raise ProtocolError(f"{what}: expected residues below {prime}, got a larger one")
    return out


def _width(prime: int) -> int:
    return -(-prime.bit_length() // 8)
