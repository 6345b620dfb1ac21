"""What the tests of oblivious transfer need: both parties at once, pieces of what they sent, and plain references."""

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from parties.local import PartyThread
from parties.transport.queues import local_channels
from protocols.channel import Channel, tag_of
from protocols.errors import PeerLostError
from protocols.transfers.ferret import SilentParameters
from support.statistics import assert_uniform

SMALL = SilentParameters(trees=60, log_secret=9, depth=6)
"""Insecure and fast: 46 trees of 64 leaves given out in a round."""

_FirstResult = TypeVar("_FirstResult")
_SecondResult = TypeVar("_SecondResult")


def both(
    first: Callable[[Channel], _FirstResult], second: Callable[[Channel], _SecondResult]
) -> tuple[_FirstResult, _SecondResult]:
    """Run both parties, each with its end of a channel, and return their results; raise what went wrong."""
    results, errors = outcomes(first, second)
    causes = [e for e in errors if e and not isinstance(e, PeerLostError)] or [e for e in errors if e]
    if causes:
        raise causes[0]
    return results[0], results[1]


def outcomes(
    first: Callable[[Channel], Any], second: Callable[[Channel], Any]
) -> tuple[list[Any], tuple[BaseException | None, BaseException | None]]:
    """Run both parties, and return their results and errors."""
    channels = local_channels("first", "second", timeout=20.0)
    results: list[Any] = [None, None]

    def run(index: int, work: Callable[[Channel], Any]) -> None:
        results[index] = work(channels[index])

    threads = [
        PartyThread(f"party-{i}", lambda i=i, work=work: run(i, work), (channels[i],))  # type: ignore[misc]
        for i, work in enumerate((first, second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive(), "a party hangs"
    return results, (threads[0].error, threads[1].error)


def words_under(frames: list[bytes], label: str) -> NDArray[np.uint64]:
    """Return the 64-bit words of all messages under a label, in order."""
    header, dimension = 16, 8
    tag = tag_of(label).to_bytes(4, "little")
    data = [frame[header + dimension * frame[8] :] for frame in frames if frame[4:8] == tag]
    assert data, f"nothing was sent under {label}"
    return np.frombuffer(b"".join(data), dtype=np.uint64)


def random_blocks(count: int, seed: int = 0) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), dtype=np.uint64)


def assert_uniform_but_low_bits(blocks: NDArray[np.uint64]) -> None:
    """Test that blocks are uniform but for their low bits, which are zero."""
    data = blocks.view(np.uint8)
    assert_uniform(data[:, 1:], 256)
    assert_uniform(data[:, 0] >> 1, 128)
    assert not (data[:, 0] & 1).any()


def as_integer(block: Any) -> int:
    """A block as an integer of 128 bits, low word first."""
    return int(block[0]) | int(block[1]) << 64


def sigma(x: int) -> int:
    high, low = x >> 64, x & (2**64 - 1)
    return (high ^ low) << 64 | high


def aes(key: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(data)  # noqa: S305


def reference_hash(seed: bytes, number: int, x: int) -> int:
    """H of `hashing`, on integers: its definition."""
    key = hashlib.sha256(seed + (number // 4096).to_bytes(8, "little")).digest()[:16]
    return int.from_bytes(aes(key, sigma(x).to_bytes(16, "little")), "little") ^ sigma(x)


def bits_of(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The bits of words, low first, along the last axis."""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")


def truncated(frame: bytes) -> bytes:
    return frame[:-8]


def lengthened(frame: bytes) -> bytes:
    return frame + bytes(8)


def of_other_shape(frame: bytes) -> bytes:
    """The same data, with the two first dimensions swapped."""
    return frame[:16] + frame[24:32] + frame[16:24] + frame[32:]


def of_other_type(frame: bytes) -> bytes:
    return frame[:3] + b"\x02" + frame[4:]


def under_another_label(frame: bytes) -> bytes:
    return frame[:4] + bytes(4) + frame[8:]


BROKEN = (truncated, lengthened, of_other_shape, of_other_type, under_another_label)
"""Changes of a frame that its receiver must notice."""
