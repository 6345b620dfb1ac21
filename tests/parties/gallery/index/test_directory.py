"""Who is enrolled: a directory follows changes as a plain dictionary would, and what a file holds is checked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.gallery.index.directory import Directory
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions.messages import follow_changes, send_changes
from parties.gallery.store.records import Entry
from parties.gallery.store.store import GalleryStore
from parties.local import PartyThread
from parties.transport.queues import local_channels
from support.frames import outcome

NAMES = ["Ann", "Bob", "名前", "x" * 300]


def directory(*entries: tuple[int, str, int]) -> Directory:
    added = [Entry(row, name, photo, 1) for row, name, photo in entries]
    return Directory().updated(1, 1, np.empty(0, dtype=np.int64), added)


@given(st.lists(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=5), max_size=6), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_it_follows_changes(steps: list[list[tuple[str, bool]]], shards: int) -> None:
    model: dict[int, tuple[str, int]] = {}
    known, row = Directory(), 0
    for change, step in enumerate(steps, 1):
        added, removed = [], [number for number, (name, _) in model.items() if (name, True) in step]
        for number in removed:
            del model[number]
        for name, leaves in step:
            if not leaves:
                row += 1
                model[row] = (name, row + 100)
                added.append(Entry(row, name, row + 100, 1))
        known = known.updated(change, 1, np.array(removed, dtype=np.int64), added)
    order: list[str] = []
    for name, _ in model.values():
        if name not in order:
            order.append(name)
    assert known.identities == tuple(order)
    assert known.rows.tolist() == list(model)
    assert [(e.identity, e.photo) for e in known.entries(known.rows[::-1])] == list(model.values())[::-1]
    parts = known.parts(shards)
    found: dict[str, list[int]] = {}
    for part in parts:
        assert part.sizes.sum() == len(part.rows)
        ends = np.cumsum(part.sizes)
        for identity, start, end in zip(part.numbers.tolist(), ends - part.sizes, ends, strict=True):
            rows = part.rows[start:end].tolist()
            found[order[identity]] = rows
    assert found == {name: [r for r, (other, _) in model.items() if other == name] for name in order}


def test_what_a_file_holds(tmp_path: Path) -> None:
    known = directory((3, "Ann", 1), (5, "名前", 1), (9, "Ann", 2))
    path = tmp_path / "people.npz"
    known.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Directory.load(path).digest == known.digest != Directory().digest
    assert Directory.load(tmp_path / "none").digest == Directory().digest
    content = path.read_bytes()
    for damaged in (b"", b"PK", content[:-30], content.replace(b"Ann", b"A\xffn")):
        path.write_bytes(damaged)
        assert Directory.load(path).digest == Directory().digest
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        assert Directory.load(path).digest == Directory().digest, f"a bit of byte {place}"


@pytest.mark.parametrize("photos", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shards", [2, 4, 5])
def test_shards_get_as_many_people_each(photos: int, shards: int) -> None:
    added = [Entry(1 + i * photos + j, f"p{i}", j + 1, 1) for i in range(1000) for j in range(photos)]
    parts = Directory().updated(1, 1, np.empty(0, dtype=np.int64), added).parts(shards)
    assert sum(len(part.sizes) for part in parts) == 1000
    for part in parts:
        assert abs(len(part.sizes) - 1000 / shards) < 5 * (1000 / shards) ** 0.5, [len(p.sizes) for p in parts]


def test_owners_that_are_none(tmp_path: Path) -> None:
    one = directory((1, "Ann", 1))
    for owners in ([1], [-1], [0, 0], 3):
        bad = Directory(1, 1, one.rows, one.photos, np.array(owners, dtype=np.int64), one.identities)
        bad.save(tmp_path / "people.npz")
        assert not Directory.load(tmp_path / "people.npz").identities


def synchronised(store: GalleryStore, server: Directory, client: Directory) -> tuple[Any, Any]:
    """Run both sides; return both results, or their errors' messages."""
    to_server, to_client = local_channels("client", "server", 5.0)
    result: list[Any] = []

    def serve() -> None:
        result.append(outcome(send_changes, to_client, store, client.change, server))

    thread = PartyThread("server", serve, (to_client,))
    thread.start()
    found = outcome(follow_changes, to_server, client)
    to_server.close()
    thread.join(10)
    return result[0], found


def test_only_changes_are_sent(tmp_path: Path) -> None:
    with GalleryStore(tmp_path / "gallery.db", "model", 4, GalleryKind.PRIVATE) as store:
        share = np.zeros(4, dtype=np.uint64)
        store.enroll_many((f"person {i}", share) for i in range(50))
        (server, _), (client, _) = synchronised(store, Directory(), Directory())
        assert client.digest == server.digest
        assert client.identities == tuple(f"person {i}" for i in range(50))
        store.remove("person 7")
        store.enroll("person 7", share)
        store.enroll("person 3", share)
        to_server, to_client = local_channels("client", "server", 5.0)
        thread = PartyThread("server", lambda: send_changes(to_client, store, client.change, server), (to_client,))
        thread.start()
        client = follow_changes(to_server, client)
        thread.join(10)
        assert to_server.statistics.bytes_received < 1000, "two entries and a removal"
        assert client.identities[-1] == "person 7", "her first photo is the last row now"
        assert client.parts(1)[0].sizes.tolist()[3] == 2


def test_another_history_is_sent_whole(tmp_path: Path) -> None:
    with GalleryStore(tmp_path / "gallery.db", "model", 4, GalleryKind.PRIVATE) as store:
        store.enroll("Ann", np.zeros(4, dtype=np.uint64))
        wrong = directory((1, "Eve", 1))
        for known in (wrong, Directory(99, 1, *(wrong.rows,) * 2, np.zeros(1, dtype=np.int64), ("Eve",))):
            (_, error), (client, _) = synchronised(store, Directory(), known)
            assert (client.identities, error) == (("Ann",), "")


def test_what_does_not_add_up_is_refused(tmp_path: Path) -> None:
    to_server, to_client = local_channels("client", "server", 5.0)
    state = {"change": 1, "generation": 1, "removed": 0, "all": True}
    for document, match in (
        ({**state, "change": -1}, "expected change to be a whole number of 0 to"),
        ({**state, "generation": 0}, "expected generation to be a whole number of 1 to"),
        ({**state, "removed": 2**40}, "expected removed to be a whole number of 0 to"),
        ({**state, "all": 1}, "expected all to be true or false"),
        ({}, "expected change to be"),
    ):
        to_client.send_document("changes", document)
        assert match in outcome(follow_changes, to_server, Directory())[1]
    with pytest.raises(AttributeError):
        Directory().rows = np.empty(0)  # type: ignore[misc]
