"""Random transfers with a peer that breaks the protocol: errors end both sides, and wrong corrections go unnoticed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from protocols.channel import Channel
from protocols.errors import PeerLostError, ProtocolError
from protocols.transfers import RandomReceiver, RandomSender, TransferKind
from support.frames import Tampered
from support.transfer_parties import BROKEN, SMALL, both, outcomes

KINDS: tuple[TransferKind, ...] = ("silent", "iknp")


def flipped(frame: bytes) -> bytes:
    """All bits of the data changed."""
    start = 16 + 8 * frame[8]
    return frame[:start] + bytes(byte ^ 0xFF for byte in frame[start:])


def with_change(kind: TransferKind, change: Callable[[bytes], bytes]) -> tuple[Any, Any, dict[type, Any]]:
    """Return both sides' work, and where their ends will be: a draw, one changed message, another draw."""
    sides: dict[type, Any] = {}

    def work(made: type, channel: Channel, *, lies: bool) -> Any:
        tampered = Tampered(channel, change)
        side = sides[made] = made(channel, "test", kind, SMALL)
        results = [side.draw(2000)]
        tampered.armed = lies
        results.append(side.draw(2000))
        channel.exchange("after", np.zeros(1, dtype=np.uint8))
        return results

    return (
        lambda channel: work(RandomSender, channel, lies=kind == "silent"),
        lambda channel: work(RandomReceiver, channel, lies=kind == "iknp"),
        sides,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", BROKEN)
def test_a_malformed_message_ends_both_sides_and_what_failed_is_not_used_again(
    kind: TransferKind, change: Callable[[bytes], bytes]
) -> None:
    sender, receiver, sides = with_change(kind, change)
    _, errors = outcomes(sender, receiver)
    victim, liar = errors if kind == "iknp" else errors[::-1]
    assert isinstance(victim, ProtocolError)
    assert isinstance(liar, PeerLostError)
    failed = sides[RandomSender if kind == "iknp" else RandomReceiver]
    for _ in range(2):
        with pytest.raises(ProtocolError, match="failed before"):
            failed.draw(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_correction_makes_wrong_pads_and_is_not_noticed(kind: TransferKind) -> None:
    sent, received = both(*with_change(kind, flipped)[:2])
    wrong = []
    for pads, (choices, chosen) in zip(sent, received, strict=True):
        wrong.append(int((pads[np.arange(len(choices)), choices] != chosen).any(axis=1).sum()))
    assert wrong[0] == 0
    assert wrong[1] > 0


def test_a_side_whose_peer_is_gone_refuses_to_go_on() -> None:
    sides: list[RandomReceiver] = []

    def receiver(channel: Channel) -> None:
        sides.append(RandomReceiver(channel, "test", "silent", SMALL))
        sides[0].draw(10**6)

    _, errors = outcomes(lambda channel: RandomSender(channel, "test", "silent", SMALL).draw(100), receiver)
    assert errors[0] is None
    assert isinstance(errors[1], PeerLostError)
    with pytest.raises(ProtocolError, match="failed before"):
        sides[0].draw(1)


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [(("test", "iknp"), ("test", "silent")), (("one", "silent"), ("other", "silent"))],
    ids=["other kind", "other label"],
)
def test_sides_that_do_not_agree_end(sender: tuple[str, TransferKind], receiver: tuple[str, TransferKind]) -> None:
    _, errors = outcomes(
        lambda channel: RandomSender(channel, *sender, SMALL),
        lambda channel: RandomReceiver(channel, *receiver, SMALL),
    )
    assert any(isinstance(error, ProtocolError) for error in errors)
    assert all(isinstance(error, ProtocolError | PeerLostError) for error in errors)


def test_counts_that_do_not_agree_end_both_sides() -> None:
    def receiver(channel: Channel) -> None:
        RandomReceiver(channel, "test", "iknp").draw(1000)
        channel.receive("more", np.uint8, (1,))

    _, errors = outcomes(lambda channel: RandomSender(channel, "test", "iknp").draw(100), receiver)
    assert isinstance(errors[0], ProtocolError)
    assert isinstance(errors[1], PeerLostError)


def test_instances_drawn_in_another_order_end_both_sides() -> None:
    def first(channel: Channel) -> None:
        there = RandomSender(channel, "there", "silent", SMALL)
        back = RandomSender(channel, "back", "silent", SMALL)
        back.draw(10)
        there.draw(10)
        channel.receive("more", np.uint8, (1,))

    def second(channel: Channel) -> None:
        there = RandomReceiver(channel, "there", "silent", SMALL)
        RandomReceiver(channel, "back", "silent", SMALL)
        there.draw(10)

    _, errors = outcomes(first, second)
    assert isinstance(errors[1], ProtocolError)
    assert "out of step" in str(errors[1])
    assert isinstance(errors[0], PeerLostError)
