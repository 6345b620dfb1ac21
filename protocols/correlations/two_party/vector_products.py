"""Shares of products of each party's uniform numbers with vectors of the other, in both directions at once.

As products of bits with numbers (`word_products`), one for each entry of a vector, but that a vector takes one transfer
for each bit: the two words of its pads serve two entries, and for more they are expanded by SHAKE-128 to one word for
each. The numbers' bits are the transfers' own choices, so nothing is said about them.

What each sees: the other's vectors, masked by pads that it does not have.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT, SERVER
from protocols.correlations.two_party.ends import PIECE, Drawn, End
from protocols.correlations.two_party.turns import Steps, Turn, pieces
from protocols.correlations.two_party.word_products import WordProducts, padded, put_choices

__all__ = ["vector_products"]

_BITS, _PAD_WORDS = 64, 2

Vectors = Callable[[NDArray[np.int64]], RingArray]


def vector_products(
    end: End, label: str, count: int, width: int, vectors: Vectors
) -> Steps[tuple[RingArray, RingArray]]:
    """Make shares of n v' + n' v for each of `count` numbers n, n' of both parties and the vectors v, v' for them.

    Args:
        width: entries of a vector.
        vectors: returns this party's, (some, width), for some of the other's numbers, named by their places.

    Returns:
        This party's numbers, uint64 (count,), and its shares, uint64 (count, width).
    """
    numbers, shares = np.empty(count, dtype=np.uint64), np.empty((count, width), dtype=np.uint64)
    for part in pieces(count, max(1, PIECE // (_BITS * max(1, width)))):
        own = vectors(np.arange(part.start, part.stop)).reshape(-1)
        made = yield from _piece(end, f"{label}/{part.start}", part.stop - part.start, width, own)
        numbers[part], shares[part] = made
    return numbers, shares


def _piece(end: End, label: str, count: int, width: int, vectors: RingArray) -> Steps[tuple[RingArray, RingArray]]:
    """Make those of some numbers; vectors are (count width,)."""
    numbers, values = np.zeros(count, dtype=np.uint64), padded(vectors)
    sums = {chooser: WordProducts(values.size) for chooser in (SERVER, CLIENT)}
    for turn, chooser in ((Turn.SERVER_CHOOSES, SERVER), (Turn.CLIENT_CHOOSES, CLIENT)):
        yield turn
        for i in range(_BITS):
            drawn = end.draw(chooser, count, words=_PAD_WORDS)
            put_choices(numbers, [(i, drawn)])
            sums[chooser].add(_expanded(drawn, width), _BITS - i, i, None if end.rank == chooser else values)
    shares = np.zeros(values.size, dtype=np.uint64)
    for turn, chooser in ((Turn.SERVER, CLIENT), (Turn.CLIENT, SERVER)):
        yield turn
        shares += sums[chooser].exchange(end, f"{label}/for {chooser}")
    return numbers, shares[: vectors.size].reshape(count, width)


def _expanded(drawn: Drawn, width: int) -> Drawn:
    """Return one pad of a word for every entry of a transfer's vector, and zeros up to a multiple of 64 of them."""
    sides, count, _ = drawn.pads.shape
    pads = np.zeros((sides, count * width + -count * width % 64, 1), dtype=np.uint64)
    if width <= _PAD_WORDS:
        words = drawn.pads[..., :width]
    else:
        streams = b"".join(hashlib.shake_128(p.tobytes()).digest(8 * width) for p in drawn.pads.reshape(-1, _PAD_WORDS))
        words = np.frombuffer(streams, dtype=np.uint64)
    pads[:, : count * width, 0] = words.reshape(sides, -1)
    if not drawn.is_chooser:
        return Drawn(pads)
    choices = np.zeros(pads.shape[1], dtype=np.uint8)
    choices[: count * width] = np.repeat(drawn.choices, width)
    return Drawn(pads, choices)
