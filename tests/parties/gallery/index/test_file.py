"""An index's files: rows come back as they were written, in any order, and damage means to begin again."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from parties.gallery.errors import IndexChangedError, StoreError
from parties.gallery.index.file import IndexFile
from parties.gallery.index.folder import IndexFolder
from parties.gallery.shards.shard import shard_seed
from parties.machine import locks
from protocols.errors import ParameterError

SEED, LINEAGE, BUILD = bytes(32), bytes(16), bytes(range(16))


def opened(folder: Path, lineage: bytes = LINEAGE, seed: bytes = SEED, name: bytes = b"") -> IndexFile:
    folder.mkdir(exist_ok=True)
    return IndexFile(IndexFolder(folder, lineage), seed, 4, name)


def written(index: IndexFile, rows: list[int]) -> IndexFile:
    if not index.build:
        index.clear(BUILD)
    numbers = np.array(rows, dtype=np.int64)
    values = np.repeat(numbers.astype(np.uint64)[:, None], 4, axis=1)
    index.write(index.take_places(len(rows)), numbers, values, numbers.astype(np.uint64) + np.uint64(7))
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
        assert one.used == 7
    for wrong in ([5], [1, 11]):
        with pytest.raises(ParameterError, match="expected indexed rows"):
            index.places_of(np.array(wrong))
    assert not opened(tmp_path, bytes(range(16))).indexed.size, "another gallery"
    assert not opened(tmp_path, seed=bytes(range(32))).indexed.size, "another seed"
    assert not opened(tmp_path, name=b"another").indexed.size


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
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_zeros_reach_the_disk_column_by_column_and_the_rows_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a row is there, it is known that it is to be forgotten."""
    index = written(opened(tmp_path), [1, 2, 3])
    (rows,) = tmp_path.glob("*.rows")
    flush, events = np.memmap.flush, []

    def flushed(column: np.memmap) -> None:
        flush(column)
        assert column.filename is not None
        events.append((Path(column.filename).suffix, bool(column[1].any()), np.fromfile(rows, np.int64).tolist()))

    monkeypatch.setattr(np.memmap, "flush", flushed)
    monkeypatch.setattr("parties.gallery.index.file.write_durably", lambda path, _: events.append((path.suffix,)))
    index.forget(np.array([2]))
    before, after = [1, 2, 3], [1, 0, 3]
    columns = [(name, False, before) for name in (".opened", ".norms", ".checks")]
    assert events == [*columns, (".rows", False, after), (".head",)]


def test_old_indexes_of_the_same_gallery_go(tmp_path: Path) -> None:
    other = written(opened(tmp_path, seed=bytes(range(32))), [1])
    for number in range(4):
        index = written(opened(tmp_path, name=bytes([number])), [1])
    index.forget_others(1)
    assert [opened(tmp_path, name=bytes([number])).indexed.size for number in range(4)] == [0, 0, 1, 1]
    assert opened(tmp_path, seed=bytes(range(32))).digest == other.digest


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"noise",
        b'{"build": "00", "count": 2, "used": 2, "change": 1}',
        b'{"build": "%s", "count": 2, "change": 1}' % BUILD.hex().encode(),
        b'{"build": "%s", "count": 2, "used": 1, "change": 1}' % BUILD.hex().encode(),
        b'{"build": "%s", "count": 3, "used": 3, "change": 1}' % BUILD.hex().encode(),
        b'{"build": "%s", "count": -1, "used": 2, "change": 1}' % BUILD.hex().encode(),
        b'{"build": "%s", "count": true, "used": 2, "change": 1}' % BUILD.hex().encode(),
    ],
)
def test_a_damaged_head_means_to_begin_again(tmp_path: Path, damage: bytes) -> None:
    written(opened(tmp_path), [1, 2])
    (head,) = tmp_path.glob("*.head")
    head.write_bytes(damage)
    index = opened(tmp_path)
    assert not index.indexed.size
    index.clear(BUILD)
    assert opened(tmp_path).build == BUILD


@pytest.mark.parametrize("column", ["opened", "norms", "rows", "checks"])
def test_one_wrong_bit_means_to_begin_again(tmp_path: Path, column: str) -> None:
    written(opened(tmp_path), [1, 2, 3])
    (path,) = tmp_path.glob(f"*.{column}")
    content = path.read_bytes()
    for place in (0, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 0x80
        path.write_bytes(changed)
        index = opened(tmp_path)
        assert index.digest != written(opened(tmp_path / "sound"), [1, 2, 3]).digest
        if column != "rows":
            assert not index.indexed.size
    path.write_bytes(content[:-1])
    assert not opened(tmp_path).indexed.size


def test_a_change_by_another_process_is_seen(tmp_path: Path) -> None:
    index, other = written(opened(tmp_path), [1]), opened(tmp_path)
    with index.reading(), other.reading():
        pass
    with other.writing():
        written(other, [2])
    with pytest.raises(IndexChangedError, match="has changed: index again"), index.reading():
        pass
    with index.writing():
        assert index.indexed.tolist() == [1, 2], "who changes it begins with what is there"


def test_a_writer_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, other = written(opened(tmp_path), [1]), opened(tmp_path)
    waited = threading.Event()
    monkeypatch.setattr(locks.time, "sleep", lambda _: waited.set())

    def write() -> None:
        with other.writing():
            written(other, [2])

    with index.reading():
        thread = threading.Thread(target=write)
        thread.start()
        assert waited.wait(30)
        assert opened(tmp_path).indexed.tolist() == [1]
    thread.join(30)
    assert opened(tmp_path).indexed.tolist() == [1, 2]
    monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.0)
    index, other = opened(tmp_path), opened(tmp_path)  # folders take the limit when they are made
    with index.writing(), pytest.raises(StoreError, match="another session uses it"), other.reading():
        pass


@pytest.mark.parametrize("step", range(5))
def test_a_crash_while_rows_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The head counts rows that are on disk: before its last step nothing is there that was not, after it all is."""
    index = written(opened(tmp_path), [1, 2])
    places = index.take_places(2)
    left = step

    def crash(descriptor: int) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        fsync(descriptor)

    fsync = os.fsync
    values = np.arange(8, dtype=np.uint64).reshape(2, 4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            index.write(places, np.array([3, 4]), values, values[:, 0])
    found = opened(tmp_path)
    assert (found.indexed.tolist(), found.used) == ([1, 2], 4)
    assert found.read().opened[:, 0].tolist() == [1, 2]
    written(found, [5])
    again = opened(tmp_path)
    assert again.indexed.tolist() == [1, 2, 0, 0, 5]
    assert again.read().opened[:, 0].tolist() == [1, 2, 0, 0, 5], "what a crash has left is overwritten"


def test_only_the_last_places_are_written(tmp_path: Path) -> None:
    index = opened(tmp_path)
    index.clear(BUILD)
    first, second = index.take_places(1), index.take_places(1)
    row = np.zeros((1, 4), dtype=np.uint64)
    with pytest.raises(ParameterError, match="expected the places that were taken last"):
        index.write(first, np.array([1]), row, row[0, :1])
    index.write(second, np.array([1]), row, row[0, :1])


def test_seeds_of_shards() -> None:
    """Every shard of every number of shards has a mask of its own."""
    seeds = {shard_seed(SEED, shard, shards) for shards in range(1, 12) for shard in range(shards)}
    assert len(seeds) == sum(range(1, 12))
    assert not seeds & {shard_seed(bytes(range(32)), 0, 1), SEED}


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("suffix", ["head", "opened", "rows"])
def test_what_is_no_file_any_more_is_no_index(tmp_path: Path, suffix: str, kind: str) -> None:
    folder, index = IndexFolder(tmp_path, LINEAGE), written(opened(tmp_path), [1])
    path = tmp_path / f"{index.stem}.{suffix}"
    path.unlink()
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    again = opened(tmp_path)
    assert not len(again.indexed)
    if kind == "folder":
        with pytest.raises(StoreError, match=rf"{suffix}: cannot use a file of the index: "), folder.locked():
            again.clear(BUILD)
    else:
        again.clear(BUILD)
        assert len(written(again, [1]).indexed) == len(opened(tmp_path).indexed) == 1


@pytest.mark.parametrize("head", [b"garbage", b"[" * 4000, b'{"change": "x"}', b"[]"])
def test_a_head_of_something_else_is_written_anew(tmp_path: Path, head: bytes) -> None:
    (tmp_path / f"{opened(tmp_path).stem}.head").write_bytes(head)
    assert opened(tmp_path).take_places(2).tolist() == [0, 1]


def test_the_file_that_stands_in_the_way_is_named(tmp_path: Path) -> None:
    folder = IndexFolder(tmp_path, LINEAGE)
    folder.file("7.lock").symlink_to("elsewhere")
    with pytest.raises(StoreError, match=r"^0{32}\.7\.lock: cannot use the index's folder: expected a file to lock"):
        with folder.locked(7):
            pytest.fail("a link was followed")
    folder.file("people").mkdir()
    with folder.locked(), pytest.raises(StoreError, match=r"^0{32}\.people: cannot remove the index: Is a directory"):
        folder.erase()
