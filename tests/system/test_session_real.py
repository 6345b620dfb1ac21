"""The real network and the bundled photos, in private and by the emulator."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

import hybridface as hf
from hybridface.galleries.clear_embedding import ClearEmbedding
from hybridface.models.model import Model
from hybridface.photos import photo_path
from protocols.arithmetic.fixed_point import decode
from protocols.network.emulator import Emulator
from support.tiny_network import Chip, plaintext

pytestmark = pytest.mark.slow

PHOTOS = ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2")
SAME_PEOPLE = {("person_a_1", "person_a_2"), ("person_b_1", "person_b_2")}


@pytest.fixture(scope="module")
def real() -> Model:
    return hf.load_model("dlib-resnet29")


@pytest.fixture(scope="module")
def portraits(real: Model) -> dict[str, Chip]:
    return {name: hf.face_chip(photo_path(f"{name}.jpg"), real.chip_size) for name in PHOTOS}


@pytest.fixture(scope="module")
def embeddings(real: Model, portraits: dict[str, Chip]) -> dict[str, tuple[Any, Any]]:
    """Every portrait's embedding, in float64 and by the emulator (integers)."""
    plain = plaintext(real, portraits.values())
    emulated = Emulator(real.graph, real.weights or {}).run(
        np.stack([real.normalise(chip) for chip in portraits.values()])
    )
    return {name: (plain[i], emulated[i]) for i, name in enumerate(portraits)}


def test_the_emulator_decides_as_the_network_does(real: Model, embeddings: dict[str, tuple[Any, Any]]) -> None:
    for first, second in combinations(PHOTOS, 2):
        plain = np.linalg.norm(embeddings[first][0] - embeddings[second][0])
        emulated = np.linalg.norm(decode((embeddings[first][1] - embeddings[second][1]).view(np.uint64)))
        expected = (first, second) in SAME_PEOPLE
        assert (plain < real.threshold, emulated < real.threshold) == (expected, expected), (first, second)


def test_the_real_network_in_private(
    real: Model, portraits: dict[str, Chip], embeddings: dict[str, tuple[Any, Any]]
) -> None:
    with hf.local_session(real) as session:
        template = session.enroll(portraits["person_a_1"], "a")
        total = template.share + session.server.template_share("a")
        plain, emulated = embeddings["person_a_1"]
        assert np.abs(decode(total)[0] - plain).max() < 2e-3
        assert np.abs(total.view(np.int64)[0] - emulated).max() <= 8
        clear = ClearEmbedding(real)(photo_path("person_a_1.jpg"))
        assert np.abs((clear - total[0]).view(np.int64)).max() <= 3, "as a list's server computes it"
        assert session.verify(portraits["person_a_2"], template).match is True
        last = session.verify(portraits["impostor_1"], template)
    assert last.match is False
    assert last.cost.online.dealer_bytes == 0
