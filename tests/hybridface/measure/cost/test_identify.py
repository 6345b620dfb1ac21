"""The benchmark of identification: its search in the clear, its templates, and what it fits."""

from pathlib import Path

import numpy as np
import pytest

from hybridface.measure.cost.identify import fit_growth
from hybridface.measure.cost.identify_rank import measure
from hybridface.measure.cost.identify_task import IdentifyTask
from parties.gallery.kind import GalleryKind
from protocols.arithmetic.fixed_point import FRACTION_BITS
from support.shares import run_locally

pytestmark = pytest.mark.slow

FIGURES = ["online seconds", "online MB, both ways", "offline seconds", "offline MB, all links"]
FIGURES += ["peak MiB, all processes"]


def test_a_fit_finds_what_it_was_made_of() -> None:
    sizes = [1000, 10_000, 100_000]
    linear = {name: [0.1 * i + 2e-5 * size for size in sizes] for i, name in enumerate(FIGURES, 1)}
    rounds = [7 + 4 * np.log2(size) for size in sizes]
    values = {
        size: {"online rounds": rounds[k]} | {name: line[k] for name, line in linear.items()}
        for k, size in enumerate(sizes)
    }
    fit = fit_growth(values)
    for i, name in enumerate(FIGURES, 1):
        assert (fit[name]["a"], fit[name]["b"], fit[name]["of"]) == pytest.approx((0.1 * i, 2e-5, "n"))
    assert (fit["online rounds"]["a"], fit["online rounds"]["b"]) == pytest.approx((7, 4))
    assert fit["online seconds"]["largest relative error"] < 1e-9
    values[1000]["online seconds"] *= 2
    assert fit_growth(values)["online seconds"]["largest relative error"] > 0.1


def saved(folder: Path) -> None:
    random = np.random.default_rng(1)
    real = np.repeat(random.normal(0, 1.4 / np.sqrt(128), (3, 128)), 2, axis=0)
    real[0::2] += random.normal(0, 0.03, (3, 128))
    np.save(folder / "real.npy", real)


@pytest.mark.parametrize("kind", GalleryKind)
def test_both_kinds_find_whom_the_clear_finds(tmp_path: Path, kind: GalleryKind) -> None:
    saved(tmp_path)
    task = IdentifyTask(kind, 70, 4, 0.6, tmp_path)
    client, server = run_locally(*[lambda party: measure(task, party, party.correlations._channel)] * 2)
    assert (client["right"], client["probes"], client["found"]) == (5, 5, 4)
    for mine, theirs in zip(client["online"], server["online"], strict=True):
        assert mine["sent"] == theirs["received"] > 0
        assert mine["rounds"] == theirs["rounds"] > 4 * 6, "four for every level of the tournament"
    assert [one["dealer"] for one in server["online"]] == [0] * 4, "all correlations are made before"
    assert ("one_more" in client) is (kind is GalleryKind.PRIVATE)


@pytest.mark.parametrize("size", [50, 20_000])
def test_the_search_in_the_clear(tmp_path: Path, size: int) -> None:
    saved(tmp_path)
    task = IdentifyTask(GalleryKind.LIST, size, 4, 0.6, tmp_path)
    templates = np.concatenate([part for _, part in task.chunks()]) / 2.0**FRACTION_BITS
    assert templates.shape == (size, 128)
    assert 1.2 < np.linalg.norm(templates, axis=1).mean() < 1.6
    probes = task.probes() / 2.0**FRACTION_BITS
    distances = np.linalg.norm(templates[:, None] - probes, axis=2)
    expected = [
        int(row) if value < 0.6 else None for row, value in zip(distances.argmin(0), distances.min(0), strict=True)
    ]
    assert task.expected() == expected
    assert expected[0] == size - 1
    assert expected[-1] is None
    assert None not in expected[1:4]
