"""What a gallery's file is, read from its header alone: before anything is loaded, and before anybody opens it."""

from pathlib import Path
from typing import TYPE_CHECKING

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.exchange import exported_kind
from parties.gallery.store.store import header_of
from protocols.errors import ParameterError

if TYPE_CHECKING:
    from hybridface.models.model import Model

__all__ = ["expect_model", "kind_for_import", "kind_for_use"]


def kind_for_use(path: Path, wanted: GalleryKind | None = None, new: bool = False) -> GalleryKind:
    """Return the kind of a gallery: what its file says; for a new one, what is wanted, or private.

    Args:
        wanted: None for whatever it is.
        new: whether there need not be a file.

    Raises:
        ParameterError: there is no file, or it is of another kind. StoreError: it is no gallery.
    """
    if not path.exists():
        if not new:
            raise ParameterError(f"expected a gallery, found no {path}: enrol somebody first")
        return wanted or GalleryKind.PRIVATE
    found = header_of(path).kind
    if wanted not in (None, found):
        raise ParameterError(f"{path.name}: expected a gallery of kind {wanted}, found one of kind {found}")
    return found


def kind_for_import(path: Path, exported: Path, wanted: GalleryKind | None = None) -> GalleryKind:
    """Return the kind of a gallery that an exported file is to be imported into: see `kind_for_use`."""
    kind = exported_kind(exported)
    if wanted not in (None, kind):
        raise ParameterError(f"{exported.name}: expected a gallery of kind {wanted}, found one of kind {kind}")
    return kind_for_use(path, kind, new=True)


def expect_model(path: Path, model: "Model") -> None:
    """Check that a gallery holds templates of a model.

    Raises:
        StoreError: it holds another one's.
    """
    header, (dimension,) = header_of(path), model.graph.output_shape
    if (header.model, header.dimension) != (model.graph.digest(), dimension):
        raise StoreError(
            f"{path.name}: expected a gallery of {model.name} ({model.graph.digest()[:20]}, {dimension} numbers),"
            f" got one of {header.model[:20]}, {header.dimension}"
        )
