"""Truncate shared numbers without failures: drop the low bits of a number, off by at most one last bit.

Both parties hold shares of z, |z| < 2^62. A `TruncationMask` gives them shares of a uniform r, of the top bit of r, and
of r' >> t, where r' = r mod 2^63. They open c = z + 2^62 + r, which is uniform. With c' = c mod 2^63,

    z + 2^62 = c' - r' + 2^63 w,    w = c[63] ^ r[63].

The wrap w is linear in the shared bit, since c is public. So the parties get shares of

    (c' >> t) - (r' >> t) + 2^(63 - t) w,

which is (z + 2^62) >> t, or one more.

Local truncation needs no message, but fails with probability |z| / 2^64. This is too much for squares.

Sources: Escudero et al., CRYPTO 2020, section 5; Dalskov, Escudero, Keller, PoPETs 2020, "Secure evaluation of
quantized neural networks".
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

    This takes one round, and 8 bytes for each element and direction.
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
    """Return (integer, bits) so that integer / 2^bits is `factor`, rounded to 20 significant bits; 0 < bits < 62.

    Raises:
        ParameterError: the factor's magnitude is not below 2^19, or it is below 2^-42 and not zero.
    """
    mantissa, exponent = math.frexp(factor)
    if not (math.isfinite(factor) and 0 < _FACTOR_BITS - exponent < _OFFSET_BITS):
        raise ParameterError(f"expected a factor of magnitude 2^-42 to 2^19, got {factor:g}")
    return round(mantissa * 2**_FACTOR_BITS), _FACTOR_BITS - exponent


def scale(party: MpcParty, share: RingArray, factor: float) -> RingArray:
    """Return this party's share of x times a public factor, rounded to 20 bits, off by at most one last bit.

    Any shape, |x| < 2^42. This takes one round, as `truncate` does.
    """
    integer, bits = public_factor(factor)
    return truncate(party, share * np.uint64(integer % 2**64), bits)


def scale_requests(shape: tuple[int, ...], factor: float) -> list[Request]:
    """Return the correlations that `scale` uses up."""
    return truncation_requests(shape, public_factor(factor)[1])
