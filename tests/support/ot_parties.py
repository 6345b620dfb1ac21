"""Both parties of correlations by transfers, turn by turn in one thread, with transfers that the test decides on.

`Transfers` stands for `protocols.transfers`: what it hands out is constant over all elements, but for the one thing
that the receiver of a message does not know, which is uniform. So whatever a message tells about the sender's secrets,
which are constant too, shows as a bit that is constant, or that depends on other bits.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.channel import CLIENT, SERVER
from protocols.correlations.two_party.ends import Drawn, End
from protocols.correlations.two_party.turns import Steps, Turn

Bits = NDArray[np.uint8]


@dataclass
class Transfers:
    """Transfers of both directions, the same for both parties.

    Args:
        random: where constants and secrets come from.
        unknown: "pads", those that the chooser does not have; or "choices", which the offerer does not have.
        chooser: of the transfers whose pads or choices are unknown; those of the other direction are constant.
    """

    random: np.random.Generator
    unknown: str
    chooser: int
    _made: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict)
    _drawn: dict[tuple[int, int], int] = field(default_factory=dict)

    def draw(self, rank: int, chooser: int, count: int, words: int) -> Drawn:
        """What `End.draw` returns to a party."""
        number = self._drawn.get((rank, chooser), 0)
        self._drawn[rank, chooser] = number + 1
        if (chooser, number) not in self._made:
            self._made[chooser, number] = self._make(chooser, count, words)
        choices, pads = self._made[chooser, number]
        assert pads.shape == (2, count, words), "the parties draw differently"
        return Drawn(pads[choices, np.arange(count)][None].copy(), choices.copy()) if rank == chooser else Drawn(pads)

    def count(self, chooser: int) -> int:
        """How many transfers were drawn in which that party chooses."""
        return sum(len(choices) for (who, _), (choices, _) in self._made.items() if who == chooser)

    def _make(self, chooser: int, count: int, words: int) -> tuple[Bits, Any]:
        choices = np.full(count, self.random.integers(2), dtype=np.uint8)
        pads = np.repeat(self.random.integers(0, 2**64, (2, 1, words), dtype=np.uint64), count, axis=1)
        if chooser == self.chooser and self.unknown == "choices":
            choices = self.random.integers(0, 2, count, dtype=np.uint8)
        elif chooser == self.chooser:
            pads[1 - choices[0] if count else 0] = self.random.integers(0, 2**64, (count, words), dtype=np.uint64)
        return choices, pads


class Wire:
    """A channel's two ends in one thread: keeps all messages, and checks who speaks."""

    def __init__(self) -> None:
        self.messages: dict[tuple[int, str], NDArray[np.uint64]] = {}
        self.turn = Turn.SERVER_CHOOSES
        self._queues: dict[int, deque[tuple[str, Any]]] = {CLIENT: deque(), SERVER: deque()}

    def send(self, rank: int, label: str, array: Any) -> None:
        assert self.turn is (Turn.CLIENT if rank == CLIENT else Turn.SERVER), f"{label} is out of turn"
        assert (rank, label) not in self.messages, f"{label} is sent twice"
        self.messages[rank, label] = array.copy()
        self._queues[rank].append((label, array))

    def receive(self, rank: int, label: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        came, array = self._queues[1 - rank].popleft()
        assert (came, array.dtype, array.shape) == (label, dtype, shape)
        return array

    def sent(self, rank: int, ending: str) -> NDArray[np.uint64]:
        """The one message of a party whose label ends so."""
        (message,) = (
            message for (who, label), message in self.messages.items() if who == rank and label.endswith(ending)
        )
        return message


@dataclass(frozen=True)
class _WireEnd:
    wire: Wire
    rank: int

    def send(self, label: str, array: Any) -> None:
        self.wire.send(self.rank, label, array)

    def receive(self, label: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        return self.wire.receive(self.rank, label, dtype, shape)


class _End(End):
    """An end whose transfers are the test's."""

    def __init__(self, rank: int, wire: Wire, transfers: Transfers) -> None:
        for name, value in (("rank", rank), ("channel", _WireEnd(wire, rank)), ("_transfers", transfers)):
            object.__setattr__(self, name, value)

    def draw(self, chooser: int, count: int, words: int = 1) -> Drawn:
        return self._transfers.draw(self.rank, chooser, count, words)  # type: ignore[attr-defined, no-any-return]


def run_makers(make: Callable[[End], Steps[Any]], transfers: Transfers) -> tuple[list[Any], Wire, int]:
    """Run both parties' makers turn by turn; return both results, what was sent, and the number of flights."""
    wire, results, flights, last = Wire(), [None, None], 0, None
    steps = [make(_End(rank, wire, transfers)) for rank in (CLIENT, SERVER)]
    wanted = [next(one) for one in steps]
    while True:
        assert wanted[0] is wanted[1], "the parties want different turns"
        wire.turn, before = wanted[0], len(wire.messages)
        over = 0
        for rank in (SERVER, CLIENT) if wire.turn is Turn.SERVER else (CLIENT, SERVER):
            try:
                wanted[rank] = next(steps[rank])
            except StopIteration as end:
                results[rank], over = end.value, over + 1
        if len(wire.messages) > before and wire.turn is not last:
            flights, last = flights + 1, wire.turn
        if over:
            assert over == 2, "a party goes on alone"
            return results, wire, flights


def of_planes(message: NDArray[np.uint64]) -> Bits:
    """The bits of each element, (elements, planes), of bit planes (..., words)."""
    planes = message.reshape(-1, message.shape[-1])
    return np.unpackbits(np.ascontiguousarray(planes).view(np.uint8), axis=1, bitorder="little").T


def of_words(message: NDArray[np.uint64], widths: list[int]) -> list[Bits]:
    """The bits of each element, (elements, width), of packed numbers of some widths, one width after the other."""
    assert len(message) % sum(widths) == 0
    blocks, start, parts = len(message) // sum(widths), 0, []
    for width in widths:
        part = message[start : start + width * blocks].reshape(blocks, width)
        start += width * blocks
        bits = np.unpackbits(part.view(np.uint8), axis=1, bitorder="little")
        parts.append(bits.reshape(64 * blocks, width))
    return parts


def assert_uniform_and_independent(bits: Bits) -> None:
    """Test that no bit is a sum of others, nor related to another one: bits (elements, bits), a row for each draw."""
    count, width = bits.shape
    assert count > width + 40, "too few elements to tell"
    columns = [
        int.from_bytes(np.packbits(column).tobytes(), "little") for column in (np.ones(count, np.uint8), *bits.T)
    ]
    basis: dict[int, int] = {}
    for number, column in enumerate(columns):
        while column and column.bit_length() in basis:
            column ^= basis[column.bit_length()]
        assert column, f"bit {number - 1} of {width} is a sum of those before it"
        basis[column.bit_length()] = column
    signs = 1.0 - 2.0 * bits
    related = np.abs(np.hstack([np.ones((count, 1)), signs]).T @ signs / np.sqrt(count))
    related[np.arange(1, width + 1), np.arange(width)] = 0
    assert related.max() < 7, f"bits {np.unravel_index(related.argmax(), related.shape)} are related"
