"""The server's gallery against a dictionary: any sequence of operations, with the store closed and opened between."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.records import Entry
from parties.gallery.store.store import GalleryStore
from protocols.arithmetic.fixed_point import RingArray

pytestmark = pytest.mark.slow

MODEL, DIMENSION = "m", 3
names = st.sampled_from(["a", "b", "b ", "ä", "a\0b", "*", "x" * 9000])
seeds = st.integers(0, 2**32)


def value(seed: int) -> RingArray:
    return np.random.default_rng(seed).integers(0, 2**64, DIMENSION, dtype=np.uint64)


class Gallery(RuleBasedStateMachine):
    """The store, and beside it rows as a dictionary: row -> (identity, photo, share)."""

    reserved = Bundle("reserved")

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.held: dict[int, tuple[str, int, list[int]]] = {}
        self.used: set[tuple[str, int]] = set()
        self.open_reservations: dict[int, str] = {}
        self.last_row, self.generation = 0, 1
        self.index: set[int] = set()
        self.seen = 0
        self.open()

    def open(self) -> None:
        self.store = GalleryStore(self.folder / "g", MODEL, DIMENSION, GalleryKind.PRIVATE)
        self.store._database.execute("PRAGMA synchronous = OFF")  # these tests need no disk that keeps what it is told

    def expect_new(self, entry: Entry, identity: str) -> None:
        assert (entry.identity, entry.generation) == (identity, self.generation)
        assert entry.row > self.last_row
        assert (identity, entry.photo) not in self.used
        self.last_row = entry.row
        self.used.add((identity, entry.photo))

    @rule(identity=names, seed=seeds)
    def enroll(self, identity: str, seed: int) -> None:
        entry = self.store.enroll(identity, value(seed))
        self.expect_new(entry, identity)
        self.held[entry.row] = (identity, entry.photo, value(seed).tolist())

    @rule(pairs=st.lists(st.tuples(names, seeds), max_size=5))
    def enroll_many(self, pairs: list[tuple[str, int]]) -> None:
        entries: list[Entry] = []
        assert self.store.enroll_many(((name, value(seed)) for name, seed in pairs), entries.extend) == len(pairs)
        for entry, (name, seed) in zip(entries, pairs, strict=True):
            self.expect_new(entry, name)
            self.held[entry.row] = (name, entry.photo, value(seed).tolist())

    @rule(target=reserved, identity=names)
    def reserve(self, identity: str) -> Entry:
        entry = self.store.reserve(identity)
        self.expect_new(entry, identity)
        self.open_reservations[entry.row] = identity
        return entry

    @rule(entry=consumes(reserved), seed=seeds)
    def commit(self, entry: Entry, seed: int) -> None:
        if entry.row in self.open_reservations and entry.generation == self.generation:
            self.store.commit(entry, value(seed))
            self.held[entry.row] = (entry.identity, entry.photo, value(seed).tolist())
        else:
            with pytest.raises(StoreError):
                self.store.commit(entry, value(seed))
        self.open_reservations.pop(entry.row, None)

    @rule(entry=consumes(reserved))
    def cancel(self, entry: Entry) -> None:
        self.store.cancel(entry)
        self.open_reservations.pop(entry.row, None)

    @rule(identity=names)
    def remove(self, identity: str) -> None:
        gone = [row for row, (name, *_) in self.held.items() if name == identity]
        assert self.store.remove(identity) == len(gone)
        for row in gone:
            del self.held[row]
        self.open_reservations = {row: name for row, name in self.open_reservations.items() if name != identity}
        if len(identity) > 9:
            assert identity.encode() not in b"".join(file.read_bytes() for file in self.folder.iterdir())

    @rule(seed=seeds)
    def replace(self, seed: int) -> None:
        new = {row: value(seed + row) for row in self.held}
        self.generation += 1
        assert self.store.replace_shares(new.items()) == self.generation
        self.held = {row: (*self.held[row][:2], share.tolist()) for row, share in new.items()}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()
        self.open_reservations.clear()

    @rule()
    def carry(self) -> None:
        """Go on with an import of an export."""
        self.store.export(self.folder / "exported")
        self.store.close()
        for file in self.folder.glob("g*"):
            file.unlink()
        self.open()
        assert self.store.import_(self.folder / "exported") == len(self.held)
        (self.folder / "exported").unlink()
        self.open_reservations.clear()
        self.index, self.seen = set(), 0

    @rule()
    def follow(self) -> None:
        """Bring the index up to date."""
        changes = self.store.changes_since(self.seen)
        assert set(changes.removed.tolist()) <= self.index
        assert not set(changes.added.tolist()) & self.index
        self.index = (self.index - set(changes.removed.tolist())) | set(changes.added.tolist())
        self.seen = changes.number
        assert self.index == set(self.held)
        assert changes.generation == self.generation

    @rule(identity=names)
    def get(self, identity: str) -> None:
        expected = [(row, *rest) for row, (name, *rest) in self.held.items() if name == identity]
        found = [(entry.row, entry.photo, share.tolist()) for entry, share in self.store.get(identity)]
        assert found == sorted(expected, key=lambda one: one[1])

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "store"):
            return
        found: dict[int, Any] = {e.row: (e.identity, e.photo, s.tolist()) for e, s in self.store.entries()}
        assert found == self.held
        assert self.store.count == len(self.held)
        counts: dict[str, int] = {}
        for name, *_ in self.held.values():
            counts[name] = counts.get(name, 0) + 1
        assert self.store.identities() == counts
        assert self.store.shares(list(self.held)).tolist() == [share for *_, share in self.held.values()]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)


TestGallery = Gallery.TestCase
TestGallery.settings = settings(
    max_examples=20, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
