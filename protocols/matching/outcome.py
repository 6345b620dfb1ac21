"""Open the outcome of an identification: which index was nearest, if it was near enough, and nothing else.

Both parties hold shares of keys 2^w d + i: a distance d and an index i (`selection`).

1. `comparison.is_below` gives the bit b = [d < bound], shared by exclusive or.
2. With a random bit s that is shared both ways, the parties open b ^ s, which is uniform. So they get additive shares
   of b.
3. The index is the key modulo 2^w. So a party's share of it is the party's share of the key modulo 2^w.
4. b (i + 1) takes one Beaver product. The parties open it modulo 2^w to whom `Reveal` names. 0 means "nobody".

What a party sees in the last step: the other's share of b (i + 1) modulo 2^w, which says nothing but the outcome. The
distance is never opened, and the index only if b = 1. w has room for one index more than there are.
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
    """Return w for `count` indices: the numbers 0 to `count` fit into w bits."""
    return int(count).bit_length()


def reveal_indices(party: MpcParty, keys: RingArray, bound: int, bits: int, reveal: Reveal) -> tuple[int | None, ...]:
    """Open the indices of those keys 2^bits d + i that have 0 <= d < bound.

    Args:
        keys: uint64 (k,), this party's shares.
        bound: the bound of distances, public, in their scale.
        bits: w.

    Returns:
        For each key its index, or None if d is not below the bound; all None for a party that must not learn them.

    Raises:
        ParameterError: the keys have another shape, or the bound is not positive, or too large for 63 bits.
        ProtocolError: the peer sends a number that is no bit, or no index.
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
