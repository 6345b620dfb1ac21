"""Run a session about a private gallery, on the server's side. The server holds the store and sets the limits.

The server never sees a template.

- **Enrolment.** The server reserves the numbers of a photo. Both parties run the network on it, which leaves shares c
  and s of the embedding t = c + s. The client sends c - PRF_k(numbers), which is uniform to the server. The server adds
  s to it, and stores the sum t - PRF_k(numbers).
- **Verification.** The client recomputes its share from the key. The server reads its own share.
- **Identification.** See `protocols.matching`.
"""

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from parties.gallery.errors import IndexChangedError, RefusalError, StoreError, TracesLeftError
from parties.gallery.index.directory import Directory
from parties.gallery.index.file import BUILD_BYTES
from parties.gallery.index.folder import IndexFolder
from parties.gallery.index.removal import remove_people
from parties.gallery.index.search import (
    CHUNK_ROWS,
    PROBE,
    winners,
    winners_requests,
)
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.gallery.sessions.entries import MAX_ENTRIES, send_entries
from parties.gallery.sessions.key_check import CHECK, KeyCheck
from parties.gallery.sessions.messages import refreshed, send_changes
from parties.gallery.sessions.server import IDENTITY, TOP, GalleryQueries, GalleryServerSession
from parties.gallery.shards.group import ShardGroup, chunks
from parties.gallery.shards.holding import held_by_both
from parties.gallery.shards.remote import DIGEST_DIGITS, RemoteShard, ShardTraffic
from parties.gallery.shards.shard import Wanted, build_of
from parties.gallery.store.identities import asked_name, new_name
from parties.gallery.store.limits import EVERYONE
from parties.gallery.store.records import Entry
from parties.session.commands import Command, Commands, OnCommand
from parties.session.cost import OFFLINE
from parties.session.server_endpoint import ServerEndpoint
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import SERVER, Channel
from protocols.correlations.fixed_mask import MAX_ROWS
from protocols.document import boolean, hexadecimal, integer, list_of, row, text
from protocols.errors import HiddenError, ParameterError, ProtocolError
from protocols.matching.outcome import index_bits

__all__ = ["PrivateServerSession"]

_MOST_ROWS = MAX_ROWS
"""Largest number of rows of a shard's index."""

_TRIES = 3
"""Largest number of tries of one identification while others change the gallery; as on the client."""

_STATE = row(hexadecimal(0, BUILD_BYTES), text(DIGEST_DIGITS), hexadecimal(BUILD_BYTES))


@dataclass(frozen=True)
class _State:
    """The state of one shard's index on the client, as the client sends it.

    Args:
        build, digest: of the client's index; an empty build if the client has no index.
        draw: random bytes of the client, for the number of a new build.
    """

    build: bytes
    digest: str
    draw: bytes


@dataclass(frozen=True)
class _Probe:
    """The probe of an admitted identification whose outcome was not opened yet.

    Args:
        share: uint64 (d,), the server's share of the probe.
        top: number of identities that the identification was admitted for.
        tries: number of tries of the identification so far.
    """

    share: RingArray = field(repr=False)
    top: int
    tries: int = 1


class PrivateServerSession(GalleryServerSession):
    """The server's side of a session about a private gallery.

    Args:
        endpoint: the server's, of this session.
        queries: the gallery, and the limits on queries to it.
        index_folder: for the index. A removal, a renaming or a change of key removes the index.
        shards: channels to the server's other ranks, each of which searches a shard. The client has as many.
    """

    kind = GalleryKind.PRIVATE
    rights: ClassVar = {
        "gallery-enroll": Right.ENROLL,
        "gallery-verify": Right.VERIFY,
        "gallery-identify": Right.IDENTIFY,
        "gallery-index": Right.IDENTIFY,
        "gallery-list": Right.LIST,
        "gallery-remove": Right.REMOVE,
        "gallery-rename": Right.RENAME,
        "gallery-rotate": Right.ROTATE,
    }

    def __init__(
        self, endpoint: ServerEndpoint, queries: GalleryQueries, index_folder: Path, shards: Sequence[Channel] = ()
    ) -> None:
        super().__init__(endpoint, queries)
        store = queries.store
        traffic = ShardTraffic()
        self.endpoint.recorder.beside = traffic.peer, traffic.dealer
        self._other_shards = [RemoteShard(channel, traffic) for channel in shards]
        folder = IndexFolder(index_folder, store.lineage, self.endpoint.channel.timeout / 2)
        self._group = ShardGroup(self.endpoint.source, self._other_shards, folder, store.dimension, folder.seed)
        self._people, self._indexed = Directory(), False
        self._probe: _Probe | None = None
        document = {"kind": store.kind.value, "scope": store.scope.hex(), "lineage": store.lineage.hex()}
        self.endpoint.channel.send_document(
            "gallery", {**document, "generation": store.generation, "shards": 1 + len(shards)}
        )
        self._checks = KeyCheck(store)
        with self.endpoint.channel.receive_document("key") as answer:
            self._checks.compare(answer.take("check", CHECK).hex())

    @property
    def commands(self) -> Commands:
        """The commands that the session obeys, besides its endpoint's."""
        return {
            "gallery-enroll": self._read_enrolment,
            "gallery-verify": lambda command: partial(self._verify_identity, command.take("identity", IDENTITY)),
            "gallery-identify": self._read_identification,
            "gallery-index": self._read_extension,
            "gallery-list": lambda command: self._send_list,
            "gallery-remove": self._read_removal,
            "gallery-rename": self._read_renaming,
            "gallery-rotate": lambda command: partial(self._rotate, command.take("check", CHECK).hex()),
        }

    def _read_enrolment(self, command: Command) -> Callable[[], None]:
        identity, photos = command.take("identity", IDENTITY), command.take("photos", integer(1, CHUNK_ROWS))
        return lambda: self._enroll_in_gallery(identity, photos)

    def _read_identification(self, command: Command) -> Callable[[], None]:
        top, again = command.take("top", TOP), command.take("again", boolean)
        return lambda: self._identify(top, again)

    def _read_extension(self, command: Command) -> Callable[[], None]:
        shards = 1 + len(self._other_shards)
        known, states = command.take("known", integer()), command.take("indexed", list_of(_STATE, shards, shards))
        return lambda: self._extend(known, [_State(*state) for state in states])

    def _read_removal(self, command: Command) -> Callable[[], None]:
        identities = command.take("identities", list_of(IDENTITY, MAX_ENTRIES))
        return lambda: self._remove(identities)

    def _read_renaming(self, command: Command) -> Callable[[], None]:
        old, new = command.take("identity", IDENTITY), command.take("name", IDENTITY)
        return lambda: self._rename(old, new)

    def _enroll_in_gallery(self, identity: str, photos: int) -> None:
        """Enrol all photos of one person in one transaction, after all shares have arrived; otherwise none."""
        _expect_new_name(identity)
        entries = self._store.reserve_many([identity] * photos)
        try:
            self._log("enroll", identity)
            first = entries[0]  # the others' numbers follow
            self._accept(row=first.row, photo=first.photo, generation=first.generation)
            self._store.commit_many(list(zip(entries, (self._receive_share() for _ in entries), strict=True)))
        except BaseException:
            with suppress(StoreError):  # a reservation stands for nobody, and goes when the store is next opened
                self._store.cancel_many(entries)
            raise
        self._checks.keep()
        self.endpoint.channel.send_document("stored", {})

    def _receive_share(self) -> RingArray:
        """Run the network on a photo; return the share to store, uint64 (d,)."""
        self.endpoint.await_prepared(PROBE)
        share = self.endpoint.extract(PROBE)
        return (share + self.endpoint.channel.receive("gallery/share", np.uint64, share.shape))[0]

    def _verify_identity(self, identity: str) -> None:
        self._admit("verify", identity, enrolled=self._store.has(identity))
        found = self._store.get(identity)
        if not found:
            raise RefusalError("expected an enrolled identity, found none of that name")
        self._accept(photos=[[entry.photo, entry.generation] for entry, _ in found])
        self._decide(np.stack([share for _, share in found]))

    def serve(self, on_done: Callable[[], None] | None = None, on_command: OnCommand | None = None) -> None:
        """Obey commands like `ServerSession`; then let the other ranks of the shards end."""
        super().serve(on_done, on_command)
        for shard in self._other_shards:
            shard.end()

    def _extend(self, known: int, states: Sequence[_State]) -> None:
        """Update the index. For each shard whose index does not match the client's, begin a new one."""
        if not self._store.count:
            raise RefusalError("expected enrolled identities, found none")
        self._log("index")
        shards = self._group
        with shards.writing():
            rows = self._rows_of_shards()
            self._accept()
            draws = [secrets.token_bytes(BUILD_BYTES) for _ in states]
            builds = shards.agree(
                [
                    Wanted(state.build, state.digest, build_of(state.draw, draw), count, _MOST_ROWS)
                    for state, draw, count in zip(states, draws, rows, strict=True)
                ]
            )
            numbers = {"builds": builds, "draws": draws}
            self.endpoint.channel.send_document(
                "indexed", {key: [one.hex() for one in v] for key, v in numbers.items()}
            )
            shards.begin(builds)
            self._people = people = send_changes(self.endpoint.channel, self._store, known, self._people)
            for part in chunks(shards.arrange(people.parts(shards.count)), CHUNK_ROWS):
                shares = [self._store.shares(one.tolist(), people.generation) for one in part]
                with self.endpoint.recorded_party("index", OFFLINE) as party:
                    shards.extend(party, list(zip(part, shares, strict=True)))
            self._indexed = True

    def _rows_of_shards(self) -> list[int]:
        """Return the number of templates in each shard; refuse if a shard has too many."""
        self._people = refreshed(self._store, self._people)
        rows = [len(part.rows) for part in self._people.parts(self._group.count)]
        if max(rows) > _MOST_ROWS:
            raise RefusalError(
                f"expected at most {_MOST_ROWS} photos in each of {len(rows)} parts of the gallery,"
                f" got {max(rows)}: use more shards"
            )
        return rows

    def _identify(self, top: int, again: bool) -> None:
        """Find the nearest identities. If the index has changed meanwhile, keep the probe for another try."""
        probe, self._probe = (self._probe if again else None), None
        if probe:
            probe = replace(probe, tries=probe.tries + 1)
        if again and (probe is None or top > probe.top or probe.tries > _TRIES):
            raise ProtocolError(
                f"expected another try for at most as many as before, and at most {_TRIES} in all, got one for {top}"
            )
        people, shards, identities = self._people, self._group, len(self._people.identities)
        if not self._indexed or self._store.last_change != people.change:
            self._probe = probe
            raise IndexChangedError("expected the gallery as it was indexed, but it has changed: index it again")
        top, bits = min(top, identities), index_bits(identities)
        if probe is None:
            self._admit("identify", EVERYONE, top)
        else:
            self._log("identify again")
        self._accept()
        with self.endpoint.recorder.recording(OFFLINE, "correlations"):
            shards.prepare(top)
            self.endpoint.source.prepare(winners_requests(shards.winners(top), top))
        probe = probe or _Probe(self.endpoint.extract(PROBE)[0], top)
        try:
            with (
                held_by_both(SERVER, self.endpoint.channel, shards),
                self.endpoint.recorded_party("distances and shards' nearest") as party,
            ):
                keys = shards.find(party, probe.share, top, bits)
        except RefusalError as error:  # the client knows
            self._probe = probe if isinstance(error, IndexChangedError) else None
            self._indexed = False
            if self._probe is None:
                self._log_refusal()
            self._accepted = False  # refused after all
            return
        with self.endpoint.recorded_party("nearest and threshold") as party:
            indices = winners(party, keys, self.terms.threshold, top, bits, self.terms.reveal)
        if any(i is not None and i >= identities for i in indices):
            raise HiddenError("expected an index of the gallery, got a larger one")
        self.last_identities = tuple(None if i is None else people.identities[i] for i in indices)

    def _send_list(self) -> None:
        self._log("list")
        self._accept()
        send_entries(self.endpoint.channel, [entry for entry, _ in self._store.entries()])

    def _remove(self, identities: Sequence[str]) -> None:
        """Remove identities: first all indexes of the gallery, then the identities themselves."""
        known = self._store.identities()
        names = [asked_name(identity, known) for identity in identities]
        self._log("remove")
        with self._group.writing():
            try:
                removed = remove_people(self._store, names, self._forget_index)
            except TracesLeftError as error:
                removed = error.removed
        self._accept(removed=removed)

    def _rename(self, old: str, new: str) -> None:
        """Move a person's photos to another name: add the differences that the client sends to the shares."""
        _expect_new_name(new)
        if self._store.has(new):
            raise RefusalError("expected a new name that nobody has, found somebody of that name: choose another one")
        self._log("rename", new)
        with self._group.writing():
            entries = [entry for entry, _ in self._store.get(old)]
            if not entries:
                raise RefusalError("expected an enrolled identity, found none of that name")
            reserved = self._store.reserve_many([new] * len(entries))
            try:
                self._forget_index()
                first = reserved[0]  # the others' numbers follow
                photos = [[entry.row, entry.photo, entry.generation] for entry in entries]
                self._accept(photos=photos, row=first.row, photo=first.photo)
                change = self.endpoint.channel.receive(
                    "gallery/renaming", np.uint64, (len(entries), self._store.dimension)
                )
                with suppress(TracesLeftError):  # they go with the next removal
                    self._store.commit_name(entries, reserved, change)
            except BaseException:
                with suppress(StoreError):
                    self._store.cancel_many(reserved)
                raise
        self.endpoint.channel.send_document("renamed", {})

    def _rotate(self, check: str) -> None:
        """Replace all shares by those under the client's new key. A crash leaves all old or all new shares.

        Everything that may be refused comes before the answer. The server answers before it replaces any share.
        """
        self._log("rotate-key")
        with self._group.writing():
            entries = [entry for entry, _ in self._store.entries()]
            self._forget_index()  # differences opened under the old key are useless now
            self._accept(generation=self._store.generation)
            send_entries(self.endpoint.channel, entries)
            self._checks.expect(check)
            generation = self._store.replace_shares(self._rotated(entries))
            self.endpoint.channel.send_document("rotated", {"generation": generation})
            self._checks.replace(check)

    def _rotated(self, entries: Sequence[Entry]) -> Any:
        for start in range(0, len(entries), CHUNK_ROWS):
            part = entries[start : start + CHUNK_ROWS]
            rows = [entry.row for entry in part]
            change = self.endpoint.channel.receive("gallery/rotation", np.uint64, (len(part), self._store.dimension))
            yield from zip(rows, self._store.shares(rows) + change, strict=True)

    def _forget_index(self) -> None:
        """Remove all indexes and their seed. The caller holds them alone."""
        self._indexed, self._probe = False, None
        self._group.erase()


def _expect_new_name(name: str) -> None:
    """Refuse a name that is not in the form of new names."""
    try:
        new_name(name)
    except ParameterError as error:
        raise RefusalError(str(error)) from error
