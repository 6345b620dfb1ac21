"""What one comparison takes without a dealer: transfers, bits and flights, as docs say; and who speaks when."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from protocols.channel import CLIENT, SERVER
from protocols.correlations import ComparisonMask
from protocols.correlations.two_party.comparison_masks import comparison_masks, join_masks
from protocols.correlations.two_party.turns import Turn, finish, pieces, together
from protocols.shares.comparison import relu_requests
from support.ot_parties import Transfers, run_makers

WORDS = 2


@pytest.mark.parametrize(
    ("bits", "transfers", "sent", "flights"),
    [
        (19, (31, 8), (71, 359), 2),
        (22, (35, 12), (75, 439), 2),
        (28, (46, 16), (79, 614), 2),
        (32, (49, 19), (106, 787), 3),
        (64, (97, 50), (182, 2555), 3),
    ],
)
def test_a_comparison_with_its_selection(
    bits: int, transfers: tuple[int, int], sent: tuple[int, int], flights: int
) -> None:
    """By rank: transfers in which it chooses, and bits that it sends, for one element."""

    def maker(end: Any, number: int, request: Any) -> Any:
        make = comparison_masks if isinstance(request, ComparisonMask) else join_masks
        return make(end, str(number), request, WORDS)

    def make(end: Any) -> Any:
        return together([maker(end, i, request) for i, request in enumerate(relu_requests(64 * WORDS, bits))])

    drawn = Transfers(np.random.default_rng(0), "pads", CLIENT)
    _, wire, came = run_makers(make, drawn)
    assert tuple(drawn.count(rank) / (64 * WORDS) for rank in (CLIENT, SERVER)) == transfers
    words = {rank: sum(m.size for (who, _), m in wire.messages.items() if who == rank) for rank in (CLIENT, SERVER)}
    assert tuple(words[rank] / WORDS for rank in (CLIENT, SERVER)) == sent
    assert came == flights


def test_makers_side_by_side_go_on_in_the_turns_that_they_want() -> None:
    said: list[tuple[str, Turn | None]] = []

    def maker(name: str, *wanted: Turn) -> Iterator[Turn]:
        for turn in wanted:
            yield turn
            said.append((name, turn))
        return name

    client, server, draw = Turn.CLIENT, Turn.SERVER, Turn.SERVER_CHOOSES
    makers: Any = [maker("a", client, server), maker("b", server, client, client), maker("c"), maker("d", draw, server)]
    joint: Any = together(makers)
    turns = []
    result = finish(_watched(joint, turns))
    assert result == ["a", "b", "c", "d"]
    assert turns == [draw, server, client, server, client]
    order = [("d", draw), ("b", server), ("d", server), ("a", client), ("b", client), ("a", server), ("b", client)]
    assert said == order
    nothing: Any = together([])
    assert finish(nothing) == []


def _watched(maker: Any, turns: list[Turn]) -> Any:
    """Run a maker, and note its turns."""
    try:
        while True:
            turns.append(next(maker))
            yield turns[-1]
    except StopIteration as end:
        return end.value


def test_pieces() -> None:
    assert [(part.start, part.stop) for part in pieces(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert [*pieces(0, 3)] == []
