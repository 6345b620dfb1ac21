"""Sessions under encryption: enrol and verify, costs, terms, and commands that are refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybridface.errors import ModelError, RunError
from hybridface.local.pure_he import LocalPureHeSession
from hybridface.local.session import LocalSession, local_session
from hybridface.measure.cost.pure_he import bench_pure_he, load_subject, pure_he_table
from hybridface.models.model import Model, load_model
from hybridface.models.patchnet import Ranges
from hybridface.models.terms import pure_he_inputs, pure_he_terms
from parties.local import PartyThread
from parties.session.cost import CostReport
from parties.session.pure_he import EncryptedTemplate, PureHeClientSession, PureHeServerSession, PureHeTerms
from parties.transport.queues import local_channels
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.pure_he import EncodedNetwork, PatchNetShape, PatchNetWeights, PureHeParameters
from support.ranks import ranks_in_threads

pytestmark = pytest.mark.slow

PARAMETERS = PureHeParameters(8192, levels=4, scale_bits=30, first_bits=42, special_bits=52)
WEIGHTS = PatchNetWeights.random(PatchNetShape(4, 12, (8,), 8))
TINY = load_model("tiny-test")
CHIPS = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
VALUES = np.zeros((4, 12))
NOBODY = EncryptedTemplate("nobody", CostReport(()))


def patches(chip: Any) -> Any:
    return chip.reshape(4, 12) / 127.5 - 1


def model(threshold: float = 1.0, **other: Any) -> Model:
    options = {"name": "patches", "normalise": patches, "patch_shape": WEIGHTS.shape, "patch_weights": WEIGHTS}
    options["chip_size"] = CHIPS.shape[1]
    return dataclasses.replace(TINY, threshold=threshold, **(options | other))


def session(threshold: float = 1.0, **options: Any) -> LocalPureHeSession:
    return LocalPureHeSession(model(threshold), **({"parameters": PARAMETERS, "timeout": 60.0} | options))


def squared_distance(first: Any, second: Any) -> float:
    return float(((WEIGHTS.embed(patches(first)) - WEIGHTS.embed(patches(second))) ** 2).sum())


@pytest.mark.slow
def test_a_session() -> None:
    distances = [squared_distance(CHIPS[0], chip) for chip in CHIPS]
    threshold = float(np.sqrt(np.mean(sorted(distances)[1:])))
    with session(threshold=threshold) as local:
        template = local.enroll(CHIPS[0], "first")
        results = [local.verify(chip, template) for chip in CHIPS]
        other = local.verify(CHIPS[0], CHIPS[1])
        keys, blur = local.client.setup, local.client.terms.blur
    for result, distance in zip(results, distances, strict=True):
        assert result.squared_distance == pytest.approx(distance, rel=1e-3, abs=1e-3)
        assert result.match == (distance < threshold**2)
    assert {result.match for result in results} == {True, False}
    scores = [result.squared_distance for result in results]
    assert scores == [round(score / blur) * blur for score in scores], "they come in steps of the blur"
    assert other.squared_distance == pytest.approx(results[1].squared_distance, rel=1e-3)
    assert result.matches == (result.match,)
    assert "squared_distance" not in repr(other)

    assert (template.name, keys.phase) == ("first", "offline")
    assert all(stage.phase == "online" for result in results for stage in result.cost.stages)
    assert keys.bytes_up > 1e6
    assert keys.server_seconds > 0
    online = {stage.stage: stage for stage in results[0].cost.stages}
    assert list(online) == ["upload", "distance", "affine 1", "join"]
    assert all(stage.server_seconds > 0 for stage in online.values())
    assert results[0].cost.online.bytes_down < results[0].cost.online.bytes_up
    assert (results[0].cost.online.rounds, results[0].cost.online.dealer_bytes) == (2, 0)


@pytest.mark.slow
def test_a_client_runs_out_of_answers() -> None:
    with pytest.raises(PeerLostError, match="at most 1 verifications"), session(max_answers=1) as local:
        template = local.enroll(CHIPS[0])
        local.verify(CHIPS[1], template)
        local.verify(CHIPS[1], template)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (lambda client: client.verify(VALUES, NOBODY), "name of an enrolled template"),
        (lambda client: [client.enroll("a", VALUES) for _ in range(2)], "new template's name"),
        (lambda client: client.enroll("x" * 10_001, VALUES), "expected template to be a text"),
        (
            lambda client: client._begin({"operation": "dance"}, VALUES) or client._finish(),
            "expected operation to be one of enroll, verify",
        ),
    ],
)
def test_commands_that_are_refused(action: Callable[[PureHeClientSession], Any], expected: str) -> None:
    with pytest.raises(PeerLostError, match=expected), session() as local:
        action(local.client)


def test_a_failed_session_stays_failed() -> None:
    local = session()
    with pytest.raises(ModelError, match="open session"):
        local.verify(CHIPS[0], NOBODY)
    with local:
        with pytest.raises(ParameterError, match="input of shape"):
            local.client.enroll("a", np.zeros((4, 13)))
        local.enroll(CHIPS[0], "a")  # nothing had been sent
        with pytest.raises(ParameterError, match="magnitude"):
            local.client.enroll("b", VALUES + np.nan)
        with pytest.raises(ProtocolError, match="this one has failed"):
            local.enroll(CHIPS[0], "c")


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


def test_modes_of_a_local_session() -> None:
    assert isinstance(local_session(model(), "pure-he", parameters=PARAMETERS), LocalPureHeSession)
    assert isinstance(local_session(TINY, "hybrid"), LocalSession)
    with pytest.raises(ParameterError, match="mode hybrid or pure-he, got 'plain'"):
        local_session(TINY, "plain")
    with pytest.raises(ModelError, match=r"patch network \(patchnet\) for pure-HE mode, got tiny-test"):
        local_session(TINY, "pure-he")
    with pytest.raises(ModelError, match="weights, got patches without"):
        local_session(model(patch_weights=None), "pure-he")
    with pytest.raises(ModelError, match="expected 4 bits of headroom at every level, got"):
        local_session(model(patch_ranges=Ranges((4.0,), 1.0, 200.0)), "pure-he")
    with pytest.raises(ModelError, match="for pure-HE mode"):
        pure_he_inputs(TINY, np.zeros((3, 16, 16)))


def test_progress_of_both_parties() -> None:
    said: list[tuple[str, str]] = []
    to_server, to_client = local_channels("client", "server")
    terms = pure_he_terms(model(), parameters=PARAMETERS)

    def serve() -> None:
        PureHeServerSession(to_client, terms, WEIGHTS, lambda p: said.append((p.phase, p.stage))).serve()

    server = PartyThread("server", serve, (to_client,))
    server.start()
    with PureHeClientSession(to_server, terms, lambda p: said.append((p.phase, p.stage))) as client:
        client.enroll("a", VALUES)
    server.join()
    assert sorted(said[:2]) == [("offline", "keys"), ("start", "weights")]
    assert said[2:] == [("online", "affine 1"), ("online", "join")]


def test_the_server_says_which_commands_it_has_carried_out() -> None:
    heard: list[tuple[str, bool]] = []
    to_server, to_client = local_channels("client", "server")
    terms = pure_he_terms(model(), parameters=PARAMETERS)

    def serve() -> None:
        PureHeServerSession(to_client, terms, WEIGHTS).serve(
            on_command=lambda name, done, _: heard.append((name, done))
        )

    server = PartyThread("server", serve, (to_client,))
    server.start()
    with PureHeClientSession(to_server, terms) as client:
        client.enroll("a", VALUES)
    server.join()
    assert heard == [("enroll", True)]


def test_patchnet_is_the_same_network_in_both_forms() -> None:
    patchnet = load_model("patchnet")
    assert patchnet.patch_weights is not None
    assert patchnet.module is not None
    chips = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    images = np.stack([patchnet.normalise(chip) for chip in chips])
    with torch.inference_mode():
        expected = patchnet.module(torch.from_numpy(images)).numpy()
    inputs = np.stack([pure_he_inputs(patchnet, image) for image in images])
    assert np.allclose(patchnet.patch_weights.embed(inputs), expected, rtol=1e-12, atol=1e-12)
    public = load_model("patchnet", weights=False)
    assert (public.patch_shape, public.patch_weights) == (patchnet.patch_weights.shape, None)


@pytest.mark.slow
def test_the_benchmark() -> None:
    with ranks_in_threads():
        document = bench_pure_he("random", (8,), runs=2)
    assert document["client"]["shape"] == PatchNetShape(16, 768, (8,), 128).document()
    assert len(document["client"]["seconds"]) == 2
    assert max(document["client"]["errors"]) < 1e-2
    assert document["server"]["peak_bytes"] < 2**32
    assert pure_he_table(document).row_count > 10
    with ranks_in_threads(), pytest.raises(RunError, match="exit status"):
        bench_pure_he("random", (3,), runs=1)


@pytest.mark.slow
def test_what_is_measured(tmp_path: Path) -> None:
    assert load_subject("random", (64, 64)).weights.shape == PatchNetShape(16, 768, (64, 64), 128)
    shipped, patchnet = load_subject(""), load_model("patchnet")
    assert shipped.weights.shape == patchnet.patch_shape
    assert shipped.threshold == patchnet.threshold
    assert shipped.inputs.shape == (6, shipped.weights.shape.patches, shipped.weights.shape.inputs)
    (tmp_path / "text.npz").write_text("no weights")
    with pytest.raises(ModelError, match="cannot read model file"):
        load_subject(str(tmp_path / "text.npz"))


def test_options_that_a_mode_does_not_have() -> None:
    with pytest.raises(ParameterError, match="no option pool: pure-he mode has no such option"):
        local_session(model(), mode="pure-he", pool=1)
    with pytest.raises(ParameterError, match="no option max_answers: hybrid mode has no such option"):
        local_session(TINY, max_answers=3)
