"""Compiled loops over pads: their bits as planes, and products of bits with numbers, packed.

No loop branches on a secret. Where a choice decides, a loop computes both results and masks one away.
"""

import numpy as np

from protocols.arithmetic.kernels import compiled

__all__ = ["choose_packed", "offer_packed", "pad_planes", "put_bits"]

_ALL = np.uint64(2**64 - 1)
_ONE = np.uint64(1)


@compiled
def pad_planes(pads, first, out):  # type: ignore[no-untyped-def]
    """Set out[j, w] to bit first + j of pads[64 w], pads[64 w + 1], ...; pads is (64 words,), out is (bits, words)."""
    for w in range(out.shape[1]):
        for j in range(out.shape[0]):
            shift, plane = np.uint64(first + j), np.uint64(0)
            for k in range(64):
                plane |= ((pads[64 * w + k] >> shift) & _ONE) << np.uint64(k)
            out[j, w] = plane


@compiled
def put_bits(numbers, bits, i):  # type: ignore[no-untyped-def]
    """Set bit i of numbers (n,) to bits (n,), each 0 or 1."""
    shift = np.uint64(i)
    for e in range(numbers.shape[0]):
        numbers[e] = (numbers[e] & ~(_ONE << shift)) | (np.uint64(bits[e]) << shift)


@compiled
def offer_packed(pads, values, width, shift, messages, sums):  # type: ignore[no-untyped-def]
    """Act as the offerer of products of bits with numbers y: write messages P_0 - P_1 + y; sums -= P_0 2^shift.

    Args: pads (2, n), n a multiple of 64; values (n,), y; messages (width n / 64,), written, `width` bits each without
    gaps; sums (n,), changed.
    """
    mask, up = _ALL >> np.uint64(64 - width), np.uint64(shift)
    for block in range(values.shape[0] // 64):
        word, filled, place = np.uint64(0), 0, width * block
        for e in range(64 * block, 64 * block + 64):
            first = pads[0, e]
            value = (first - pads[1, e] + values[e]) & mask
            sums[e] -= first << up
            word |= value << np.uint64(filled)
            filled += width
            if filled >= 64:
                messages[place] = word
                place += 1
                filled -= 64
                word = value >> np.uint64(width - filled) if filled else np.uint64(0)


@compiled
def choose_packed(pads, choices, width, shift, messages, sums):  # type: ignore[no-untyped-def]
    """Act as the chooser: sums += (P_c + c message) 2^shift. A message's bits above its width do not matter.

    Args: pads (n,); choices (n,); others as in `offer_packed`.
    """
    up = np.uint64(shift)
    for block in range(pads.shape[0] // 64):
        at, place = 0, width * block
        for e in range(64 * block, 64 * block + 64):
            value = messages[place] >> np.uint64(at)
            at += width
            if at > 64:
                value |= messages[place + 1] << np.uint64(64 + width - at)
            if at >= 64:
                at -= 64
                place += 1
            sums[e] += (pads[e] + (value & (np.uint64(0) - np.uint64(choices[e])))) << up
