"""Remove people from a private gallery in a safe order: first the indexes, then the people.

The indexes and the server's seed go while nobody else can use them. The database changes only after they are gone. So
a crash, or an index that cannot be removed, leaves everybody enrolled. At worst the parties must make an index again.
And a person who is not enrolled any more is in no index of this folder. Ranks that could not be reached remove their
indexes when they are next asked about the gallery, since the seed is another one then.
"""

from collections.abc import Callable, Sequence

from parties.gallery.store.store import GalleryStore

__all__ = ["remove_people", "remove_photos"]


def remove_people(store: GalleryStore, identities: Sequence[str], erase: Callable[[], None]) -> int:
    """Remove identities with all their photos; return how many photos.

    Args:
        erase: removes all indexes of the gallery, which the caller holds alone. Called if one of `identities` is
            enrolled.

    Raises:
        StoreError, ParameterError: nobody was removed.
        TracesLeftError: see `GalleryStore.remove_many`.
    """
    if not store.identities().keys().isdisjoint(identities):
        erase()
    return store.remove_many(identities)


def remove_photos(store: GalleryStore, identity: str, photos: Sequence[int], erase: Callable[[], None]) -> int:
    """Remove some of an identity's photos, by their numbers, like `remove_people`; return how many photos."""
    enrolled = {entry.photo for entry, _ in store.get(identity)}
    if not enrolled.isdisjoint(photos):
        erase()
    return store.remove_photos(identity, photos)
