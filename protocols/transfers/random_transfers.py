"""Make any number of random oblivious transfers. Two parties without a dealer make their correlations from them.

Neither side puts in anything. The sender gets pairs of uniform pads. The receiver gets uniform choice bits and one pad
of every pair. Users send differences to turn these into transfers of their own messages and choices.

A transfer starts as a correlated one (`iknp` or `ferret`: q; w = q ^ c Delta). `hashing` breaks the correlation: the
sender's pads are H(q) and H(q ^ Delta), and the receiver has H(w) = H(q ^ c Delta). Transfer number i uses hash
function number i. The docstrings of these modules say what each side sees, and why that leaks nothing. This module
sends nothing more.

| kind | sent for a transfer | sent at the start |
|---|---|---|
| "silent" | less than a bit | base transfers, and k + t d of "iknp" (`ferret`): 2.3 MB for B11 |
| "iknp" | 16 bytes | base transfers |

Both sides must make the same calls, with the same counts, in the same order. Messages are numbered, so a mismatch ends
both sides as soon as it changes what they send. But nobody notices counts that differ within one batch of "silent";
then the two sides' pads have nothing to do with each other.

Two parties may run any number of instances over one channel, in both directions. Each instance has a label of its own.
Where one party draws as sender, the other must draw as receiver at the same place.

Semi-honest parties only: a peer that sends wrong corrections makes pads wrong, and nobody notices. Otherwise transfers
do not fail, except that pads that should differ are the same with probability 2^-128, or 2^-64 for pads of one word.

Assumptions: computational Diffie-Hellman and a random oracle (`base`), AES as a generator and as an ideal cipher
(`iknp`, `hashing`), and for "silent" learning parity with regular noise (`ferret`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protocols.channel import Channel
from protocols.errors import ParameterError, ProtocolError
from protocols.transfers.ferret import B11, SilentParameters, SilentReceiver, SilentSender
from protocols.transfers.hashing import Blocks, CorrelationRobustHash, derived_seed
from protocols.transfers.iknp import IknpReceiver, IknpSender

__all__ = ["RandomReceiver", "RandomSender", "TransferKind"]

TransferKind = Literal["silent", "iknp"]


class _Draws:
    """The part that both sides share: hand out correlated transfers in pieces, and refuse to go on after an error."""

    def __init__(self, source: IknpSender | IknpReceiver | SilentSender | SilentReceiver) -> None:
        self._source = source
        self._hash = CorrelationRobustHash(derived_seed(source.session, "pads"))
        self._left = np.empty((0, 2), dtype=np.uint64)
        self._drawn = 0
        self._failed = False

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        if self._failed:
            raise ProtocolError("expected working transfers, but these have failed before: start new ones")
        self._failed = True
        yield
        self._failed = False

    def _pieces(self, count: int) -> Iterator[tuple[int, Blocks]]:
        """Yield the next `count` blocks in pieces, each with its place. A piece is valid until the next one."""
        done = 0
        while done < count:
            if not len(self._left):
                self._left = self._source.extend(count - done)
            piece, self._left = self._left[: count - done], self._left[count - done :]
            yield done, piece
            done += len(piece)
            self._drawn += len(piece)


class RandomSender(_Draws):
    """The sender of random transfers.

    The constructor makes the base transfers, with the peer's `RandomReceiver`. For "silent" it also makes the transfers
    for the first pass.

    Args:
        label: the instance's name: the same on both sides, different for every instance on a channel.
        kind: "silent" or "iknp", the same on both sides.
        parameters: those of "silent", the same on both sides.

    Raises:
        ProtocolError: a message of the peer is malformed. ParameterError: there is no such kind.
    """

    def __init__(
        self, channel: Channel, label: str, kind: TransferKind = "silent", parameters: SilentParameters = B11
    ) -> None:
        label = _full_label(label, kind)
        source = IknpSender(channel, label) if kind == "iknp" else SilentSender(channel, label, parameters)
        super().__init__(source)
        self._delta = source.delta

    @property
    def delta(self) -> NDArray[np.uint64]:
        """Delta of the correlated form, two words, low bit 1. A receiver that knows it can read all its other pads."""
        return self._delta

    def draw(self, count: int, words: int = 2) -> NDArray[np.uint64]:
        """Make the next `count` transfers.

        Pads are large. For millions of transfers, draw some hundred thousand at a time.

        Args:
            words: 64-bit words of a pad, 1 or 2.

        Returns:
            Both pads of every transfer, uint64 (count, 2, words).

        Raises:
            ProtocolError: a message of the peer is malformed, or an earlier draw failed.
            ParameterError: `count` is negative, or `words` is not 1 or 2.
        """
        pads = np.empty((_checked_count(count), 2, _checked_words(words)), dtype=np.uint64)
        with self._drawing():
            for start, piece in self._pieces(count):
                self._hash.of_pairs(piece, self._delta, self._drawn, pads[start : start + len(piece)])
        return pads


class RandomReceiver(_Draws):
    """The receiver of random transfers.

    The constructor makes the base transfers, with the peer's `RandomSender`. For "silent" it also makes the transfers
    for the first pass.

    Args:
        label: the instance's name: the same on both sides, different for every instance on a channel.
        kind: "silent" or "iknp", the same on both sides.
        parameters: those of "silent", the same on both sides.

    Raises:
        ProtocolError: a message of the peer is malformed. ParameterError: there is no such kind.
    """

    def __init__(
        self, channel: Channel, label: str, kind: TransferKind = "silent", parameters: SilentParameters = B11
    ) -> None:
        label = _full_label(label, kind)
        super().__init__(IknpReceiver(channel, label) if kind == "iknp" else SilentReceiver(channel, label, parameters))

    def draw(self, count: int, words: int = 2) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """Make the next `count` transfers.

        Pads are large. For millions of transfers, draw some hundred thousand at a time.

        Args:
            words: 64-bit words of a pad, 1 or 2.

        Returns:
            The choices, uint8 (count,), each 0 or 1, and the chosen pads, uint64 (count, words).

        Raises:
            ProtocolError: a message of the peer is malformed, or an earlier draw failed.
            ParameterError: `count` is negative, or `words` is not 1 or 2.
        """
        pads = np.empty((_checked_count(count), _checked_words(words)), dtype=np.uint64)
        choices = np.empty(count, dtype=np.uint8)
        with self._drawing():
            for start, piece in self._pieces(count):
                stop = start + len(piece)
                self._hash.of_blocks(piece, self._drawn, choices[start:stop], pads[start:stop])
        return choices, pads


def _full_label(label: str, kind: TransferKind) -> str:
    if kind not in ("silent", "iknp"):
        raise ParameterError(f"expected transfers of kind silent or iknp, got {kind!r}")
    return f"transfers/{label}/{kind}"


def _checked_count(count: int) -> int:
    if count < 0:
        raise ParameterError(f"expected a number of transfers, got {count}")
    return count


def _checked_words(words: int) -> int:
    if words not in (1, 2):
        raise ParameterError(f"expected pads of 1 or 2 words, got {words}")
    return words
