"""Read the embeddings of a server's list, in an order that is drawn for each reading."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parties.gallery.errors import RefusalError
from parties.gallery.index.directory import Layout, layout_of
from parties.gallery.store.records import Entry
from parties.gallery.store.store import GalleryStore
from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.errors import ParameterError
from protocols.matching.server_list import LARGEST, ListTemplates

__all__ = ["ListContent", "list_share", "list_templates", "read_list"]


@dataclass(frozen=True)
class ListContent:
    """A list in the order of one reading.

    Args:
        identities: m, those with the most photos first; identities with equally many are in a random order.
        sizes: int64 (m,), number of photos of each identity; descending.
        templates: int32 (n, d), templates of the first identity, then of the second, ....
    """

    identities: tuple[str, ...] = field(repr=False)
    sizes: NDArray[np.int64]
    templates: ListTemplates = field(repr=False)


def list_share(embedding: NDArray[np.int64]) -> RingArray:
    """Return an embedding (d,) at 16 fractional bits in the form of a list's store, uint64 (d,).

    Raises:
        ParameterError: a number is 16 or more, so that no distance can be computed.
    """
    if _is_large(embedding):
        raise ParameterError("expected an embedding of numbers below 16, got a larger one")
    return embedding.astype(np.int64).view(np.uint64)


def list_templates(shares: RingArray) -> ListTemplates:
    """Return the shares in a list's store, uint64 (n, d), as embeddings, int32 (n, d).

    Raises:
        RefusalError: a number is larger than an embedding's.
    """
    values = shares.view(np.int64)
    if values.size and _is_large(values):
        raise RefusalError("expected a list's embeddings of numbers below 16, got a larger number")
    return values.astype(np.int32)


def read_list(store: GalleryStore) -> ListContent:
    """Read a whole list, in an order that is drawn anew.

    Raises:
        StoreError: the list is damaged, or changes meanwhile.
    """
    entries: list[Entry] = []
    blocks = [np.empty((0, store.dimension), dtype=np.int32)]
    for listed, shares in store.blocks():
        entries += listed
        blocks.append(list_templates(shares))
    layout = layout_of(entries)
    templates = np.concatenate(blocks)
    blocks.clear()
    order = np.lexsort((random_words(len(layout.sizes)), -layout.sizes))
    places = _places(layout, entries)[_ranges(layout, order)]
    names = tuple(layout.identities[i] for i in order.tolist())
    return ListContent(names, layout.sizes[order], templates[places])


def _is_large(values: NDArray[np.int64]) -> bool:
    return max(-int(values.min()), int(values.max())) >= LARGEST


def _places(layout: Layout, entries: list[Entry]) -> NDArray[np.int64]:
    """Return the places of the layout's rows among entries that are in the order of their rows."""
    return np.searchsorted(np.array([entry.row for entry in entries], dtype=np.int64), layout.rows)


def _ranges(layout: Layout, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the layout's positions, identity by identity, with the identities in the given order."""
    sizes = layout.sizes[order]
    starts = (np.cumsum(layout.sizes) - layout.sizes)[order]
    return np.asarray(np.arange(sizes.sum()) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes))
