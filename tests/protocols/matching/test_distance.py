"""Matching: exact at the threshold, and one bit goes to whom it may."""

import copy
from typing import Any

import numpy as np
import pytest

from parties.transport.queues import local_channels
from protocols import CLIENT, MpcParty, Reveal, encode, matching_requests, reveal_match, squared_distance
from protocols.channel import tag_of
from protocols.errors import ParameterError, ProtocolError
from protocols.matching.distance import open_decisions, reveal_matches
from protocols.shares.comparison import interval_requests
from support.frames import record
from support.shares import dealer_bytes, on_shares, opened, pool_is_empty, run_locally
from support.statistics import assert_uniform, assert_uniform_bytes

THRESHOLD = 0.6
BOUND = round(THRESHOLD**2 * 2**32)
ROLES = list(Reveal)


def ring(values: Any) -> Any:
    return np.asarray(values, dtype=np.int64).view(np.uint64)


def decide(distance: int, reveal: Reveal = Reveal.BOTH, threshold: float = THRESHOLD) -> tuple[Any, Any]:
    """Return what both parties learn about a squared distance at 32 fractional bits."""
    return on_shares(lambda party, own: reveal_match(party, own, threshold, reveal), ring([distance]))


def test_squared_distance_is_exact() -> None:
    first, second = np.random.default_rng(0).integers(-(2**17), 2**17, (2, 5, 128))
    second[0, :3] = first[0, :3] + [0, 1, -1]
    distances = opened(squared_distance, ring(first), ring(second))
    assert distances.tolist() == ((first - second) ** 2).sum(axis=-1).tolist()
    assert opened(squared_distance, ring(first), ring(first)).tolist() == [0] * 5


def test_squared_distance_refuses_embeddings_of_two_shapes() -> None:
    with pytest.raises(ParameterError, match="of one shape"):
        squared_distance(None, ring([[1, 2]]), ring([[1, 2, 3]]))  # type: ignore[arg-type]


@pytest.mark.parametrize("distance", [0, 1, BOUND - 1, BOUND, BOUND + 1, 2 * BOUND, 2**62, 2**63 - 1 - BOUND])
def test_the_decision_turns_at_the_threshold_exactly(distance: int) -> None:
    match = distance < BOUND
    for _ in range(4):
        assert decide(distance) == (match, match)


@pytest.mark.parametrize("reveal", ROLES)
@pytest.mark.parametrize("distance", [BOUND - 1, BOUND])
def test_only_those_named_learn_the_decision(reveal: Reveal, distance: int) -> None:
    client, server = decide(distance, reveal)
    match = distance < BOUND
    assert client == (match if reveal is not Reveal.SERVER else None)
    assert server == (match if reveal is not Reveal.CLIENT else None)


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_embeddings_at_the_threshold(steps: int) -> None:
    # A distance of exactly 0.5 in one coordinate, and one last bit less, or more in another.
    first = np.zeros((1, 8), dtype=np.int64)
    second = np.array([[2**15 + min(steps, 0), max(steps, 0), 0, 0, 0, 0, 0, 0]])

    def side(party: MpcParty, a: Any, b: Any) -> Any:
        return reveal_match(party, squared_distance(party, a, b).reshape(1), 0.5, Reveal.BOTH)

    assert on_shares(side, ring(first), ring(second)) == (steps < 0, steps < 0)


def run_all(reveal: Reveal, first: Any, second: Any) -> tuple[Any, Any]:
    """Run a whole matching with recorded messages; return (decision, frames) of both."""

    def side(party: MpcParty, a: Any, b: Any) -> Any:
        party.correlations.prepare(matching_requests(first.shape[1]))
        before = dealer_bytes(party)
        sent = record(party.channel)
        decision = reveal_match(party, squared_distance(party, a, b), THRESHOLD, reveal)
        assert pool_is_empty(party)
        assert dealer_bytes(party) == before
        return decision, sent, copy.copy(party.channel.statistics)

    return on_shares(side, ring(first), ring(second))


@pytest.mark.parametrize("reveal", ROLES)
def test_the_transcript_is_of_one_length_and_uses_what_it_says(reveal: Reveal) -> None:
    lengths = []
    embeddings = np.random.default_rng(1).integers(-(2**14), 2**14, (2, 1, 128))
    for other in (embeddings[0], embeddings[1]):
        client, server = run_all(reveal, embeddings[0], other)
        lengths.append([[len(frame) for frame in side[1]] for side in (client, server)])
        ours, theirs = client[2], server[2]
        assert ours.rounds == theirs.rounds
        assert (ours.bytes_sent, ours.bytes_received) == (theirs.bytes_received, theirs.bytes_sent)
    assert lengths[0] == lengths[1]
    frames = [24 + 8 * 128, 24 + 8, 32 + 2 * 8 * 27, 32 + 2 * 8 * 6]  # squares, the masked distance, two levels
    for side, rank in zip(lengths[0], (Reveal.CLIENT, Reveal.SERVER), strict=True):
        assert side == frames + [24 + 8] * (reveal is not rank)  # its share of the bit, unless only it may learn it
    assert ours.rounds == 5


def data(frame: bytes) -> Any:
    """The words of a frame: a header of 16 bytes and 8 for each dimension comes first."""
    return np.frombuffer(frame[16 + 8 * frame[8] :], dtype=np.uint64)


@pytest.mark.slow
def test_what_is_opened_on_the_way_does_not_tell_the_distance() -> None:
    """Over many runs on one pair, every opened word but the decision is uniform; the decision is the bit alone."""
    first = np.zeros((1, 4), dtype=np.int64)
    words: list[Any] = []
    for _ in range(120):
        (match, ours, _), (_, theirs, _) = run_all(Reveal.BOTH, first, first + 7)
        assert match is True
        sent = [[data(frame) for frame in side] for side in (ours, theirs)]
        words += [a + b if i < 2 else a ^ b for i, (a, b) in enumerate(zip(*sent, strict=True))][:-1]
        assert [side[-1].tolist() in ([0], [1]) for side in sent] == [True, True]
        assert sent[0][-1] ^ sent[1][-1] == 1  # match
    assert_uniform_bytes(np.concatenate(words))


@pytest.mark.parametrize("distance", [-1, -(2**40), -(2**63), BOUND - 1 - 2**63, 2**63 - 1, 2**62])
def test_a_distance_that_has_wrapped_is_no_match(distance: int) -> None:
    """A squared distance is never negative; the decision fails closed."""
    ours, theirs = on_shares(lambda party, own: reveal_match(party, own, THRESHOLD, Reveal.BOTH), ring([distance]))
    assert ours is theirs is False


def test_embeddings_far_out_of_range_do_not_match() -> None:
    random = np.random.default_rng(3)
    for _ in range(10):
        huge = random.integers(-(2**62), 2**62, (1, 128))
        (match, _, _), _ = run_all(Reveal.CLIENT, huge, np.zeros((1, 128), dtype=np.int64))
        assert match is False


@pytest.mark.slow
def test_a_partys_share_of_the_decision_is_a_fair_coin() -> None:
    def side(party: MpcParty, own: Any) -> Any:
        party.correlations.prepare(interval_requests(1) * 300)
        sent = record(party.channel)
        for _ in range(300):
            reveal_match(party, own, THRESHOLD, Reveal.CLIENT)
        tag = tag_of("decision/client").to_bytes(4, "little")
        return [int(data(frame)[0]) for frame in sent if frame[4:8] == tag]

    nothing, bits = on_shares(side, ring([5]))
    assert nothing == []
    assert len(bits) == 300
    assert_uniform(bits, 2)


@pytest.mark.parametrize("reveal", [Reveal.CLIENT, Reveal.BOTH])
@pytest.mark.parametrize("word", [2, 2**63, 2**64 - 1])
def test_a_garbage_bit_is_refused(reveal: Reveal, word: int) -> None:
    to_server, to_client = local_channels("client", "server", 5)
    to_client.send(f"decision/{reveal}", np.array([word], dtype=np.uint64))
    party = MpcParty(CLIENT, to_server, None)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="expected bits"):
        open_decisions(party, np.array([1], dtype=np.uint64), reveal)


@pytest.mark.timeout(40)
def test_parties_that_disagree_about_the_receiver_end_in_an_error() -> None:
    bit = np.array([1], dtype=np.uint64)
    with pytest.raises(ProtocolError, match="out of step"):
        run_locally(lambda p: open_decisions(p, bit, Reveal.BOTH), lambda p: open_decisions(p, bit, Reveal.CLIENT))


@pytest.mark.parametrize("threshold", [2.0**15, float("inf"), float("nan"), 0.0, -0.6])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    with pytest.raises(ParameterError, match=r"fixed point takes finite|a threshold above 0"):
        reveal_match(None, ring([0]), threshold, Reveal.BOTH)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (0,), (2,), (1, 1)])
def test_other_than_one_distance_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="expected one distance"):
        reveal_match(None, ring(np.zeros(shape)), THRESHOLD, Reveal.BOTH)  # type: ignore[arg-type]


def test_several_decisions_use_up_what_they_say() -> None:
    """More than one word of a plane, so that the size of every correlation counts."""
    count, dimension = 70, 4
    first, second = np.random.default_rng(2).integers(-(2**15), 2**15, (2, count, dimension))

    def side(party: MpcParty, a: Any, b: Any) -> Any:
        party.correlations.prepare(matching_requests(dimension, count))
        before = dealer_bytes(party)
        matches = reveal_matches(party, squared_distance(party, a, b), THRESHOLD, Reveal.BOTH)
        assert pool_is_empty(party)
        assert dealer_bytes(party) == before
        return matches

    expected = (((first - second) ** 2).sum(axis=1) < BOUND).tolist()
    assert 0 < sum(expected) < count
    assert [list(matches) for matches in on_shares(side, ring(first), ring(second))] == [expected] * 2


def test_the_roles_are_written_as_they_are_named() -> None:
    assert [str(reveal) for reveal in ROLES] == ["client", "server", "both"]
    assert encode(THRESHOLD**2, 32) == BOUND
