"""Compiled loops over 128-bit blocks, for the steps that oblivious transfer repeats millions of times.

A block is two 64-bit words, low word first. Arrays of blocks are uint64 (count, 2). A hash has two loops: one before
AES and one after it. `hashing` runs AES in between, on the whole array. Call these loops through `ggm`, `lpn`, `iknp`
and `hashing`, which check shapes.
"""

import numpy as np

from protocols.arithmetic.kernels import compiled

__all__ = [
    "expand",
    "finish_hash",
    "finish_pairs",
    "orthomorphism",
    "prepare_pairs",
    "puncture",
    "transpose",
    "xor_positions",
]

_ONE = np.uint64(1)
_TOGETHER = 8
"""Squares side by side: their rows fill a cache line."""

_STEPS = np.array([32, 16, 8, 4, 2, 1], dtype=np.uint64)
_MASKS = np.array(
    [
        0x00000000FFFFFFFF,
        0x0000FFFF0000FFFF,
        0x00FF00FF00FF00FF,
        0x0F0F0F0F0F0F0F0F,
        0x3333333333333333,
        0x5555555555555555,
    ],
    dtype=np.uint64,
)


@compiled
def orthomorphism(blocks, out):  # type: ignore[no-untyped-def]
    """Set out to sigma(blocks): its high word is high ^ low, its low word is high."""
    for i in range(blocks.shape[0]):
        low, high = blocks[i, 0], blocks[i, 1]
        out[i, 0], out[i, 1] = high, high ^ low


@compiled
def finish_hash(blocks, encrypted, choices, out):  # type: ignore[no-untyped-def]
    """Set choices to the blocks' low bits, out (count, 1 or 2) to the first words of encrypted ^ sigma(blocks)."""
    both = out.shape[1] == 2
    for i in range(blocks.shape[0]):
        low, high = blocks[i, 0], blocks[i, 1]
        choices[i] = np.uint8(low & _ONE)
        out[i, 0] = encrypted[i, 0] ^ high
        if both:
            out[i, 1] = encrypted[i, 1] ^ high ^ low


@compiled
def prepare_pairs(blocks, delta, out):  # type: ignore[no-untyped-def]
    """Set out[i, b] to sigma(blocks[i] ^ b delta); out is (count, 2, 2)."""
    other_low, other_high = delta[1], delta[1] ^ delta[0]
    for i in range(blocks.shape[0]):
        low, high = blocks[i, 1], blocks[i, 1] ^ blocks[i, 0]
        out[i, 0, 0], out[i, 0, 1] = low, high
        out[i, 1, 0], out[i, 1, 1] = low ^ other_low, high ^ other_high


@compiled
def finish_pairs(blocks, delta, encrypted, out):  # type: ignore[no-untyped-def]
    """Set out[i, b] to the first words of encrypted[i, b] ^ sigma(blocks[i] ^ b delta); out is (count, 2, 1 or 2)."""
    both = out.shape[2] == 2
    other_low, other_high = delta[1], delta[1] ^ delta[0]
    for i in range(blocks.shape[0]):
        low, high = blocks[i, 1], blocks[i, 1] ^ blocks[i, 0]
        out[i, 0, 0] = encrypted[i, 0, 0] ^ low
        out[i, 1, 0] = encrypted[i, 1, 0] ^ low ^ other_low
        if both:
            out[i, 0, 1] = encrypted[i, 0, 1] ^ high
            out[i, 1, 1] = encrypted[i, 1, 1] ^ high ^ other_high


@compiled
def expand(parents, encrypted, keep, rights, sums):  # type: ignore[no-untyped-def]
    """Replace parents (nodes, trees, 2) by their left children, write the right ones, add up the left ones.

    left = encrypted ^ sigma(parent), right = parent ^ left, both with the bits of `keep` only; sums is (trees, 2).
    """
    keep_low, keep_high = keep[0], keep[1]
    sums[:] = 0
    for i in range(parents.shape[0]):
        for t in range(parents.shape[1]):
            low, high = parents[i, t, 0], parents[i, t, 1]
            left_low = encrypted[i, t, 0] ^ high
            left_high = encrypted[i, t, 1] ^ high ^ low
            rights[i, t, 0], rights[i, t, 1] = (left_low ^ low) & keep_low, (left_high ^ high) & keep_high
            left_low, left_high = left_low & keep_low, left_high & keep_high
            parents[i, t, 0], parents[i, t, 1] = left_low, left_high
            sums[t, 0] ^= left_low
            sums[t, 1] ^= left_high


@compiled
def puncture(nodes, sums, keys, sides, keep, position, known):  # type: ignore[no-untyped-def]
    """Correct a level in which every tree has one unknown node.

    `nodes` (2, parents, trees, 2) has the left and the right children. Both children of the unknown parent at
    position[t] are wrong. The child on the known side sides[t] follows from that side's sum keys[t]. The other child is
    set to zero: it is the next unknown node. known[t] is the sum of all known nodes, of the parents before this call
    and of the children after it. sums[t] is the sum of the left children, including wrong ones.
    """
    for t in range(nodes.shape[2]):
        side, p = np.int64(sides[t]), position[t]
        for word in range(2):
            total = known[t, word] & keep[word]
            wrong = nodes[0, p, t, word]
            side_sum = sums[t, word] ^ (total if side else np.uint64(0))
            found = side_sum ^ wrong ^ (keys[t, word] & keep[word])
            nodes[side, p, t, word] = found
            nodes[1 - side, p, t, word] = 0
            known[t, word] = total ^ found
        position[t] = p + (1 - side) * nodes.shape[1]


@compiled
def xor_positions(table, positions, mask, out):  # type: ignore[no-untyped-def]
    """Xor the table's blocks at positions[i, :] & mask into out[i]; positions is uint32 (count, weight)."""
    for i in range(out.shape[0]):
        low, high = out[i, 0], out[i, 1]
        for j in range(positions.shape[1]):
            p = np.int64(positions[i, j] & mask)
            low ^= table[p, 0]
            high ^= table[p, 1]
        out[i, 0], out[i, 1] = low, high


@compiled
def transpose(rows, out):  # type: ignore[no-untyped-def]
    """Set bit r of block i of out (64 words, 2) to bit i of row r of rows (128, words).

    The loop transposes squares of 64 x 64 bits, in six steps that swap halves of halves (Warren, Hacker's Delight,
    7-3). It takes two squares above each other, and several side by side, at a time.
    """
    square = np.empty((128, _TOGETHER), dtype=np.uint64)
    for first in range(0, rows.shape[1], _TOGETHER):
        width = min(_TOGETHER, rows.shape[1] - first)
        for r in range(128):
            for c in range(width):
                square[r, c] = rows[r, first + c]
        for step in range(6):
            shift, mask = _STEPS[step], _MASKS[step]
            distance = np.int64(shift)
            for top in range(0, 128, 2 * distance):
                for r in range(top, top + distance):
                    for c in range(_TOGETHER):
                        swap = ((square[r, c] >> shift) ^ square[r + distance, c]) & mask
                        square[r + distance, c] ^= swap
                        square[r, c] ^= swap << shift
        for c in range(width):
            for r in range(64):
                out[64 * (first + c) + r, 0] = square[r, c]
                out[64 * (first + c) + r, 1] = square[64 + r, c]
