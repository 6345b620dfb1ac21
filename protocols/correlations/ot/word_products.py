"""Shares of products of a chooser's bits with an offerer's words, and so of numbers with numbers (Gilboa, CRYPTO 1999).

For a bit c and words y the two get additive shares of c y modulo 2^64: with pads P_0, P_1 of a random transfer the
offerer sends P_0 - P_1 + y and holds -P_0; the chooser holds P_c + c (P_0 - P_1 + y) = P_0 + c y. A product of two
numbers is the sum of that over the bits of one, with the other shifted. Pads of more than two words are expanded from
128 bits by SHAKE-128.

What each sees: the chooser y masked by a pad that it does not have; the offerer, if the chooser's bits are not the
transfers' own, these bits masked by those.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from protocols.correlations.ot.ends import End
from protocols.ring import RingArray

__all__ = ["choose_numbers", "choose_words", "offer_numbers", "offer_words"]

Bits = NDArray[np.uint8]

_BITS = 64
_SHIFTS = np.arange(_BITS, dtype=np.uint64)


def choose_words(end: End, label: str, count: int, width: int, bits: Bits | None = None) -> tuple[Bits, RingArray]:
    """Be the chooser of `count` products of a bit with `width` words.

    Args:
        bits: uint8 (count,), each 0 or 1; drawn if left out.

    Returns:
        The bits, and this party's shares, uint64 (count, width).
    """
    drawn, pads = end.chooser.draw(count, words=min(width, 2))
    if bits is None:
        bits = drawn
    else:
        end.channel.send(f"{label}/choices", np.packbits(bits ^ drawn))
    sent = end.channel.receive(f"{label}/words", np.uint64, (count, width))
    return bits, _expanded(pads, width) + bits[:, None] * sent


def offer_words(end: End, label: str, words: RingArray, chosen: bool = False) -> RingArray:
    """Be the offerer; return this party's shares, uint64 (count, width).

    Args:
        words: y, uint64 (count, width).
        chosen: whether the chooser has bits of its own.
    """
    count, width = words.shape
    pads = end.offerer.draw(count, words=min(width, 2))
    first, second = (_expanded(pads[:, side], width) for side in (0, 1))
    if chosen:
        packed = end.channel.receive(f"{label}/choices", np.uint8, (-(-count // 8),))
        swap = np.unpackbits(packed, count=count).astype(bool)[:, None]
        first, second = np.where(swap, second, first), np.where(swap, first, second)
    end.channel.send(f"{label}/words", first - second + words)
    return np.negative(first)


def choose_numbers(end: End, label: str, count: int, numbers: RingArray | None = None) -> tuple[RingArray, RingArray]:
    """Be the chooser of products of two numbers; return its numbers, drawn if left out, and its shares, (count,)."""
    bits = None
    if numbers is not None:
        bits = ((numbers[:, None] >> _SHIFTS) & np.uint64(1)).astype(np.uint8).reshape(-1)
    bits, shares = choose_words(end, label, _BITS * count, 1, bits)
    if numbers is None:
        numbers = (bits.reshape(count, _BITS).astype(np.uint64) << _SHIFTS).sum(axis=1, dtype=np.uint64)
    return numbers, shares.reshape(count, _BITS).sum(axis=1, dtype=np.uint64)


def offer_numbers(end: End, label: str, numbers: RingArray, chosen: bool = False) -> RingArray:
    """Be the offerer of products of two numbers; return its shares, uint64 (count,)."""
    words = (numbers[:, None] << _SHIFTS).reshape(-1, 1)
    return offer_words(end, label, words, chosen).reshape(len(numbers), _BITS).sum(axis=1, dtype=np.uint64)


def _expanded(pads: RingArray, width: int) -> RingArray:
    """Return pads (count, 1 or 2) as (count, width)."""
    if pads.shape[1] == width:
        return pads
    rows = [np.frombuffer(hashlib.shake_128(pad.tobytes()).digest(8 * width), dtype=np.uint64) for pad in pads]
    return np.stack(rows) if rows else np.empty((0, width), dtype=np.uint64)
