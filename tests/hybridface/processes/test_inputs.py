"""A party's inputs are read before anybody waits for it: photos, keys, tasks; for the server, the weights."""

from pathlib import Path

import numpy as np
import pytest

from hybridface.galleries.tasks import GalleryTask, Verb, write_tasks
from hybridface.models.model import Model, load_model
from hybridface.processes.inputs import ClientInputs, client_inputs, read_inputs
from hybridface.processes.runs import GalleryRun, HybridRun, PreparationRun, PureHeRun
from parties.gallery.key import create_key
from parties.transport.roles import Role
from protocols.errors import HybridFaceError, ParameterError

MODEL = load_model("tiny-test", weights=False)
TASKS = [GalleryTask(Verb.LIST), GalleryTask(Verb.REMOVE, "Ann")]


def test_two_photos_become_the_networks_inputs(photos: dict[str, str]) -> None:
    pair = tuple(Path(photos[name]) for name in ("a", "same"))
    for run in (
        HybridRun(model="tiny-test", photos=pair, aligned=True),
        PureHeRun(model="x", photos=pair, aligned=True),
    ):
        found = client_inputs(run, MODEL)
        assert found.model is MODEL
        assert found.images.shape == (2, *MODEL.graph.input_shape)
        assert np.abs(found.images).max() > 0
        assert found.tasks == ()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_are_two_photos(photos: dict[str, str], count: int) -> None:
    run = HybridRun(model="tiny-test", photos=(Path(photos["a"]),) * count, aligned=True)
    with pytest.raises(ParameterError, match=f"expected two photos, got {count}"):
        client_inputs(run, MODEL)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 2}, "expected --enrolled with --batch"),
        ({"pool": 1}, "expected --enrolled and no --batch with --pool"),
        ({"pool": 1, "batch": 2, "enrolled": True}, "expected --enrolled and no --batch with --pool"),
    ],
)
def test_counts_that_do_not_fit_are_refused(photos: dict[str, str], options: dict[str, int], said: str) -> None:
    pair = (Path(photos["a"]),) * 2
    with pytest.raises(ParameterError, match=said):
        client_inputs(HybridRun(model="tiny-test", photos=pair, aligned=True, **options), MODEL)  # type: ignore[arg-type]


def test_a_gallerys_client_reads_its_tasks_and_checks_its_key(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks", TASKS)
    run = GalleryRun(model="tiny-test", tasks=tmp_path / "tasks")
    found = client_inputs(run, MODEL)
    assert (found.tasks, found.images.shape) == (tuple(TASKS), (0, *MODEL.graph.input_shape))
    create_key(tmp_path / "key")
    assert (
        client_inputs(GalleryRun(model="tiny-test", tasks=tmp_path / "tasks", key=tmp_path / "key"), MODEL).tasks
        == found.tasks
    )
    with pytest.raises(HybridFaceError, match="key"):
        client_inputs(GalleryRun(model="tiny-test", tasks=tmp_path / "tasks", key=tmp_path / "no key"), MODEL)
    with pytest.raises(ParameterError, match="expected --tasks"):
        client_inputs(GalleryRun(model="tiny-test"), MODEL)
    with pytest.raises(ParameterError, match="cannot read the tasks"):
        client_inputs(GalleryRun(model="tiny-test", tasks=tmp_path / "missing"), MODEL)


def test_preparations_need_no_input() -> None:
    found = client_inputs(PreparationRun(model="tiny-test", count=1), MODEL)
    assert (len(found.images), found.tasks) == (0, ())


def test_each_rank_reads_its_own(photos: dict[str, str]) -> None:
    pair = tuple(Path(photos[name]) for name in ("a", "same"))
    run = HybridRun(model="tiny-test", photos=pair, aligned=True, threshold=0.25)
    client = read_inputs(Role.CLIENT, run)
    assert isinstance(client, ClientInputs)
    assert (client.model.weights, client.model.threshold) == (None, 0.25)
    for role in (Role.SERVER, Role.WORKER):
        server = read_inputs(role, run)
        assert isinstance(server, Model)
        assert server.weights
        assert server.threshold == 0.25
    assert read_inputs(Role.DEALER, run) is None
