"""Reading .npz archives: what was written, from several threads at once, and nothing that would be unpickled."""

import contextlib
import gc
import io
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from parties.machine.arrays import digested, read_arrays
from protocols.errors import ParameterError


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
    with pytest.raises(ValueError, match="got one of objects"):
        read_arrays(archive(a=np.array([None])))


def changed(content: bytes, change: Callable[[dict[str, bytes]], object], compressed: bool = False) -> bytes:
    """Return an archive whose members were changed, with checksums that are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as new:
        for name, value in members.items():
            new.writestr(name, value)
    return written.getvalue()


def test_arrays_of_every_kind_come_back() -> None:
    arrays = {
        "text": np.array("words"),
        "number": np.int32(5),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((3, 0), np.uint64),
        "flag": np.bool_(True),
    }
    found = read_arrays(archive(**digested(arrays)))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)
        assert found[name].flags.writeable


def test_only_what_is_asked_for_is_read() -> None:
    content = archive(**digested({"a": np.arange(3), "b": np.arange(4)}))
    broken = changed(content, lambda members: members.update({"b.npy": b"nothing"}))
    assert list(read_arrays(broken, names=("a", "c"))) == ["a"]


def test_an_archive_that_announces_too_much_is_refused_before_it_is_read() -> None:
    """Some kilobytes that say that they are a gigabyte; and arrays that say that they are larger than memory."""
    zeros = io.BytesIO()
    np.save(zeros, np.zeros(1 << 24, np.uint8))
    bomb = changed(archive(), lambda members: members.update({"a.npy": zeros.getvalue()}), compressed=True)
    assert len(bomb) < 1 << 16
    tracemalloc.start()
    with pytest.raises(ParameterError, match="expected arrays of at most 1048576 bytes, got 16777344"):
        read_arrays(bomb, 1 << 20)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with pytest.raises(ParameterError, match=r"expected an array of 0 bytes, got float64 \(1099511627776,\)"):
        read_arrays(changed(archive(), lambda members: members.update({"a.npy": header.getvalue()})))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("shape", [(-1, -8), (1 << 62, 1 << 62), (0, 1 << 62, 1 << 62)])
def test_shapes_that_no_array_has(shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with pytest.raises(ParameterError, match="expected an a"):
        read_arrays(changed(archive(), lambda members: members.update({"a.npy": header.getvalue() + bytes(64)})))


def test_two_arrays_of_one_name_are_refused() -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            new.writestr("a.npy", b"")
    with pytest.raises(ParameterError, match="arrays of different names"):
        read_arrays(written.getvalue())


DAMAGE: dict[str, Callable[[dict[str, bytes]], object]] = {
    "a value": lambda members: members.update({"a.npy": members["a.npy"][:-1] + b"\x01"}),
    "a type": lambda members: members.update({"a.npy": members["a.npy"].replace(b"<i8", b"<f8")}),
    "a shape": lambda members: members.update({"a.npy": members["a.npy"].replace(b"(2, 3)", b"(3, 2)")}),
    "one left out": lambda members: members.pop("b.npy"),
    "one more": lambda members: members.update({"c.npy": members["b.npy"]}),
    "two exchanged": lambda members: members.update({"a.npy": members["b.npy"], "b.npy": members["a.npy"]}),
    "the digests": lambda members: members.update({"sha256.npy": members["sha256.npy"].replace(b'"a"', b'"x"')}),
    "no digests": lambda members: members.update({"sha256.npy": members["b.npy"]}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_digests_find_what_checksums_do_not(name: str) -> None:
    content = archive(**digested({"a": np.arange(6).reshape(2, 3), "b": np.arange(6.0)}))
    with pytest.raises(ParameterError, match="expected"):
        read_arrays(changed(content, DAMAGE[name]))


def test_any_damaged_bit_is_one_error_or_changes_nothing() -> None:
    arrays = {"a": np.arange(6).reshape(2, 3), "text": np.array("some words")}
    content = archive(**digested(arrays))
    refused = 0
    for position in range(len(content)):
        bad = bytearray(content)
        bad[position] ^= 1 << position % 8
        refused += 1
        with contextlib.suppress(ParameterError):
            found = read_arrays(bytes(bad))
            assert found.keys() == arrays.keys(), f"byte {position}"
            assert all(np.array_equal(found[name], array) for name, array in arrays.items()), f"byte {position}"
            refused -= 1
    assert refused > 0.7 * len(content)
