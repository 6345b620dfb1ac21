"""IKNP against its definition, bit by bit; what is sent; that streams go on and never repeat."""

from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.channel import Channel
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.transfers import base, iknp, kernels
from protocols.transfers.iknp import IKNP_BATCH, IknpReceiver, IknpSender
from support.frames import record
from support.statistics import assert_probability, assert_uniform_bytes
from support.transfer_parties import assert_uniform_but_low_bits, bits_of, both, outcomes, words_under


def extended(*wanted: int) -> tuple[Any, Any]:
    """Return (delta, q of every extension), (w of every extension, frames sent)."""

    def sender(channel: Channel) -> Any:
        side = IknpSender(channel, "test")
        return side.delta, [side.extend(count) for count in wanted], side.session

    def receiver(channel: Channel) -> Any:
        frames = record(channel)
        side = IknpReceiver(channel, "test")
        return [side.extend(count) for count in wanted], frames, side.session

    first, second = both(sender, receiver)
    assert first[2] == second[2]
    return first[:2], second[:2]


def stream(key: bytes, start: int, count: int) -> np.ndarray:
    """Bits start to start + count of AES-256 in counter mode from zero."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    data = np.frombuffer(encryptor.update(bytes((start + count) // 8)), dtype=np.uint8)
    return np.unpackbits(data, bitorder="little")[start:]


@given(st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_transposition_is_that_of_bits(words: int) -> None:
    rows = np.random.default_rng(words).integers(0, 2**64, (128, words), dtype=np.uint64)
    out = np.empty((64 * words, 2), dtype=np.uint64)
    kernels.transpose(rows, out)
    assert (bits_of(out) == bits_of(rows).T).all()


def test_two_extensions_are_what_the_definition_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, np.ndarray] = {}

    def send(channel: Channel, label: str, count: int) -> Any:
        result = base.send_base_transfers(channel, label, count)
        made["pairs"] = result[0]
        return result

    def receive(channel: Channel, label: str, choices: np.ndarray) -> Any:
        made["choices"] = choices
        return base.receive_base_transfers(channel, label, choices)

    monkeypatch.setattr(iknp, "send_base_transfers", send)
    monkeypatch.setattr(iknp, "receive_base_transfers", receive)
    (delta, sent), (received, frames) = extended(130, 1)
    assert [len(q) for q in sent] == [192, 64]
    delta_bits = bits_of(delta)
    assert delta_bits[0] == 1
    assert (delta_bits[1:] == made["choices"]).all()
    start = 0
    for extension, (q, w) in enumerate(zip(sent, received, strict=True), start=1):
        count = len(q)
        rows_q, rows_w = bits_of(q).T, bits_of(w).T
        choices = rows_w[0]
        assert not rows_q[0].any()
        u = bits_of(words_under(frames, f"test/extension {extension}").reshape(127, -1))
        for row in range(1, 128):
            zero, one = (stream(key.tobytes(), start, count) for key in made["pairs"][row - 1])
            assert (u[row - 1] == zero ^ one ^ choices).all()
            assert (rows_w[row] == zero).all()
            assert (rows_q[row] == (one if delta_bits[row] else zero) ^ delta_bits[row] * u[row - 1]).all()
        start += count


@pytest.mark.long
def test_the_correlation_holds_and_all_is_uniform_on_a_million() -> None:
    wanted = [IKNP_BATCH] * 15 + [1_000_000 - 15 * IKNP_BATCH]
    (delta, sent), (received, frames) = extended(*wanted)
    q, w = np.concatenate(sent), np.concatenate(received)
    assert len(q) == len(w) == 1_000_000
    choices = w[:, :1] & np.uint64(1)
    assert (w == q ^ choices * delta).all()
    assert_probability(int(choices.sum()), choices.size, 0.5)
    assert_uniform_but_low_bits(q)
    assert_uniform_bytes(w)
    assert len(np.unique(q, axis=0)) == len(q)
    for extension in (1, 8, 16):
        assert_uniform_bytes(words_under(frames, f"test/extension {extension}"))


def test_choices_are_new_in_every_extension() -> None:
    """No 64 choices come twice, in one extension or in two: among so many words that has probability below 2^-41."""
    _, (received, _) = extended(*[12_800] * 20)
    words = np.packbits(np.concatenate(received)[:, 0].astype(np.uint8) & 1).view(np.uint64)
    assert len(words) == len(np.unique(words)) == 4_000
    assert_uniform_bytes(words)


@pytest.mark.slow
def test_deltas_are_random_but_for_their_low_bit() -> None:
    deltas = np.array([extended(64)[0][0] for _ in range(12)])
    assert (deltas[:, 0] & np.uint64(1) == 1).all()
    assert len(np.unique(deltas, axis=0)) == len(deltas)
    assert 600 < bits_of(deltas).sum() < 940  # of 1536: six standard deviations


def test_extensions_of_other_sizes_end_both_sides() -> None:
    def sender(channel: Channel) -> None:
        IknpSender(channel, "test").extend(64)

    def receiver(channel: Channel) -> None:
        IknpReceiver(channel, "test").extend(65)
        channel.receive("more", np.uint8, (1,))

    _, errors = outcomes(sender, receiver)
    assert isinstance(errors[0], ProtocolError)
    assert isinstance(errors[1], PeerLostError)


def test_at_least_one_transfer_is_wanted() -> None:
    def sender(channel: Channel) -> None:
        IknpSender(channel, "test").extend(0)

    with pytest.raises(ParameterError, match="at least one"):
        both(sender, lambda channel: IknpReceiver(channel, "test") and None)
