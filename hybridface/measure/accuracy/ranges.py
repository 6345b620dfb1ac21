"""The largest magnitude that each comparison of a network meets on many photos, and the widths that follow."""

import functools
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from hybridface.errors import ImageError, printable
from hybridface.faces.alignment import PADDING, align
from hybridface.faces.choice import FaceChoice
from hybridface.faces.rows import RowField, Rows, Values, fill
from hybridface.faces.sources import open_photos
from hybridface.measure.accuracy.embeddings import Network
from hybridface.models import DEFAULT_MODEL
from hybridface.models.model import load_model
from hybridface.output.answers import shown
from protocols.network.widths import MARGIN, choose_width, range_of
from protocols.shares.comparison import COMPARISON_BITS

__all__ = ["RangeOptions", "ranges", "ranges_table"]


@dataclass(frozen=True)
class RangeOptions:
    """What is measured, and on what.

    Args:
        images: a folder or tar file of photos.
        cache: for aligned faces and what was measured.
        limit: so many random photos, drawn with `seed`; 0 for all.
    """

    images: Path
    cache: Path
    model: str = DEFAULT_MODEL
    limit: int = 0
    seed: int = 0
    workers: int = 2
    shown: bool = True


def ranges(options: RangeOptions) -> dict[str, Any]:
    """Return the largest magnitudes as a JSON object, with the photos that cannot be read, and why.

    Raises:
        ImageError: there are no photos that can be read.
        ParameterError: a value lies beyond the range in which the layer's comparison is exact.
    """
    network = Network(load_model(options.model))
    source = open_photos(options.images)
    photos = list(source.sizes)
    count = min(options.limit or len(photos), len(photos))
    chosen = sorted(random.Random(options.seed).sample(photos, count))  # noqa: S311 (a sample, not a secret)
    cut, how = (network.model.chip_size, PADDING), (options.workers, options.shown)
    unusable: dict[str, str] = {}
    aligned = align(source, photos, options.cache, (cut,), FaceChoice.CENTRE, chosen, *how, unusable.__setitem__)
    chosen = [photo for photo in chosen if photo not in unusable]
    if not chosen:
        raise ImageError(f"{options.images}: expected photos that can be read, found none: {min(unusable.values())}")
    layers = list(network.model.widths)
    stored = Rows(
        aligned.folder / f"{network.model.name}-{network.digest()[:16]}-ranges",
        len(photos),
        {"largest": RowField("float64", (len(layers),))},
    )
    rows = aligned.rows(chosen)
    work = _Measurer(network.model.name, network if options.workers == 1 else None)
    fill(stored, rows, lambda row: np.array(aligned.chips[0][row]), work, options.workers, "ranges", options.shown)
    found = np.array(stored["largest"])[rows]
    largest = dict(zip(layers, found.max(axis=0).tolist(), strict=True))
    return {
        "model": options.model,
        "photos": len(chosen),
        "unusable": unusable,
        "largest": largest,
        "widths": {name: choose_width(value) for name, value in largest.items()},
        "widths in use": dict(network.model.widths),
    }


def ranges_table(document: dict[str, Any]) -> Table:
    """Return the result as a table: a line for each layer."""
    table = Table(title=f"{document['model']}: comparisons on {document['photos']} photos", box=None)
    for name in ("layer", "largest magnitude", "bits", "exact below", "bits in use", "exact below"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    for name, value in document["largest"].items():
        bits, used = document["widths"][name], document["widths in use"].get(name, COMPARISON_BITS)
        table.add_row(name, f"{value:.2f}", str(bits), f"{range_of(bits):g}", str(used), f"{range_of(used):g}")
    unusable = [f"not used: {shown(name)}: {printable(reason)}" for name, reason in document["unusable"].items()]
    told = [f"{len(unusable)} photos could not be read", *unusable] if unusable else []
    table.caption = Text("\n".join([f"widths reach {MARGIN:g} times as far as the largest magnitude", *told]))
    return table


@dataclass(frozen=True)
class _Measurer:
    """Makes the row of a chip. A worker process loads the model by its name, once."""

    name: str
    network: Network | None = field(default=None, compare=False)

    def __call__(self, chip: NDArray[np.uint8]) -> Values:
        return {"largest": (self.network or _loaded(self.name)).ranges(chip)}


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> Network:
    return Network(load_model(name))
