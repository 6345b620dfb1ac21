"""Define the task of the identification benchmark: synthetic templates, probes, and the search in the clear.

Most templates are random, with a length of about 1.4 like real embeddings; some are real embeddings. Public seeds give
the random templates in chunks. So a rank does not hold all templates at once, unless its role needs them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.gallery.index.search import CHUNK_ROWS
from parties.gallery.kind import GalleryKind
from protocols.arithmetic.fixed_point import FRACTION_BITS, encode

__all__ = ["IdentifyTask", "synthetic"]

_SEED, _LENGTH, _NOISE = 20, 1.4, 0.025


@dataclass(frozen=True)
class IdentifyTask:
    """The task of one benchmark.

    Args:
        kind: the kind of the gallery.
        size: the number of templates, one for each identity.
        runs: the number of identifications, after one that does not count.
        threshold: the threshold, as a Euclidean distance.
        folder: the folder for the index. Its file real.npy has real embeddings, float64 (r, d). They alternate: a
            probe, then an enrolled template.
    """

    kind: GalleryKind
    size: int
    runs: int
    threshold: float
    folder: Path
    real: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        real = np.load(self.folder / "real.npy", allow_pickle=False)
        object.__setattr__(self, "real", encode(real).view(np.int64))

    @property
    def dimension(self) -> int:
        """The dimension of the templates."""
        return int(self.real.shape[1])

    def chunks(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield chunks of templates: the number of the first, and the templates, int64 (n, d) at 16 fractional bits."""
        enrolled = self.real[1::2]
        places = np.linspace(0, self.size - 1, len(enrolled) + 2).astype(np.int64)[1:-1]
        for start in range(0, self.size, CHUNK_ROWS):
            templates = synthetic(start, min(CHUNK_ROWS, self.size - start), self.dimension)
            for place, template in zip(places, enrolled, strict=True):
                if start <= place < start + len(templates):
                    templates[place - start] = template
            yield start, templates

    def probes(self) -> NDArray[np.int64]:
        """Return a probe for each run, in turn: one near a synthetic template, the real ones, one far from all."""
        random = np.random.default_rng((_SEED, 1))
        last = synthetic((self.size - 1) // CHUNK_ROWS * CHUNK_ROWS, (self.size - 1) % CHUNK_ROWS + 1, self.dimension)
        near = last[-1] + np.rint(random.normal(0, _NOISE, self.dimension) * 2.0**FRACTION_BITS).astype(np.int64)
        far = np.rint(random.normal(0, _LENGTH / np.sqrt(self.dimension), self.dimension) * 2.0**FRACTION_BITS)
        every = [near, *self.real[0::2], far.astype(np.int64)]
        return np.stack([every[i % len(every)] for i in range(self.runs + 1)])

    def expected(self) -> list[int | None]:
        """Search in the clear: return each probe's nearest template, or None if it is not below the threshold."""
        probes = self.probes()
        best = np.full((2, len(probes)), -1, dtype=np.int64)
        best[0] = 2**62
        for start, templates in self.chunks():
            products = templates.astype(np.float64) @ probes.T.astype(np.float64)  # exact: sums below 2^53
            found = (templates**2).sum(axis=1)[:, None] + (probes**2).sum(axis=1) - 2 * products.astype(np.int64)
            rows = found.argmin(axis=0)
            values = found[rows, np.arange(len(probes))]
            better = values < best[0]
            best[:, better] = np.stack([values, start + rows])[:, better]
        bound = int(encode(self.threshold**2, 2 * FRACTION_BITS))
        return [int(row) if value < bound else None for value, row in best.T]


def synthetic(start: int, count: int, dimension: int) -> NDArray[np.int64]:
    """Return random templates, int64 (count, d) at 16 fractional bits. `start`, the first one's number, is the seed."""
    random = np.random.default_rng((_SEED, 0, start))
    reals = random.standard_normal((count, dimension), dtype=np.float32) * np.float32(_LENGTH / np.sqrt(dimension))
    return np.rint(reals * np.float32(2**FRACTION_BITS)).astype(np.int64)
