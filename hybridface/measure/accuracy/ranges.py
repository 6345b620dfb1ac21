"""Measure the largest magnitude at each comparison of a network on many photos, and choose widths from it."""

import functools
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from hybridface.errors import ImageError, escaped
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
    """The options of a measurement.

    Args:
        images: a folder or tar file of photos.
        cache: a folder for aligned crops and measured values.
        model: the network's name.
        limit: the maximal number of random photos, drawn with `seed`; 0 for all photos.
        workers: the number of processes.
        shown: whether to show progress bars on standard error.
    """

    images: Path
    cache: Path
    model: str = DEFAULT_MODEL
    limit: int = 0
    seed: int = 0
    workers: int = 2
    shown: bool = True


def ranges(options: RangeOptions) -> dict[str, Any]:
    """Return a JSON object with the largest magnitudes, and with the unreadable photos and the reason for each.

    Raises:
        ImageError: no photo can be read.
        ParameterError: a value is outside the range in which its layer's comparison is exact.
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
    """Return the result as a table, with a line for each layer."""
    table = Table(title=f"{document['model']}: comparisons on {document['photos']} photos", box=None)
    for name in ("layer", "largest magnitude", "bits", "exact below", "bits in use", "exact below"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    for name, value in document["largest"].items():
        bits, used = document["widths"][name], document["widths in use"].get(name, COMPARISON_BITS)
        table.add_row(name, f"{value:.2f}", str(bits), f"{range_of(bits):g}", str(used), f"{range_of(used):g}")
    unusable = [f"not used: {shown(name)}: {escaped(reason)}" for name, reason in document["unusable"].items()]
    told = [f"{len(unusable)} photos could not be read", *unusable] if unusable else []
    table.caption = Text("\n".join([f"widths are exact up to at least {MARGIN:g} times the largest magnitude", *told]))
    return table


@dataclass(frozen=True)
class _Measurer:
    """Computes the row of an aligned crop. A worker process loads the model by its name, once."""

    name: str
    network: Network | None = field(default=None, compare=False)

    def __call__(self, chip: NDArray[np.uint8]) -> Values:
        return {"largest": (self.network or _loaded(self.name)).ranges(chip)}


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> Network:
    return Network(load_model(name))
