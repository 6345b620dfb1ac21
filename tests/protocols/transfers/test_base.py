"""Base transfers: the receiver has exactly one key of each pair; points that are not of the group are refused."""

import hashlib
import threading

import numpy as np
import pytest
from nacl import bindings

from protocols.channel import Channel
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.transfers.base import receive_base_transfers, send_base_transfers
from support.frames import record
from support.statistics import assert_uniform_bytes
from support.transfer_parties import both, outcomes

CHOICES = np.random.default_rng(1).integers(0, 2, 127, dtype=np.uint8)
BASE_POINT = bindings.crypto_scalarmult_ed25519_base_noclamp((1).to_bytes(32, "little"))
P = 2**255 - 19
ORDER_2 = (P - 1).to_bytes(32, "little")  # (0, -1)
INVALID = {
    "neutral element": (1).to_bytes(32, "little"),
    "order 2": ORDER_2,
    "order 4": bytes(32),
    "order 8": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "outside the subgroup": bindings.crypto_core_ed25519_add(BASE_POINT, ORDER_2),
    "not on the curve": (2).to_bytes(32, "little"),
    "not canonical": (P + 1).to_bytes(32, "little"),
    "ones": b"\xff" * 32,
}


def run(label: str = "test", choices: np.ndarray = CHOICES) -> tuple[np.ndarray, bytes, np.ndarray, bytes]:
    (keys, sent), (chosen, received) = both(
        lambda channel: send_base_transfers(channel, label, choices.size),
        lambda channel: receive_base_transfers(channel, label, choices),
    )
    return keys, sent, chosen, received


def test_the_receiver_has_the_chosen_key_of_every_pair_and_not_the_other() -> None:
    keys, sent, chosen, received = run()
    assert sent == received
    assert len(sent) == 32
    rows = np.arange(CHOICES.size)
    assert (keys[rows, CHOICES] == chosen).all()
    assert (keys[rows, 1 - CHOICES] != chosen).any(axis=1).all()
    assert len({key.tobytes() for key in keys.reshape(-1, 32)}) == 2 * CHOICES.size
    assert_uniform_bytes(keys)


@pytest.mark.parametrize("choice", [0, 1])
def test_all_choices_the_same(choice: int) -> None:
    keys, _, chosen, _ = run(choices=np.full(20, choice, dtype=np.uint8))
    assert (keys[:, choice] == chosen).all()


def test_keys_are_what_the_definition_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """With known scalars: the points by multiples of the base point, the keys by hashing field after field."""
    frames: list[list[bytes]] = []
    a, b = 5, (7, 11)
    scalars = {"party-0": [a], "party-1": list(b)}

    def scalar() -> bytes:
        mine = next(v for name, v in scalars.items() if name in threading.current_thread().name)
        return mine.pop(0).to_bytes(32, "little")

    def point(multiple: int) -> bytes:
        return bindings.crypto_scalarmult_ed25519_base_noclamp(multiple.to_bytes(32, "little"))

    def sender(channel: Channel) -> tuple[np.ndarray, bytes]:
        frames.append(record(channel))
        return send_base_transfers(channel, "label", 2)

    monkeypatch.setattr("protocols.transfers.base._random_scalar", scalar)
    (keys, session), _ = both(
        sender, lambda channel: receive_base_transfers(channel, "label", np.array([0, 1], np.uint8))
    )
    points = [point(b[0]), point(b[1] + a)]
    start = b"hybridface base transfers 1"
    transcript = start + (5).to_bytes(8, "little") + b"label" + point(a) + points[0] + points[1]
    assert session == hashlib.sha256(transcript).digest()
    for i, shared in enumerate(([a * b[0], a * (b[0] - a)], [a * (b[1] + a), a * b[1]])):
        for choice in (0, 1):
            fields = start + session + i.to_bytes(8, "little") + point(a) + points[i] + point(shared[choice])
            assert keys[i, choice].tobytes() == hashlib.sha256(fields).digest()
    assert frames[0][0].endswith(point(a))


def test_nothing_repeats_in_another_session() -> None:
    first, second = run("same"), run("same")
    assert first[1] != second[1]
    assert not {key.tobytes() for key in first[0].reshape(-1, 32)} & {
        key.tobytes() for key in second[0].reshape(-1, 32)
    }


def test_what_is_sent_are_different_points_of_the_group() -> None:
    frames: dict[str, list[bytes]] = {}

    def receiver(channel: Channel) -> None:
        frames["receiver"] = record(channel)
        receive_base_transfers(channel, "test", CHOICES)

    def sender(channel: Channel) -> None:
        frames["sender"] = record(channel)
        send_base_transfers(channel, "test", CHOICES.size)

    both(sender, receiver)
    (ours,), (theirs,) = frames["sender"], frames["receiver"]
    points = {theirs[-32 * i : len(theirs) - 32 * (i - 1)] for i in range(1, CHOICES.size + 1)} | {ours[-32:]}
    assert len(points) == CHOICES.size + 1
    assert all(bindings.crypto_core_ed25519_is_valid_point(point) for point in points)


@pytest.mark.parametrize("point", INVALID.values(), ids=INVALID)
def test_a_receiver_refuses_an_invalid_point(point: bytes) -> None:
    def hostile(channel: Channel) -> None:
        channel.send("test/base sender", np.frombuffer(point, dtype=np.uint8))
        channel.receive("test/base receiver", np.uint8, (CHOICES.size, 32))

    _, (other, error) = outcomes(hostile, lambda channel: receive_base_transfers(channel, "test", CHOICES))
    assert isinstance(error, ProtocolError)
    assert "prime order" in str(error)
    assert isinstance(other, PeerLostError)


@pytest.mark.parametrize("place", [0, 126])
@pytest.mark.parametrize("point", [*INVALID.values(), None], ids=[*INVALID, "the sender's own point"])
def test_a_sender_refuses_an_invalid_point_anywhere(point: bytes | None, place: int) -> None:
    def hostile(channel: Channel) -> None:
        ours = channel.receive("test/base sender", np.uint8, (32,))
        points = np.tile(np.frombuffer(BASE_POINT, dtype=np.uint8), (CHOICES.size, 1))
        points[place] = ours if point is None else np.frombuffer(point, dtype=np.uint8)
        channel.send("test/base receiver", points)
        channel.receive("more", np.uint8, (1,))

    _, (error, other) = outcomes(lambda channel: send_base_transfers(channel, "test", CHOICES.size), hostile)
    assert isinstance(error, ProtocolError)
    assert isinstance(other, PeerLostError)


def test_wrong_shapes_and_labels_end_both_sides() -> None:
    _, errors = outcomes(
        lambda channel: send_base_transfers(channel, "test", 10),
        lambda channel: receive_base_transfers(channel, "test", CHOICES),
    )
    assert isinstance(errors[0], ProtocolError)
    assert errors[1] is None  # a receiver waits for nothing after its message
    _, errors = outcomes(
        lambda channel: send_base_transfers(channel, "one", CHOICES.size),
        lambda channel: receive_base_transfers(channel, "another", CHOICES),
    )
    assert isinstance(errors[1], ProtocolError)
    assert isinstance(errors[0], PeerLostError)


def test_numbers_of_transfers_are_checked() -> None:
    with pytest.raises(ParameterError, match="1 to 65536"):
        send_base_transfers(None, "test", 0)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="1 to 65536"):
        receive_base_transfers(None, "test", np.zeros(0, dtype=np.uint8))  # type: ignore[arg-type]
