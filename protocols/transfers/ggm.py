"""Grow correlated trees: both sides get the same blocks, except for a difference Delta at one secret place.

This is the half-tree of Guo, Yang, Wang, Zhang, Xie et al. (EUROCRYPT 2023, ePrint 2022/1431, Figure 3).

- The sender puts in Delta (of `iknp`) and a random root k. It gets 2^d leaves v.
- The receiver puts in a path alpha of d bits. It gets the same leaves, but v ^ Delta where the path ends.

The last level clears the leaves' low bits. So they can carry choices: 0 everywhere, 1 at the path's end.

    the two nodes of level 1 are k and k ^ Delta;   below, left = H(parent), right = parent ^ left

Two siblings add up to their parent, so every level adds up to Delta. The receiver walks down the levels. It knows all
nodes of a level except the one on its path, and therefore all their children. One child of the unknown node is off the
path. The receiver gets it from the sum K of all nodes on that side (left or right). K_left ^ K_right = Delta, so one
correction gives the receiver the sum that it chooses, and says nothing about the other sum. This takes a correlated
transfer (q; w = q ^ b Delta, b uniform):

    sender     K_left ^ q                          -> receiver, a block for every level
    receiver   (K_left ^ q) ^ w = K_left ^ b Delta: K_right if b = 1, else K_left;   its path goes to the other side

So the path is the complement of the transfers' choice bits: it is uniform, and nobody chose it. At the end, the sum of
all known leaves is v ^ Delta, so the last place needs no correction of its own.

What each side sees: the sender sees nothing. The receiver sees K_left ^ q, the one sum that it may have, masked by its
own w. At every level it lacks one node, the one on its path, which is a known sum ^ Delta. H is circular correlation
robust, so the children of that node look uniform (`hashing` has the bound). The receiver never learns Delta. The seed
of H is public.

Semi-honest parties only: corrections are not authenticated. A wrong correction makes wrong leaves, and nobody notices.
A sender that sends one, and then sees what the receiver does, learns about the path.

The receiver accesses memory at places that depend on its path. A program on the same machine that watches caches may
learn something from this; the sender does not.

All trees of a batch grow together, level by level. A level is an array (nodes, trees): the left children of all nodes,
then the right children. So the leaf at the end of a path lies at the reversed path: bit i of its place is bit i + 1 of
the path from the root. Place p of tree t is block p trees + t.
"""

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ParameterError
from protocols.transfers import kernels
from protocols.transfers.hashing import Blocks, CorrelationRobustHash, blocks_with_slack

__all__ = ["TreeGrower"]

_ALL = np.array([2**64 - 1, 2**64 - 1], dtype=np.uint64)
_BUT_LOW_BIT = np.array([2**64 - 2, 2**64 - 1], dtype=np.uint64)


class TreeGrower:
    """One side's memory and hash for batches of trees. Both sides must grow the same batches in the same order.

    Args:
        depth: d, 2 to 24.
        most: the most trees in a batch.
        seed: the hash's seed, 32 bytes, public.
    """

    def __init__(self, depth: int, most: int, seed: bytes) -> None:
        if not 2 <= depth <= 24 or most < 1:
            raise ParameterError(f"expected a depth of 2 to 24 and at least one tree, got {depth} and {most}")
        self._depth = depth
        self._hash = CorrelationRobustHash(seed)
        self._hashes = 0
        self._nodes = np.empty((most << depth, 2), dtype=np.uint64)
        self._scratch = blocks_with_slack(most << (depth - 1))

    def grow(self, roots: Blocks, delta: NDArray[np.uint64]) -> tuple[Blocks, NDArray[np.uint64]]:
        """Grow the sender's trees.

        Args:
            roots: k, uniform, (trees, 2).
            delta: (2,), odd.

        Returns:
            The leaves (2^d trees, 2), which the next call overwrites, and the sums K_left, (d, trees, 2).
        """
        trees = len(roots)
        sums = np.empty((self._depth, trees, 2), dtype=np.uint64)
        nodes = self._nodes[: trees << self._depth].reshape(-1, trees, 2)
        nodes[0], nodes[1] = roots, roots ^ delta
        sums[0] = roots
        for level in range(1, self._depth):
            self._expand(nodes[: 2 << level], level, sums[level])
        return nodes.reshape(-1, 2), sums

    def regrow(self, keys: NDArray[np.uint64], sides: NDArray[np.uint8]) -> Blocks:
        """Grow the receiver's trees.

        Args:
            keys: the sums of the known sides, (d, trees, 2).
            sides: the known sides, (d, trees): 0 left, 1 right. The path goes to the other side.

        Returns:
            The leaves (2^d trees, 2), which the next call overwrites.
        """
        trees = keys.shape[1]
        nodes = self._nodes[: trees << self._depth].reshape(-1, trees, 2)
        nodes[:2] = 0
        columns = np.arange(trees)
        nodes[sides[0], columns] = keys[0]
        position = 1 - sides[0].astype(np.int64)
        known = keys[0].copy()
        sums = np.empty((trees, 2), dtype=np.uint64)
        for level in range(1, self._depth):
            children = nodes[: 2 << level]
            keep = self._expand(children, level, sums)
            pair = children.reshape(2, -1, trees, 2)
            kernels.puncture(pair, sums, keys[level], sides[level], keep, position, known)
        nodes[position, columns] = known ^ np.array([1, 0], dtype=np.uint64)
        return nodes.reshape(-1, 2)

    def _expand(self, children: NDArray[np.uint64], level: int, sums: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Turn the parents, the first half of `children` (nodes, trees, 2), into all children; return the bits kept."""
        half = len(children) // 2
        parents, rights = children[:half], children[half:]
        count = parents.size // 2
        kernels.orthomorphism(parents.reshape(-1, 2), self._scratch)
        self._hash.encrypt(self._scratch[: count + 1], self._hashes)
        self._hashes += count
        keep = _BUT_LOW_BIT if level == self._depth - 1 else _ALL
        kernels.expand(parents, self._scratch[:count].reshape(parents.shape), keep, rights, sums)
        return keep
