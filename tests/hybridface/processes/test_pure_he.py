"""Pure-HE mode from start to end: two ranks, the score of the network in the clear, and what the mode refuses."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from hybridface.faces.inputs import load_images
from hybridface.models.model import load_model
from hybridface.photos import photo_path
from hybridface.processes.events import Events
from hybridface.processes.pure_he import say_result
from parties.session.cost import CostReport, StageCost
from parties.session.pure_he import PureHeResult
from parties.transport.roles import Role
from support.rank_programs import FAILED, PARTY
from support.ranks import Done, Ranks, ranks_in_threads

pytestmark = pytest.mark.slow

PHOTOS = [photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg")]
PURE_HE = ["--mode", "pure-he", "--timeout", "60"]


def run(*programs: list[str]) -> tuple[int, str, str]:
    with ranks_in_threads(), Ranks.of(programs) as ranks:
        return ranks.end()


def test_a_verification(call: Callable[..., Done]) -> None:
    model = load_model("patchnet")
    assert model.patch_weights is not None
    images = load_images(model, [*PHOTOS])
    first, second = model.patch_weights.embed(images.reshape(2, model.patch_weights.shape.patches, -1))
    expected = float(np.square(first - second).sum())

    status, out, errors = call("verify", *map(str, PHOTOS), "--mode", "pure-he", "--json", "--costs")
    said = json.loads(out)
    assert said["score"]["squared_distance"] == pytest.approx(expected, rel=1e-2)
    assert said["match"] == (expected < model.threshold**2)
    assert status == (0 if said["match"] else 1), errors
    assert (said["mode"], said["model"], said["reveal"]) == ("pure-he", "patchnet", "client")
    assert "50 to 200" in said["score"]["warning"]
    assert sorted(said["costs"]["peak_bytes"]) == ["client", "server"], "there is no dealer"
    assert said["costs"]["setup"]["bytes_up"] > 1e7
    assert said["costs"]["offline"]["elapsed_seconds"] == 0, "nothing is done ahead of a photo but the keys, once"
    assert said["costs"]["online"]["rounds"] == 2


def test_a_result_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    cost = CostReport((StageCost("online", "layer_0", rounds=2),))
    model = load_model("patchnet", weights=False)
    say_result(PureHeResult(True, 0.25, cost), model, Events(Role.CLIENT, shown=False))
    words = " ".join(capsys.readouterr().out.split())
    assert words.startswith("same person Squared distance 0.2500")
    assert "Share the decision only." in words


@pytest.mark.parametrize(
    ("client", "server", "message"),
    [
        (["--reveal", "server"], ["--reveal", "server"], "expected no --reveal server"),
        (["--batch", "2"], [], "expected no --batch in pure-HE mode, got 2"),
        (["--max-answers", "3"], [], "the peers disagree on answers: expected 3, the server has 50"),
        (["--model", "tiny-test"], [], "expected a patch network (patchnet) for pure-HE mode, got tiny-test"),
    ],
    ids=lambda value: str(value),
)
def test_what_the_mode_refuses(client: list[str], server: list[str], message: str) -> None:
    ranks = [
        [*PARTY, "client", *PURE_HE, *client, "--", *map(str, PHOTOS)],
        [*PARTY, "server", *PURE_HE, *server],
    ]
    status, _, errors = run(*ranks)
    assert status in FAILED
    assert message in errors


def test_a_dealer_too_many() -> None:
    ranks = [[*PARTY, role, *PURE_HE] for role in ("server", "dealer")]
    status, _, errors = run([*PARTY, "client", *PURE_HE, *map(str, PHOTOS)], *ranks)
    assert status in FAILED
    assert "expected client, server and perhaps workers, got 3 ranks (client, server, dealer)" in errors
