"""Shares of products of a chooser's bits with an offerer's numbers, and so of two numbers (Gilboa, CRYPTO 1999).

For a bit c and a number y the two get additive shares of c y: with pads P_0, P_1 of a random transfer the offerer sends
P_0 - P_1 + y and holds -P_0; the chooser holds P_c + c (P_0 - P_1 + y) = P_0 + c y. Where c y is to be multiplied by
2^s and matters modulo 2^(w + s), the message needs w bits; messages are packed. A product of two numbers is the sum of
2^i c_i y over the bits c_i of one, so its messages have 64, 63, ..., 1 bits.

The chooser's bits are the transfers' own choices, or it has bits already and says in which transfers they differ from
the choices; the offerer then exchanges its two pads.

Products with vectors go in both directions at once: of each party's uniform numbers with vectors of the other. A vector
takes one transfer for each bit of its number: the two words of the transfer's pads serve two entries, and for more they
are expanded by SHAKE-128 to one word for each. The numbers' bits are the transfers' own choices.

What each sees: the chooser y masked by a pad that it does not have; the offerer, if the chooser's bits are not the
transfers' own, these bits masked by those.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.bitplanes import bit_planes
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT, SERVER
from protocols.correlations.two_party.ends import PIECE, Drawn, End
from protocols.correlations.two_party.kernels import choose_packed, offer_packed, put_bits
from protocols.correlations.two_party.turns import Steps, Turn, pieces

__all__ = ["WordProducts", "number_products", "padded", "put_choices", "tell_choices", "vector_products"]

_BITS, _VECTOR_PAD_WORDS = 64, 2

Vectors = Callable[[NDArray[np.int64]], RingArray]
"""Returns a party's vectors, (some, width), for some of the other's numbers, named by their places."""


class WordProducts:
    """One party's share of sums of 2^s c y, for elements that all have the same c's chooser.

    Args:
        count: elements, a multiple of 64.
    """

    def __init__(self, count: int) -> None:
        self._sums = np.zeros(count, dtype=np.uint64)
        self._messages: list[RingArray] = []
        self._waiting: list[tuple[Drawn, int, int, int]] = []

    def add(self, drawn: Drawn, width: int, shift: int, values: RingArray | None = None, word: int = 0) -> None:
        """Add a product for every element.

        Args:
            drawn: transfers, one for each element.
            width: w, 1 to 64. shift: s.
            values: the offerer's y, uint64 (count,); None for the chooser.
            word: of the pads, which nothing else uses.
        """
        if values is None:
            self._waiting.append((drawn, width, shift, word))
            return
        message = np.empty(width * values.size // 64, dtype=np.uint64)
        offer_packed(drawn.pads[..., word], values, width, shift, message, self._sums)
        self._messages.append(message)

    def exchange(self, end: End, label: str) -> RingArray:
        """Send the offerer's message, or receive it as the chooser; return the share of the sums, uint64 (count,)."""
        if self._messages:
            end.channel.send(label, np.concatenate(self._messages))
        if self._waiting:
            sizes = [width * self._sums.size // 64 for _, width, _, _ in self._waiting]
            sent = end.channel.receive(label, np.uint64, (sum(sizes),))
            start = 0
            for (drawn, width, shift, word), size in zip(self._waiting, sizes, strict=True):
                message = sent[start : start + size]
                choose_packed(drawn.pads[0, :, word], drawn.choices, width, shift, message, self._sums)
                start += size
        return self._sums


def tell_choices(end: End, label: str, drawn: Sequence[Drawn], planes: RingArray | None) -> list[Drawn]:
    """Turn the client's random choices into bits that it has; the client sends.

    Args:
        drawn: transfers in which the client chooses, a multiple of 64 each.
        planes: the client's bits, uint64 (len(drawn), words); None for the server.

    Returns:
        The same transfers with these choices.
    """
    if planes is not None:
        choices = np.stack([one.choice_plane for one in drawn])
        end.channel.send(label, planes ^ choices)
        return [Drawn(one.pads, _bits(plane)) for one, plane in zip(drawn, planes, strict=True)]
    told = end.channel.receive(label, np.uint64, (len(drawn), drawn[0].pads.shape[1] // 64))
    return [
        Drawn(np.where(_bits(plane).astype(bool)[:, None], one.pads[::-1], one.pads))
        for one, plane in zip(drawn, told, strict=True)
    ]


def number_products(end: End, label: str, numbers: RingArray, told: bool) -> Steps[tuple[RingArray, RingArray]]:
    """Make shares of the products of client's and server's numbers, some at a time; the client chooses.

    Args:
        numbers: this party's, uint64 (count,).
        told: whether the client has numbers already; else it gets uniform ones, which take no message.

    Returns:
        This party's numbers and its shares, uint64 (count,).
    """
    numbers, shares = numbers.copy(), np.empty_like(numbers)
    for part in pieces(numbers.size, PIECE // _BITS):
        made = yield from _some_products(end, f"{label}/{part.start}", padded(numbers[part]), told)
        numbers[part], shares[part] = (one[: part.stop - part.start] for one in made)
    return numbers, shares


def _some_products(end: End, label: str, numbers: RingArray, told: bool) -> Steps[tuple[RingArray, RingArray]]:
    is_client = end.rank == CLIENT
    yield Turn.CLIENT_CHOOSES
    drawn = [end.draw(CLIENT, numbers.size) for _ in range(_BITS)]
    if told:
        yield Turn.CLIENT
        drawn = tell_choices(end, f"{label}/choices", drawn, bit_planes(numbers, _BITS) if is_client else None)
    else:
        put_choices(numbers, enumerate(drawn))
    products = WordProducts(numbers.size)
    for i, one in enumerate(drawn):
        products.add(one, _BITS - i, i, None if is_client else numbers)
    yield Turn.SERVER
    return numbers, products.exchange(end, f"{label}/words")


def put_choices(numbers: RingArray, drawn: Iterable[tuple[int, Drawn]]) -> None:
    """Make the choices of some transfers bits of numbers, in place; nothing for the offerer of them.

    Args:
        drawn: by the number of the bit.
    """
    for i, one in drawn:
        if one.is_chooser:
            put_bits(numbers, one.choices, i)


def padded(numbers: RingArray) -> RingArray:
    """Return a copy that zeros make a multiple of 64 long."""
    return np.concatenate([numbers, np.zeros(-numbers.size % 64, dtype=np.uint64)])


def _bits(plane: RingArray) -> NDArray[np.uint8]:
    return np.unpackbits(plane.view(np.uint8), bitorder="little")


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
        made = yield from _some_vectors(end, f"{label}/{part.start}", part.stop - part.start, width, own)
        numbers[part], shares[part] = made
    return numbers, shares


def _some_vectors(
    end: End, label: str, count: int, width: int, vectors: RingArray
) -> Steps[tuple[RingArray, RingArray]]:
    """Make those of some numbers; vectors are (count width,)."""
    numbers, values = np.zeros(count, dtype=np.uint64), padded(vectors)
    sums = {chooser: WordProducts(values.size) for chooser in (SERVER, CLIENT)}
    for turn, chooser in ((Turn.SERVER_CHOOSES, SERVER), (Turn.CLIENT_CHOOSES, CLIENT)):
        yield turn
        for i in range(_BITS):
            drawn = end.draw(chooser, count, words=_VECTOR_PAD_WORDS)
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
    if width <= _VECTOR_PAD_WORDS:
        words = drawn.pads[..., :width]
    else:
        streams = b"".join(
            hashlib.shake_128(p.tobytes()).digest(8 * width) for p in drawn.pads.reshape(-1, _VECTOR_PAD_WORDS)
        )
        words = np.frombuffer(streams, dtype=np.uint64)
    pads[:, : count * width, 0] = words.reshape(sides, -1)
    if not drawn.is_chooser:
        return Drawn(pads)
    choices = np.zeros(pads.shape[1], dtype=np.uint8)
    choices[: count * width] = np.repeat(drawn.choices, width)
    return Drawn(pads, choices)
