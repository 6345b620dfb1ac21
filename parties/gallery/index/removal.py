"""The order in which people leave a private gallery: what was opened of them first, then they themselves.

Indexes and the server's seed go while nobody else can use them; only when they are gone does the database change. So a
crash, or an index that cannot be removed, leaves everybody enrolled and at most an index to be made again; and whoever
is not enrolled any more is in no index of this folder. Ranks that could not be reached remove theirs when they are next
asked about the gallery, since the seed is another one then.
"""

from collections.abc import Callable, Sequence

from parties.gallery.store.store import GalleryStore

__all__ = ["remove_people", "remove_photos"]


def remove_people(store: GalleryStore, identities: Sequence[str], erase: Callable[[], None]) -> int:
    """Remove identities with all their photos; return how many photos.

    Args:
        erase: removes all indexes of the gallery; called if somebody is enrolled. The caller holds them alone.

    Raises:
        StoreError, ParameterError: nothing was removed. TracesLeftError: see `GalleryStore.remove_many`.
    """
    if not store.identities().keys().isdisjoint(identities):
        erase()
    return store.remove_many(identities)


def remove_photos(store: GalleryStore, identity: str, photos: Sequence[int], erase: Callable[[], None]) -> int:
    """Remove some of an identity's photos, by their numbers, as `remove_people` does; return how many."""
    enrolled = {entry.photo for entry, _ in store.get(identity)}
    if not enrolled.isdisjoint(photos):
        erase()
    return store.remove_photos(identity, photos)
