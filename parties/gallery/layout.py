"""Who is where in an index: rows in order of identities, the same on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parties.gallery.store.records import Entry

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True)
class Layout:
    """The templates of an identification.

    Args:
        identities: m, in the order of their first rows; empty on a side that must not know them.
        sizes: int64 (m,), photos of each.
        rows: int64 (n,), rows of the first identity, then of the second, ....
    """

    identities: tuple[str, ...] = field(repr=False)
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]


def layout_of(entries: Sequence[Entry]) -> Layout:
    """Return the layout of entries."""
    ordered = sorted(entries, key=lambda entry: entry.row)
    places: dict[str, list[int]] = {}
    for entry in ordered:
        places.setdefault(entry.identity, []).append(entry.row)
    sizes = np.array([len(rows) for rows in places.values()], dtype=np.int64)
    return Layout(tuple(places), sizes, np.array([row for rows in places.values() for row in rows], dtype=np.int64))
