"""Products of a fixed mask with fresh vectors, between client and server alone, by homomorphic encryption.

Both hold shares of the mask B = B_0 + B_1, as seeds that they tell nobody, and draw shares of a uniform a. Of

    B a = B_0 a_0 + B_1 a_1 + B_0 a_1 + B_1 a_0

the first two terms are a party's own; for each of the others one party asks and the other answers
(`protocols.encryption.bfv`), both at once. What a party sees: encryptions of the other's share of a, and the mixed
product plus a uniform vector.
"""

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.channel import Channel
from protocols.correlations.fixed_mask import FixedMask, FixedProduct
from protocols.encryption.bfv.context import BfvContext
from protocols.encryption.bfv.keys import BfvKeys, BfvPublicKey, Seeded
from protocols.encryption.bfv.products import Answerer, ProductShape, ask, read_answers

__all__ = ["FixedProducts"]


class FixedProducts:
    """One party's end: its keys, and the other's public key, which are exchanged now.

    Raises:
        ProtocolError: the other's key is none. PeerLostError: it is gone.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel, self._context = channel, BfvContext()
        self._keys = BfvKeys(self._context)
        self._peer = BfvPublicKey(self._context, self._exchange("fixed products/key", self._keys.public))

    def make(self, label: str, request: FixedProduct, mask: FixedMask) -> list[RingArray]:
        """Return this party's shares of a uniform a and of B a; both parties do, with their shares of the mask.

        Raises:
            ProtocolError: a message is no ciphertexts.
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
        """Exchange ciphertexts, or keys, of the same number.

        Raises:
            ProtocolError: a residue is not below its prime.
        """
        planes = self._context.planes
        wire = np.stack([p.modulus.to_wire(body) for p, body in zip(planes, own.bodies, strict=True)])
        seeds: NDArray[np.uint8] = self._channel.exchange(f"{label}/seeds", own.seeds)
        sent = self._channel.exchange(label, wire)
        first, second = (p.modulus.from_wire(part, label) for p, part in zip(planes, sent, strict=True))
        return Seeded(seeds, (first, second))
