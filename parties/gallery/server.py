"""A gallery's session, the server's side: it holds the store, sets the limits, and never sees a template.

Enrolment: the server reserves the numbers of a photo; both extract, which leaves shares c + s of the embedding t; the
client sends c - PRF_k(numbers), uniform to the server, and the server stores s plus that: t - PRF_k. Verification: the
client recomputes its share from the key, the server reads its own. Identification: see `protocols.identification`.
"""

import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parties.cost import OFFLINE
from parties.gallery.directory import Directory
from parties.gallery.errors import StoreError
from parties.gallery.index_file import BUILD_BYTES
from parties.gallery.key_check import KeyCheck
from parties.gallery.limits import EVERYONE, QueryLimits
from parties.gallery.queries import (
    CHUNK_ROWS,
    PROBE,
    TOP_MAX,
    decide,
    decide_requests,
    winners,
    winners_requests,
)
from parties.gallery.query_server import QueryServerSession
from parties.gallery.records import Entry, Kind
from parties.gallery.shard_group import RemoteShard, ShardGroup, Traffic, chunks
from parties.gallery.store import GalleryStore
from parties.gallery.wire import send_changes, send_entries
from protocols.channel import Channel, printable
from protocols.errors import ProtocolError
from protocols.identification.outcome import index_bits
from protocols.randomness import KEY_BYTES

__all__ = ["GalleryServerSession"]


class GalleryServerSession(QueryServerSession):
    """The server's side of a session about a private gallery.

    Args:
        store: of the gallery.
        limits: on the client's queries; None for none.
        client_name: whom the limits count, as the caller has authenticated them.
        index_folder: where the index is kept, and nothing else: a change of key removes it.
        shards: channels to other ranks of the server's that search a part each; the client has as many.
        others: as for `ServerSession`.
    """

    def __init__(
        self,
        *others: Any,
        store: GalleryStore,
        limits: QueryLimits | None,
        client_name: str,
        index_folder: Path,
        shards: Sequence[Channel] = (),
        **options: Any,
    ) -> None:
        super().__init__(*others, store=store, kind=Kind.PRIVATE, limits=limits, client_name=client_name, **options)
        self._index_folder = index_folder
        traffic = Traffic()
        self._recorder.beside = traffic.peer, traffic.dealer
        self._other_shards = [RemoteShard(channel, traffic) for channel in shards]
        self._shards: ShardGroup | None = None
        self._people, self._indexed = Directory(), False
        document = {"kind": store.kind.value, "scope": store.scope.hex(), "lineage": store.lineage.hex()}
        self._channel.send_document("gallery", {**document, "generation": store.generation, "shards": 1 + len(shards)})
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
            case {"operation": "gallery-index", "known": int(known), "indexed": [*states]} if 0 <= known < 2**63:
                self._answer(lambda: self._extend(known, _states(states, 1 + len(self._other_shards))))
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
        found = self._store.get(identity)
        self._admit("verify", identity, enrolled=bool(found))
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

    def serve(self, on_done: Callable[[], None] | None = None) -> None:
        """Obey commands, as `ServerSession`; then let the other ranks of the shards end."""
        super().serve(on_done)
        for shard in self._other_shards:
            shard.end()

    def _extend(self, known: int, states: Sequence[tuple[bytes, str]]) -> None:
        """Bring the index up to date; begin again, shard by shard, if the client's is another."""
        if not self._store.count:
            raise StoreError("expected enrolled identities, found none")
        shards = self._group()
        with shards.writing():
            self._accept()
            builds = shards.agree(states)
            self._channel.send_document("indexed", {"builds": [build.hex() for build in builds]})
            shards.begin(builds)
            self._people = people = send_changes(self._channel, self._store, known, self._people)
            for rows in chunks(shards.arrange(people.parts(shards.count)), CHUNK_ROWS):
                shares = [self._store.shares(one.tolist(), people.generation) for one in rows]
                with self._party("index", OFFLINE) as party:
                    shards.extend(party, list(zip(rows, shares, strict=True)))
            self._indexed = True

    def _identify(self, top: int) -> None:
        people, shards, identities = self._people, self._group(), len(self._people.identities)
        if not self._indexed:
            raise StoreError("expected the index first")
        if self._store.last_change != people.change:
            raise StoreError("expected the gallery as it was indexed, but it has changed: index it again")
        if top > identities:
            raise StoreError(f"expected to ask for at most {identities} identities, got {top}")
        bits = index_bits(identities)
        with shards.reading():
            self._admit("identify", EVERYONE, top)
            self._accept()
            with self._recorder.recording(OFFLINE, "correlations"):
                shards.prepare(top)
                self._source.prepare(winners_requests(shards.winners(top), top))
            probe = self._extract(PROBE)
            with self._party("distances and shards' nearest") as party:
                keys = shards.find(party, probe[0], top, bits)
            with self._party("nearest and threshold") as party:
                indices = winners(party, keys, self.terms.threshold, top, bits, self.terms.reveal)
        if any(i is not None and i >= identities for i in indices):
            raise ProtocolError("expected an index of the gallery, got a larger one")
        self.last_identities = tuple(None if i is None else people.identities[i] for i in indices)

    def _send_list(self) -> None:
        self._log("list")
        self._accept()
        send_entries(self._channel, [entry for entry, _ in self._store.entries()])

    def _remove(self, identities: Sequence[Any]) -> None:
        self._log("remove")
        removed = self._store.remove_many([str(identity) for identity in identities])
        if removed:
            self._forget_index()  # what was opened of them goes too
        self._accept(removed=removed)

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
        shards = self._group()
        with shards.writing():
            shards.delete()
        self._shards, self._indexed = None, False
        shutil.rmtree(self._index_folder, ignore_errors=True)

    def _group(self) -> ShardGroup:
        """Return the shards, open."""
        if self._shards is None:
            where = self._index_folder, self._store.lineage, self._mask_seed(), self._store.dimension
            self._shards = ShardGroup.open(self._source, self._other_shards, *where)
        return self._shards

    def _mask_path(self) -> Path:
        return self._index_folder / f"{self._store.lineage.hex()}.mask"

    def _mask_seed(self) -> bytes:
        """Return the server's seed of the fixed mask: drawn once, kept beside the index."""
        self._index_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return read_or_draw(self._mask_path())


def _states(states: Sequence[Any], count: int) -> list[tuple[bytes, str]]:
    """Check what a client says of its index: a build, perhaps none, and a digest for every shard."""
    checked = []
    for state in states:
        match state:
            case [str(build), str(digest)] if len(build) in (0, 2 * BUILD_BYTES) and _is_hex(build):
                checked.append((bytes.fromhex(build), digest))
            case _:
                raise ProtocolError(f"expected a build and a digest, got {printable(state)}")
    if len(checked) != count:
        raise ProtocolError(f"expected the states of {count} indexes, got {len(checked)}")
    return checked


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)


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
