"""A gallery's session, the client's side: one key, from which it computes its share of every template again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.client import MatchResult
from parties.cost import OFFLINE, ONLINE, CostReport
from parties.gallery.index_file import IndexFile
from parties.gallery.key import GalleryKey
from parties.gallery.layout import Layout, layout_of
from parties.gallery.queries import (
    CHUNK_ROWS,
    decide,
    decide_requests,
    extend_index,
    find_requests,
    nearest,
    new_rows,
    private_distances,
    selection_requests,
)
from parties.gallery.query_client import Identification, QueryClientSession, check_top
from parties.gallery.records import Entry, Kind, identity_bytes
from parties.gallery.wire import receive_entries
from protocols.channel import printable
from protocols.errors import ProtocolError

__all__ = ["GalleryClientSession", "Identification"]


class GalleryClientSession(QueryClientSession):
    """The client's side of a session about a private gallery.

    Args:
        key: the client's.
        index_folder: where the index is kept; it holds uniform numbers and can be made again.
        others: as for `ClientSession`.
    """

    def __init__(self, *others: Any, key: GalleryKey, index_folder: Path, **options: Any) -> None:
        super().__init__(*others, **options)
        self._key, self._index_folder = key, index_folder
        document = self._channel.receive_document("gallery")
        match document:
            case {"kind": Kind.PRIVATE.value, "scope": str(scope), "lineage": str(lineage)}:
                self._scope, self._lineage = _identifier(scope), _identifier(lineage)
            case _:
                raise ProtocolError(f"expected a private gallery, got {printable(document)}")
        self._dimension = self.terms.graph.output_shape[0]
        self._index: IndexFile | None = None
        self._layout: Layout | None = None
        self._told = b""
        self._generation = _number(document.get("generation"))
        self._channel.send_document("key", {"check": key.check(self._scope, self._generation)})

    def enroll_identity(self, identity: str, image: NDArray[np.float64]) -> CostReport:
        """Add a photo (1, C, H, W) of an identity to the gallery.

        Raises:
            QueryRefusedError: the server does not take it.
        """
        identity_bytes(identity)
        with self._turns.request():
            value = self._encoded(image)
            self._prepare_probe()
            answer = self._ask({"operation": "gallery-enroll", "identity": identity})
            match answer:
                case {"row": int(row), "photo": int(photo), "generation": int(generation)}:
                    entry = Entry(row, identity, photo, generation)
                case _:
                    raise ProtocolError(f"expected an entry, got {printable(answer)}")
            share = self._embed(value)
            own = self._key.shares_of(self._scope, [entry], self._dimension)
            self._channel.send("gallery/share", share - own)
            self._channel.receive_document("stored")
            self._layout = None
            return self._finish()

    def verify_identity(self, identity: str, image: NDArray[np.float64]) -> MatchResult:
        """Compare a photo (1, C, H, W) with an identity: with the nearest of its photos.

        Raises:
            QueryRefusedError: it is not enrolled, or was asked about too often.
        """
        identity_bytes(identity)
        with self._turns.request():
            value = self._encoded(image)
            ready = self._prepare_probe()
            answer = self._ask({"operation": "gallery-verify", "identity": identity})
            entries = _entries_of(identity, answer.get("photos"))
            templates = self._key.shares_of(self._scope, entries, self._dimension)
            self._prepare_now(decide_requests(*templates.shape))
            probe = self._embed(value)
            with self._recorder.recording(ONLINE, "distance and threshold"), self._party() as party:
                match = decide(party, probe, templates, self.terms.threshold, self.terms.reveal)
            return MatchResult((match,), self._finish(), ready)

    def update_index(self) -> CostReport:
        """Index what was enrolled since; the first time, everything."""
        with self._turns.request():
            seed = self._key.mask_seed(self._scope)
            index = self._index or IndexFile(self._index_folder, self._lineage, seed, self._dimension)
            self._ask({"operation": "gallery-index", "indexed": index.digest})
            if (build := self._channel.receive_document("indexed").get("build")) is not None:
                index.clear(_identifier(str(build)))
            if self._told != index.build:
                self._source.tell_mask(index.mask)
                self._told = index.build
            entries = receive_entries(self._channel)
            by_row = {entry.row: entry for entry in entries}
            if not entries or len(by_row) != len(entries):
                raise ProtocolError("expected entries with a row each, got none or one row twice")
            for rows in new_rows(entries, index):
                own = self._key.shares_of(self._scope, [by_row[row] for row in rows], self._dimension)
                with self._recorder.recording(OFFLINE, "index"), self._party() as party:
                    extend_index(party, index, own, rows)
            self._index, self._layout = index, layout_of(entries)
            return self._finish()

    def identify(self, image: NDArray[np.float64], top: int = 1) -> Identification:
        """Return who is nearest to a photo (1, C, H, W) and under the threshold, or "unknown"; never a distance.

        Args:
            top: how many, at most 64.

        Raises:
            QueryRefusedError: the server has answered too often, or nobody is enrolled.
        """
        check_top(top)
        if self._layout is None:
            self.update_index()
        layout, index = self._layout, self._index
        if layout is None or index is None:
            raise ProtocolError("expected an index, got none")
        with self._turns.request():
            value = self._encoded(image)
            self._prepare_probe()
            self._ask({"operation": "gallery-identify", "top": top})
            self._prepare_now(find_requests(layout, index) + selection_requests(len(layout.sizes), top))
            probe = self._embed(value)
            with self._recorder.recording(ONLINE, "distances"), self._party() as party:
                found = private_distances(party, index, layout, probe[0])
            with self._recorder.recording(ONLINE, "nearest and threshold"), self._party() as party:
                indices = nearest(party, found, self.terms.threshold, top, self.terms.reveal)
            if any(i is not None and i >= len(layout.identities) for i in indices):
                raise ProtocolError("expected an index of the gallery, got a larger one")
            names = tuple(None if i is None else layout.identities[i] for i in indices)
            return Identification(names, self._finish())

    def list_identities(self) -> dict[str, int]:
        """Return who is enrolled, in order of enrolment, and how many photos each has."""
        with self._turns.request():
            self._ask({"operation": "gallery-list"})
            layout = layout_of(receive_entries(self._channel))
            self._finish()
            return dict(zip(layout.identities, layout.sizes.tolist(), strict=True))

    def remove_identities(self, identities: Sequence[str]) -> int:
        """Remove identities with all their photos; return how many photos."""
        with self._turns.request():
            answer = self._ask({"operation": "gallery-remove", "identities": list(identities)})
            self._layout = None
            self._finish()
            return _number(answer.get("removed"))

    def rotate_key(self, key: GalleryKey) -> int:
        """Put the whole gallery under a new key, without enrolling again; return its new generation.

        The server learns, of every share, the difference of two streams, which is uniform. Keep the old key until this
        returns: a crash leaves the gallery under one of the two (`generation` says which).
        """
        with self._turns.request():
            IndexFile(self._index_folder, self._lineage, self._key.mask_seed(self._scope), self._dimension).delete()
            check = key.check(self._scope, self._generation + 1)
            generation = _number(self._ask({"operation": "gallery-rotate", "check": check}).get("generation"))
            if generation != self._generation:
                raise ProtocolError("expected the gallery's generation as it was, but its key has changed")
            entries = receive_entries(self._channel)
            for start in range(0, len(entries), CHUNK_ROWS):
                part = entries[start : start + CHUNK_ROWS]
                renewed = [Entry(e.row, e.identity, e.photo, generation + 1) for e in part]
                old = self._key.shares_of(self._scope, part, self._dimension)
                self._channel.send("gallery/rotation", old - key.shares_of(self._scope, renewed, self._dimension))
            new = _number(self._channel.receive_document("rotated").get("generation"))
            self._key, self._index, self._layout, self._generation = key, None, None, new
            self._finish()
            return new


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise ProtocolError(f"expected a number, got {printable(value)}")
    return value


def _identifier(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise ProtocolError(f"expected 16 bytes in hexadecimal, got {printable(text)}")
    return value


def _entries_of(identity: str, photos: Any) -> list[Entry]:
    if not isinstance(photos, list) or not 0 < len(photos) <= CHUNK_ROWS:
        raise ProtocolError(f"expected photos of an identity, got {printable(photos)}")
    entries = []
    for item in photos:
        match item:
            case [int(photo), int(generation)] if photo > 0 and generation > 0:
                entries.append(Entry(0, identity, photo, generation))
            case _:
                raise ProtocolError(f"expected a photo's numbers, got {printable(item)}")
    return entries
