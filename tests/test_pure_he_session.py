"""Sessions under encryption: enrol and verify, costs, terms, and commands that are refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridface.errors import ModelError, RunError
from hybridface.pure_he import LocalPureHeSession, local_pure_he_session, patches_of_chip
from hybridface.pure_he_bench import bench_pure_he, pure_he_table, read_weights
from parties.local import PartyThread, local_channels
from parties.pure_he import PureHeClientSession, PureHeServerSession, PureHeTerms
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.pure_he import EncodedNetwork, PatchNetShape, PatchNetWeights, PureHeParameters

PARAMETERS = PureHeParameters(8192, levels=4, scale_bits=30, first_bits=42, special_bits=52)
WEIGHTS = PatchNetWeights.random(PatchNetShape(4, 12, (8,), 8))
CHIPS = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
VALUES = np.zeros((4, 12))


def patches(chip: Any) -> Any:
    return patches_of_chip(chip, grid=2)


def session(**options: Any) -> LocalPureHeSession:
    options = {"threshold": 1.0, "normalise": patches, "parameters": PARAMETERS, "timeout": 60.0} | options
    return local_pure_he_session(WEIGHTS, **options)


def squared_distance(first: Any, second: Any) -> float:
    return float(((WEIGHTS.embed(patches(first)) - WEIGHTS.embed(patches(second))) ** 2).sum())


def test_a_session() -> None:
    distances = [squared_distance(CHIPS[0], chip) for chip in CHIPS]
    threshold = float(np.sqrt(np.mean(sorted(distances)[1:])))
    with session(threshold=threshold) as local:
        enrolled = local.enroll("first", CHIPS[0])
        results = [local.verify(chip, "first") for chip in CHIPS]
        local.enroll("second", CHIPS[1])
        other = local.verify(CHIPS[0], "second")
    for result, distance in zip(results, distances, strict=True):
        assert result.squared_distance == pytest.approx(distance, rel=1e-3, abs=1e-3)
        assert result.match == (distance < threshold**2)
    assert {result.match for result in results} == {True, False}
    assert other.squared_distance == pytest.approx(results[1].squared_distance, rel=1e-3)
    assert "squared_distance" not in repr(other)

    (keys,) = (stage for stage in enrolled.stages if stage.phase == "offline")
    assert keys.bytes_up > 1e6
    assert keys.server_seconds > 0
    online = {stage.stage: stage for stage in results[0].cost.stages}
    assert list(online) == ["upload", "distance", "affine 1", "join"]
    assert all(stage.server_seconds > 0 for stage in online.values())
    assert results[0].cost.online.bytes_down < results[0].cost.online.bytes_up
    assert (results[0].cost.online.rounds, results[0].cost.online.dealer_bytes) == (2, 0)


def test_a_client_runs_out_of_answers() -> None:
    with pytest.raises(PeerLostError, match="at most 1 verifications"), session(max_answers=1) as local:
        local.enroll("a", CHIPS[0])
        local.verify(CHIPS[1], "a")
        local.verify(CHIPS[1], "a")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (lambda client: client.verify(VALUES, "nobody"), "name of an enrolled template"),
        (lambda client: [client.enroll("a", VALUES) for _ in range(2)], "new template's name"),
        (lambda client: client.enroll("x" * 10_001, VALUES), "expected a command"),
        (lambda client: client._begin({"operation": "dance"}, VALUES) or client._finish(), "expected a command"),
    ],
)
def test_commands_that_are_refused(action: Callable[[PureHeClientSession], Any], expected: str) -> None:
    with pytest.raises(PeerLostError, match=expected), session() as local:
        action(local.client)


def test_a_failed_session_stays_failed() -> None:
    local = session()
    with pytest.raises(ModelError, match="open session"):
        local.verify(CHIPS[0], "a")
    with local:
        with pytest.raises(ParameterError, match="input of shape"):
            local.client.enroll("a", np.zeros((4, 13)))
        local.enroll("a", CHIPS[0])  # nothing had been sent
        with pytest.raises(ParameterError, match="magnitude"):
            local.client.enroll("b", VALUES + np.nan)
        with pytest.raises(ProtocolError, match="this one has failed"):
            local.enroll("c", CHIPS[0])


def test_terms_must_be_equal() -> None:
    terms = PureHeTerms(WEIGHTS.shape, 1.0, PARAMETERS)
    network = EncodedNetwork(terms.circuit(), WEIGHTS)
    for other in (
        dataclasses.replace(terms, threshold=2.0),
        dataclasses.replace(terms, max_answers=9),
        dataclasses.replace(terms, parameters=dataclasses.replace(PARAMETERS, flood_bits=9)),
    ):
        to_server, to_client = local_channels("client", "server")
        server = PartyThread("server", lambda end=to_client: PureHeServerSession(end, terms, network), (to_client,))
        server.start()
        with pytest.raises(ProtocolError, match="the peers disagree on"):
            PureHeClientSession(to_server, other)
        server.join()
    with pytest.raises(ParameterError, match="encoded for"):
        PureHeServerSession(to_client, dataclasses.replace(terms, parameters=None), network)
    with pytest.raises(ParameterError, match="threshold"):
        PureHeTerms(WEIGHTS.shape, 0.0)


@pytest.mark.timeout(120)
def test_the_benchmark(tmp_path: Path) -> None:
    arrays = {"W1": WEIGHTS.matrices[0], "b1": WEIGHTS.biases[0], "J": WEIGHTS.join, "c": WEIGHTS.constant}
    np.savez(tmp_path / "weights.npz", **arrays)
    document = bench_pure_he(str(tmp_path / "weights.npz"), (8,), runs=2)
    assert document["client"]["shape"] == WEIGHTS.shape.document()
    assert len(document["client"]["seconds"]) == 2
    assert max(document["client"]["errors"]) < 1e-2
    assert document["server"]["peak_mib"] < 4096
    assert pure_he_table(document).row_count > 10
    with pytest.raises(RunError, match="exit status"):
        bench_pure_he("random", (3,), runs=1)


def test_random_weights_of_the_usual_size() -> None:
    assert read_weights("random", (64, 64)).shape == PatchNetShape(16, 768, (64, 64), 128)


def test_patches() -> None:
    chip = np.zeros((64, 64, 3), dtype=np.uint8)
    chip[17, 35, 2] = 255  # row 1, column 3 of patch (1, 2)
    cut = patches_of_chip(chip)
    assert cut.shape == (16, 768)
    assert np.argwhere(cut > 0).tolist() == [[6, 2 * 256 + 16 + 3]]
    assert (cut.min(), cut.max()) == (-1.0, 1.0)
    for wrong in (chip[:, :60], chip.astype(float), chip[:62, :62], chip[..., 0]):
        with pytest.raises(ParameterError, match="expected"):
            patches_of_chip(wrong)
