"""Export a store's content to a file, and import it: JSON lines that any tool can read, checked by a digest.

**Format.**

- The first line is a header: format and version, model, dimension, kind, scope, the key's generation, the number of
  photos, and the counters of rows and photos.
- A line for every photo follows, in the order of rows: its numbers, identity, and the share as base64 of 8 d bytes,
  little endian. The file has the shares as the store has them: uniform noise for a private gallery, templates for a
  list.
- The last line has the SHA-256 of all lines before it.

**Import** takes the whole file, and only into a store in which nothing was ever enrolled. Photos keep their numbers,
since key streams and masks depend on them. Photos enrolled after the export have used numbers that the file does not
know. So the counters jump ahead by a random 2^32 to 2^52, and no stream is used for a second template.

**A copy of the database file** has no such protection. Never go on with an old copy after the original was written to.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.records import MAX_IDENTITY, Entry, identity_bytes
from parties.gallery.store.tables import Tables, batch_rows
from parties.machine.durable import created
from parties.machine.plain_files import open_plain

__all__ = ["expect_whole", "export", "exported_kind", "exported_model", "import_"]

_FORMAT, _VERSION = "hybridface gallery", 1
_JUMP = 1 << 32, 1 << 52
_LAST_NUMBER = (1 << 63) - 1
_HEADER_CHARACTERS = 4096
_CHUNK = 1 << 20
_SCOPE = re.compile("[0-9a-f]{32}")
_HEADER_TYPES = {
    "format": str,
    "version": int,
    "model": str,
    "dimension": int,
    "kind": str,
    "scope": str,
    "generation": int,
    "photos": int,
    "last_row": int,
    "photo_floor": int,
}


def export(tables: Tables, path: Path) -> int:
    """Write a store's content to a new file: see `GalleryStore.export`.

    Raises:
        StoreError: the file exists or cannot be written.
    """
    with tables.database.errors():
        try:
            with created(path) as file, tables.database.reading():
                digest, photos = hashlib.sha256(), tables.count()
                for line in _lines(tables):
                    digest.update(line)
                    file.write(line)
                file.write(_line({"sha256": digest.hexdigest()}))
        except FileExistsError as error:
            raise StoreError(f"{path.name}: expected a new file to export to, got one that exists") from error
        except OSError as error:
            raise StoreError(f"{path.name}: cannot write the export: {error.strerror}") from error
    return photos


def import_(tables: Tables, path: Path) -> int:
    """Read a file into an empty store: see `GalleryStore.import_`."""
    database = tables.database
    with _opened(path) as file, database.writing():
        header, digest = _header(file, path.name, tables)
        if database.number("SELECT count(*) FROM sqlite_sequence WHERE name IN ('entry', 'change')"):
            raise StoreError(f"{database.path.name}: expected a store that was never used to import into")
        database.execute(
            "UPDATE state SET scope = ?, lineage = ?, generation = ?",
            (bytes.fromhex(header["scope"]), secrets.token_bytes(16), header["generation"]),
        )
        limit = 12 * MAX_IDENTITY + 12 * tables.dimension + _HEADER_CHARACTERS
        last_row = last_photo = 0
        for _ in range(header["photos"]):
            line = file.readline(limit)
            digest.update(line)
            entry, share = _entry(line, header["generation"], path.name)
            if len(share) != 8 * tables.dimension or entry.row <= last_row:
                raise StoreError(f"{path.name}: expected shares of {tables.dimension} numbers by row, got others")
            last_row, last_photo = entry.row, max(last_photo, entry.photo)
            raw = identity_bytes(entry.identity)
            if database.rows("SELECT 1 FROM entry WHERE identity = ? AND photo = ?", (raw, entry.photo)):
                raise StoreError(f"{path.name}: expected each photo of a person once, got photo {entry.photo} twice")
            tables.restore(entry, raw, share)
        _expect_digest(file.readline(limit), digest, path.name)
        if file.read(1):
            raise StoreError(f"{path.name}: expected nothing after the line with the digest: the file is damaged")
        last_row, last_photo = max(last_row, header["last_row"]), max(last_photo, header["photo_floor"])
        if max(last_row, last_photo) > _LAST_NUMBER - 2 * _JUMP[1]:
            raise StoreError(f"{path.name}: expected numbers of rows and photos that leave room for more, got others")
        _jump(tables, last_row, last_photo)
    return int(header["photos"])


def expect_whole(path: Path) -> None:
    """Compare an exported file with its digest, before a gallery is made for it.

    Raises:
        StoreError: it is damaged, or no exported file.
    """
    digest, last = hashlib.sha256(), b""
    with _opened(path) as file:
        while line := file.readline(_CHUNK):
            digest.update(last)
            last = line
    _expect_digest(last, digest, path.name)


def exported_kind(path: Path) -> GalleryKind:
    """Return the kind of the gallery in an exported file, from the file's first line.

    Raises:
        StoreError: it is not an exported file, or it is of another version.
    """
    header = _header_of(path)
    if header.get("kind") not in list(GalleryKind):
        raise StoreError(f"{path.name}: expected an exported gallery's header, got one that is damaged")
    return GalleryKind(header["kind"])


def exported_model(path: Path) -> tuple[str, int]:
    """Return the digest of the model of an exported file's templates, and their dimension.

    Raises:
        StoreError: as for `exported_kind`.
    """
    match _header_of(path):
        case {"model": str(model), "dimension": int(dimension)}:
            return model, dimension
    raise StoreError(f"{path.name}: expected an exported gallery's header, got one that is damaged")


def _header_of(path: Path) -> dict[str, Any]:
    with _opened(path) as file:
        return _first_line(file, path.name)[0]


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open an exported file; what cannot be read is an error of that file, not of the gallery."""
    try:
        with open_plain(path) as file:
            yield file
    except OSError as error:
        raise StoreError(f"{path.name}: cannot use the file: {error.strerror}") from error


def _lines(tables: Tables) -> Iterator[bytes]:
    model, dimension, kind, scope, generation, floor = cast(
        tuple[str, int, str, bytes, int, int],
        tables.database.rows(
            "SELECT model, dimension, kind, scope, generation, photo_floor FROM state",
            types=(str, int, str, bytes, int, int),
        )[0],
    )
    last_row = tables.database.number("SELECT max(seq) FROM sqlite_sequence WHERE name = 'entry'")
    photos = tables.count()
    values = _FORMAT, _VERSION, model, dimension, kind, scope.hex(), generation, photos, last_row, floor
    yield _line(dict(zip(_HEADER_TYPES, values, strict=True)))
    after = 0
    while batch := tables.select("e.row > ? ORDER BY e.row LIMIT ?", (after, batch_rows(dimension))):
        for entry, share in batch:
            text = base64.b64encode(share.astype("<u8").tobytes()).decode()
            yield _line({"row": entry.row, "identity": entry.identity, "photo": entry.photo, "share": text})
        after = batch[-1][0].row


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _document(line: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise StoreError(f"{name}: expected an exported gallery, got a line of another form")
    return document


def _expect_digest(line: bytes, digest: "hashlib._Hash", name: str) -> None:
    if _document(line, name) != {"sha256": digest.hexdigest()}:
        raise StoreError(f"{name}: expected content that fits the digest at the end: the file is damaged")


def _first_line(file: IO[bytes], name: str) -> tuple[dict[str, Any], bytes]:
    line = file.readline(_HEADER_CHARACTERS)
    header = _document(line, name)
    if header.get("format") != _FORMAT or header.get("version") != _VERSION:
        raise StoreError(f"{name}: expected an exported gallery of version {_VERSION}, got another file or version")
    return header, line


def _header(file: IO[bytes], name: str, tables: Tables) -> "tuple[dict[str, Any], hashlib._Hash]":
    header, line = _first_line(file, name)
    typed = {key: type(value) for key, value in header.items()} == _HEADER_TYPES
    counters = ("generation", "photos", "last_row", "photo_floor")
    if (
        not typed
        or not all(0 <= header[key] <= _LAST_NUMBER for key in counters)
        or not _SCOPE.fullmatch(header["scope"])
    ):
        raise StoreError(f"{name}: expected an exported gallery's header, got one that is damaged")
    expected = tables.database.rows("SELECT model, dimension, kind FROM state")[0]
    if (header["model"], header["dimension"], header["kind"]) != expected:
        raise StoreError(
            f"{name}: expected a gallery of (model, dimension, kind) {str(expected[0])[:20]} {expected[1]}"
            f" {expected[2]}, got {header['model'][:20]} {header['dimension']} {header['kind'][:20]}"
        )
    return header, hashlib.sha256(line)


def _entry(line: bytes, generation: int, name: str) -> tuple[Entry, bytes]:
    match _document(line, name):
        case {"row": row, "identity": str(identity), "photo": photo, "share": str(text)} if _is_number(
            row
        ) and _is_number(photo):
            try:
                identity_bytes(identity)
                return Entry(row, identity, photo, generation), base64.b64decode(text, validate=True)
            except ValueError as error:
                raise StoreError(f"{name}: expected a photo's line, got one that is damaged: {error}") from error
        case _:
            raise StoreError(f"{name}: expected a photo's line, got one that is damaged")


def _is_number(value: object) -> bool:
    return type(value) is int and 0 < value <= _LAST_NUMBER


def _jump(tables: Tables, last_row: int, last_photo: int) -> None:
    """Move the counters far above every number that may have been used."""
    low, high = _JUMP
    step = low + secrets.randbelow(high - low)
    tables.database.execute("DELETE FROM sqlite_sequence WHERE name = 'entry'")
    tables.database.execute("INSERT INTO sqlite_sequence VALUES ('entry', ?)", (last_row + step,))
    tables.database.execute("UPDATE state SET photo_floor = ?", (last_photo + step,))
