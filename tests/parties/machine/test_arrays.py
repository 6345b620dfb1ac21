"""Reading .npz archives: what was written, from several threads at once, and nothing that would be unpickled."""

import gc
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from parties.machine.arrays import read_arrays


def archive(**arrays: object) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


@pytest.fixture
def _threads_change_often() -> Iterator[None]:
    """Let another thread go on whenever objects are collected, which is often."""

    def pause(*_: object) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.set_threshold(20, 2, 2)
    gc.callbacks.append(pause)
    yield
    gc.callbacks.remove(pause)
    gc.set_threshold(*before)


def test_arrays_come_back_by_name() -> None:
    found = read_arrays(memoryview(archive(a=np.arange(6).reshape(2, 3), b=np.zeros(0))))
    assert list(found) == ["a", "b"]
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.slow
@pytest.mark.usefixtures("_threads_change_often")
def test_several_threads_read() -> None:
    content = archive(**{f"layer{i}": np.arange(6, dtype=np.uint64).reshape(2, 3) for i in range(8)})
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(read_arrays, [content] * 1500):
            assert len(found) == 8


def test_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(archive(a=np.array([None])))
