"""An index's files: rows come back as they were written, in any order, and damage means to begin again."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.gallery.index_file import IndexFile, _rows_of, _runs_of
from protocols.correlations import FixedMask
from protocols.errors import ParameterError

MASK = FixedMask((bytes(32),), 4)
LINEAGE = bytes(16)


def written(index: IndexFile, rows: list[int]) -> None:
    places = np.array(rows, dtype=np.int64)
    opened = np.repeat(places.astype(np.uint64)[:, None], 4, axis=1)
    index.write(places, opened, places.astype(np.uint64) + np.uint64(7))


def test_rows_come_back(tmp_path: Path) -> None:
    index = IndexFile(tmp_path, LINEAGE, MASK)
    with pytest.raises(ParameterError, match="indexed templates"):
        index.read()
    for rows in ([1, 2, 3], [5, 9], [4], [10]):
        written(index, rows)
    for one in (index, IndexFile(tmp_path, LINEAGE, MASK)):
        assert one.indexed.tolist() == [1, 2, 3, 4, 5, 9, 10]
        found = one.read()
        assert found.opened[one.indexed, 3].tolist() == one.indexed.tolist()
        assert found.norms[one.indexed].tolist() == [row + 7 for row in one.indexed]
        assert one.digest == index.digest
    assert not IndexFile(tmp_path, bytes(range(16)), MASK).indexed.size, "another gallery"
    index.clear()
    assert not IndexFile(tmp_path, LINEAGE, MASK).indexed.size


@pytest.mark.parametrize("damage", [b"", b"noise", None])
def test_damage_means_to_begin_again(tmp_path: Path, damage: bytes | None) -> None:
    written(IndexFile(tmp_path, LINEAGE, MASK), [1, 2])
    (listed,) = tmp_path.glob("*.rows.npy")
    if damage is None:
        np.save(listed, np.array([[5, 2]]))
    else:
        listed.write_bytes(damage)
    assert not IndexFile(tmp_path, LINEAGE, MASK).indexed.size


def test_shorter_files_than_the_list_says(tmp_path: Path) -> None:
    written(IndexFile(tmp_path, LINEAGE, MASK), [1, 2])
    (opened,) = tmp_path.glob("*.opened")
    opened.write_bytes(opened.read_bytes()[:-1])
    assert not IndexFile(tmp_path, LINEAGE, MASK).indexed.size


@given(st.sets(st.integers(0, 60)))
def test_runs(rows: set[int]) -> None:
    ordered = np.array(sorted(rows), dtype=np.int64)
    runs = _runs_of(ordered)
    assert np.array_equal(_rows_of(runs), ordered)
    assert np.all(np.diff(runs.reshape(-1)) >= 1)
    assert len(runs) == sum(row - 1 not in rows for row in rows)
