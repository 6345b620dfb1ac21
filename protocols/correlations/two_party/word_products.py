"""Make shares of products of a chooser's bits with an offerer's numbers, and of two numbers (Gilboa, CRYPTO 1999).

**A bit times a number.** The chooser has a bit c and the offerer a number y. They get additive shares of c y from a
random transfer with pads P_0, P_1. The offerer sends P_0 - P_1 + y and holds -P_0. The chooser holds
P_c + c (P_0 - P_1 + y) = P_0 + c y. If 2^s c y matters modulo 2^(w + s) only, the message needs w bits. Messages are
packed.

**Two numbers.** Their product is the sum of 2^i c_i y over the bits c_i of one number. So its messages have 64, 63, and
so on to 1 bits.

**The chooser's bits** are the transfers' own choices, or bits that the chooser has already. In the second case, the
chooser says in which transfers its bits differ from the choices. There the offerer exchanges its two pads.

**Numbers times vectors.** Both directions go at once: each party's uniform numbers times vectors of the other. A vector
takes one transfer for each bit of its number. The two words of a transfer's pads serve two entries. For more entries,
SHAKE-128 expands them to one word for each. The numbers' bits are the transfers' own choices.

What each sees: the chooser sees y, masked by a pad that it does not have. If the chooser's bits are not the transfers'
own, the offerer sees these bits, masked by the transfers' choices.
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
"""Returns a party's vectors (some, width) for some of the other party's numbers, given by their places."""


class WordProducts:
    """One party's share of sums of 2^s c y, one sum for each element. One party is the chooser of all c.

    Args:
        count: how many elements, a multiple of 64.
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
            word: the number of a word of the pads that nothing else uses.
        """
        if values is None:
            self._waiting.append((drawn, width, shift, word))
            return
        message = np.empty(width * values.size // 64, dtype=np.uint64)
        offer_packed(drawn.pads[..., word], values, width, shift, message, self._sums)
        self._messages.append(message)

    def exchange(self, end: End, label: str) -> RingArray:
        """Send the message as offerer, or receive it as chooser; return the share of the sums, uint64 (count,)."""
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
    """Turn the client's random choices into bits that it has already. The client sends.

    Args:
        drawn: transfers in which the client chooses; each entry has a multiple of 64.
        planes: the client's bits, uint64 (len(drawn), words); None for the server.

    Returns:
        The same transfers, with `planes` as choices.
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
    """Make shares of the products of the client's and the server's numbers, some at a time. The client chooses.

    Args:
        numbers: this party's, uint64 (count,).
        told: whether the client keeps its numbers, which takes a message; else it gets uniform ones.

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
    """Write the choices of some transfers into bits of `numbers`, in place. Skip transfers that this party offers.

    Args:
        drawn: pairs of a bit's number and transfers.
    """
    for i, one in drawn:
        if one.is_chooser:
            put_bits(numbers, one.choices, i)


def padded(numbers: RingArray) -> RingArray:
    """Return a copy that is padded with zeros to a multiple of 64."""
    return np.concatenate([numbers, np.zeros(-numbers.size % 64, dtype=np.uint64)])


def _bits(plane: RingArray) -> NDArray[np.uint8]:
    return np.unpackbits(plane.view(np.uint8), bitorder="little")


def vector_products(
    end: End, label: str, count: int, width: int, vectors: Vectors
) -> Steps[tuple[RingArray, RingArray]]:
    """Make shares of n v' + n' v, for `count` pairs of numbers n, n' of the two parties and their vectors v, v'.

    Args:
        width: how many entries a vector has.
        vectors: returns this party's vectors (some, width) for some of the other's numbers, given by their places.

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
    """Make the shares for some numbers; `vectors` is (count width,)."""
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
    """Return a pad of one word for every entry of every transfer's vector, then zeros up to a multiple of 64."""
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
