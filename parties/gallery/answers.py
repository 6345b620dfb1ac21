"""What a server answers in a private gallery's session, checked before the client uses it."""

from collections.abc import Sequence
from typing import Any

from parties.gallery.index.file import BUILD_BYTES
from parties.gallery.index.search import CHUNK_ROWS
from parties.gallery.shards.shard import build_of
from parties.gallery.store.records import Entry
from protocols.channel import printable
from protocols.errors import ProtocolError

__all__ = ["builds_of", "entries_of", "identifier", "number"]


def number(value: Any, least: int = 0) -> int:
    """Return a number that a store can hold.

    Raises:
        ProtocolError: it is none, or smaller than the least.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise ProtocolError(f"expected a number, got {printable(value)}")
    return value


def identifier(text: str) -> bytes:
    """Return a scope or a lineage.

    Raises:
        ProtocolError: other than 16 bytes.
    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise ProtocolError(f"expected 16 bytes in hexadecimal, got {printable(text)}")
    return value


def builds_of(document: dict[str, Any], states: Sequence[tuple[bytes, str]], draws: Sequence[bytes]) -> list[bytes]:
    """Return the builds that the server names: each the client's own, or a new one that both have drawn.

    Raises:
        ProtocolError: one is neither; it might be an old one, whose rows of B have hidden templates.
    """
    builds, theirs = (_hexadecimal(document.get(name), len(draws)) for name in ("builds", "draws"))
    for build, (known, _), own, other in zip(builds, states, draws, theirs, strict=True):
        if build not in (known, build_of(own, other)):
            raise ProtocolError("expected a build's number that both sides have drawn, got another one")
    return builds


def _hexadecimal(values: Any, count: int) -> list[bytes]:
    try:
        parsed = [bytes.fromhex(one) for one in values]
    except (TypeError, ValueError):
        parsed = []
    if len(parsed) != count or any(len(one) != BUILD_BYTES for one in parsed):
        raise ProtocolError(f"expected numbers of the builds of {count} shards, got {printable(values)}")
    return parsed


def entries_of(identity: str, photos: Any) -> list[Entry]:
    """Return the entries of an identity's photos, each told as its number and its key's generation.

    Raises:
        ProtocolError: there are none, or too many, or they are no such numbers.
    """
    if not isinstance(photos, list) or not 0 < len(photos) <= CHUNK_ROWS:
        raise ProtocolError(f"expected photos of an identity, got {printable(photos)}")
    entries = []
    for item in photos:
        match item:
            case [photo, generation]:
                entries.append(Entry(0, identity, number(photo, 1), number(generation, 1)))
            case _:
                raise ProtocolError(f"expected a photo's numbers, got {printable(item)}")
    return entries
