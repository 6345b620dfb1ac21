"""Run a session about a private gallery, on the client's side. The client recomputes its shares from one key."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import IndexChangedError, QueryRefusedError, StoreError
from parties.gallery.index.directory import Directory, layout_of
from parties.gallery.index.file import BUILD_BYTES
from parties.gallery.index.folder import IndexFolder
from parties.gallery.index.search import CHUNK_ROWS, PROBE, decide_requests, winners, winners_requests
from parties.gallery.key import GalleryKey
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions.client import GalleryClientSession, Identification, check_top
from parties.gallery.sessions.entries import EntryList, receive_entries
from parties.gallery.sessions.messages import builds_of, follow_changes
from parties.gallery.shards.group import ShardGroup, chunks
from parties.gallery.shards.holding import held_by_both
from parties.gallery.shards.remote import RemoteShard, ShardTraffic
from parties.gallery.store.identities import asked_name, person_name
from parties.gallery.store.records import Entry
from parties.session.client import MatchResult
from parties.session.client_endpoint import ClientEndpoint
from parties.session.cost import OFFLINE, CostReport
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT, Channel
from protocols.document import hexadecimal, integer, list_of, row, word
from protocols.errors import HiddenError, ParameterError, PeerLostError, ProtocolError
from protocols.matching.outcome import index_bits

__all__ = ["Enrolment", "Identification", "PrivateClientSession"]

_PHOTOS = list_of(row(integer(1), integer(1)), CHUNK_ROWS, 1)
_MOVED = list_of(row(integer(1), integer(1), integer(1)), CHUNK_ROWS, 1)
_TRIES = 3
"""Largest number of tries of one identification while others change the gallery."""


@dataclass(frozen=True)
class Enrolment:
    """The result of an enrolment.

    Args:
        rows: row numbers of the photos in the gallery, in the order of the photos.
        cost: of the whole enrolment.
    """

    rows: tuple[int, ...]
    cost: CostReport = field(repr=False)


class PrivateClientSession(GalleryClientSession):
    """The client's side of a session about a private gallery.

    Args:
        endpoint: the client's, of this session.
        key: the client's.
        index_folder: for the index and the directory of who is enrolled. Both can be made again.
        shards: channels to the client's other ranks, each of which searches a shard. The server has as many.
    """

    def __init__(
        self, endpoint: ClientEndpoint, key: GalleryKey, index_folder: Path, shards: Sequence[Channel] = ()
    ) -> None:
        super().__init__(endpoint)
        self._key = key
        with self.endpoint.channel.receive_document("gallery") as document:
            if document.take("kind", word(*GalleryKind)) != GalleryKind.PRIVATE:
                raise ProtocolError("expected a private gallery, got a server's list")
            self._scope, self._lineage = (document.take(name, hexadecimal(16)) for name in ("scope", "lineage"))
            self._generation, count = document.take("generation", integer()), document.take("shards", integer())
        if count != 1 + len(shards):
            raise ProtocolError(f"expected {1 + len(shards)} shards, as the client has, got {count}")
        self._folder = IndexFolder(index_folder, self._lineage, self.endpoint.channel.timeout / 2)
        self._dimension = self.terms.graph.output_shape[0]
        traffic = ShardTraffic()
        self.endpoint.recorder.beside = traffic.peer, traffic.dealer
        self._other_shards = [RemoteShard(channel, traffic) for channel in shards]
        self._shards: ShardGroup | None = None
        self._people, self._indexed = Directory(), False
        self.endpoint.channel.send_document("key", {"check": key.check(self._scope, self._generation)})

    @property
    def scope(self) -> bytes:
        """16 bytes that identify the gallery to code that keeps data about it. All its copies have the same."""
        return self._scope

    def enroll_identity(self, identity: str, images: NDArray[np.float64]) -> Enrolment:
        """Add photos (n, C, H, W) of an identity to the gallery: all of them, or none.

        Raises:
            QueryRefusedError: the server refuses them.
            PeerLostError, ProtocolError: the session failed. The server has stored no photo, or it has stored all and
                could not say so.
        """
        identity = person_name(identity)
        with self.endpoint.request():
            values = self.endpoint.encode(images)
            self._prepare_probe()
            with self._ask({"operation": "gallery-enroll", "identity": identity, "photos": len(values)}) as answer:
                row, photo, generation = (answer.take(name, integer(1)) for name in ("row", "photo", "generation"))
            self._expect_generation(generation)
            entries = [Entry(row + i, identity, photo + i, generation) for i in range(len(values))]
            own = self._key.shares_of(self._scope, entries, self._dimension)
            for value, mask in zip(values, own, strict=True):
                self.endpoint.prepare_within(PROBE)
                self.endpoint.channel.send("gallery/share", self._embed(value[None]) - mask)
            self.endpoint.channel.receive_document("stored").end()
            self._indexed = False
            return Enrolment(tuple(entry.row for entry in entries), self.endpoint.finish())

    def verify_identity(self, identity: str, image: NDArray[np.float64]) -> MatchResult:
        """Compare a photo (1, C, H, W) with the nearest photo of an identity.

        Raises:
            QueryRefusedError: the identity is not enrolled, or the client asked about it too often.
        """
        identity = asked_name(identity)
        with self.endpoint.request():
            value = self.endpoint.encode(image)
            ready = self.endpoint.is_prepared(PROBE)
            with self._ask({"operation": "gallery-verify", "identity": identity}) as answer:
                photos = answer.take("photos", _PHOTOS)
            self.endpoint.prepare_within(PROBE)
            entries = [Entry(0, identity, photo, generation) for photo, generation in photos]
            for entry in entries:
                self._expect_generation(entry.generation)
            templates = self._key.shares_of(self._scope, entries, self._dimension)
            self._prepare_now(decide_requests(*templates.shape))
            probe = self._embed(value)
            return MatchResult((self._decide(probe, templates),), self.endpoint.finish(), ready)

    def update_index(self) -> CostReport:
        """Index everything that was enrolled since the last update; the first time, the whole gallery.

        Raises:
            QueryRefusedError: nobody is enrolled, or too many people are.
            StoreError: another session holds the index for too long.
        """
        shards = self._group()
        with self.endpoint.request(), shards.writing():
            known = self._people if self._people.change else Directory.load(self._folder.people)
            draws = [secrets.token_bytes(BUILD_BYTES) for _ in range(shards.count)]
            states = shards.states()
            told = [[build.hex(), digest, draw.hex()] for (build, digest), draw in zip(states, draws, strict=True)]
            self._tell({"operation": "gallery-index", "known": known.change, "indexed": told})
            shards.begin(builds_of(self.endpoint.channel.receive_document("indexed"), states, draws))
            people = follow_changes(self.endpoint.channel, known)
            self._expect_generation(people.generation)
            if people.digest != known.digest:
                people.save(self._folder.people)
            parts = list(chunks(shards.arrange(people.parts(shards.count)), CHUNK_ROWS))
            for number, rows in enumerate(parts):
                self.endpoint.report(OFFLINE, "index", number, len(parts))
                shares = [self._key.shares_of(self._scope, people.entries(one), self._dimension) for one in rows]
                with self._recorded_party("index", OFFLINE) as party:
                    shards.extend(party, list(zip(rows, shares, strict=True)))
            self._people, self._indexed = people, True
            return self.endpoint.finish()

    def identify(self, image: NDArray[np.float64], top: int = 1) -> Identification:
        """Return who is nearest to a photo (1, C, H, W) and under the threshold, or "unknown"; never a distance.

        If the gallery has changed since it was indexed, this updates the index first.

        Args:
            top: how many identities to return, at most 64. If fewer are enrolled, their number replaces `top`.

        Raises:
            QueryRefusedError: the client asked too often, nobody is enrolled, or the gallery changes all the time.
            StoreError: another session holds the index for too long.
        """
        check_top(top)
        value = self.endpoint.encode(image)
        probe: RingArray | None = None
        for _ in range(_TRIES):
            if not self._indexed:
                self.update_index()
            top = min(top, len(self._people.identities))
            try:
                with self.endpoint.request():
                    probe = self._ask_for(value, top, probe)
                    return self._search(probe, top)
            except IndexChangedError:  # by another session, or the gallery's owner
                self._indexed = False
        raise QueryRefusedError(f"expected an unchanged index during a query, but it has changed {_TRIES} times")

    def _ask_for(self, value: RingArray, top: int, probe: RingArray | None) -> RingArray:
        """Begin an identification, and return the probe's share. A further try returns the earlier share."""
        shards = self._group()
        if probe is None:
            self._prepare_probe()
        self._tell({"operation": "gallery-identify", "top": top, "again": probe is not None})
        with self.endpoint.recorder.recording(OFFLINE, "correlations"):
            shards.prepare(top)
            self.endpoint.source.prepare(winners_requests(shards.winners(top), top))
        return self._embed(value)[0] if probe is None else probe

    def _search(self, probe: RingArray, top: int) -> Identification:
        """Search the index. Both sides hold it during the search, and no longer."""
        shards, people = self._group(), self._people
        bits = index_bits(len(people.identities))
        try:
            with (
                held_by_both(CLIENT, self.endpoint.channel, shards),
                self._recorded_party("distances and shards' nearest") as party,
            ):
                keys = shards.find(party, probe, top, bits)
        except StoreError:
            self.endpoint.recorder.stages += self.endpoint.finish().stages  # part of the next try's cost
            raise
        with self._recorded_party("nearest and threshold") as party:
            indices = winners(party, keys, self.terms.threshold, top, bits, self.terms.reveal)
        if any(i is not None and i >= len(people.identities) for i in indices):
            raise HiddenError("expected an index of the gallery, got a larger one")
        names = tuple(None if i is None else people.identities[i] for i in indices)
        return Identification(names, self.endpoint.finish())

    def list_identities(self) -> dict[str, int]:
        """Return who is enrolled, in order of enrolment, and how many photos each has."""
        layout = layout_of(self._listed())
        return dict(zip(layout.identities, layout.sizes.tolist(), strict=True))

    def list_rows(self) -> dict[int, str]:
        """Return the person of each photo, by the row that the server gave it when it was enrolled."""
        return {entry.row: entry.identity for entry in self._listed()}

    def _listed(self) -> EntryList:
        with self.endpoint.request():
            self._tell({"operation": "gallery-list"})
            entries = receive_entries(self.endpoint.channel)
            self.endpoint.finish()
            return entries

    def remove_identities(self, identities: Sequence[str]) -> int:
        """Remove identities with all their photos, and the indexes of both sides; return how many photos.

        Raises:
            QueryRefusedError: the server refuses; nobody is removed.
            StoreError: the client's own index cannot be removed, or another session holds it for too long.
            ParameterError: the names take more than 1 MiB, the size of one command; nobody is removed.
        """
        shards = self._group()
        with self.endpoint.request(), shards.writing():
            try:
                answer = self._ask({"operation": "gallery-remove", "identities": list(identities)})
            except ParameterError as error:  # the command is too large
                raise ParameterError(
                    f"cannot remove {len(identities)} identities at once: {error}; nobody was removed"
                ) from error
            with answer:
                removed = answer.take("removed", integer())
            self.endpoint.finish()
            if removed:
                self._forget_index(shards)
            return removed

    def rename_identity(self, old: str, new: str) -> dict[int, int]:
        """Give a person another name, without enrolling again; return the new row of each old row.

        The server learns differences of two streams, which are uniform.

        Args:
            old: the name as it is in the gallery.
            new: a name that nobody has.

        Raises:
            ParameterError: the new name is not in the form of new names.
            QueryRefusedError: nobody has the old name, or somebody has the new one.
        """
        new = person_name(new)
        shards = self._group()
        with self.endpoint.request(), shards.writing():
            with self._ask({"operation": "gallery-rename", "identity": old, "name": new}) as answer:
                photos = answer.take("photos", _MOVED)
                row, photo = (answer.take(name, integer(1)) for name in ("row", "photo"))
            entries = [Entry(place, old, number, generation) for place, number, generation in photos]
            for entry in entries:
                self._expect_generation(entry.generation)
            renamed = [Entry(row + i, new, photo + i, self._generation) for i in range(len(entries))]
            own, others = (self._key.shares_of(self._scope, part, self._dimension) for part in (entries, renamed))
            self._forget_index(shards)
            self.endpoint.channel.send("gallery/renaming", own - others)
            self.endpoint.channel.receive_document("renamed").end()
            self.endpoint.finish()
            return {one.row: other.row for one, other in zip(entries, renamed, strict=True)}

    def rotate_key(self, key: GalleryKey) -> int:
        """Put the whole gallery under a new key, without enrolling again; return its new generation.

        For every share the server learns the difference of two streams, which is uniform. Keep the old key until this
        method returns. If an error interrupts the change, the gallery is under one of the two keys.

        Raises:
            QueryRefusedError, StoreError: the gallery stays under the old key.
            PeerLostError, ProtocolError: the gallery is under one of the two keys, which the message names if it can.
        """
        shards = self._group()
        with self.endpoint.request(), shards.writing():
            command = {"operation": "gallery-rotate", "check": key.check(self._scope, self._generation + 1)}
            try:
                with self._ask(command) as answer:
                    generation = answer.take("generation", integer())
            except QueryRefusedError as error:
                raise QueryRefusedError(f"{error.reason}; the gallery stays under the old key") from error
            self._expect_generation(generation)
            self._forget_index(shards)
            advice = "keep both keys: the gallery is under one of them"
            try:
                self._send_new_shares(key)
                with self.endpoint.channel.receive_document("rotated") as document:
                    new = document.take("generation", integer(generation + 1, generation + 1))
                advice = "the gallery is under the new key"
                self._key, self._shards, self._generation = key, None, new
                self.endpoint.finish()
            except (PeerLostError, ProtocolError) as error:
                raise type(error)(f"{error}; {advice}") from error
            return new

    def _send_new_shares(self, key: GalleryKey) -> None:
        """Send the differences that turn the server's shares into shares under another key."""
        entries = receive_entries(self.endpoint.channel)
        for start in range(0, len(entries), CHUNK_ROWS):
            part = entries[start : start + CHUNK_ROWS]
            renewed = [Entry(e.row, e.identity, e.photo, self._generation + 1) for e in part]
            old = self._key.shares_of(self._scope, part, self._dimension)
            self.endpoint.channel.send("gallery/rotation", old - key.shares_of(self._scope, renewed, self._dimension))

    def _forget_index(self, shards: ShardGroup) -> None:
        """Remove the indexes and the directory from the client's folders. The caller holds them alone."""
        self._people, self._indexed = Directory(), False
        shards.erase()

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
        """Return the shards under the current key."""
        if self._shards is None:
            seed = self._key.mask_seed(self._scope)
            own = self.endpoint.source, self._other_shards, self._folder, self._dimension
            self._shards = ShardGroup(*own, lambda: seed)
        return self._shards

    def _expect_generation(self, generation: int) -> None:
        """Check that the gallery is still under this key. Under another key, the client's shares would be noise."""
        if generation != self._generation:
            raise ProtocolError("expected the gallery's key as it was, but it has changed: open it with the new one")
