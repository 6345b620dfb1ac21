"""Compiled loops over pads: their bits as planes, and products of bits with numbers, packed.

None branches on a secret: where a choice decides, both ways are computed and one is masked away.
"""

import numpy as np

from protocols.arithmetic.kernels import compiled

__all__ = ["choose_packed", "offer_packed", "pad_planes", "put_bits"]

_ALL = np.uint64(2**64 - 1)
_ONE = np.uint64(1)


@compiled
def pad_planes(pads, first, out):  # type: ignore[no-untyped-def]
    """out[j, w] = bit first + j of pads[64 w], pads[64 w + 1], ...; pads (64 words,), out (bits, words)."""
    for w in range(out.shape[1]):
        for j in range(out.shape[0]):
            shift, plane = np.uint64(first + j), np.uint64(0)
            for k in range(64):
                plane |= ((pads[64 * w + k] >> shift) & _ONE) << np.uint64(k)
            out[j, w] = plane


@compiled
def put_bits(numbers, bits, i):  # type: ignore[no-untyped-def]
    """Bit i of numbers (n,) = bits (n,), each 0 or 1."""
    shift = np.uint64(i)
    for e in range(numbers.shape[0]):
        numbers[e] = (numbers[e] & ~(_ONE << shift)) | (np.uint64(bits[e]) << shift)


@compiled
def offer_packed(pads, values, width, shift, messages, sums):  # type: ignore[no-untyped-def]
    """Be the offerer of products of bits with numbers y: messages P_0 - P_1 + y of `width` bits; sums -= P_0 2^shift.

    Args: pads (2, n), n a multiple of 64; values (n,), y; messages (width n / 64,) out, one behind the other without a
    gap; sums (n,), changed.
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
    """Be the chooser: sums += (P_c + c message) 2^shift, where a message's bits above its width do not matter.

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
