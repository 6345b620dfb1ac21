"""Rename a person: all photos move to the new name in one transaction, and the old name leaves no trace.

A share of a private gallery depends on the name and on the photo's number. So the photos get new numbers under the new
name. The client needs these numbers first, to compute the change of the shares. So the server reserves them. The photos
get new rows as well. A party that keeps an index sees the old rows removed and the new rows added.
"""

from collections.abc import Sequence

from parties.gallery.errors import RefusalError
from parties.gallery.store.records import Entry, identity_bytes, share_bytes
from parties.gallery.store.tables import Tables
from protocols.arithmetic.fixed_point import RingArray

__all__ = ["commit_name", "expect_free", "rename"]


def rename(tables: Tables, old: str, new: str) -> dict[int, int]:
    """Rename an identity of a list; return the new row of each old row: see `GalleryStore.rename`."""
    raw = identity_bytes(new)
    with tables.database.writing():
        expect_free(tables, new)
        photos = tables.select("e.identity = ? ORDER BY e.photo", (identity_bytes(old),))
        if not photos:
            raise RefusalError("expected an enrolled identity, found none of that name")
        tables.remove(identity_bytes(old))
        return {one.row: tables.add(new, raw, share_bytes(share, tables.dimension)).row for one, share in photos}


def commit_name(tables: Tables, old: Sequence[Entry], new: Sequence[Entry], change: RingArray) -> None:
    """Rename an identity of a private gallery: see `GalleryStore.commit_name`."""
    raw_old, raw_new = identity_bytes(old[0].identity), identity_bytes(new[0].identity)
    with tables.database.writing():
        expect_free(tables, new[0].identity)
        photos = tables.select("e.identity = ? ORDER BY e.photo", (raw_old,))
        if [entry for entry, _ in photos] != list(old):
            raise RefusalError("expected the photos of a person as they were, but they have changed")
        tables.remove(raw_old)
        for (_, share), entry, one in zip(photos, new, change, strict=True):
            tables.commit(entry, raw_new, share_bytes(share + one, tables.dimension))


def expect_free(tables: Tables, name: str) -> None:
    """Check that no enrolled person has a name.

    Raises:
        RefusalError: somebody has it.
    """
    if tables.has(identity_bytes(name)):
        raise RefusalError("expected a new name that nobody has, found somebody of that name: choose another one")
