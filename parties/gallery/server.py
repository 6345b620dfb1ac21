"""A gallery's session, the server's side: it holds the store, sets the limits, and never sees a template.

Enrolment: the server reserves the numbers of a photo; both extract, which leaves shares c + s of the embedding t; the
client sends c - PRF_k(numbers), uniform to the server, and the server stores s plus that: t - PRF_k. Verification: the
client recomputes its share from the key, the server reads its own. Identification: see `protocols.identification`.
"""

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parties.cost import OFFLINE
from parties.gallery.errors import StoreError
from parties.gallery.index_file import BUILD_BYTES, IndexFile
from parties.gallery.key_check import KeyCheck
from parties.gallery.layout import Layout, layout_of
from parties.gallery.limits import EVERYONE, QueryLimits
from parties.gallery.queries import (
    CHUNK_ROWS,
    PROBE,
    TOP_MAX,
    decide,
    decide_requests,
    extend_index,
    find_requests,
    nearest,
    new_rows,
    private_distances,
    selection_requests,
)
from parties.gallery.query_server import QueryServerSession
from parties.gallery.records import Entry, Kind
from parties.gallery.store import GalleryStore
from parties.gallery.wire import send_entries
from protocols.errors import ProtocolError
from protocols.randomness import KEY_BYTES

__all__ = ["GalleryServerSession"]


class GalleryServerSession(QueryServerSession):
    """The server's side of a session about a private gallery.

    Args:
        store: of the gallery.
        limits: on the client's queries; None for none.
        client_name: whom the limits count, as the caller has authenticated them.
        index_folder: where the index is kept, and nothing else: a change of key removes it.
        others: as for `ServerSession`.
    """

    def __init__(
        self,
        *others: Any,
        store: GalleryStore,
        limits: QueryLimits | None,
        client_name: str,
        index_folder: Path,
        **options: Any,
    ) -> None:
        super().__init__(*others, store=store, kind=Kind.PRIVATE, limits=limits, client_name=client_name, **options)
        self._index_folder = index_folder
        self._index: IndexFile | None = None
        self._layout: Layout | None = None
        self._told, self._change = b"", 0
        document = {"kind": store.kind.value, "scope": store.scope.hex(), "lineage": store.lineage.hex()}
        self._channel.send_document("gallery", {**document, "generation": store.generation})
        self._checks = KeyCheck(store)
        self._checks.compare(self._channel.receive_document("key").get("check"))

    def _obey(self, command: dict[str, Any]) -> None:
        match command:
            case {"operation": "gallery-enroll", "identity": str(identity)}:
                self._answer(lambda: self._enroll_in_gallery(identity))
            case {"operation": "gallery-verify", "identity": str(identity)}:
                self._answer(lambda: self._verify_identity(identity))
            case {"operation": "gallery-identify", "top": int(top)} if 0 < top <= TOP_MAX:
                self._answer(lambda: self._identify(top))
            case {"operation": "gallery-index", "indexed": str(digest)}:
                self._answer(lambda: self._extend(digest))
            case {"operation": "gallery-list"}:
                self._answer(self._send_list)
            case {"operation": "gallery-remove", "identities": [*identities]}:
                self._answer(lambda: self._remove(identities))
            case {"operation": "gallery-rotate", "check": str(check)}:
                self._answer(lambda: self._rotate(check))
            case _:
                super()._obey(command)

    def _enroll_in_gallery(self, identity: str) -> None:
        entry = self._store.reserve(identity)
        self._log("enroll", identity)
        self._accept(row=entry.row, photo=entry.photo, generation=entry.generation)
        try:
            share = self._extract(PROBE)
            correction = self._channel.receive("gallery/share", np.uint64, share.shape)
            self._store.commit(entry, (share + correction)[0])
        except BaseException:
            self._store.cancel(entry)
            raise
        self._checks.keep()
        self._channel.send_document("stored", {})

    def _verify_identity(self, identity: str) -> None:
        self._admit("verify", identity)
        found = self._store.get(identity)
        if not found:
            raise StoreError("expected an enrolled identity, found none of that name")
        self._accept(photos=[[entry.photo, entry.generation] for entry, _ in found])
        templates = np.stack([share for _, share in found])
        self._prepare_now(decide_requests(*templates.shape))
        probe = self._extract(PROBE)
        with self._party("distance and threshold") as party:
            decision = decide(party, probe, templates, self.terms.threshold, self.terms.reveal)
        self.last_decisions = (decision,)
        self.decisions.append(decision)

    def _extend(self, digest: str) -> None:
        """Bring the index up to date; begin again if the client's is another."""
        entries = [entry for entry, _ in self._store.entries()]
        if not entries:
            raise StoreError("expected enrolled identities, found none")
        self._change = self._store.changes_since(0).number
        if self._index is None:
            self._index = IndexFile(self._index_folder, self._store.lineage, self._mask_seed(), self._store.dimension)
        self._accept()
        build = secrets.token_bytes(BUILD_BYTES) if self._index.digest != digest or not self._index.build else None
        if build:
            self._index.clear(build)
        self._channel.send_document("indexed", {"build": build.hex() if build else None})
        if self._told != self._index.build:
            self._source.tell_mask(self._index.mask)
            self._told = self._index.build
        send_entries(self._channel, entries)
        self._layout = layout_of(entries)
        for rows in new_rows(entries, self._index):
            with self._party("index", OFFLINE) as party:
                extend_index(party, self._index, self._store.shares(rows), rows)

    def _identify(self, top: int) -> None:
        layout, index = self._layout, self._index
        if layout is None or index is None:
            raise StoreError("expected the index first")
        if self._store.changes_since(0).number != self._change:
            raise StoreError("expected the gallery as it was indexed, but it has changed: index it again")
        if top > len(layout.sizes):
            raise StoreError(f"expected to ask for at most {len(layout.sizes)} identities, got {top}")
        self._admit("identify", EVERYONE, top)
        self._accept()
        requests = find_requests(layout, index) + selection_requests(len(layout.sizes), top)
        self._prepare_now(requests)
        probe = self._extract(PROBE)
        with self._party("distances") as party:
            found = private_distances(party, index, layout, probe[0])
        with self._party("nearest and threshold") as party:
            indices = nearest(party, found, self.terms.threshold, top, self.terms.reveal)
        if any(i is not None and i >= len(layout.identities) for i in indices):
            raise ProtocolError("expected an index of the gallery, got a larger one")
        self.last_identities = tuple(None if i is None else layout.identities[i] for i in indices)

    def _send_list(self) -> None:
        self._accept()
        send_entries(self._channel, [entry for entry, _ in self._store.entries()])

    def _remove(self, identities: Sequence[Any]) -> None:
        self._layout = None
        self._log("remove")
        self._accept(removed=self._store.remove_many([str(identity) for identity in identities]))

    def _rotate(self, check: str) -> None:
        """Exchange all shares for those under the client's new key; a crash leaves the old or the new ones."""
        entries = [entry for entry, _ in self._store.entries()]
        self._log("rotate-key")
        self._accept(generation=self._store.generation)
        send_entries(self._channel, entries)
        generation = self._store.replace_shares(self._rotated(entries))
        self._checks.replace(check)
        self._forget_index()
        self._channel.send_document("rotated", {"generation": generation})

    def _rotated(self, entries: Sequence[Entry]) -> Any:
        for start in range(0, len(entries), CHUNK_ROWS):
            part = entries[start : start + CHUNK_ROWS]
            rows = [entry.row for entry in part]
            change = self._channel.receive("gallery/rotation", np.uint64, (len(part), self._store.dimension))
            yield from zip(rows, self._store.shares(rows) + change, strict=True)

    def _forget_index(self) -> None:
        """Remove the index and its seed: what was opened under the old key opens nothing any more."""
        self._index = self._layout = None
        shutil.rmtree(self._index_folder, ignore_errors=True)

    def _mask_path(self) -> Path:
        return self._index_folder / f"{self._store.lineage.hex()}.mask"

    def _mask_seed(self) -> bytes:
        """Return the server's seed of the fixed mask: drawn once, kept beside the index."""
        self._index_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return read_or_draw(self._mask_path())


def read_or_draw(path: Path) -> bytes:
    """Return a secret of 32 bytes from a file, which is made, for its owner alone, if there is none."""
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        secret = secrets.token_bytes(KEY_BYTES)
        temporary = path.with_suffix(".part")
        temporary.touch(mode=0o600)
        temporary.write_bytes(secret)
        temporary.replace(path)
    if len(secret) != KEY_BYTES:
        raise ProtocolError(f"{path.name}: expected {KEY_BYTES} bytes, got {len(secret)}")
    return secret
