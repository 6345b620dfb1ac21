"""Silent extension: a round by its definition, what it sends, and rounds that follow each other."""

import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from protocols.channel import Channel
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.transfers.ferret import B11, SilentParameters, SilentReceiver, SilentSender
from protocols.transfers.hashing import derived_seed
from protocols.transfers.lpn import LocalCode
from support.frames import record
from support.statistics import assert_probability, assert_uniform_bytes
from support.transfer_parties import SMALL, as_integer, assert_uniform_but_low_bits, both, outcomes, words_under

LABEL = f"test/{SMALL}/corrections"


def both_sides(
    sender: Callable[[SilentSender], Any], receiver: Callable[[SilentReceiver], Any], parameters: Any = SMALL
) -> tuple[Any, Any, list[bytes]]:
    """Run work on both sides; return both results and what the sender sent."""
    frames: list[bytes] = []

    def sending(channel: Channel) -> Any:
        sent = record(channel)
        result = sender(SilentSender(channel, "test", parameters))
        frames.extend(sent)
        return result

    first, second = both(sending, lambda channel: receiver(SilentReceiver(channel, "test", parameters)))
    return first, second, frames


def extended(side: Any, count: int) -> list[np.ndarray]:
    return [side.extend(1).copy() for _ in range(count)]


@pytest.fixture(params=[60, 16, 7])
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Trees of a batch: all of them together, or several batches a round."""
    monkeypatch.setattr("protocols.transfers.ferret._BATCH", request.param << SMALL.depth)
    return int(request.param)


def batches_of(trees: int, batch: int) -> list[int]:
    return [min(batch, trees - first) for first in range(0, trees, batch)]


def test_one_round_is_noise_of_one_error_in_every_tree_on_a_codeword(batch: int) -> None:
    """c = A u ^ e: the receiver's choices, its secret's choices through the code, and what remains."""
    given = SMALL.given_trees
    trees = batches_of(given, batch)

    def work(side: Any) -> Any:
        return side._base.copy(), extended(side, len(trees)), side

    (r, q_parts, sender), (ru, w_parts, receiver), _ = both_sides(work, work)
    delta, q, w = sender.delta, np.concatenate(q_parts), np.concatenate(w_parts)
    assert q.shape == (given << SMALL.depth, 2)
    u = ru[:, :1] & np.uint64(1)
    assert (ru == r ^ u * delta).all()
    c = w[:, :1] & np.uint64(1)
    assert (w == q ^ c * delta).all()
    code = np.zeros_like(q)
    secret = np.hstack([u, np.zeros_like(u)])[: SMALL.secret]
    LocalCode(derived_seed(receiver.session, "code"), SMALL.log_secret).add_to(code, secret, 0)
    errors, sides = (c[:, 0] ^ code[:, 0]), u[SMALL.secret :, 0]
    for count in trees:
        noise, errors = errors[: count << SMALL.depth].reshape(-1, count), errors[count << SMALL.depth :]
        chosen, sides = sides[: count * SMALL.depth].reshape(-1, count), sides[count * SMALL.depth :]
        assert (noise.sum(axis=0) == 1).all()
        places = [sum(int(1 - side) << i for i, side in enumerate(column)) for column in chosen.T]
        assert noise.argmax(axis=0).tolist() == places


def test_no_row_of_the_code_is_used_twice(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in later rounds: the parameters' estimate is for one use of a row."""
    add, used = LocalCode.add_to, dict[str, list[tuple[int, int]]]()

    def watched(code: LocalCode, out: Any, vector: Any, first: int) -> None:
        used.setdefault(threading.current_thread().name, []).append((first, len(out)))
        add(code, out, vector, first)

    monkeypatch.setattr(LocalCode, "add_to", watched)
    count = 3 * len(batches_of(SMALL.given_trees, batch))
    both_sides(lambda side: extended(side, count), lambda side: extended(side, count))
    (sender, receiver) = used.values()
    assert sender == receiver
    assert [first for first, _ in sender] == [0, *itertools.accumulate(size for _, size in sender[:-1])]
    assert sum(size for _, size in sender) > 2 * SMALL.trees << SMALL.depth


@pytest.mark.slow
def test_rounds_follow_each_other_with_fresh_blocks(batch: int) -> None:
    rounds = 20
    given = batches_of(SMALL.given_trees, batch)
    kept = batches_of(SMALL.trees - SMALL.given_trees, batch)
    extensions = rounds * len(given)
    (delta, sent), received, frames = both_sides(
        lambda side: (side.delta, extended(side, extensions)), lambda side: extended(side, extensions)
    )
    q, w = np.concatenate(sent), np.concatenate(received)
    c = w[:, :1] & np.uint64(1)
    assert (w == q ^ c * delta).all()
    assert len(np.unique(q, axis=0)) == len(q) == rounds * (SMALL.given_trees << SMALL.depth)
    assert_probability(int(c.sum()), c.size, 0.5)
    assert_uniform_bytes(w)
    assert_uniform_but_low_bits(q)
    batches = extensions + (rounds - 1) * len(kept)  # what is kept back is made when the next round begins
    words = np.concatenate([words_under(frames, f"{LABEL} {number}") for number in range(1, batches + 1)])
    with pytest.raises(AssertionError, match="nothing was sent"):
        words_under(frames, f"{LABEL} {batches + 1}")
    assert words.size == 2 * SMALL.depth * ((rounds - 1) * SMALL.trees + SMALL.given_trees)


def test_corrections_are_uniform_but_for_the_last_ones_low_bit() -> None:
    _, _, frames = both_sides(lambda side: extended(side, 60), lambda side: extended(side, 60))
    words = words_under(frames, f"{LABEL} 1").reshape(SMALL.depth, -1, 2)
    assert not (words[-1, :, 0] & np.uint64(1)).any()
    rest = []
    for batch in range(1, 100, 2):
        words = words_under(frames, f"{LABEL} {batch}").reshape(SMALL.depth, -1, 2)
        rest += [words[:-1].ravel(), words[-1, :, 1]]
    assert_uniform_bytes(np.concatenate(rest))


def test_the_receiver_learns_nothing_of_delta_from_the_keys_of_its_trees() -> None:
    """A tree's first key is the root or the root plus Delta: all are uniform, none is Delta, and none comes twice."""
    made: list[np.ndarray] = []

    def receiver(side: SilentReceiver) -> None:
        regrow = side._grower.regrow

        def watched(keys: np.ndarray, sides: np.ndarray) -> Any:
            made.append(keys.copy())
            return regrow(keys, sides)

        side._grower.regrow = watched  # type: ignore[method-assign]
        extended(side, 60)

    delta, _, _ = both_sides(lambda side: (side.delta, extended(side, 60))[0], receiver)
    first = np.concatenate([keys[0] for keys in made])
    assert_uniform_bytes(first)
    blocks = [as_integer(block) for block in np.concatenate([keys[:-1].reshape(-1, 2) for keys in made])]
    assert len(first) > 2000
    assert len({block for key in blocks for block in (key, key ^ as_integer(delta))} | {0}) == 2 * len(blocks) + 1


def test_what_is_kept_back_is_new_and_not_given_out(batch: int) -> None:
    extensions = len(batches_of(SMALL.given_trees, batch)) + 1

    def work(side: Any) -> Any:
        before = side._base.copy()
        return before, extended(side, extensions), side._base.copy()

    (before, given, after), _, _ = both_sides(work, work)
    assert len(before) == len(after) == SMALL.needed
    blocks = [as_integer(block) for part in (before, *given, after) for block in part]
    assert len(set(blocks)) == len(blocks)


def test_the_published_parameters_give_a_round_of_several_batches() -> None:
    wanted = 5
    (delta, sent), received, _ = both_sides(
        lambda side: (side.delta, extended(side, wanted)), lambda side: extended(side, wanted), B11
    )
    q, w = np.concatenate(sent), np.concatenate(received)
    assert len(q) == wanted << 16
    c = w[:, :1] & np.uint64(1)
    assert (w == q ^ c * delta).all()
    assert_uniform_bytes(w)
    assert_probability(int(c.sum()), c.size, 0.5)


def test_published_parameters_are_beyond_gaussian_elimination() -> None:
    """Guess k samples without error, solve: the easiest check of the numbers, not the attack that binds."""
    parameters, given = B11, 1099
    samples = parameters.trees << parameters.depth
    guess = -parameters.trees * math.log2(1 - parameters.secret / samples)
    assert guess + 2.8 * parameters.log_secret > 140
    assert parameters.given_trees == given
    assert 128 * parameters.trees * parameters.depth / (given << parameters.depth) < 0.75  # bits a transfer


@pytest.mark.parametrize("values", [(0, 9, 6), (60, 25, 6), (60, 9, 1), (60, 9, 21), (9, 9, 6), (1 << 16, 9, 6)])
def test_parameters_are_checked(values: tuple[int, int, int]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        SilentParameters(*values)


def test_other_parameters_end_both_sides() -> None:
    def sender(channel: Channel) -> None:
        SilentSender(channel, "test", SMALL).extend(1)
        channel.receive("more", np.uint8, (1,))

    def receiver(channel: Channel) -> None:
        SilentReceiver(channel, "test", SilentParameters(61, 9, 6)).extend(1)

    _, errors = outcomes(sender, receiver)
    assert any(isinstance(error, ProtocolError) for error in errors)
    assert all(isinstance(error, ProtocolError | PeerLostError) for error in errors)
