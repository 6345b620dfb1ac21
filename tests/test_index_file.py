"""An index's files: rows come back as they were written, in any order, and damage means to begin again."""

from pathlib import Path

import numpy as np
import pytest

from parties.gallery.index_file import IndexFile
from protocols.errors import ParameterError

SEED, LINEAGE, BUILD = bytes(32), bytes(16), bytes(range(16))


def opened(folder: Path, lineage: bytes = LINEAGE, seed: bytes = SEED) -> IndexFile:
    return IndexFile(folder, lineage, seed, 4)


def written(index: IndexFile, rows: list[int]) -> IndexFile:
    if not index.build:
        index.clear(BUILD)
    numbers = np.array(rows, dtype=np.int64)
    values = np.repeat(numbers.astype(np.uint64)[:, None], 4, axis=1)
    index.write(numbers, values, numbers.astype(np.uint64) + np.uint64(7))
    return index


def test_rows_come_back(tmp_path: Path) -> None:
    index = opened(tmp_path)
    with pytest.raises(ParameterError, match="indexed templates"):
        index.read()
    for rows in ([1, 2, 3], [2**52, 9], [4], [10]):
        written(index, rows)
    for one in (index, opened(tmp_path)):
        assert one.indexed.tolist() == [1, 2, 3, 2**52, 9, 4, 10]
        assert (one.build, one.digest) == (BUILD, index.digest)
        found, places = one.read(), one.places_of(np.array([10, 2**52, 1]))
        assert places.tolist() == [6, 3, 0]
        assert found.opened[places, 3].tolist() == [10, 2**52, 1]
        assert found.norms[places].tolist() == [17, 2**52 + 7, 8]
        assert one.next_places(2).tolist() == [7, 8]
    for wrong in ([5], [1, 11]):
        with pytest.raises(ParameterError, match="expected indexed rows"):
            index.places_of(np.array(wrong))
    assert not opened(tmp_path, bytes(range(16))).indexed.size, "another gallery"
    assert not opened(tmp_path, seed=bytes(range(32))).indexed.size, "another seed"


def test_another_build_is_another_mask(tmp_path: Path) -> None:
    index = written(opened(tmp_path), [1, 2])
    mask, digest = index.mask, index.digest
    assert np.array_equal(mask.rows(0, 3), opened(tmp_path).mask.rows(0, 3))
    index.clear(bytes(16))
    assert not index.indexed.size
    written(index, [1, 2])
    assert digest != index.digest
    assert not np.any(mask.rows(0, 3) == index.mask.rows(0, 3))


def test_a_removed_row_is_overwritten(tmp_path: Path) -> None:
    index = written(opened(tmp_path), [1, 2, 3])
    index.forget(np.array([2]))
    assert index.indexed.tolist() == [1, 0, 3]
    found = opened(tmp_path).read()
    assert found.opened[:, 0].tolist() == [1, 0, 3]
    assert found.norms.tolist() == [8, 0, 10]
    written(index, [4])
    assert index.places_of(np.array([4])).tolist() == [3], "its place is not used again"
    index.delete()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"noise", None])
def test_damage_means_to_begin_again(tmp_path: Path, damage: bytes | None) -> None:
    written(opened(tmp_path), [1, 2])
    (listed,) = tmp_path.glob("*.rows.npz")
    if damage is None:
        np.savez(listed, build=np.zeros(16, dtype=np.uint8), rows=np.array([-5, 2]))
    else:
        listed.write_bytes(damage)
    assert not opened(tmp_path).indexed.size


def test_shorter_files_than_the_list_says(tmp_path: Path) -> None:
    written(opened(tmp_path), [1, 2])
    (found,) = tmp_path.glob("*.opened")
    found.write_bytes(found.read_bytes()[:-1])
    assert not opened(tmp_path).indexed.size
