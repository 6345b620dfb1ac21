"""Silent extension: correlated transfers for less than a bit each (Ferret: Yang, Weng, Lan, Zhang, Wang, CCS 2020,
ePrint 2020/924), with correlated trees and noise that is regular: one error in every tree.

Both sides' inputs and outputs are those of `iknp`: q and Delta; w = q ^ c Delta with c in the low bit. A round turns
k + t d transfers into t 2^d:

1. t d of them grow t trees of depth d (`ggm`). Leaves: v for the sender, v ^ e Delta for the receiver, where e has a
   single one in every tree, at a place that the transfers' choice bits decide.
2. k of them, r and r ^ u Delta, are spread over all leaves by a public code A (`lpn`): q = A r ^ v, and w = A (r ^ u
   Delta) ^ v ^ e Delta = q ^ c Delta, with c = A u ^ e. Every round has new rows of A: what somebody finds out about
   the code of one round is of no use for another.

The outputs of the last trees are kept back, as the next round's k + t d. The first round's come from `iknp`, with the
same Delta. Trees grow a batch at a time, and the code is applied at once, while the batch lies in cache. The sender
sends a batch's corrections, d blocks a tree, when it grows it, and never waits.

What each side sees: the sender sees the first transfers' messages, and nothing after. u and the places in e are
uniform choice bits that it knows nothing of, so c looks uniform to it, also when users open it in part, if *learning
parity with noise* (LPN) with this code and one error in every 2^d samples is hard. The receiver sees the corrections
of the trees. q stays hidden from it as far as Delta does, for which the trees' hash function answers, not LPN. The
outputs' use as the next round's inputs is Ferret's: pseudorandom bits in place of random ones.

Parameters are named after d, and those of emp-ot (github.com/emp-toolkit/emp-ot, emp-ot/tuning.h in commit 94ff0e6,
one after v1.0.0-alpha.1, July 2026). By its authors' estimate they give about 128-bit security against the published
attacks on LPN with regular noise, which they list as Gauss, SD-ISD, BJMM, hybrid, esser and agb2; the hybrid attack
binds, and t is the largest that admits N = t 2^d samples at that level. Nothing here re-derives these estimates. What
is easily checked: guessing k samples without error succeeds with (1 - k / N)^t, and costs the solution of k equations
each time, k^2.8 steps: 2^142 for a round with d = 11, 2^145 for 12, 2^147 for 13. To break any one of n rounds costs n
times less, since each has a secret and a code of its own. Attacks on regular noise are a young
subject; whoever prefers to rest on AES alone takes `iknp`. Semi-honest parties only: there is no check that
corrections are right.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.randomness import random_words
from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.transfers.ggm import TreeGrower
from protocols.transfers.hashing import Blocks, derived_seed
from protocols.transfers.iknp import IknpReceiver, IknpSender
from protocols.transfers.lpn import LocalCode

__all__ = ["B11", "SilentParameters", "SilentReceiver", "SilentSender"]

_BATCH = 1 << 16
"""Leaves of a batch of trees: 1 MiB."""


@dataclass(frozen=True)
class SilentParameters:
    """t trees of depth d, and a secret of k = 2^log_secret bits. Others than B11 are for tests: insecure.

    Raises:
        ParameterError: out of range, or a round needs as many transfers as it makes.
    """

    trees: int
    log_secret: int
    depth: int

    def __post_init__(self) -> None:
        if not (1 <= self.trees < 1 << 16 and 1 <= self.log_secret <= 24 and 2 <= self.depth <= 20):
            raise ParameterError(f"expected t below 2^16, k up to 2^24, d of 2 to 20, got {self}")
        if self.given_trees < 1:
            raise ParameterError(f"expected a round that makes more than the {self.needed} transfers it needs: {self}")

    @property
    def secret(self) -> int:
        """k."""
        return 1 << self.log_secret

    @property
    def needed(self) -> int:
        """Transfers that a round uses up."""
        return self.secret + self.trees * self.depth

    @property
    def given_trees(self) -> int:
        """Trees whose leaves are given out; the other ones' are the next round's."""
        return self.trees - -(-self.needed >> self.depth)

    @property
    def batch(self) -> int:
        """Trees that grow together."""
        return max(1, _BATCH >> self.depth)

    def __str__(self) -> str:
        return f"{self.trees} trees of depth {self.depth}, secret of 2^{self.log_secret}"


B11 = SilentParameters(trees=1170, log_secret=17, depth=11)


class _Rounds(ABC):
    """What both sides do: grow batches of trees, spread the secret over them, keep the last ones back."""

    def __init__(self, channel: Channel, label: str, parameters: SilentParameters, session: bytes) -> None:
        self._channel, self._parameters = channel, parameters
        self._label = f"{label}/{parameters}/corrections"
        self._grower = TreeGrower(parameters.depth, parameters.batch, derived_seed(session, "trees"))
        self._code = LocalCode(derived_seed(session, "code"), parameters.log_secret)
        self._base: Blocks
        self._row = 0
        self._tree = 0
        self._batches = 0

    def extend(self, wanted: int) -> Blocks:
        """Make the next batch of transfers, however many are wanted.

        Returns:
            The blocks, uint64 (count, 2), which the next call overwrites.
        """
        if self._tree == self._parameters.given_trees:
            self._begin_round()
        return self._batch(self._parameters.given_trees)

    def _begin_round(self) -> None:
        """Make what the last round kept back, and begin with it."""
        kept = [self._batch(self._parameters.trees).copy() for _ in range(self._kept_batches())]
        self._base = np.concatenate(kept)[: self._parameters.needed]
        self._tree = 0

    def _kept_batches(self) -> int:
        return -(-(self._parameters.trees - self._parameters.given_trees) // self._parameters.batch)

    def _batch(self, end: int) -> Blocks:
        """Make the outputs of the next trees, up to tree `end`."""
        first, depth = self._tree, self._parameters.depth
        trees = min(self._parameters.batch, end - first)
        secret = self._parameters.secret
        chosen = self._base[secret + first * depth : secret + (first + trees) * depth].reshape(depth, trees, 2)
        self._batches += 1
        leaves = self._leaves(f"{self._label} {self._batches}", chosen)
        self._code.add_to(leaves, self._base[:secret], self._row)
        self._row += len(leaves)
        self._tree += trees
        return leaves

    @abstractmethod
    def _leaves(self, label: str, chosen: Blocks) -> Blocks:
        """Grow trees from transfers (depth, trees, 2)."""


class SilentSender(_Rounds):
    """The sender's side. Its constructor makes the first round's transfers.

    Args:
        label: the session's name; both sides give the same one.
        parameters: the same on both sides.

    Attributes:
        delta: (2,) words, a secret of this side.
        session: 32 bytes, public, the same on both sides.

    Raises:
        ProtocolError: a message of the peer is malformed.
    """

    def __init__(self, channel: Channel, label: str, parameters: SilentParameters = B11) -> None:
        source = IknpSender(channel, label)
        super().__init__(channel, label, parameters, source.session)
        self.delta, self.session = source.delta, source.session
        self._base = _first_transfers(source, parameters.needed)

    def _leaves(self, label: str, chosen: Blocks) -> Blocks:
        leaves, sums = self._grower.grow(random_words(2 * chosen.shape[1]).reshape(-1, 2), self.delta)
        sums ^= chosen
        self._channel.send(label, sums)
        return leaves


class SilentReceiver(_Rounds):
    """The receiver's side. Its constructor makes the first round's transfers.

    Args:
        label: the session's name; both sides give the same one.
        parameters: the same on both sides.

    Attributes:
        session: 32 bytes, public, the same on both sides.

    Raises:
        ProtocolError: a message of the peer is malformed.
    """

    def __init__(self, channel: Channel, label: str, parameters: SilentParameters = B11) -> None:
        source = IknpReceiver(channel, label)
        super().__init__(channel, label, parameters, source.session)
        self.session = source.session
        self._base = _first_transfers(source, parameters.needed)

    def _leaves(self, label: str, chosen: Blocks) -> Blocks:
        keys = self._channel.receive(label, np.uint64, chosen.shape)
        keys ^= chosen
        sides: NDArray[np.uint8] = (chosen[..., 0] & np.uint64(1)).astype(np.uint8)
        return self._grower.regrow(keys, sides)


def _first_transfers(source: IknpSender | IknpReceiver, count: int) -> Blocks:
    made = np.empty((count, 2), dtype=np.uint64)
    done = 0
    while done < count:
        part = source.extend(count - done)[: count - done]
        made[done : done + len(part)] = part
        done += len(part)
    return made
