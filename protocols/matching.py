"""Matching: the squared distance of two shared embeddings, and the one bit that is opened.

Both parties hold shares of embeddings a and b (16 fractional bits). Squares come from CrypTen's Beaver protocol (one
opening of a - b masked by a random r); the sum has 32 fractional bits and is compared at full width (64 bits), so no
truncation enters the decision: match = [0 <= d < t^2], d = sum (a - b)^2, exactly, on the fixed-point embeddings, in
one opening of d masked and two rounds of a comparison's tree. Embeddings out of range, whose distance has wrapped
modulo 2^64, are refused: then d is as good as random, and matches with probability about t^2 2^-32. The decision bit
is opened to whom `reveal` names; nobody sees the distance, since some dozens of scores rebuild a template.
"""

from enum import StrEnum

import numpy as np

from protocols.comparison import interval_requests, is_below
from protocols.correlations import Request, SquarePair
from protocols.errors import ParameterError, ProtocolError
from protocols.mpc import CLIENT, SERVER, MpcParty, arithmetic, to_ring
from protocols.ring import FRACTION_BITS, RingArray, encode

__all__ = ["Reveal", "matching_requests", "open_decision", "reveal_match", "squared_distance"]


class Reveal(StrEnum):
    """Who learns the decision."""

    CLIENT = "client"
    SERVER = "server"
    BOTH = "both"


def squared_distance(party: MpcParty, first: RingArray, second: RingArray) -> RingArray:
    """Return this party's share of sum (a - b)^2 over the last axis, at 32 fractional bits.

    Args:
        first, second: uint64 (..., d), shares at 16 fractional bits; |a - b| summed in squares below 2^32.
    """
    if first.shape != second.shape:
        raise ParameterError(f"expected embeddings of one shape, got {first.shape} and {second.shape}")
    return to_ring(arithmetic(first - second).square().share).sum(axis=-1, dtype=np.uint64)


def reveal_match(party: MpcParty, distance: RingArray, threshold: float, reveal: Reveal) -> bool | None:
    """Open [0 <= distance < threshold^2] and nothing else.

    Args:
        distance: uint64 (1,), this party's share of a squared distance at 32 fractional bits.
        threshold: Euclidean, positive; public.

    Returns:
        The decision, or None for a party that must not learn it.

    Raises:
        ParameterError: another shape or threshold.
    """
    if distance.shape != (1,) or not threshold > 0:
        raise ParameterError(f"expected one distance and a threshold above 0, got {distance.shape} and {threshold}")
    bound = int(encode(threshold**2, 2 * FRACTION_BITS))
    match = to_ring(is_below(party, distance, bound)) & np.uint64(1)
    return open_decision(party, match, reveal)


def open_decision(party: MpcParty, bit: RingArray, reveal: Reveal) -> bool | None:
    """Open one exclusive-or shared bit, uint64 (1,), to whom `reveal` names; None for the others."""
    channel, label = party.channel, f"decision/{reveal}"
    if reveal is Reveal.BOTH:
        other = channel.exchange(label, bit)
    elif party.rank == (CLIENT if reveal is Reveal.CLIENT else SERVER):
        other = channel.receive(label, np.uint64, (1,))
    else:
        channel.send(label, bit)
        return None
    if other[0] > 1:
        raise ProtocolError(f"{label} from {channel.peer}: expected a bit, got {other[0]:#x}")
    return bool(bit[0] ^ other[0])


def matching_requests(dimension: int) -> list[Request]:
    """Return the correlations that one distance and one decision use up."""
    return [SquarePair((1, dimension)), *interval_requests(1)]
