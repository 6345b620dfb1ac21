"""Sessions: decisions, templates, what the caller gets wrong, and costs."""

import copy
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import hybridface as hf
from hybridface.models.model import Model
from parties.session.progress import Progress
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.matching.reveal import Reveal
from support.sessions import GUARD_SECONDS, terms_of
from support.tiny_network import Chip, plaintext


@pytest.fixture(scope="module")
def distances(model: Model, chips: Chip) -> NDArray[np.float64]:
    """Plaintext distances of all pairs of chips."""
    features = plaintext(model, chips)
    return np.asarray(np.linalg.norm(features[:, None] - features[None], axis=-1))


def pair_nearest_to(distances: NDArray[np.float64], goal: float) -> tuple[int, int]:
    return min(combinations(range(len(distances)), 2), key=lambda pair: abs(distances[pair] - goal))


@pytest.fixture(scope="module")
def same(distances: NDArray[np.float64]) -> tuple[int, int]:
    return pair_nearest_to(distances, 0.4)


@pytest.fixture(scope="module")
def different(distances: NDArray[np.float64]) -> tuple[int, int]:
    return pair_nearest_to(distances, 0.9)


# What a session decides


@pytest.mark.slow
def test_decisions_are_the_plaintext_networks(
    model: Model, chips: Chip, distances: NDArray[np.float64], same: tuple[int, int], different: tuple[int, int]
) -> None:
    threshold = model.threshold
    off = np.where(np.abs(distances - threshold) > 0.002, distances, np.inf)
    off[np.triu_indices(len(chips))] = np.inf
    below, above = np.where(off < threshold, off, -np.inf), np.where(off > threshold, off, np.inf)
    nearest = [np.unravel_index(index, off.shape) for index in (below.argmax(), above.argmin())]
    pairs = [same, different, (0, 1), (2, 3), (4, 4), *((int(i), int(j)) for i, j in nearest)]
    expected = [bool(distances[pair] < threshold) for pair in pairs]
    assert 2 <= sum(expected) <= len(pairs) - 2, "the pairs are all on one side"
    with hf.local_session(model) as session:
        for (i, j), match in zip(pairs, expected, strict=True):
            assert session.verify(chips[i], chips[j]).match is match
            assert session.server.last_decisions == (None,)


@pytest.mark.slow
def test_enrolled_templates(model: Model, chips: Chip, same: tuple[int, int], different: tuple[int, int]) -> None:
    with hf.local_session(model) as session:
        first = session.enroll(chips[same[0]], "first")
        second = session.enroll(chips[different[0]], "second")
        assert session.verify(chips[same[1]], first).match is True
        assert session.verify(chips[different[1]], second).match is False
        assert session.verify(chips[same[1]], first).match is True, "a template may be used again"
        unnamed = [session.enroll(chips[same[0]]) for _ in range(2)]
        assert unnamed[0].name != unnamed[1].name
        with pytest.raises(AttributeError):
            first.share = second.share  # type: ignore[misc]
    with hf.local_session(model) as session:
        session.enroll(chips[0], "first")
        session.client._enrolled.clear()  # as a client that does not look
        with pytest.raises(PeerLostError, match="expected a new template's name, got an enrolled one"):
            session.enroll(chips[1], "first")
        with pytest.raises(ProtocolError, match="this one has failed"):
            session.verify(chips[0], chips[1])
    assert repr(first) == "Template(name='first')", "a share must not end in a log"


@pytest.mark.slow
def test_paths_and_arrays(model: Model, chips: Chip, same: tuple[int, int], tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in same]
    for path, i in zip(paths, same, strict=True):
        Image.fromarray(chips[i]).save(path)
    with hf.local_session(model) as session:
        assert session.verify(paths[0], chips[same[1]], aligned=True).match is True
        with pytest.raises(hf.ImageError, match=r"expected one face, found 0"):
            session.verify(*paths)
        with pytest.raises(hf.ImageError, match=r"expected 16x16 pixels, got 16x3"):
            session.verify(chips[0], chips[1][:3], aligned=True)
        assert session.verify(str(paths[0]), paths[1], aligned=True).match is True, "a refused photo ends no session"


@pytest.mark.slow
@pytest.mark.parametrize("reveal", Reveal)
def test_the_decision_goes_only_to_whom_it_is_revealed(
    model: Model, chips: Chip, same: tuple[int, int], different: tuple[int, int], reveal: Reveal
) -> None:
    pairs = {True: same, False: different}
    with hf.local_session(model, reveal=reveal.value) as session:
        at_client, at_server = [], []
        for i, j in pairs.values():
            at_client.append(session.verify(chips[i], chips[j]).match)
            at_server += session.server.last_decisions
    assert at_client == (list(pairs) if reveal is not Reveal.SERVER else [None, None])
    assert at_server == (list(pairs) if reveal is not Reveal.CLIENT else [None, None])


def test_progress_names_every_layer(model: Model, chips: Chip) -> None:
    steps: list[Progress] = []
    with hf.local_session(model, on_progress=steps.append) as session:
        session.verify(chips[0], chips[1])
    layers = [step for step in steps if step.phase == "online"]
    assert [step.stage for step in layers] == [node.name for node in model.graph.nodes]
    assert [step.index for step in layers] == list(range(len(layers)))
    assert [step.phase for step in steps[:3]] == ["start", "offline", "offline"]


def test_a_session_that_is_not_open_says_so(model: Model, chips: Chip) -> None:
    session = hf.local_session(model)
    for use in (lambda: session.verify(chips[0], chips[1]), lambda: session.server, lambda: session.prepare()):
        with pytest.raises(hf.ModelError, match=r"^expected an open session"):
            use()
    with pytest.raises(hf.ModelError, match=r"^expected a model with weights, got tiny-test without$"):
        hf.local_session(hf.load_model("tiny-test", weights=False))


def test_images_of_the_wrong_shape_send_nothing(model: Model) -> None:
    with hf.local_session(model) as session:
        before = copy.copy(session.client.endpoint.channel.statistics)
        with pytest.raises(ParameterError, match=r"^expected two images, got 1$"):
            session.client.verify_pair(np.zeros((1, 3, 16, 16)))
        assert session.client.endpoint.channel.statistics == before


def test_a_pause_between_verifications_ends_no_session(model: Model, chips: Chip) -> None:
    timeout = 1.0
    with hf.local_session(model, timeout=timeout) as session:
        time.sleep(1.5 * timeout)
        assert session.verify(chips[4], chips[4]).match is True


def test_preparations_are_bounded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.session.server_endpoint.MAX_PREPARED_IMAGES", 2)

    def prepare_for_ever() -> None:
        with hf.local_session(model, timeout=GUARD_SECONDS) as session:
            for _ in range(3):
                session.prepare(1)

    with pytest.raises(PeerLostError, match=r"^server ended: expected at most 2 prepared images"):
        prepare_for_ever()


def test_preparing_an_impossible_number_of_images_sends_nothing(model: Model, chips: Chip) -> None:
    with hf.local_session(model) as session:
        with pytest.raises(ParameterError):
            session.prepare(3)
        assert session.verify(chips[0], chips[1]).match is not None


@pytest.mark.parametrize("threshold", [0.0, -1.0, 2.0**14, float("nan"), float("inf")])
def test_thresholds_out_of_range(model: Model, threshold: float) -> None:
    with pytest.raises(ParameterError, match=r"^expected a threshold above 0"):
        terms_of(model, threshold=threshold)


# What it costs


def test_preparation_ahead_leaves_nothing_to_the_dealer_online(model: Model, chips: Chip) -> None:
    with hf.local_session(model, timeout=GUARD_SECONDS, correlations="dealer") as session:
        session.prepare(2)
        dealers = [session.client.endpoint.dealer.statistics, session.server.endpoint.source._channel.statistics]
        before = [copy.copy(statistics) for statistics in dealers]
        cost = session.verify(chips[0], chips[1]).cost
        assert dealers == before, "the verification asked the dealer for more"
        assert cost.online.dealer_bytes == 0
        assert cost.offline.dealer_bytes > 0
        pools = (session.client.endpoint.source._pool, session.server.endpoint.source._pool)
        assert not any(queue for pool in pools for queue in pool.values()), "prepared correlations are left over"
        session.verify(chips[0], chips[1])  # prepares for itself
        assert dealers != before


@pytest.mark.slow
@pytest.mark.parametrize("correlations", ["ot", "ot-iknp"])
def test_without_a_dealer_the_online_phase_is_the_same(model: Model, chips: Chip, correlations: str) -> None:
    costs = []
    for name in (correlations, "dealer"):
        with hf.local_session(model, timeout=GUARD_SECONDS, correlations=name) as session:
            session.prepare(2)
            costs.append(session.verify(chips[0], chips[1]).cost)
            pools = (session.client.endpoint.source._pool, session.server.endpoint.source._pool)
            assert not any(queue for pool in pools for queue in pool.values()), "prepared correlations are left over"
    ours, theirs = (cost.online for cost in costs)
    assert (ours.bytes_up, ours.bytes_down, ours.rounds) == (theirs.bytes_up, theirs.bytes_down, theirs.rounds)
    assert costs[0].offline.dealer_bytes == ours.dealer_bytes == 0


def test_ways_to_make_correlations_that_are_none(model: Model) -> None:
    with pytest.raises(ParameterError, match="expected correlations from ot, ot-iknp, dealer, got 'nobody'"):
        hf.local_session(model, correlations="nobody")


@pytest.mark.slow
def test_cost_report(model: Model, chips: Chip) -> None:
    with hf.local_session(model) as session:
        cost = session.verify(chips[0], chips[1]).cost
        again = session.verify(chips[0], chips[1]).cost
        client, server = session.client.endpoint.channel.statistics, session.server.endpoint.channel.statistics
        assert (client.bytes_sent, client.bytes_received) == (server.bytes_received, server.bytes_sent)
        session.prepare(2)  # offline, the client sends a layer ahead, so the two sides see other flights
        before = client.rounds, server.rounds
        session.verify(chips[0], chips[1])
        assert client.rounds - before[0] == server.rounds - before[1] > again.online.rounds
    online = [stage for stage in cost.stages if stage.phase == "online"]
    assert [stage.stage for stage in online] == [n.name for n in model.graph.nodes] + ["distance and threshold"]
    assert 20 < cost.online.rounds < 100
    assert cost.online.bytes_up > cost.online.bytes_down > 10_000
    assert min(cost.offline.bytes_up, cost.offline.bytes_down) > 100_000
    assert sum(s.bytes_up for s in (cost.offline, cost.online, again.online)) < client.bytes_sent
    assert again.online.bytes_up == cost.online.bytes_up
    assert again.online.rounds == cost.online.rounds
    by_name = {stage.stage: stage for stage in online}
    assert by_name["flatten"].rounds == by_name["flatten"].bytes_up == 0
    assert by_name["conv"].bytes_up > 0
    for stage in online:
        assert 0 <= stage.client_seconds <= stage.elapsed_seconds
    assert cost.online.server_seconds > 0
    assert next(s.stage for s in cost.stages if s.phase == "offline") == "keys and weights"
    assert "keys and weights" not in [s.stage for s in again.stages]


@pytest.mark.slow
def test_preparing_twice_ahead_counts_both(model: Model, chips: Chip) -> None:
    with hf.local_session(model) as session:
        once = session.verify(chips[0], chips[1]).cost
        session.prepare(2)
        session.prepare(2)
        cost = session.verify(chips[0], chips[1]).cost
    upload = next(stage.bytes_up for stage in once.stages if stage.phase == "offline" and stage.stage == "conv")
    twice = next(stage.bytes_up for stage in cost.stages if stage.phase == "offline" and stage.stage == "conv")
    assert twice == 2 * upload > 0
