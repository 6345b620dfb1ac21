"""A gallery's file in its owner's hands: what the server does alone, without the client or any secret of the client.

For a list that is everything but queries: the photos are the server's own, and it embeds them in the clear. For a
private gallery it is everything that needs no template: listing people, removal, export and import. What changes or
exports the gallery is logged.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hybridface.galleries.import_journal import moving
from hybridface.galleries.kind import expect_model
from hybridface.models.model import Model
from parties.gallery.errors import StoreError
from parties.gallery.index.folder import IndexFolder
from parties.gallery.index.removal import remove_people, remove_photos
from parties.gallery.kind import GalleryKind
from parties.gallery.store.identities import asked_name, person_name
from parties.gallery.store.limits import EVERYONE, GUESSES, IDENTIFY, OPERATOR, VERIFY, QueryLimits
from parties.gallery.store.store import GalleryStore
from parties.machine.durable import make_folder
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError

__all__ = ["GalleryFile", "index_folder"]


def index_folder(path: Path) -> Path:
    """Return where the index beside a gallery's or a key's file is kept."""
    return path.with_name(f"{path.name}.index")


class GalleryFile:
    """A gallery's file, open; a context manager.

    Args:
        path: the file.
        model: the model whose templates the gallery holds; weights are not needed.
        kind: the gallery's kind; None for the kind that the file has, and private for a new file.
        limits: whether queries are limited (docs/GALLERIES.md); they are logged in any case.
        new: whether to make the file if it does not exist.
        read_only: write nothing, so the disk may be full or read-only.

    Raises:
        StoreError: the file cannot be used, does not exist, or is of another model or kind.
    """

    def __init__(
        self,
        path: Path,
        model: Model,
        kind: GalleryKind | None = None,
        limits: bool = True,
        *,
        new: bool = True,
        read_only: bool = False,
    ) -> None:
        (dimension,) = model.graph.output_shape
        _expect_place(path, new and not read_only)
        if path.exists():
            expect_model(path, model)
        self.store = GalleryStore(path, model.graph.digest(), dimension, kind, read_only)
        self.kind = self.store.kind
        try:
            rates = (VERIFY, IDENTIFY, GUESSES) if limits else (None, None, None)
            self.limits = QueryLimits(self.store.database, *rates)
        except BaseException:
            self.store.close()
            raise

    def identities(self) -> dict[str, int]:
        """Return who is enrolled, sorted, and how many photos each has."""
        return self.store.identities()

    def enroll(self, identity: str, share: RingArray) -> None:
        """Add a photo of an identity to a list, as `ClearEmbedding` returns it.

        Raises:
            ParameterError: the gallery is private, so this process must not know the embedding; or the name does not
                have the form of new names.
        """
        self.enroll_together(identity, [share])

    def enroll_together(self, identity: str, shares: Sequence[RingArray]) -> list[int]:
        """Add photos of an identity to a list, all or none, as `enroll` does; return their rows."""
        self._expect_list("its templates are shared")
        identity = person_name(identity)
        self._log("enroll", identity)
        return [entry.row for entry in self.store.enroll_together(identity, shares)]

    def remove(self, identities: Sequence[str]) -> int:
        """Remove identities with all their photos, and every trace of them; return how many photos.

        Args:
            identities: names as they are in the gallery, or texts whose normal form is in the gallery.

        Raises:
            TracesLeftError: they are removed, but old bytes are left: see `GalleryStore.remove_many`. StoreError:
                nobody is removed, because a private gallery's index is in use or cannot be removed.
        """
        known = self.identities()
        identities = [asked_name(identity, known) for identity in identities]
        self._log("remove")
        with self._erasing() as erase:
            return remove_people(self.store, identities, erase)

    def photos(self) -> dict[str, list[int]]:
        """Return who is enrolled, sorted, and the numbers of each person's photos."""
        *_, entries = self.store.listing(0)
        numbers: dict[str, list[int]] = {name: [] for name in self.identities()}
        for entry in entries:
            numbers[entry.identity].append(entry.photo)
        return numbers

    def expect_photos(self, identity: str, photos: Sequence[int]) -> str:
        """Check that an identity has photos of these numbers; return its name as the gallery has it.

        Raises:
            ParameterError: there is no photo of one of the numbers.
        """
        known = self.photos()
        identity = asked_name(identity, known)
        numbers = known.get(identity, [])
        if missing := sorted(set(photos) - set(numbers)):
            there = ", ".join(map(str, numbers)) or "none"
            raise ParameterError(f"expected photos of {identity[:40]!r} by their numbers ({there}), got {missing[0]}")
        return identity

    def remove_photos(self, identity: str, photos: Sequence[int]) -> int:
        """Remove some of an identity's photos by their numbers, as `remove` does; return how many.

        Raises:
            ParameterError: there is no photo of one of the numbers; nothing is removed.
        """
        identity = self.expect_photos(identity, photos)
        self._log("remove photo", identity)
        with self._erasing() as erase:
            return remove_photos(self.store, identity, photos, erase)

    def rename(self, old: str, new: str) -> None:
        """Give an identity of a list another name; the record of imports follows.

        Args:
            old: the name as it is in the gallery.

        Raises:
            ParameterError: the gallery is private: only the client's key can turn its shares into those of another
                name. RefusalError: nobody has the old name, or somebody has the new one. TracesLeftError: as for
                `remove`. RunError: an import is running, and nobody is renamed; or the record cannot be written.
        """
        self._expect_list("its shares depend on names")
        new = person_name(new)
        with moving(self.store.path.parent, self.store.scope) as note:
            self._log("rename", new)
            self.store.rename(old, new, note)

    def export(self, path: Path) -> int:
        """Write what the gallery stores to a new file; return how many photos."""
        self._log("export")
        return self.store.export(path)

    def import_(self, path: Path) -> int:
        """Read an exported file into a gallery in which nothing was enrolled; return how many photos."""
        self._log("import")
        return self.store.import_(path)

    def close(self) -> None:
        """Close the file."""
        self.limits.close()
        self.store.close()

    def __enter__(self) -> "GalleryFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _expect_list(self, why: str) -> None:
        if self.kind is not GalleryKind.LIST:
            raise ParameterError(f"expected a list, got a {self.kind} gallery: {why}")

    @contextmanager
    def _erasing(self) -> Iterator[Callable[[], None]]:
        """Lock a private gallery's index, and give a function that removes it; a list has no index."""
        if self.kind is GalleryKind.LIST:
            yield lambda: None
            return
        folder = IndexFolder(index_folder(self.store.path), self.store.lineage)
        with folder.locked():
            yield folder.erase

    def _log(self, operation: str, identity: str | None = EVERYONE) -> None:
        self.limits.log(OPERATOR, operation, identity, True)


def _expect_place(path: Path, new: bool) -> None:
    """Check that the file exists, or make the folder of a new file."""
    try:
        if new:
            make_folder(path.parent)
        elif not path.exists():
            raise StoreError(f"{path.name}: expected a gallery, found no such file; enrol somebody first")
    except OSError as error:
        raise StoreError(f"{path.name[:100]}: cannot use the gallery: {error.strerror}") from error
