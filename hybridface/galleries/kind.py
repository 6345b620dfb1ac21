"""The kind and model of a gallery's file, read from its header alone, before anything is loaded or opened."""

from pathlib import Path
from typing import TYPE_CHECKING

from hybridface.models import MODELS
from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.exchange import exported_kind, exported_model
from parties.gallery.store.store import header_of
from protocols.errors import ParameterError

if TYPE_CHECKING:
    from hybridface.models.model import Model

__all__ = ["expect_exported_model", "expect_model", "kind_for_import", "kind_for_use"]


def kind_for_use(path: Path, wanted: GalleryKind | None = None, new: bool = False) -> GalleryKind:
    """Return the kind of a gallery: the kind of its file; for a new file the wanted kind, or private.

    Args:
        wanted: the kind that the gallery must have; None for any kind.
        new: whether the file may be missing.

    Raises:
        ParameterError: there is no file, or it is of another kind. StoreError: the file is no gallery.
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
    """Return the kind of the gallery into which an exported file is imported: see `kind_for_use`."""
    kind = exported_kind(exported)
    if wanted not in (None, kind):
        raise ParameterError(f"{exported.name}: expected a gallery of kind {wanted}, found one of kind {kind}")
    return kind_for_use(path, kind, new=True)


def expect_model(path: Path, model: "Model") -> None:
    """Check that a gallery holds templates of a model.

    Raises:
        StoreError: it holds templates of another model.
    """
    header = header_of(path)
    _expect(path, model, header.model, header.dimension)


def expect_exported_model(path: Path, model: "Model") -> None:
    """Check that an exported file holds templates of a model.

    Raises:
        StoreError: it holds templates of another model, or is no exported file.
    """
    _expect(path, model, *exported_model(path))


def _expect(path: Path, model: "Model", digest: str, dimension: int) -> None:
    (expected,) = model.graph.output_shape
    if (digest, dimension) == (model.graph.digest(), expected):
        return
    name = _name_of(digest, dimension)
    if name:
        what, advice = name, f"use it with --model {name}"
    else:
        what = f"a network that this version does not know (digest {digest[:20]!r}, {dimension} numbers)"
        advice = "use it with the version that made it, or enrol again"
    raise StoreError(f"{path.name}: expected a gallery of {model.name}, got one of {what}; {advice}")


def _name_of(digest: str, dimension: int) -> str | None:
    """Return the name of the network with a graph of this digest; None if it is unknown."""
    from hybridface.models.model import load_model

    for name in MODELS:
        graph = load_model(name, weights=False).graph
        if (graph.digest(), *graph.output_shape) == (digest, dimension):
            return name
    return None
