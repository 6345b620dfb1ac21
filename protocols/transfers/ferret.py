"""Make correlated transfers for less than a bit each: the silent extension (Ferret).

Source: Yang, Weng, Lan, Zhang, Wang, CCS 2020, ePrint 2020/924. Here it has correlated trees and regular noise: one
error in every tree.

Inputs and outputs are those of `iknp`: the sender gets q and Delta, the receiver w = q ^ c Delta with c in the low bit.
The extension runs in passes (names in the code call a pass a round). A pass turns k + t d transfers into t 2^d:

1. t d of the transfers grow t trees of depth d (`ggm`). The leaves are v for the sender and v ^ e Delta for the
   receiver. e has a single one in every tree, at a place that the transfers' choice bits decide.
2. A public code A (`lpn`) spreads the other k transfers, r and r ^ u Delta, over all leaves: q = A r ^ v, and
   w = A (r ^ u Delta) ^ v ^ e Delta = q ^ c Delta, with c = A u ^ e. Every pass uses new rows of A, so a discovery
   about the code of one pass does not help against another pass.

A pass keeps the outputs of the last trees as the k + t d transfers of the next pass. Those of the first pass come from
`iknp`, with the same Delta. Trees grow a batch at a time, and the code is applied at once, while the batch lies in
cache. The sender sends a batch's corrections, d blocks for each tree, when it grows the batch. It never waits.

What the sender sees: the messages of the first transfers, and nothing after them. u and the places in e are uniform
choice bits, about which the sender knows nothing. So c looks uniform to it, even when users open a part of c. This
holds if *learning parity with noise* (LPN) with this code and one error in every 2^d samples is hard.

What the receiver sees: the corrections of the trees. q stays hidden from it as long as Delta does. That rests on the
trees' hash function, not on LPN.

The use of outputs as inputs of the next pass is Ferret's: pseudorandom bits take the place of random ones.

Parameters are named after d. They are those of emp-ot (github.com/emp-toolkit/emp-ot, emp-ot/tuning.h in commit
94ff0e6, one after v1.0.0-alpha.1, July 2026). Its authors estimate about 128-bit security against the published attacks
on LPN with regular noise. They list Gauss, SD-ISD, BJMM, hybrid, esser and agb2. The hybrid attack is the best of
these, and t is the largest that allows N = t 2^d samples at that level. Nothing here re-derives these estimates.

One attack is easy to check: guess k samples without error. A guess succeeds with probability (1 - k / N)^t, and costs
the solution of k equations, k^2.8 steps. So the attack costs 2^142 steps for a pass with d = 11, 2^145 for 12, 2^147
for 13. To break any one of n passes costs n times less, since each pass has a secret and a code of its own.

Attacks on regular noise are a young subject. Take `iknp` to rest on AES alone.

Semi-honest parties only: nobody checks that corrections are right.
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
"""Leaves in a batch of trees: 1 MiB."""


@dataclass(frozen=True)
class SilentParameters:
    """t trees of depth d, and a secret of k = 2^log_secret bits. All except B11 are insecure, for tests only.

    Raises:
        ParameterError: an argument is out of range, or a pass makes no more transfers than it needs.
    """

    trees: int
    log_secret: int
    depth: int

    def __post_init__(self) -> None:
        if not (1 <= self.trees < 1 << 16 and 1 <= self.log_secret <= 24 and 2 <= self.depth <= 20):
            raise ParameterError(f"expected t below 2^16, k up to 2^24, d of 2 to 20, got {self}")
        if self.given_trees < 1:
            raise ParameterError(f"expected a pass that makes more than the {self.needed} transfers it needs: {self}")

    @property
    def secret(self) -> int:
        """k."""
        return 1 << self.log_secret

    @property
    def needed(self) -> int:
        """Transfers that a pass uses up."""
        return self.secret + self.trees * self.depth

    @property
    def given_trees(self) -> int:
        """Trees whose leaves are given out. The leaves of the other trees are for the next pass."""
        return self.trees - -(-self.needed >> self.depth)

    @property
    def batch(self) -> int:
        """Trees that grow together."""
        return max(1, _BATCH >> self.depth)

    def __str__(self) -> str:
        return f"{self.trees} trees of depth {self.depth}, secret of 2^{self.log_secret}"


B11 = SilentParameters(trees=1170, log_secret=17, depth=11)


class _Rounds(ABC):
    """The passes, as both sides run them: grow batches of trees, spread the secret over them, keep the last ones."""

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
        """Make the next batch of transfers. Its size does not depend on `wanted`.

        Returns:
            The blocks, uint64 (count, 2), which the next call overwrites.
        """
        if self._tree == self._parameters.given_trees:
            self._begin_round()
        return self._batch(self._parameters.given_trees)

    def _begin_round(self) -> None:
        """Make the outputs that the last pass keeps, and begin the next pass with them."""
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
    """The sender's side. Its constructor makes the transfers for the first pass.

    Args:
        label: the session's name, the same on both sides.
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
    """The receiver's side. Its constructor makes the transfers for the first pass.

    Args:
        label: the session's name, the same on both sides.
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
