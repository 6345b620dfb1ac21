"""Truncation on shares that never fails: drop the low bits of a shared number, off by at most one last bit.

Both parties hold shares of z, |z| < 2^62, and a shared uniform r with r' >> t and the top bit of r, r' = r mod 2^63 (a
`TruncationMask`). They open c = z + 2^62 + r, which is uniform. With c' = c mod 2^63, z + 2^62 = c' - r' + 2^63 w,
where the wrap w = c[63] ^ r[63] is linear in the shared bit since c is public; so (z + 2^62) >> t is (c' >> t) - (r'
>> t) + 2^(63 - t) w, or one more. Local truncation, which needs no message, fails with probability |z| / 2^64: too
much for squares. Source: Escudero et al., CRYPTO 2020, section 5; Dalskov, Escudero, Keller, PoPETs 2020, "Secure
evaluation of quantized neural networks".
"""

import math

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT
from protocols.correlations import Request, TruncationMask
from protocols.errors import ParameterError
from protocols.shares.party import MpcParty

__all__ = ["public_factor", "scale", "scale_requests", "truncate", "truncation_requests"]

_TOP = np.uint64(63)
_LOW_MASK = np.uint64(2**63 - 1)
_OFFSET_BITS = 62
_FACTOR_BITS = 20


def truncate(party: MpcParty, share: RingArray, bits: int) -> RingArray:
    """Return this party's share of floor(z / 2^bits), or one more; any shape, |z| < 2^62, 0 < bits < 62.

    One round, 8 bytes per element and direction.
    """
    r, r_high, r_top = party.correlations.take(TruncationMask(share.shape, bits))
    masked = share + r
    if party.rank == CLIENT:
        masked += np.uint64(1 << _OFFSET_BITS)
    c = masked + party.channel.exchange("truncation", masked)
    c_top = c >> _TOP
    wrap = (np.uint64(1) - np.uint64(2) * c_top) * r_top
    result = np.uint64(0) - r_high
    if party.rank == CLIENT:
        wrap += c_top
        result += ((c & _LOW_MASK) >> np.uint64(bits)) - np.uint64(1 << (_OFFSET_BITS - bits))
    return result + (wrap << np.uint64(63 - bits))


def truncation_requests(shape: tuple[int, ...], bits: int) -> list[Request]:
    """Return the correlations that one truncation uses up."""
    return [TruncationMask(shape, bits)]


def public_factor(factor: float) -> tuple[int, int]:
    """Return (integer, bits): integer / 2^bits is a factor, rounded to 20 significant bits; 0 < bits < 62.

    Raises:
        ParameterError: its magnitude is not below 2^19, or below 2^-42 and not zero.
    """
    mantissa, exponent = math.frexp(factor)
    if not (math.isfinite(factor) and 0 < _FACTOR_BITS - exponent < _OFFSET_BITS):
        raise ParameterError(f"expected a factor of magnitude 2^-42 to 2^19, got {factor:g}")
    return round(mantissa * 2**_FACTOR_BITS), _FACTOR_BITS - exponent


def scale(party: MpcParty, share: RingArray, factor: float) -> RingArray:
    """Return this party's share of x times a public factor, rounded to 20 bits, off by at most one last bit.

    Any shape, |x| < 2^42. One round, as `truncate`.
    """
    integer, bits = public_factor(factor)
    return truncate(party, share * np.uint64(integer % 2**64), bits)


def scale_requests(shape: tuple[int, ...], factor: float) -> list[Request]:
    """Return the correlations that `scale` uses up."""
    return truncation_requests(shape, public_factor(factor)[1])
