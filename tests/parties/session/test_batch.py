"""Batches: the decisions of plaintext torch, the rounds of one photo, and decisions opened to whom they may."""

import copy
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import hybridface as hf
from hybridface.models.model import Model
from parties.session.client import MatchResult
from parties.session.cost import CostReport
from parties.transport.queues import local_channels
from protocols import CLIENT, SERVER, MpcParty, Reveal
from protocols.errors import ParameterError, ProtocolError
from protocols.matching.distance import open_decisions, reveal_matches
from support.shares import on_shares

THRESHOLD = 0.6
BOUND = round(THRESHOLD**2 * 2**32)


@pytest.fixture(scope="module")
def model() -> Model:
    return hf.load_model("tiny-test")


@pytest.fixture(scope="module")
def chips() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def distances(model: Model, chips: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Distances of all pairs of chips by torch, in the clear."""
    assert model.module is not None
    with torch.inference_mode():
        images = torch.from_numpy(np.stack([model.normalise(chip) for chip in chips]))
        features = model.module(images).numpy()
    return np.asarray(np.linalg.norm(features[:, None] - features[None], axis=-1))


@pytest.fixture(scope="module")
def mixed(model: Model, distances: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of chips that match and do not, by turns, none of them near the threshold."""
    off = np.abs(distances - model.threshold) > 0.01
    indices = [(i, j) for i, j in product(range(len(distances)), repeat=2) if i < j and off[i, j]]
    same = [pair for pair in indices if distances[pair] < model.threshold]
    different = [pair for pair in indices if distances[pair] > model.threshold]
    return [pair for both in zip(different, same, strict=False) for pair in both][:8]


@pytest.mark.slow
def test_three_photos_with_a_template_each(
    model: Model, chips: NDArray[np.uint8], distances: NDArray[np.float64], mixed: list[tuple[int, int]]
) -> None:
    with hf.local_session(model) as session:
        names = sorted({j for _, j in mixed})
        templates = {j: session.enroll(chips[j], str(j)) for j in names}
        for pairs in (mixed[:3], mixed[3:6], [mixed[1]] * 2 + [mixed[0]]):
            result = session.verify_batch([chips[i] for i, _ in pairs], [templates[j] for _, j in pairs])
            expected = tuple(bool(distances[pair] < model.threshold) for pair in pairs)
            assert len(set(expected)) == 2
            assert result.matches == expected
        with pytest.raises(ParameterError, match="expected one decision, got 3"):
            _ = result.match


@pytest.mark.slow
def test_a_batch_takes_the_rounds_of_one_photo(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        one = session.verify(chips[0], template)
        three = session.verify_batch(list(chips[:3]), template)
        sixteen = session.verify_batch([chips[0]] * 16, template)
        assert one.matches == (True,)
        assert len(three.matches) == 3
        assert sixteen.matches == (True,) * 16
        again = session.verify_batch([chips[0]], [template])
    rounds = [result.cost.online.rounds for result in (one, three, sixteen, again)]
    assert len(set(rounds)) == 1
    up = [result.cost.online.bytes_up for result in (one, three)]
    assert 2 * up[0] < up[1] < 3 * up[0]


def test_more_than_a_batch_sends_nothing(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        sent = copy.copy(session.client.endpoint.channel.statistics)
        with pytest.raises(ParameterError, match="expected 1 to 16 images, got 17"):
            session.verify_batch(list(chips[:17]), template)
        with pytest.raises(ParameterError, match="expected a template for each of 3 images, got 2"):
            session.verify_batch(list(chips[:3]), [template] * 2)
        assert session.client.endpoint.channel.statistics == sent
        assert session.verify(chips[0], template).match is True


@pytest.mark.slow
@pytest.mark.parametrize("reveal", Reveal)
def test_a_batch_is_revealed_only_to_whom_it_may(
    model: Model, chips: NDArray[np.uint8], mixed: list[tuple[int, int]], reveal: Reveal
) -> None:
    with hf.local_session(model, reveal=reveal) as session:
        templates = [session.enroll(chips[j]) for _, j in mixed[:3]]
        at_client = session.verify_batch([chips[i] for i, _ in mixed[:3]], templates).matches
        at_server = session.server.last_decisions
    decisions, nothing = (False, True, False), (None, None, None)
    assert at_client == (nothing if reveal is Reveal.SERVER else decisions)
    assert at_server == (nothing if reveal is Reveal.CLIENT else decisions)


@pytest.mark.slow
def test_a_prepared_batch_is_used_by_a_batch_of_its_size(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        session.prepare(3, 3)
        assert session.verify(chips[0], template).was_prepared is False
        assert session.verify_batch([chips[0]] * 2, template).was_prepared is False
        assert session.client.pool_status(3, 3).ready == 1
        assert session.verify_batch([chips[0]] * 3, template).was_prepared is True
        assert session.client.pool_status(3, 3).ready == 0


def test_the_decision_of_a_result() -> None:
    cost = CostReport(())
    assert [MatchResult((match,), cost).match for match in (True, False, None)] == [True, False, None]
    for matches in ((), (True, True)):
        with pytest.raises(ParameterError):
            _ = MatchResult(matches, cost).match


# Opening


def ring(values: Any) -> Any:
    return np.asarray(values, dtype=np.int64).view(np.uint64)


@pytest.mark.parametrize("reveal", Reveal)
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_many_distances_are_decided_in_order(count: int, reveal: Reveal) -> None:
    random = np.random.default_rng(count)
    near = random.integers(-2, 2, count) + BOUND
    values = np.where(random.random(count) < 0.5, near, random.integers(0, 2 * BOUND, count))
    client, server = on_shares(lambda party, own: reveal_matches(party, own, THRESHOLD, reveal), ring(values))
    expected = tuple(bool(value < BOUND) for value in values)
    assert client == (expected if reveal is not Reveal.SERVER else (None,) * count)
    assert server == (expected if reveal is not Reveal.CLIENT else (None,) * count)


@pytest.mark.parametrize("reveal", Reveal)
def test_shared_bits_are_opened_in_order(reveal: Reveal) -> None:
    bits = np.random.default_rng(3).integers(0, 2, (2, 130), dtype=np.uint64)
    ends = local_channels("client", "server", 5)
    parties = [MpcParty(rank, end, None) for rank, end in zip((CLIENT, SERVER), ends, strict=True)]  # type: ignore[arg-type]
    order = (SERVER, CLIENT) if reveal is Reveal.CLIENT else (CLIENT, SERVER)
    opened: dict[int, Any] = {}
    if reveal is Reveal.BOTH:
        ends[1].send("decision/both", bits[1])
        opened[CLIENT] = open_decisions(parties[0], bits[0], reveal)
        ends[1].receive("decision/both", np.uint64, (130,))
    else:
        for rank in order:
            opened[rank] = open_decisions(parties[rank], bits[rank], reveal)
        assert opened.pop(order[0]) == (None,) * 130
    (learned,) = opened.values()
    assert learned == tuple(bool(bit) for bit in bits[0] ^ bits[1])


@pytest.mark.parametrize("position", [0, 64, 99])
@pytest.mark.parametrize("word", [2, 3, 2**63, 2**64 - 1])
@pytest.mark.parametrize("reveal", [Reveal.CLIENT, Reveal.BOTH])
def test_a_word_that_is_no_bit_is_refused_wherever_it_stands(reveal: Reveal, word: int, position: int) -> None:
    to_server, to_client = local_channels("client", "server", 5)
    words = np.ones(100, dtype=np.uint64)
    words[position] = word
    to_client.send(f"decision/{reveal}", words)
    party = MpcParty(CLIENT, to_server, None)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="expected bits, got a larger number$"):
        open_decisions(party, np.zeros(100, dtype=np.uint64), reveal)


@pytest.mark.parametrize("count", [99, 101])
def test_another_number_of_decisions_is_refused(count: int) -> None:
    to_server, to_client = local_channels("client", "server", 5)
    to_client.send("decision/client", np.zeros(count, dtype=np.uint64))
    party = MpcParty(CLIENT, to_server, None)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match=r"expected uint64 \(100,\)"):
        open_decisions(party, np.zeros(100, dtype=np.uint64), Reveal.CLIENT)


@pytest.mark.parametrize("shape", [(), (0,), (2, 1)])
def test_distances_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="expected distances"):
        reveal_matches(None, ring(np.zeros(shape)), THRESHOLD, Reveal.BOTH)  # type: ignore[arg-type]
