"""Correlated trees: a vector of blocks for the sender, the same for the receiver but for Delta at one secret place.

The half-tree of Guo, Yang, Wang, Zhang, Xie et al. (EUROCRYPT 2023, ePrint 2022/1431, Figure 3). Sender: Delta
(`iknp`), a random root k; output 2^d leaves v. Receiver: a path alpha of d bits; output the same leaves, but v ^ Delta
where the path ends. Leaves' low bits, cleared at the last level, carry choices: 0 everywhere, 1 at the path's end.

    the two nodes of level 1 are k and k ^ Delta;   below, left = H(parent), right = parent ^ left

Two siblings add up to their parent, so every level adds up to Delta. The receiver walks down: it knows all nodes of a
level but the one on its path, hence all their children, and of the unknown node's children it gets the one off the path
from the sum K of all nodes on that side (left or right). K_left ^ K_right = Delta, so one correction tells it the sum
that it chooses, and nothing of the other: with a correlated transfer (q; w = q ^ b Delta, b uniform),

    sender     K_left ^ q                          -> receiver, a block for every level
    receiver   that ^ w = K_left ^ b Delta: the right side's sum if b, else the left one's; its path goes the other way

The path is therefore the complement of the transfers' choice bits, uniform, and nobody chose it. At the end the sum
of all known leaves is v ^ Delta: the last place needs no correction of its own.

What each side sees: the sender sees nothing. The receiver sees K_left ^ q, which is the one sum that it is to have,
masked by its own w. It then misses one node at every level, the one on its path, which is a known sum ^ Delta; H is
circular correlation robust, so the children of that node look uniform (`hashing` has the bound), and it never learns
Delta. The seed of H is public. Corrections are not authenticated: a wrong one makes wrong leaves, which is not noticed,
and a sender that then sees what the receiver does learns about the path. Semi-honest parties only.

The receiver's memory is accessed at places that depend on its path: a program on the same machine that watches caches
may learn something, the sender does not.

All trees of a batch grow together, level by level. A level is an array (nodes, trees): the left children of all nodes,
then the right ones. So the leaf at the end of a path is at the reversed path, bit i of its place being bit i + 1 of
the path from the root; and place p of tree t is block p trees + t.
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
    """One side's memory and hash for batch after batch of trees. Both sides grow the same batches in the same order.

    Args:
        depth: d, 2 to 24.
        most: trees in a batch at most.
        seed: 32 bytes, public, of the hash.
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
            sides: which these are, (d, trees): 0 left, 1 right; the path goes the other way.

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
        """Make the next level in place, (nodes, trees, 2), whose first half is the parents; return what it kept."""
        half = len(children) // 2
        parents, rights = children[:half], children[half:]
        count = parents.size // 2
        kernels.orthomorphism(parents.reshape(-1, 2), self._scratch)
        self._hash.encrypt(self._scratch[: count + 1], self._hashes)
        self._hashes += count
        keep = _BUT_LOW_BIT if level == self._depth - 1 else _ALL
        kernels.expand(parents, self._scratch[:count].reshape(parents.shape), keep, rights, sums)
        return keep
