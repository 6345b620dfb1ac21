"""A gallery's session, the client's side: one key, from which it computes its share of every template again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.client import MatchResult
from parties.cost import OFFLINE, ONLINE, CostReport
from parties.gallery.directory import Directory
from parties.gallery.errors import IndexChangedError
from parties.gallery.index_file import BUILD_BYTES
from parties.gallery.key import GalleryKey
from parties.gallery.layout import layout_of
from parties.gallery.queries import CHUNK_ROWS, decide, decide_requests, winners, winners_requests
from parties.gallery.query_client import Identification, QueryClientSession, check_top
from parties.gallery.records import Entry, Kind, identity_bytes
from parties.gallery.shard_group import RemoteShard, ShardGroup, Traffic, chunks
from parties.gallery.wire import follow_changes, receive_entries
from protocols.channel import Channel, printable
from protocols.errors import ProtocolError
from protocols.identification.outcome import index_bits

__all__ = ["GalleryClientSession", "Identification"]


class GalleryClientSession(QueryClientSession):
    """The client's side of a session about a private gallery.

    Args:
        key: the client's.
        index_folder: where the index and who is enrolled are kept; both can be made again.
        shards: channels to other ranks of the client's that search a part each; the server has as many.
        others: as for `ClientSession`.
    """

    def __init__(
        self, *others: Any, key: GalleryKey, index_folder: Path, shards: Sequence[Channel] = (), **options: Any
    ) -> None:
        super().__init__(*others, **options)
        self._key, self._index_folder = key, index_folder
        document = self._channel.receive_document("gallery")
        match document:
            case {"kind": Kind.PRIVATE.value, "scope": str(scope), "lineage": str(lineage), "shards": int(count)}:
                self._scope, self._lineage = _identifier(scope), _identifier(lineage)
            case _:
                raise ProtocolError(f"expected a private gallery, got {printable(document)}")
        if count != 1 + len(shards):
            raise ProtocolError(f"expected {1 + len(shards)} shards, as the client has, got {count}")
        self._dimension = self.terms.graph.output_shape[0]
        traffic = Traffic()
        self._recorder.beside = traffic.peer, traffic.dealer
        self._other_shards = [RemoteShard(channel, traffic) for channel in shards]
        self._shards: ShardGroup | None = None
        self._people, self._indexed = Directory(), False
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
            self._indexed = False
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
        shards = self._group()
        with self._turns.request(), shards.writing():
            path = self._people_path()
            known = self._people if self._people.change else Directory.load(path)
            states = [[build.hex(), digest] for build, digest in shards.states()]
            self._ask({"operation": "gallery-index", "known": known.change, "indexed": states})
            shards.begin(_builds(self._channel.receive_document("indexed").get("builds"), shards.count))
            people = follow_changes(self._channel, known)
            if people.change != known.change:
                people.save(path)
            for rows in chunks(shards.arrange(people.parts(shards.count)), CHUNK_ROWS):
                shares = [self._key.shares_of(self._scope, people.entries(one), self._dimension) for one in rows]
                with self._recorder.recording(OFFLINE, "index"), self._party() as party:
                    shards.extend(party, list(zip(rows, shares, strict=True)))
            self._people, self._indexed = people, True
            return self._finish()

    def identify(self, image: NDArray[np.float64], top: int = 1) -> Identification:
        """Return who is nearest to a photo (1, C, H, W) and under the threshold, or "unknown"; never a distance.

        Args:
            top: how many, at most 64.

        Raises:
            QueryRefusedError: the server has answered too often, nobody is enrolled, or somebody was meanwhile.
        """
        check_top(top)
        if not self._indexed:
            self.update_index()
        try:
            return self._identify(image, top)
        except IndexChangedError:  # by another session of this client's
            self.update_index()
            return self._identify(image, top)

    def _identify(self, image: NDArray[np.float64], top: int) -> Identification:
        shards, people = self._group(), self._people
        bits = index_bits(len(people.identities))
        with self._turns.request(), shards.reading():
            value = self._encoded(image)
            self._prepare_probe()
            self._ask({"operation": "gallery-identify", "top": top})
            with self._recorder.recording(OFFLINE, "correlations"):
                shards.prepare(top)
                self._source.prepare(winners_requests(shards.winners(top), top))
            probe = self._embed(value)
            with self._recorder.recording(ONLINE, "distances and shards' nearest"), self._party() as party:
                keys = shards.find(party, probe[0], top, bits)
            with self._recorder.recording(ONLINE, "nearest and threshold"), self._party() as party:
                indices = winners(party, keys, self.terms.threshold, top, bits, self.terms.reveal)
            if any(i is not None and i >= len(people.identities) for i in indices):
                raise ProtocolError("expected an index of the gallery, got a larger one")
            names = tuple(None if i is None else people.identities[i] for i in indices)
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
            self._indexed = False
            self._finish()
            return _number(answer.get("removed"))

    def rotate_key(self, key: GalleryKey) -> int:
        """Put the whole gallery under a new key, without enrolling again; return its new generation.

        The server learns, of every share, the difference of two streams, which is uniform. Keep the old key until this
        returns: a crash leaves the gallery under one of the two (`generation` says which).
        """
        shards = self._group()
        with self._turns.request(), shards.writing():
            shards.delete()
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
            self._key, self._shards, self._indexed, self._generation = key, None, False, new
            self._finish()
            return new

    def end(self) -> None:
        """End the session, and the other ranks of its shards."""
        super().end()
        for shard in self._other_shards:
            shard.end()

    def fail(self, error: BaseException) -> None:
        """Tell the peers, and the other ranks of the shards, that this side ends."""
        super().fail(error)
        for shard in self._other_shards:
            shard.fail(error)

    def _group(self) -> ShardGroup:
        """Return the shards, open."""
        if self._shards is None:
            seed = self._key.mask_seed(self._scope)
            where = self._index_folder, self._lineage, seed, self._dimension
            self._shards = ShardGroup.open(self._source, self._other_shards, *where)
        return self._shards

    def _people_path(self) -> Path:
        return self._index_folder / f"{self._lineage.hex()}.people.npz"


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


def _builds(value: Any, count: int) -> list[bytes]:
    try:
        builds = [bytes.fromhex(one) for one in value]
    except (TypeError, ValueError):
        builds = []
    if len(builds) != count or any(len(build) != BUILD_BYTES for build in builds):
        raise ProtocolError(f"expected the builds of {count} shards, got {printable(value)}")
    return builds


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
