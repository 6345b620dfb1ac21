"""Random transfers of both kinds, as users see them: what the two sides draw, in any pieces and in both directions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.transfers import B11, RandomReceiver, RandomSender, TransferKind
from support.reach import reachable
from support.statistics import assert_probability, assert_uniform_bytes
from support.transfer_parties import SMALL, assert_uniform_but_low_bits, both

pytestmark = pytest.mark.slow

KINDS: tuple[TransferKind, ...] = ("silent", "iknp")
MILLION = 1_000_000


def drawn(
    kind: TransferKind,
    sender: Callable[[RandomSender], Any],
    receiver: Callable[[RandomReceiver], Any],
    parameters: Any = SMALL,
) -> tuple[Any, Any]:
    """Run work on both sides."""
    return both(
        lambda channel: sender(RandomSender(channel, "test", kind, parameters)),
        lambda channel: receiver(RandomReceiver(channel, "test", kind, parameters)),
    )


def assert_transfers(pads: np.ndarray, choices: np.ndarray, chosen: np.ndarray) -> None:
    """The receiver has the chosen pad of every pair, and the other one differs."""
    rows = np.arange(len(choices))
    assert pads.shape == (len(choices), 2, chosen.shape[1])
    assert choices.dtype == np.uint8
    assert (pads[rows, choices] == chosen).all()
    assert (pads[rows, 1 - choices] != chosen).any(axis=1).all()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_transfers(kind: TransferKind) -> None:
    pads, (choices, chosen) = drawn(kind, lambda side: side.draw(MILLION), lambda side: side.draw(MILLION), B11)
    assert_transfers(pads, choices, chosen)
    for message in (0, 1):
        assert_uniform_bytes(pads[:, message])
        assert_probability(int((pads[:, message, 0] & np.uint64(1)).sum()), MILLION, 0.5)
    assert_uniform_bytes(pads[:, 0] ^ pads[:, 1])
    assert_uniform_bytes(chosen)
    assert_probability(int(choices.sum()), MILLION, 0.5)
    assert_probability(int((choices[1:] ^ choices[:-1]).sum()), MILLION - 1, 0.5)
    assert len(np.unique(pads[..., 0])) == 2 * MILLION  # of 2^64: a pair would be the same in one run of 2^23


def correlated(side: Any, count: int) -> Any:
    """Take the next transfers before they are hashed: q of the sender, w = q ^ c delta of the receiver."""
    with side._drawing():
        return np.concatenate([piece.copy() for _, piece in side._pieces(count)])


@pytest.mark.parametrize("kind", KINDS)
def test_the_correlated_form_of_a_million(kind: TransferKind) -> None:
    (delta, q), w = drawn(
        kind, lambda side: (side.delta, correlated(side, MILLION)), lambda side: correlated(side, MILLION), B11
    )
    choices = w[:, :1] & np.uint64(1)
    assert delta[0] & np.uint64(1) == 1
    assert (w == q ^ choices * delta).all()
    assert_uniform_but_low_bits(q)
    assert_uniform_bytes(w)
    assert_probability(int(choices.sum()), MILLION, 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_in_any_pieces_and_forms_across_rounds(kind: TransferKind) -> None:
    """2944 transfers make a round of these parameters; 4096 hashes share a key."""
    counts = [1, 0, 2943, 2944, 64, 8000, 5, 100_000, 3]

    def draws(side: Any) -> list[Any]:
        return [side.draw(count, 1 + i % 2) for i, count in enumerate(counts)] + [
            correlated(side, 100),
            side.draw(7),
        ]

    sent, received = drawn(kind, draws, draws)
    pads, chosen_pads = [], []
    for pair, answer in zip(sent, received, strict=True):
        if isinstance(answer, tuple):
            assert_transfers(pair, *answer)
            pads.append(pair[..., 0].ravel())
            chosen_pads.append(answer[1][:, 0])
    everything = np.concatenate(pads)
    assert everything.size == 2 * (sum(counts) + 7)
    assert len(np.unique(everything)) == everything.size
    assert_uniform_bytes(everything)
    assert_uniform_bytes(np.concatenate(chosen_pads))


def test_pads_are_hashes_of_the_correlated_form_by_number() -> None:
    """The silent kind makes the same batches whoever draws how much: so one side may draw what the other one hashes."""
    counts = [50, 4100, 3000]
    (delta, q), answers = drawn(
        "silent",
        lambda side: (side, correlated(side, sum(counts))),
        lambda side: [side.draw(count) for count in counts],
    )
    side, delta = delta, delta.delta
    choices = np.concatenate([choices for choices, _ in answers])
    chosen = np.concatenate([pads for _, pads in answers])
    pads = np.empty((sum(counts), 2, 2), dtype=np.uint64)
    side._hash.of_pairs(q, delta, 0, pads)
    assert_transfers(pads, choices, chosen)


@pytest.mark.parametrize("kinds", [("silent", "silent"), ("iknp", "silent"), ("iknp", "iknp")])
def test_two_instances_in_opposite_directions_alternate_on_one_channel(
    kinds: tuple[TransferKind, TransferKind],
) -> None:
    counts = [10, 3000, 70_000, 1]

    def client(channel: Channel) -> Any:
        sender = RandomSender(channel, "there", kinds[0], SMALL)
        receiver = RandomReceiver(channel, "back", kinds[1], SMALL)
        return [(sender.draw(count), receiver.draw(count + 1, 1)) for count in counts]

    def server(channel: Channel) -> Any:
        receiver = RandomReceiver(channel, "there", kinds[0], SMALL)
        sender = RandomSender(channel, "back", kinds[1], SMALL)
        return [(receiver.draw(count), sender.draw(count + 1, 1)) for count in counts]

    pads = []
    for ours, theirs in zip(*both(client, server), strict=True):
        assert_transfers(ours[0], *theirs[0])
        assert_transfers(theirs[1], *ours[1])
        pads += [ours[0][..., 0].ravel(), theirs[1][..., 0].ravel()]
    everything = np.concatenate(pads)
    assert len(np.unique(everything)) == everything.size


@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_holds_neither_delta_nor_the_other_pads(kind: TransferKind) -> None:
    (pads, delta), (side, choices, chosen) = drawn(
        kind, lambda side: (side.draw(100), side.delta), lambda side: (side, *side.draw(100))
    )
    others = {pads[i, 1 - c].tobytes() for i, c in enumerate(choices)} | {delta.tobytes()}
    seen = 0
    for value in reachable(side):
        if isinstance(value, np.ndarray | bytes | bytearray):
            data = value.tobytes() if isinstance(value, np.ndarray) else bytes(value)
            seen += len(data)
            assert not any(data[i : i + 16] in others for i in range(0, len(data) - 15, 8))
    assert seen > 10_000
    assert_transfers(pads, choices, chosen)


def test_arguments_are_checked() -> None:
    with pytest.raises(ParameterError, match="kind silent or iknp, got 'other'"):
        RandomSender(None, "test", "other")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="kind silent or iknp, got 'other'"):
        RandomReceiver(None, "test", "other")  # type: ignore[arg-type]

    def sender(side: RandomSender) -> None:
        with pytest.raises(ParameterError, match="number of transfers, got -1"):
            side.draw(-1)
        with pytest.raises(ParameterError, match="1 or 2 words, got 3"):
            side.draw(1, 3)
        side.draw(1)  # a wrong argument is no failure: nothing was sent

    def receiver(side: RandomReceiver) -> None:
        with pytest.raises(ParameterError, match="number of transfers, got -1"):
            side.draw(-1)
        with pytest.raises(ParameterError, match="1 or 2 words, got 0"):
            side.draw(1, 0)
        side.draw(1)

    drawn("iknp", sender, receiver)
