"""Match two shared embeddings: compute their squared distance, and open one bit.

Both parties hold shares of embeddings a and b (16 fractional bits), and a threshold t.

1. CrypTen's Beaver protocol gives the squares: one opening of a - b, masked by a random r. Their sum
   d = sum (a - b)^2 has 32 fractional bits.
2. A comparison at full width (64 bits) gives match = [0 <= d < t^2]. No truncation enters the decision, so it is exact
   on the fixed-point embeddings. This takes one opening of d, masked, and two rounds of the comparison's tree.
3. The parties open the decision bit to whom `reveal` names. Nobody sees the distance, since some dozens of scores
   suffice to rebuild a template.

Embeddings out of range do not match, except by chance: their distance wraps modulo 2^64. So d is as good as random, and
matches with probability about t^2 2^-32.
"""

import numpy as np

from protocols.arithmetic.bitplanes import unpack_plane
from protocols.arithmetic.fixed_point import FRACTION_BITS, RingArray, encode
from protocols.channel import CLIENT, SERVER
from protocols.correlations import Request, SquarePair
from protocols.errors import ParameterError, ProtocolError
from protocols.matching.reveal import Reveal
from protocols.shares.comparison import interval_requests, is_below
from protocols.shares.party import MpcParty, arithmetic, to_ring

__all__ = ["matching_requests", "open_decisions", "reveal_match", "reveal_matches", "squared_distance"]


def squared_distance(party: MpcParty, first: RingArray, second: RingArray) -> RingArray:
    """Return this party's share of sum (a - b)^2 over the last axis, at 32 fractional bits.

    Args:
        first, second: uint64 (..., d), shares at 16 fractional bits. The squared distance must be below 2^32.
    """
    if first.shape != second.shape:
        raise ParameterError(f"expected embeddings of one shape, got {first.shape} and {second.shape}")
    return to_ring(arithmetic(first - second).square().share).sum(axis=-1, dtype=np.uint64)


def reveal_matches(party: MpcParty, distances: RingArray, threshold: float, reveal: Reveal) -> tuple[bool | None, ...]:
    """Open [0 <= distance < threshold^2] for every distance, and nothing else.

    Args:
        distances: uint64 (n,), this party's shares of squared distances at 32 fractional bits.
        threshold: Euclidean, positive; public.

    Returns:
        The n decisions, or None in place of each for a party that must not learn them.

    Raises:
        ParameterError: the distances have another shape, or the threshold is not positive.
    """
    if distances.ndim != 1 or not distances.size or not threshold > 0:
        raise ParameterError(f"expected distances and a threshold above 0, got {distances.shape} and {threshold}")
    bound = int(encode(threshold**2, 2 * FRACTION_BITS))
    plane = to_ring(is_below(party, distances, bound))
    return open_decisions(party, unpack_plane(plane, distances.size), reveal)


def reveal_match(party: MpcParty, distance: RingArray, threshold: float, reveal: Reveal) -> bool | None:
    """Open the decision of one distance, uint64 (1,): see `reveal_matches`."""
    if distance.shape != (1,):
        raise ParameterError(f"expected one distance, got {distance.shape}")
    return reveal_matches(party, distance, threshold, reveal)[0]


def open_decisions(party: MpcParty, bits: RingArray, reveal: Reveal) -> tuple[bool | None, ...]:
    """Open exclusive-or shared bits, uint64 (n,), to whom `reveal` names; return None for each bit to the others."""
    channel, label = party.channel, f"decision/{reveal}"
    if reveal is Reveal.BOTH:
        other = channel.exchange(label, bits)
    elif party.rank == (CLIENT if reveal is Reveal.CLIENT else SERVER):
        other = channel.receive(label, np.uint64, bits.shape)
    else:
        channel.send(label, bits)
        return (None,) * bits.size
    if np.any(other > 1):
        raise ProtocolError(f"{label} from {channel.peer}: expected bits, got a larger number")
    return tuple(bool(bit) for bit in bits ^ other)


def matching_requests(dimension: int, decisions: int = 1) -> list[Request]:
    """Return the correlations that `decisions` distances of embeddings and their decisions use up."""
    return [SquarePair((decisions, dimension)), *interval_requests(decisions)] if decisions else []
