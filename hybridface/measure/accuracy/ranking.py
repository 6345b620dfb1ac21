"""Measure identification on LFW: is the nearest person in fixed point, and in the protocol, also nearest in float64?

The gallery has one photo of each person. The probes are second photos of some people.

- `plain` ranks by float64 distances.
- `emulated` ranks by the integers that the shares add up to. Its ranking is exactly the protocol's, because the
  protocol's distances are exact modulo 2^64.
- The whole protocol runs on some probes. Instead of enrolling, this process fills the gallery with the shares that
  enrolments would leave: the emulated embeddings minus the client's key streams. Only a process that holds both
  parties can do this.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from hybridface.errors import ImageError
from hybridface.faces.alignment import PADDING, align
from hybridface.faces.choice import FaceChoice
from hybridface.faces.pairs import photos_of, read_folds
from hybridface.faces.sources import open_photos
from hybridface.folders import temporary_folder
from hybridface.local.gallery import Gallery
from hybridface.measure.accuracy.embeddings import Arithmetic, Network, embed
from hybridface.models import DEFAULT_MODEL
from hybridface.models.model import Model, load_model
from parties.gallery.key import create_key
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import GalleryStore
from protocols.arithmetic.fixed_point import encode

__all__ = ["RankOptions", "rank"]


@dataclass(frozen=True)
class RankOptions:
    """The options of a measurement.

    Args:
        images, cache, model, workers, shown: see `evaluation.EvaluationOptions`.
        pairs: LFW's pairs file; only its photos matter here.
        probes: the number of probes, drawn with `seed`; 0 for one probe of everybody with two photos.
        protocol: how many of the probes go through the real protocol.
    """

    images: Path
    pairs: Path
    cache: Path
    model: str = DEFAULT_MODEL
    probes: int = 500
    protocol: int = 20
    seed: int = 0
    workers: int = 2
    shown: bool = True


def rank(options: RankOptions) -> dict[str, Any]:
    """Return the figures as a JSON object.

    Raises:
        ImageError: photos are missing, or nobody has two.
    """
    network, photos = Network(load_model(options.model)), photos_of(read_folds(options.pairs).pairs)
    gallery, probes = _split(photos, options)
    cut, wanted = (network.model.chip_size, PADDING), sorted({*gallery, *probes})
    aligned = align(
        open_photos(options.images),
        photos,
        options.cache,
        (cut,),
        FaceChoice.CENTRE,
        wanted,
        options.workers,
        options.shown,
    )
    rows = aligned.rows(wanted)
    values = [
        embed(network, aligned, rows, arithmetic, options.workers, options.shown).values for arithmetic in Arithmetic
    ]
    places = aligned.rows(gallery), aligned.rows(probes)
    plain = _nearest(*(values[0][place] for place in places))
    emulated = _nearest(*(encode(values[1][place]).view(np.int64) for place in places))
    people = [photo.split("/")[0] for photo in gallery]
    truth = np.array([people.index(photo.split("/")[0]) for photo in probes])
    bound = network.model.threshold**2
    scaled = int(encode(bound, 32))
    named = np.where(plain[1] < bound, plain[0], -1), np.where(emulated[1] < scaled, emulated[0], -1)
    document = {
        "model": options.model,
        "gallery": len(gallery),
        "probes": len(probes),
        "rank-1 accuracy": float(np.mean(plain[0] == truth)),
        "rank-1 accuracy, emulated": float(np.mean(emulated[0] == truth)),
        "nearest that differ from float64": int(np.sum(plain[0] != emulated[0])),
        "outcomes with the threshold that differ": int(np.sum(named[0] != named[1])),
        "found and right": float(np.mean(named[1] == truth)),
    }
    if options.protocol:
        chips = [np.array(aligned.chips[0][row]) for row in places[1][: options.protocol]]
        found = _protocol(network.model, people, encode(values[1][places[0]]), chips, options.shown)
        expected = [people[i] if i >= 0 else None for i in named[1][: options.protocol].tolist()]
        document |= {
            "probes in the protocol": len(found),
            "outcomes of the protocol that differ from emulated": sum(
                a != b for a, b in zip(found, expected, strict=True)
            ),
        }
    return document


def _split(photos: Sequence[str], options: RankOptions) -> tuple[list[str], list[str]]:
    """Return one photo of each person, and another of some people."""
    by_person: dict[str, list[str]] = {}
    for photo in sorted(photos):
        by_person.setdefault(photo.split("/")[0], []).append(photo)
    others = [own[1] for own in by_person.values() if len(own) > 1]
    if not others:
        raise ImageError("expected people with two photos, found none")
    count = min(options.probes or len(others), len(others))
    chosen = random.Random(options.seed).sample(others, count)  # noqa: S311 (a sample, not a secret)
    return [own[0] for own in by_person.values()], chosen


def _nearest(gallery: NDArray[Any], probes: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the nearest gallery row of each probe and its squared distance, in the arithmetic of the arguments."""
    squares = [np.square(gallery - probe).sum(axis=1) for probe in probes]
    best = np.array([int(row.argmin()) for row in squares], dtype=np.int64)
    return best, np.array([row[i] for row, i in zip(squares, best, strict=True)])


def _protocol(
    model: Model, people: Sequence[str], templates: NDArray[np.uint64], chips: Sequence[Any], shown: bool
) -> list[str | None]:
    with temporary_folder() as folder:
        path, key = folder / "gallery.db", create_key(folder / "key")
        digest, dimension = model.graph.digest(), templates.shape[1]
        with GalleryStore(path, digest, dimension, GalleryKind.PRIVATE) as store:
            entries = store.reserve_many(people)
            shares = templates - key.shares_of(store.scope, entries, dimension)
            store.commit_many(zip(entries, shares, strict=True))
        with Gallery(model, path, folder / "key", limits=False) as gallery:
            bar = track(chips, "identifications", console=Console(stderr=True), disable=not shown)
            return [gallery.identify(chip, aligned=True).identity for chip in bar]
