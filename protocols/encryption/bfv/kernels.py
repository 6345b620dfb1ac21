"""Compiled loops of exact encryption: from four primes to two, and from two primes to words modulo 2^64."""

import numpy as np

from protocols.arithmetic.kernels import add_mod, compiled, multiply_mod, reduce_mod

__all__ = ["divide_by_primes", "round_to_words"]


@compiled
def divide_by_primes(low, high, primes, divisors, inverses, inverse, out):  # type: ignore[no-untyped-def]
    """out = floor(v / (q0 q1)) modulo the primes p0 and p1, for integers v modulo p0 p1 q0 q1.

    Args: low and high: residues of v modulo p0 and p1, and modulo q0 > q1; out; these three (count, 2, n); primes (2,);
    divisors (2,), q0 and q1; inverses (2, 2), of each divisor modulo each prime; inverse, of q1 modulo q0.
    """
    q0 = divisors[0]
    estimate = 1.0 / np.float64(q0)
    for i in range(low.shape[0]):
        for j in range(low.shape[2]):
            last = high[i, 1, j]
            difference = high[i, 0, j] - last
            next_last = multiply_mod(min(difference, difference + q0), inverse, q0, estimate)
            for r in range(2):
                p = primes[r]
                over = 1.0 / np.float64(p)
                value = low[i, r, j]
                for k, digit in ((1, last), (0, next_last)):
                    value = add_mod(value, p - reduce_mod(digit, p, over), p)
                    value = multiply_mod(value, inverses[k, r], p, over)
                out[i, r, j] = value


@compiled
def round_to_words(residues, primes, inverses, out):  # type: ignore[no-untyped-def]
    """out[i] = round(v 2^64 / (p0 p1)) modulo 2^64, for integers v as residues (count, 2, n).

    Args: inverses (2,), of p1 modulo p0 and of p0 modulo p1.

    v / (p0 p1) = x0 / p0 + x1 / p1 modulo 1, where x_r is the residue times the inverse. The loop computes each
    quotient in digits of 16 bits.
    """
    for i in range(residues.shape[0]):
        for j in range(residues.shape[2]):
            total, fraction = np.uint64(0), 0.0
            for r in range(2):
                p = primes[r]
                x = multiply_mod(residues[i, r, j], inverses[r], p, 1.0 / np.float64(p))
                word = np.uint64(0)
                for _ in range(4):
                    x <<= np.uint64(16)
                    digit = x // p
                    x -= digit * p
                    word = (word << np.uint64(16)) | digit
                total += word
                fraction += np.float64(x) / np.float64(p)
            out[i, j] = total + np.uint64(fraction + 0.5)
