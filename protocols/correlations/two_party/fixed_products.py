"""Make correlations about a fixed mask without a dealer: its products with fresh vectors, and the norms of its rows.

**Products.** Client and server hold shares of the mask B = B_0 + B_1, as seeds that they tell nobody. They draw shares
of a uniform a. Then

    B a = B_0 a_0 + B_1 a_1 + B_0 a_1 + B_1 a_0.

Each party computes one of the first two terms alone. For each of the other two, one party asks and the other answers
under encryption (`protocols.encryption.bfv`). Both directions go at once. A party sees encryptions of the other's share
of a, and the mixed product plus a uniform vector.

**Norms.** |B_j|^2 needs the products of the parties' shares of a row's numbers. Transfers make these, some rows at a
time, for 264 bytes for each number of B. `word_products` says what each party sees.
"""

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.channel import Channel
from protocols.correlations.fixed_mask import FixedMask, FixedNorms, FixedProduct, FixedRequest
from protocols.correlations.two_party.ends import End
from protocols.correlations.two_party.turns import Steps, Turn
from protocols.correlations.two_party.word_products import number_products
from protocols.encryption.bfv.context import BfvContext
from protocols.encryption.bfv.keys import BfvKeys, BfvPublicKey, Seeded
from protocols.encryption.bfv.products import Answerer, ProductShape, ask, read_answers
from protocols.errors import ParameterError

__all__ = ["FixedProducts", "check_mask", "fixed_norms", "fixed_product"]


class FixedProducts:
    """One party's end: its keys, and the other's public key. The constructor exchanges the public keys.

    Raises:
        ProtocolError: the other party's key is invalid. PeerLostError: the other party is gone.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel, self._context = channel, BfvContext()
        self._keys = BfvKeys(self._context)
        self._peer = BfvPublicKey(self._context, self._exchange("fixed products/key", self._keys.public))

    def make(self, label: str, request: FixedProduct, mask: FixedMask) -> list[RingArray]:
        """Return this party's shares of a uniform a and of B a. Both parties call this, with their shares of the mask.

        Raises:
            ProtocolError: a message does not hold ciphertexts.
        """
        shape = ProductShape(request.rows, request.dimension, self._context.degree)
        a = random_words(request.dimension)
        product = mask.product(a, request.first, request.rows)
        question = self._exchange(f"{label}/question", ask(shape, self._keys, a))

        def rows(first: int, count: int) -> RingArray:
            return mask.rows(request.first + first, count)

        answerer = Answerer(shape, self._context, self._peer, question, rows)
        for first, count, blocks in shape.parts():
            message, own = answerer.answer(first, count, blocks)
            answer = self._channel.exchange(f"{label}/answer", message)
            opened = read_answers(shape, self._context, self._keys, answer, count, blocks)
            product[first : first + count] += own + opened
        return [a, product]

    def _exchange(self, label: str, own: Seeded) -> Seeded:
        """Exchange ciphertexts or keys, as many in each direction.

        Raises:
            ProtocolError: a residue is not below its prime.
        """
        planes = self._context.planes
        wire = np.stack([p.modulus.to_wire(body) for p, body in zip(planes, own.bodies, strict=True)])
        seeds: NDArray[np.uint8] = self._channel.exchange(f"{label}/seeds", own.seeds)
        sent = self._channel.exchange(label, wire)
        first, second = (p.modulus.from_wire(part, label) for p, part in zip(planes, sent, strict=True))
        return Seeded(seeds, (first, second))


def check_mask(request: FixedRequest, mask: FixedMask | None) -> FixedMask:
    """Return the mask that a request is about.

    Raises:
        ParameterError: there is no mask, or it has another dimension.
    """
    if mask is None or mask.dimension != request.dimension:
        raise ParameterError(f"expected a fixed mask of dimension {request.dimension} before {request}")
    return mask


def fixed_norms(end: End, label: str, request: FixedNorms, mask: FixedMask) -> Steps[list[RingArray]]:
    """Make |B_0|^2 + |B_1|^2 + 2 B_0 B_1 for each row."""
    norms = np.empty(request.rows, dtype=np.uint64)
    for part, rows in mask.runs(request.first, request.rows):
        _, cross = yield from number_products(end, f"{label}/{part.start}", rows.reshape(-1), told=True)
        norms[part] = (rows * rows + np.uint64(2) * cross.reshape(rows.shape)).sum(axis=1, dtype=np.uint64)
    return [norms]


def fixed_product(
    products: FixedProducts, label: str, request: FixedProduct, mask: FixedMask
) -> Steps[list[RingArray]]:
    """Make a uniform a, and B a. Messages go both ways at once, so any turn will do."""
    yield Turn.SERVER
    return products.make(label, request, mask)
