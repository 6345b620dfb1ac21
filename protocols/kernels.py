"""Compiled loops over residues: the arithmetic of Z_Q that runs millions of times, and nothing else.

Residues modulo two primes below 2^48 are uint64 arrays of shape (count, 2, n), C-contiguous. Numba compiles each loop
once per machine (its cache lies beside this file, or in the user's cache directory) and releases the interpreter's
lock while it runs. Products use a quotient *estimate* in float64 that is off by at most one and corrected, so that the
result is exact. `ring` and `ckks` are the interface; they check shapes.
"""

from typing import Any

import numba
import numpy as np

__all__ = [
    "MAX_TERMS",
    "add",
    "from_short_wire",
    "from_wire",
    "lift",
    "lift_signed",
    "multiply",
    "multiply_accumulate",
    "shift_right",
    "subtract",
    "to_short_wire",
    "to_wire",
]

MAX_TERMS = 1 << 14
"""Terms of `multiply_accumulate`: the middle limb's sum of 2^15 products below 2^48 still fits 64 bits."""

_LIMB_BITS = np.uint64(24)
_LIMB_MASK = np.uint64((1 << 24) - 1)
_WORD = np.uint64(32)
_WORD_MASK = np.uint64((1 << 32) - 1)
_BLOCK = 512


def _compiled(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True)(function)


def _inlined(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, inline="always")(function)


@_inlined
def _multiply_mod(a, b, p, inverse):  # type: ignore[no-untyped-def]
    """a b mod p for a, b < p < 2^48: the remainder by the estimated quotient lies in (-p, 2p)."""
    quotient = np.uint64(np.float64(a) * np.float64(b) * inverse)
    remainder = a * b - quotient * p
    remainder = min(remainder, remainder + p)  # negative ones have wrapped
    return min(remainder, remainder - p)


@_inlined
def _reduce(a, p, inverse):  # type: ignore[no-untyped-def]
    """a mod p for any 64-bit a and 2^40 < p < 2^48."""
    remainder = a - np.uint64(np.float64(a) * inverse) * p
    remainder = min(remainder, remainder + p)
    return min(remainder, remainder - p)


@_inlined
def _add_mod(a, b, p):  # type: ignore[no-untyped-def]
    total = a + b
    return min(total, total - p)


@_compiled
def add(a, b, primes, out):  # type: ignore[no-untyped-def]
    """out = a + b."""
    for i in range(a.shape[0]):
        for r in range(2):
            p = primes[r]
            for j in range(a.shape[2]):
                out[i, r, j] = _add_mod(a[i, r, j], b[i, r, j], p)


@_compiled
def subtract(a, b, primes, out):  # type: ignore[no-untyped-def]
    """out = a - b."""
    for i in range(a.shape[0]):
        for r in range(2):
            p = primes[r]
            for j in range(a.shape[2]):
                difference = a[i, r, j] - b[i, r, j]
                out[i, r, j] = min(difference, difference + p)


@_compiled
def multiply(a, b, primes, out):  # type: ignore[no-untyped-def]
    """out = a b, element by element; b has as many polynomials as a, or one for all."""
    for i in range(a.shape[0]):
        k = i if b.shape[0] > 1 else 0
        for r in range(2):
            p = primes[r]
            inverse = 1.0 / np.float64(p)
            for j in range(a.shape[2]):
                out[i, r, j] = _multiply_mod(a[i, r, j], b[k, r, j], p, inverse)


@_compiled
def multiply_accumulate(weights, groups, inputs, primes, out):  # type: ignore[no-untyped-def]
    """out[q] = sum over k of weights[k] inputs[groups[k], q], element by element.

    Args: weights (terms, 2, n), groups (terms,) int64, inputs (any, count, 2, n), out (count, 2, n); at most MAX_TERMS.

    Residues are cut into limbs of 24 bits, whose products are summed without reduction, so that the inner loop is
    four 32-bit multiplications that vectorise; one reduction at the end.
    """
    low, middle, high = (np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.uint64))
    for r in range(2):
        p = primes[r]
        inverse = 1.0 / np.float64(p)
        shift_24, shift_48 = np.uint64(1 << 24), _reduce(np.uint64(1 << 48), p, inverse)
        for start in range(0, out.shape[2], _BLOCK):
            size = min(_BLOCK, out.shape[2] - start)
            for q in range(out.shape[0]):
                low[:], middle[:], high[:] = 0, 0, 0
                for k in range(weights.shape[0]):
                    w = weights[k, r, start : start + size]
                    x = inputs[groups[k], q, r, start : start + size]
                    for j in range(size):
                        w_low, w_high = w[j] & _LIMB_MASK, (w[j] >> _LIMB_BITS) & _LIMB_MASK
                        x_low, x_high = x[j] & _LIMB_MASK, (x[j] >> _LIMB_BITS) & _LIMB_MASK
                        low[j] += w_low * x_low
                        middle[j] += w_low * x_high + w_high * x_low
                        high[j] += w_high * x_high
                for j in range(size):
                    total = _add_mod(
                        _multiply_mod(_reduce(middle[j], p, inverse), shift_24, p, inverse),
                        _multiply_mod(_reduce(high[j], p, inverse), shift_48, p, inverse),
                        p,
                    )
                    out[q, r, start + j] = _add_mod(total, _reduce(low[j], p, inverse), p)


@_compiled
def lift(values, primes, scales, offsets, out):  # type: ignore[no-untyped-def]
    """out[i, r] = (values[i] + offsets[r]) scales[r] mod primes[r], for values (count, n) of 64 bits."""
    for i in range(values.shape[0]):
        for r in range(2):
            p = primes[r]
            inverse = 1.0 / np.float64(p)
            for j in range(values.shape[1]):
                residue = _add_mod(_reduce(values[i, j], p, inverse), offsets[r], p)
                out[i, r, j] = _multiply_mod(residue, scales[r], p, inverse)


@_compiled
def lift_signed(values, primes, scales, out):  # type: ignore[no-untyped-def]
    """out[i, r] = values[i] scales[r] mod primes[r], for signed values (count, n)."""
    for i in range(values.shape[0]):
        for r in range(2):
            p = primes[r]
            inverse = 1.0 / np.float64(p)
            for j in range(values.shape[1]):
                value = values[i, j]
                residue = _reduce(np.uint64(abs(value)), p, inverse)
                if value < 0 and residue:
                    residue = p - residue
                out[i, r, j] = _multiply_mod(residue, scales[r], p, inverse)


@_inlined
def _compose(r0, r1, p0, p1, inverse, inverse_of_p0):  # type: ignore[no-untyped-def]
    """Return the (high, low) words of the integer below p0 p1 with these residues: r0 + p0 k."""
    difference = r1 - _reduce(r0, p1, inverse)
    k = _multiply_mod(min(difference, difference + p1), inverse_of_p0, p1, inverse)
    p_low, p_high, k_low, k_high = p0 & _WORD_MASK, p0 >> _WORD, k & _WORD_MASK, k >> _WORD
    middle = p_low * k_high + p_high * k_low + ((p_low * k_low) >> _WORD)
    low = p0 * k + r0
    return p_high * k_high + (middle >> _WORD) + np.uint64(low < r0), low


@_compiled
def shift_right(residues, primes, inverse_of_p0, bits, out):  # type: ignore[no-untyped-def]
    """out[i] = floor(v / 2^bits) mod 2^64 for the integer v in [0, p0 p1) of residues[i]; 0 < bits < 64."""
    p0, p1 = primes[0], primes[1]
    inverse = 1.0 / np.float64(p1)
    for i in range(residues.shape[0]):
        for j in range(residues.shape[2]):
            high, low = _compose(residues[i, 0, j], residues[i, 1, j], p0, p1, inverse, inverse_of_p0)
            out[i, j] = (low >> bits) | (high << (np.uint64(64) - bits))


@_compiled
def to_wire(residues, out):  # type: ignore[no-untyped-def]
    """Write each residue's six low bytes, little-endian; residues flat, out uint8 (6 count,)."""
    for i in range(residues.size):
        value = residues[i]
        for b in range(6):
            out[6 * i + b] = np.uint8(value >> np.uint64(8 * b))


@_compiled
def from_wire(wire, primes, out):  # type: ignore[no-untyped-def]
    """Read residues (count, 2, n) from six bytes each; return whether all are below their primes."""
    position = 0
    valid = True
    for i in range(out.shape[0]):
        for r in range(2):
            for j in range(out.shape[2]):
                value = np.uint64(0)
                for b in range(6):
                    value |= np.uint64(wire[position + b]) << np.uint64(8 * b)
                position += 6
                out[i, r, j] = value
                valid &= value < primes[r]
    return valid


@_compiled
def to_short_wire(residues, primes, inverse_of_p0, dropped, out):  # type: ignore[no-untyped-def]
    """Write the integer of each residue pair without its `dropped` low bits in ten bytes, little-endian."""
    p0, p1 = primes[0], primes[1]
    inverse = 1.0 / np.float64(p1)
    drop = np.uint64(dropped)
    position = 0
    for i in range(residues.shape[0]):
        for j in range(residues.shape[2]):
            high, low = _compose(residues[i, 0, j], residues[i, 1, j], p0, p1, inverse, inverse_of_p0)
            low = (low >> drop) | (high << (np.uint64(64) - drop))
            high >>= drop
            for b in range(8):
                out[position + b] = np.uint8(low >> np.uint64(8 * b))
            out[position + 8] = np.uint8(high)
            out[position + 9] = np.uint8(high >> np.uint64(8))
            position += 10


@_compiled
def from_short_wire(wire, primes, scales_low, scales_high, limit_high, limit_low, out):  # type: ignore[no-untyped-def]
    """Read ten-byte integers to residues of v scale (words low and high); return whether all are within the limit."""
    position = 0
    valid = True
    for i in range(out.shape[0]):
        for j in range(out.shape[2]):
            low, high = np.uint64(0), np.uint64(0)
            for b in range(8):
                low |= np.uint64(wire[position + b]) << np.uint64(8 * b)
            for b in range(2):
                high |= np.uint64(wire[position + 8 + b]) << np.uint64(8 * b)
            position += 10
            valid &= high < limit_high or (high == limit_high and low <= limit_low)
            for r in range(2):
                p = primes[r]
                inverse = 1.0 / np.float64(p)
                upper = _multiply_mod(high, scales_high[r], p, inverse)
                lower = _multiply_mod(_reduce(low, p, inverse), scales_low[r], p, inverse)
                out[i, r, j] = _add_mod(upper, lower, p)
    return valid
