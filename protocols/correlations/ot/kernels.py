"""Compiled loops over pads: their bits as planes, and the leaves of comparisons."""

import numpy as np

from protocols.kernels import compiled

__all__ = ["pad_planes"]


@compiled
def pad_planes(pads, bits, out):  # type: ignore[no-untyped-def]
    """out[j, w] = bit j of pads[64 w], pads[64 w + 1], ..., for the low bits; pads (64 words,), out (bits, words)."""
    for w in range(out.shape[1]):
        for j in range(bits):
            out[j, w] = 0
        for k in range(64):
            pad = pads[64 * w + k]
            for j in range(bits):
                out[j, w] |= ((pad >> np.uint64(j)) & np.uint64(1)) << np.uint64(k)


@compiled
def offer_triples(pads, numbers, bits, table, messages, products, sums):  # type: ignore[no-untyped-def]
    """Be the offerer of the leaves of comparisons in groups of three bits; see `comparison_masks`.

    Args: pads (n, bits - 1, 2); numbers (n,), whose low bits are b; table (8,): the products of three bits, four bits
    each; messages (n, words) out; products (n,) out, shares, four bits a group; sums (n,) out, shares of the sum of
    2^(i+1) a_i b_i modulo 2^bits.
    """
    low = bits - 1
    for e in range(pads.shape[0]):
        b = numbers[e]
        total, leaf = np.uint64(0), np.uint64(0)
        word, filled, place = np.uint64(0), 0, 0
        for first in range(0, low, 3):
            three = pads[e, first : first + 3]
            own = np.int64((b >> np.uint64(first)) & np.uint64(7))
            share = table[own] ^ ((three[0, 0] ^ three[1, 0] ^ three[2, 0]) >> np.uint64(32)) & np.uint64(15)
            leaf |= share << np.uint64(4 * (first // 3))
            for c in range(1, 8):
                pad = three[0, c & 1] ^ three[1, (c >> 1) & 1] ^ three[2, c >> 2]
                value = (table[c ^ own] ^ share ^ (pad >> np.uint64(32 + 4 * c))) & np.uint64(15)
                word |= value << np.uint64(filled)
                filled += 4
                if filled >= 64:
                    messages[e, place] = word
                    place += 1
                    filled -= 64
                    word = value >> np.uint64(4 - filled) if filled else np.uint64(0)
        for i in range(low):
            width = bits - 1 - i
            if width == 0:
                break
            mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
            value = (pads[e, i, 0] - pads[e, i, 1] + ((b >> np.uint64(i)) & np.uint64(1))) & mask
            total -= pads[e, i, 0] << np.uint64(i + 1)
            word |= value << np.uint64(filled)
            filled += width
            if filled >= 64:
                messages[e, place] = word
                place += 1
                filled -= 64
                word = value >> np.uint64(width - filled) if filled else np.uint64(0)
        if filled:
            messages[e, place] = word
        products[e], sums[e] = leaf, total


@compiled
def choose_triples(pads, choices, bits, table, messages, numbers, products, sums):  # type: ignore[no-untyped-def]
    """Be the chooser: choices (n, bits - 1) are a, which comes out as numbers (n,); else as `offer_triples`."""
    low = bits - 1
    for e in range(pads.shape[0]):
        a, total, leaf = np.uint64(0), np.uint64(0), np.uint64(0)
        bit = 0
        for first in range(0, low, 3):
            c = (
                np.int64(choices[e, first])
                | np.int64(choices[e, first + 1]) << 1
                | np.int64(choices[e, first + 2]) << 2
            )
            pad = pads[e, first] ^ pads[e, first + 1] ^ pads[e, first + 2]
            share = pad >> np.uint64(32 + 4 * c)
            if c:
                at = 28 * (first // 3) + 4 * (c - 1)
                share ^= messages[e, at // 64] >> np.uint64(at % 64)
            leaf |= (share & np.uint64(15)) << np.uint64(4 * (first // 3))
            a |= np.uint64(c) << np.uint64(first)
        bit = 28 * (low // 3)
        for i in range(low):
            width = bits - 1 - i
            if width == 0:
                break
            part = pads[e, i]
            if choices[e, i]:
                at = bit % 64
                value = messages[e, bit // 64] >> np.uint64(at)
                if at + width > 64:
                    value |= messages[e, bit // 64 + 1] << np.uint64(64 - at)
                part += value
            total += part << np.uint64(i + 1)
            bit += width
        numbers[e], products[e], sums[e] = a, leaf, total
