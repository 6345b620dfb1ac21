"""Compiled loops: the arithmetic of Z_Q that runs millions of times, and two products of a matrix with vectors.

Residues modulo two primes below 2^48 are uint64 arrays of shape (count, 2, n). Numba compiles each loop once per
machine, and releases the interpreter's lock while the loop runs. Its cache lies beside this file, or in the user's
cache directory. Products use a quotient *estimate* in float64. `remainder` corrects the estimate, so the result is
exact. The loops check no shapes. Their callers do: mostly `residues` and `ntt`.
"""

from typing import Any

import numba
import numpy as np

__all__ = [
    "BLOCK",
    "MAX_TERMS",
    "add",
    "add_multiplied",
    "add_small",
    "compiled",
    "from_short_wire",
    "from_wire",
    "keep_below",
    "lift",
    "lift_signed",
    "multiply",
    "multiply_accumulate",
    "multiply_limbs",
    "multiply_rows",
    "shift_right",
    "subtract",
    "to_short_wire",
    "to_wire",
]

MAX_TERMS = 1 << 14
"""Most terms of a sum in `multiply_accumulate`: the middle limb's 2^15 products below 2^48 still fit 64 bits."""

_LIMB_BITS = np.uint64(24)
_LIMB_MASK = np.uint64((1 << 24) - 1)
_WORD = np.uint64(32)
_WORD_MASK = np.uint64((1 << 32) - 1)
BLOCK = 512
"""Residues of each polynomial that `multiply_accumulate` works on at a time."""

_TOGETHER = 4
"""Polynomials of a batch that `multiply_accumulate` works on together: their parts of a block stay in cache."""


def compiled(function: Any, **options: Any) -> Any:
    """Compile a loop when it is first called; cache the result on disk if a cache folder is writeable."""
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # no cache is writeable: not beside the file, not the user's (or NUMBA_CACHE_DIR)
        return numba.njit(nogil=True, **options)(function)


def _inlined(function: Any) -> Any:
    return compiled(function, inline="always")


@_inlined
def remainder(product, estimate, p):  # type: ignore[no-untyped-def]
    """Return product mod p, for p < 2^62, from a float64 estimate of product / p.

    The estimate must be off by less than one before its fraction is cut off. Then product - quotient p lies in
    (-p, 2p), and nothing else is needed. So the product may have 128 bits and be given modulo 2^64.
    """
    rest = product - np.uint64(estimate) * p
    rest = min(rest, rest + p)  # a negative rest has wrapped
    return min(rest, rest - p)


@_inlined
def multiply_mod(a, b, p, inverse):  # type: ignore[no-untyped-def]
    """Return a b mod p for a, b < p < 2^48; inverse is 1 / p in float64."""
    return remainder(a * b, np.float64(a) * np.float64(b) * inverse, p)


@_inlined
def reduce_mod(a, p, inverse):  # type: ignore[no-untyped-def]
    """Return a mod p for any 64-bit a and 2^40 < p < 2^48."""
    return remainder(a, np.float64(a) * inverse, p)


@_inlined
def add_mod(a, b, p):  # type: ignore[no-untyped-def]
    total = a + b
    return min(total, total - p)


@compiled
def add(a, b, primes, out):  # type: ignore[no-untyped-def]
    """out = a + b."""
    for i in range(a.shape[0]):
        for r in range(2):
            p = primes[r]
            for j in range(a.shape[2]):
                out[i, r, j] = add_mod(a[i, r, j], b[i, r, j], p)


@compiled
def subtract(a, b, primes, out):  # type: ignore[no-untyped-def]
    """out = a - b."""
    for i in range(a.shape[0]):
        for r in range(2):
            p = primes[r]
            for j in range(a.shape[2]):
                difference = a[i, r, j] - b[i, r, j]
                out[i, r, j] = min(difference, difference + p)


@compiled
def multiply(a, b, primes, out):  # type: ignore[no-untyped-def]
    """out = a b, element by element; b has as many polynomials as a, or a single one for all of them."""
    for i in range(a.shape[0]):
        k = i if b.shape[0] > 1 else 0
        for r in range(2):
            p = primes[r]
            inverse = 1.0 / np.float64(p)
            for j in range(a.shape[2]):
                out[i, r, j] = multiply_mod(a[i, r, j], b[k, r, j], p, inverse)


@compiled
def add_multiplied(a, b, key, primes):  # type: ignore[no-untyped-def]
    """a[i, q] += b[i] key[q], in place; a (count, parts, 2, n), b (count, 2, n), key (parts, 2, n)."""
    for i in range(a.shape[0]):
        for q in range(a.shape[1]):
            for r in range(2):
                p = primes[r]
                inverse = 1.0 / np.float64(p)
                for j in range(a.shape[3]):
                    product = multiply_mod(b[i, r, j], key[q, r, j], p, inverse)
                    a[i, q, r, j] = add_mod(a[i, q, r, j], product, p)


@compiled
def add_small(a, values, primes):  # type: ignore[no-untyped-def]
    """a[i] += values[i], in place, for signed values (count, n) of magnitude below both primes."""
    for i in range(a.shape[0]):
        for r in range(2):
            p = primes[r]
            for j in range(a.shape[2]):
                value = np.uint64(values[i, j])  # a negative value wraps; adding p unwraps it
                a[i, r, j] = add_mod(a[i, r, j], min(value, value + p), p)


@compiled
def keep_below(words, prime, mask, plane, out):  # type: ignore[no-untyped-def]
    """Fill out[:, plane] in order with the masked words that are below the prime; return how many were kept."""
    count, n = out.shape[0], out.shape[2]
    wanted = count * n
    largest = np.uint64(0)
    for i in range(min(wanted, words.size)):
        largest = max(largest, words[i] & mask)
    if largest < prime and words.size >= wanted:  # nearly always: no word is rejected
        for i in range(count):
            row, source = out[i, plane], words[i * n : (i + 1) * n]
            for j in range(n):
                row[j] = source[j] & mask
        return wanted
    kept = 0
    for i in range(words.size):
        value = words[i] & mask
        if value < prime and kept < wanted:
            out[kept // n, plane, kept % n] = value
            kept += 1
    return kept


@compiled
def multiply_accumulate(weights, groups, bounds, inputs, primes, out):  # type: ignore[no-untyped-def]
    """out[g, q] = sum over k in bounds[g] : bounds[g + 1] of weights[k] inputs[groups[k], q], element by element.

    Args: weights (2, n / block, any, block): the polynomials, cut in the order of reading; groups (any,) int64; bounds
    (g + 1,) int64, at most MAX_TERMS apart; inputs (any, count, 2, n); out (g, count, 2, n).

    The loop cuts residues into limbs of 24 bits and sums the limbs' products without reduction. Its inner loop is then
    four 32-bit multiplications, which vectorise. One reduction follows at the end. The inputs' part of a block stays in
    cache while the weights stream past; each weight is read once.
    """
    block = weights.shape[3]
    low, middle, high = (np.empty(block, np.uint64), np.empty(block, np.uint64), np.empty(block, np.uint64))
    for r in range(2):
        p = primes[r]
        inverse = 1.0 / np.float64(p)
        shift_24, shift_48 = np.uint64(1 << 24), reduce_mod(np.uint64(1 << 48), p, inverse)
        for b in range(weights.shape[1]):
            start = b * block
            for first in range(0, out.shape[1], _TOGETHER):
                for g in range(out.shape[0]):
                    for q in range(first, min(first + _TOGETHER, out.shape[1])):
                        low[:], middle[:], high[:] = 0, 0, 0
                        for k in range(bounds[g], bounds[g + 1]):
                            w, x = weights[r, b, k], inputs[groups[k], q, r, start : start + block]
                            for j in range(block):
                                w_low, w_high = w[j] & _LIMB_MASK, (w[j] >> _LIMB_BITS) & _WORD_MASK
                                x_low, x_high = x[j] & _LIMB_MASK, (x[j] >> _LIMB_BITS) & _WORD_MASK
                                low[j] += w_low * x_low
                                middle[j] += w_low * x_high + w_high * x_low
                                high[j] += w_high * x_high
                        result = out[g, q, r, start : start + block]
                        for j in range(block):
                            total = add_mod(
                                multiply_mod(reduce_mod(middle[j], p, inverse), shift_24, p, inverse),
                                multiply_mod(reduce_mod(high[j], p, inverse), shift_48, p, inverse),
                                p,
                            )
                            result[j] = add_mod(total, reduce_mod(low[j], p, inverse), p)


@compiled
def lift(values, primes, scales, offsets, out):  # type: ignore[no-untyped-def]
    """out[i, r] = (values[i] + offsets[r]) scales[r] mod primes[r], for values (count, n) of 64 bits."""
    for i in range(values.shape[0]):
        for r in range(2):
            p = primes[r]
            inverse = 1.0 / np.float64(p)
            for j in range(values.shape[1]):
                residue = add_mod(reduce_mod(values[i, j], p, inverse), offsets[r], p)
                out[i, r, j] = multiply_mod(residue, scales[r], p, inverse)


@compiled
def lift_signed(values, primes, scales, out):  # type: ignore[no-untyped-def]
    """out[i, r] = values[i] scales[r] mod primes[r], for signed values (count, n)."""
    for i in range(values.shape[0]):
        for r in range(2):
            p = primes[r]
            inverse = 1.0 / np.float64(p)
            for j in range(values.shape[1]):
                value = values[i, j]
                residue = reduce_mod(np.uint64(abs(value)), p, inverse)
                if value < 0 and residue:
                    residue = p - residue
                out[i, r, j] = multiply_mod(residue, scales[r], p, inverse)


@_inlined
def _compose(r0, r1, p0, p1, inverse, inverse_of_p0):  # type: ignore[no-untyped-def]
    """Return the (high, low) words of the integer r0 + p0 k below p0 p1 that has the residues r0 and r1."""
    difference = r1 - reduce_mod(r0, p1, inverse)
    k = multiply_mod(min(difference, difference + p1), inverse_of_p0, p1, inverse)
    p_low, p_high, k_low, k_high = p0 & _WORD_MASK, p0 >> _WORD, k & _WORD_MASK, k >> _WORD
    middle = p_low * k_high + p_high * k_low + ((p_low * k_low) >> _WORD)
    low = p0 * k + r0
    return p_high * k_high + (middle >> _WORD) + np.uint64(low < r0), low


@compiled
def shift_right(residues, primes, inverse_of_p0, bits, out):  # type: ignore[no-untyped-def]
    """out[i] = floor(v / 2^bits) mod 2^64 for the integer v in [0, p0 p1) of residues[i]; 0 < bits < 64."""
    p0, p1 = primes[0], primes[1]
    inverse = 1.0 / np.float64(p1)
    for i in range(residues.shape[0]):
        for j in range(residues.shape[2]):
            high, low = _compose(residues[i, 0, j], residues[i, 1, j], p0, p1, inverse, inverse_of_p0)
            out[i, j] = (low >> bits) | (high << (np.uint64(64) - bits))


@compiled
def to_wire(residues, out):  # type: ignore[no-untyped-def]
    """Write each residue's 48 bits, little-endian, four residues in three words; residues (4 m,), out uint64 (3 m,)."""
    for i in range(residues.size // 4):
        r0, r1, r2, r3 = residues[4 * i], residues[4 * i + 1], residues[4 * i + 2], residues[4 * i + 3]
        out[3 * i] = r0 | (r1 << np.uint64(48))
        out[3 * i + 1] = (r1 >> np.uint64(16)) | (r2 << _WORD)
        out[3 * i + 2] = (r2 >> _WORD) | (r3 << np.uint64(16))


@compiled
def from_wire(wire, primes, out):  # type: ignore[no-untyped-def]
    """Read residues (count, 2, n) from `to_wire`'s words; return whether all are below their primes; 4 divides n."""
    low_48, low_16 = np.uint64((1 << 48) - 1), np.uint64((1 << 16) - 1)
    n = out.shape[2]
    position = 0
    valid = True
    for i in range(out.shape[0]):
        for r in range(2):
            row, words = out[i, r], wire[position : position + 3 * n // 4]
            position += 3 * n // 4
            largest = np.uint64(0)
            for j in range(n // 4):
                w0, w1, w2 = words[3 * j], words[3 * j + 1], words[3 * j + 2]
                r0, r1 = w0 & low_48, (w0 >> np.uint64(48)) | ((w1 & _WORD_MASK) << np.uint64(16))
                r2, r3 = (w1 >> _WORD) | ((w2 & low_16) << _WORD), w2 >> np.uint64(16)
                row[4 * j], row[4 * j + 1], row[4 * j + 2], row[4 * j + 3] = r0, r1, r2, r3
                largest = max(largest, max(max(r0, r1), max(r2, r3)))
            valid &= largest < primes[r]
    return valid


@compiled
def to_short_wire(residues, primes, inverse_of_p0, dropped, low, high):  # type: ignore[no-untyped-def]
    """Write the integer of each residue pair without its `dropped` low bits: 64 bits to `low`, the rest to `high`."""
    p0, p1 = primes[0], primes[1]
    inverse = 1.0 / np.float64(p1)
    drop = np.uint64(dropped)
    for i in range(residues.shape[0]):
        for j in range(residues.shape[2]):
            upper, lower = _compose(residues[i, 0, j], residues[i, 1, j], p0, p1, inverse, inverse_of_p0)
            low[i, j] = (lower >> drop) | (upper << (np.uint64(64) - drop))
            high[i, j] = np.uint16(upper >> drop)


@compiled
def from_short_wire(low, high, primes, scales_low, scales_high, limit_high, limit_low, out):  # type: ignore[no-untyped-def]
    """Write to `out` the residues of v scale, for v = high 2^64 + low; return whether every v is within the limit."""
    valid = True
    for i in range(out.shape[0]):
        for r in range(2):
            p = primes[r]
            inverse = 1.0 / np.float64(p)
            for j in range(out.shape[2]):
                upper = multiply_mod(np.uint64(high[i, j]), scales_high[r], p, inverse)
                lower = multiply_mod(reduce_mod(low[i, j], p, inverse), scales_low[r], p, inverse)
                out[i, r, j] = add_mod(upper, lower, p)
        for j in range(out.shape[2]):
            upper = np.uint64(high[i, j])
            valid &= upper < limit_high or (upper == limit_high and low[i, j] <= limit_low)
    return valid


@compiled
def multiply_rows(matrix, vector, out):  # type: ignore[no-untyped-def]
    """Add matrix (n, d) times vector (d,) to out (n,), modulo 2^64."""
    for i in range(matrix.shape[0]):
        total = np.uint64(0)
        for j in range(matrix.shape[1]):
            total += matrix[i, j] * vector[j]
        out[i] += total


@compiled
def multiply_limbs(matrix, low, high, out):  # type: ignore[no-untyped-def]
    """out[0], out[1] = matrix int32 (n, d) times low and high int64 (d,), in one pass; sums must stay below 2^63."""
    for i in range(matrix.shape[0]):
        lower, upper = np.int64(0), np.int64(0)
        for j in range(matrix.shape[1]):
            weight = np.int64(matrix[i, j])
            lower += weight * low[j]
            upper += weight * high[j]
        out[0, i], out[1, i] = lower, upper
