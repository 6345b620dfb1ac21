"""Truncation on shares that never fails: drop the low bits of a shared number, off by at most one last bit.

Both parties hold shares of z, |z| < 2^62, and a shared uniform r with r' >> t and the top bit of r, r' = r mod 2^63 (a
`TruncationMask`). They open c = z + 2^62 + r, which is uniform. With c' = c mod 2^63, z + 2^62 = c' - r' + 2^63 w,
where the wrap w = c[63] ^ r[63] is linear in the shared bit since c is public; so (z + 2^62) >> t is (c' >> t) - (r'
>> t) + 2^(63 - t) w, or one more. Local truncation, which needs no message, fails with probability |z| / 2^64: too
much for squares. Source: Escudero et al., CRYPTO 2020, section 5; Dalskov, Escudero, Keller, PoPETs 2020, "Secure
evaluation of quantized neural networks".
"""

import numpy as np

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT
from protocols.correlations import Request, TruncationMask
from protocols.shares.party import MpcParty

__all__ = ["truncate", "truncation_requests"]

_TOP = np.uint64(63)
_LOW_MASK = np.uint64(2**63 - 1)
_OFFSET_BITS = 62


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
