"""Replace all shares when the client changes its key. Afterwards either all shares are new, or all are old.

1. The process writes the new shares beside the old ones, some megabytes at a time.
2. One transaction checks that every photo has a new share, and makes the new generation the current one.
3. The process deletes the old shares.

After a crash, the process that next opens the store empties one of the two tables. If two processes replace shares at
once, the one that began first fails.
"""

import secrets
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import cast

from parties.gallery.errors import StoreError
from parties.gallery.store.records import Entry, identity_text, share_bytes
from parties.gallery.store.tables import Tables, batch_rows
from protocols.arithmetic.fixed_point import RingArray

__all__ = ["clean", "replace_shares"]


def replace_shares(tables: Tables, pairs: Iterable[tuple[int, RingArray]]) -> int:
    """Replace every share: see `GalleryStore.replace_shares`."""
    database, token = tables.database, secrets.token_bytes(16)
    with database.writing():
        generation = tables.generation() + 1
        database.execute("UPDATE state SET rotation = ?", (token,))
    _empty(tables, generation, token)
    try:
        source = iter(pairs)
        while batch := list(islice(source, batch_rows(tables.dimension))):
            checked = [(int(row), share_bytes(share, tables.dimension)) for row, share in batch]
            with database.writing():
                _expect(tables, token)
                for row, share in checked:
                    _put(tables, generation, row, share)
        with database.writing():
            _expect(tables, token)
            _expect_all(tables, generation)
            database.execute("UPDATE state SET generation = ?", (generation,))
    except BaseException:
        _empty(tables, generation, token)
        raise
    with suppress(StoreError):  # the new shares are in use; the rest of the old ones goes as after a crash
        _empty(tables, generation + 1, token)
        database.truncate_log()
    return generation


def clean(tables: Tables) -> None:
    """Delete the shares that an unfinished replacement has left. No other process may be replacing shares."""
    generation, token = tables.generation() + 1, secrets.token_bytes(16)
    if tables.database.number(f"SELECT EXISTS (SELECT 1 FROM share_{generation % 2})"):  # noqa: S608
        with tables.database.writing():
            tables.database.execute("UPDATE state SET rotation = ?", (token,))
        _empty(tables, generation, token)


def _empty(tables: Tables, generation: int, token: bytes) -> None:
    """Delete all shares in a generation's table, in bounded transactions, unless another replacement has begun."""
    table, deleted = f"share_{generation % 2}", 1
    while deleted:
        with tables.database.writing():
            is_current = (generation - tables.generation()) % 2 == 0
            if is_current or not _is_ours(tables, token):
                return
            deleted = tables.database.execute(
                f"DELETE FROM {table} WHERE row IN (SELECT row FROM {table} LIMIT ?)",  # noqa: S608
                (batch_rows(tables.dimension),),
            )


def _put(tables: Tables, generation: int, row: int, share: bytes) -> None:
    """Store one new share. Its row must have an old share and no new one."""
    found = tables.database.rows(
        "SELECT identity, photo, new.row FROM entry"  # noqa: S608
        f" JOIN share_{(generation - 1) % 2} USING (row) LEFT JOIN share_{generation % 2} new USING (row)"
        " WHERE entry.row = ?",
        (row,),
        (bytes, int, int | None),
    )
    if not found or found[0][2] is not None:
        what = "twice" if found else "which is not enrolled"
        raise StoreError(f"{tables.database.path.name}: expected each enrolled row once, got row {row} {what}")
    raw, photo = cast(tuple[bytes, int], found[0][:2])
    tables.put_share(Entry(row, identity_text(raw), photo, generation), raw, share)


def _is_ours(tables: Tables, token: bytes) -> bool:
    return tables.database.rows("SELECT rotation FROM state") == [(token,)]


def _expect(tables: Tables, token: bytes) -> None:
    """Check that no other process has begun a replacement."""
    if not _is_ours(tables, token):
        raise StoreError(f"{tables.database.path.name}: another process has begun to replace the shares")


def _expect_all(tables: Tables, generation: int) -> None:
    """Check that every enrolled photo has a new share. Photos removed meanwhile have lost both shares."""
    old, new = f"share_{(generation - 1) % 2}", f"share_{generation % 2}"
    missing = tables.database.rows(f"SELECT row FROM {old} WHERE row NOT IN (SELECT row FROM {new}) LIMIT 1")  # noqa: S608
    if missing:
        raise StoreError(f"{tables.database.path.name}: expected a share for every row, got none for {missing[0][0]}")
