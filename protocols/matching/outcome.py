"""The outcome of an identification: which index was nearest, if it was near enough, and nothing else.

Both parties hold shares of keys 2^w d + i: a distance d and an index i (`selection`). The bit b = [d < bound] comes
from `comparison.is_below`, shared by exclusive or; with a random bit s that is shared both ways they open b ^ s, which
is uniform, and so get additive shares of b. The index is the key modulo 2^w, so its shares are theirs modulo 2^w.
b (i + 1) takes one Beaver product, and is opened modulo 2^w to whom `Reveal` names: 0 says "nobody".

The other party's share of it, modulo 2^w, is uniform, but for the outcome that it opens. Neither distance nor, if b is
0, index is opened. w has room for one index more than there are.
"""

import numpy as np

from protocols.arithmetic.bitplanes import unpack_plane
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT, SERVER
from protocols.correlations import ArithmeticTriple, Request, SharedBit
from protocols.errors import ParameterError, ProtocolError
from protocols.matching.reveal import Reveal
from protocols.shares.comparison import interval_requests, is_below
from protocols.shares.party import MpcParty, arithmetic, to_ring

__all__ = ["index_bits", "outcome_requests", "reveal_indices"]


def index_bits(count: int) -> int:
    """Return w for so many indices: 0 to `count` fit."""
    return int(count).bit_length()


def reveal_indices(party: MpcParty, keys: RingArray, bound: int, bits: int, reveal: Reveal) -> tuple[int | None, ...]:
    """Open the indices of keys 2^bits d + i with 0 <= d < bound; None for the others, and for who must not learn them.

    Args:
        keys: uint64 (k,), this party's shares.
        bound: of distances, public, in their scale.
        bits: w.

    Raises:
        ParameterError: a bound that is not positive, or too large for 63 bits.
        ProtocolError: what comes is no index.
    """
    if keys.ndim != 1 or not 0 < bound << bits < 2**63:
        raise ParameterError(f"expected keys and a bound below 2^{63 - bits}, got {keys.shape} and {bound}")
    near = unpack_plane(to_ring(is_below(party, keys, bound << bits)), keys.size)
    flag = _additive(party, near)
    mask = np.uint64((1 << bits) - 1)
    index = keys & mask
    if party.rank == CLIENT:
        index = index + np.uint64(1)
    found = to_ring((arithmetic(flag) * arithmetic(index)).share) & mask
    return _open(party, found, mask, reveal)


def outcome_requests(count: int) -> list[Request]:
    """Return the correlations that `reveal_indices` of `count` keys uses up."""
    return [*interval_requests(count), SharedBit((count,)), ArithmeticTriple("mul", (count,), (count,))]


def _additive(party: MpcParty, bits: RingArray) -> RingArray:
    """Return additive shares of bits that are shared by exclusive or."""
    mask, value = party.correlations.take(SharedBit(bits.shape))
    opened = bits ^ mask
    opened ^= party.channel.exchange("identification/bit", opened)
    if np.any(opened > 1):
        raise ProtocolError(f"identification/bit from {party.channel.peer}: expected bits")
    result = value - np.uint64(2) * opened * value
    return result + opened if party.rank == CLIENT else result


def _open(party: MpcParty, share: RingArray, mask: np.uint64, reveal: Reveal) -> tuple[int | None, ...]:
    channel, label = party.channel, f"identification/{reveal}"
    if reveal is Reveal.BOTH:
        other = channel.exchange(label, share)
    elif party.rank == (CLIENT if reveal is Reveal.CLIENT else SERVER):
        other = channel.receive(label, np.uint64, share.shape)
    else:
        channel.send(label, share)
        return (None,) * share.size
    if np.any(other > mask):
        raise ProtocolError(f"{label} from {channel.peer}: expected an index of {int(mask).bit_length()} bits")
    return tuple(int(value) - 1 if value else None for value in (share + other) & mask)
