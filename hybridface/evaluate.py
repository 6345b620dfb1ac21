"""Accuracy on pairs of photos: the plaintext network, the fixed-point emulator, and the real protocol.

Every photo's embedding is computed twice, in float64 and by the emulator; decisions at the model's threshold are
compared pair by pair. On some pairs, chosen at random, the whole protocol runs as well, in this process. A photo in
which no face is found counts as its central crop, so that every pair has a decision.
"""

import functools
import multiprocessing
import random
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hybridface.errors import ImageError, ModelError
from hybridface.images import face_chip
from hybridface.models import Model, load_model
from hybridface.session import LocalSession
from protocols.emulator import Emulator
from protocols.ring import decode

__all__ = ["EvaluationReport", "Pair", "chip_or_centre", "evaluate_pairs", "read_pairs", "unpacked"]

Pair = tuple[str, str, bool]
"""Two photos, as NAME/NAME_0001.jpg, and whether they show the same person."""


@dataclass(frozen=True)
class Embedded:
    """One photo's embedding: float64 (d,) by the plaintext network and by the emulator."""

    plain: NDArray[np.float64]
    emulated: NDArray[np.float64]
    detected: bool
    largest: float


@dataclass(frozen=True)
class EvaluationReport:
    """What was measured.

    Args:
        figures: names and values, in order.
        differing: pairs on which the emulator decides otherwise than the plaintext network, with both distances.
    """

    figures: dict[str, float | int]
    differing: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**self.figures, "differing pairs": self.differing}

    def table(self) -> Table:
        """Return the report as a table."""
        table = Table(title="Accuracy", box=None, show_header=False)
        for name, value in self.figures.items():
            table.add_row(name, f"{value:.3g}" if isinstance(value, float) and abs(value) < 0.01 else f"{value:.6g}")
        return table


def read_pairs(path: Path) -> list[Pair]:
    """Read LFW's pairs format: a header, then `NAME i j` or `NAME i NAME j`, separated by tabs.

    Raises:
        ImageError: the file is missing or has another format.
    """
    try:
        lines = [line.split("\t") for line in path.read_text().splitlines()[1:] if line.strip()]
        pairs = [
            (_photo(line[0], line[1]), _photo(line[0] if len(line) == 3 else line[2], line[-1]), len(line) == 3)
            for line in lines
        ]
    except (OSError, ValueError, IndexError) as error:
        raise ImageError(f"{path}: expected pairs in LFW's format, got {error}") from error
    if not pairs:
        raise ImageError(f"{path}: expected pairs in LFW's format, got none")
    return pairs


def evaluate_pairs(
    images: Path,
    pairs_file: Path,
    model_name: str,
    protocol: int = 0,
    limit: int = 0,
    seed: int = 0,
    workers: int = 2,
    shown: bool = True,
) -> EvaluationReport:
    """Measure accuracy and agreement.

    Args:
        images: a tar file or folder that contains NAME/NAME_0001.jpg, at any depth.
        protocol: pairs to run for real, chosen with `seed`.
        limit: only the first pairs; 0 for all.
        shown: progress bars on standard error.
    """
    pairs = read_pairs(pairs_file)[: limit or None]
    model = load_model(model_name)
    with unpacked(images) as folder:
        photos = sorted({photo for pair in pairs for photo in pair[:2]})
        missing = [photo for photo in photos if not (folder / photo).is_file()]
        if missing:
            raise ImageError(f"{images}: expected every photo of the pairs, found no {missing[0]}")
        embedded = _embed_all(folder, photos, model_name, workers, shown)
        figures, differing = _compare(pairs, embedded, model.threshold)
        chosen = random.Random(seed).sample(pairs, min(protocol, len(pairs)))  # noqa: S311 (a sample, not a secret)
        if chosen:
            figures |= _run_protocol(folder, chosen, embedded, model, shown)
    return EvaluationReport(figures, differing)


def _photo(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"


@contextmanager
def unpacked(images: Path) -> Iterator[Path]:
    """Give the folder that holds the persons' folders, unpacking a tar file for the time being."""
    if images.is_dir():
        yield _persons(images)
        return
    with tempfile.TemporaryDirectory(prefix="hybridface-") as temporary:
        try:
            with tarfile.open(images) as archive:
                archive.extractall(temporary, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise ImageError(f"{images}: expected a tar file or folder of photos, got {error}") from error
        yield _persons(Path(temporary))


def _persons(folder: Path) -> Path:
    """Descend while there is nothing but one folder of folders."""
    children = list(folder.iterdir())
    if len(children) == 1 and children[0].is_dir() and any(child.is_dir() for child in children[0].iterdir()):
        return _persons(children[0])
    return folder


def _embed_all(folder: Path, photos: Sequence[str], model: str, workers: int, shown: bool) -> dict[str, Embedded]:
    context = multiprocessing.get_context("spawn")
    work = functools.partial(_embed, folder, model)
    with context.Pool(workers, initializer=_load, initargs=(model,)) as pool:
        results = pool.imap(work, photos, chunksize=4)
        tracked = track(results, "embeddings", len(photos), console=Console(stderr=True), disable=not shown)
        return dict(zip(photos, tracked, strict=True))


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> tuple[Model, Emulator]:
    model = load_model(name)
    return model, Emulator(model.graph, model.weights or {})


def _load(name: str) -> None:
    """Prepare a worker process: one thread, one model."""
    torch.set_num_threads(1)
    _loaded(name)


def chip_or_centre(path: Path, size: int) -> tuple[NDArray[np.uint8], bool]:
    """Return a photo's aligned face and True, or its central crop and False where none is found."""
    try:
        return face_chip(path, size, largest_face=True), True
    except ImageError:
        image = Image.open(path).convert("RGB")
        side = min(image.size) * 3 // 5
        left, top = (image.width - side) // 2, (image.height - side) // 2
        crop = image.crop((left, top, left + side, top + side)).resize((size, size))
        return np.array(crop, dtype=np.uint8), False


def _embed(folder: Path, model_name: str, photo: str) -> Embedded:
    model, emulator = _loaded(model_name)
    chip, detected = chip_or_centre(folder / photo, model.chip_size)
    image = model.normalise(chip)[None]
    emulator.largest = 0.0
    emulated = decode(emulator.run(image).view(np.uint64))[0]
    return Embedded(_plain(model, image)[0], emulated, detected, emulator.largest)


def _plain(model: Model, images: NDArray[np.float64]) -> NDArray[np.float64]:
    if model.module is None:
        raise ModelError(f"expected a model with weights, got {model.name} without")
    with torch.inference_mode():
        return np.asarray(model.module(torch.from_numpy(images)).numpy(), dtype=np.float64)


def _compare(
    pairs: Sequence[Pair], embedded: dict[str, Embedded], threshold: float
) -> tuple[dict[str, float | int], list[dict[str, Any]]]:
    truth = np.array([same for _, _, same in pairs])
    plain, emulated = (
        np.array([np.linalg.norm(getattr(embedded[a], kind) - getattr(embedded[b], kind)) for a, b, _ in pairs])
        for kind in ("plain", "emulated")
    )
    differs = np.flatnonzero((plain < threshold) != (emulated < threshold))
    everyone = list(embedded.values())
    figures: dict[str, float | int] = {
        "pairs": len(pairs),
        "photos": len(embedded),
        "photos without a detected face (central crop)": sum(not e.detected for e in everyone),
        "plaintext accuracy": float(np.mean((plain < threshold) == truth)),
        "emulator accuracy": float(np.mean((emulated < threshold) == truth)),
        "emulator false rejects": int(np.sum(~(emulated < threshold) & truth)),
        "emulator false accepts": int(np.sum((emulated < threshold) & ~truth)),
        "decisions that differ": len(differs),
        "distance of the nearest pair to the threshold": float(np.min(np.abs(plain - threshold))),
        "largest difference of an embedding's element": max(
            float(np.abs(e.plain - e.emulated).max()) for e in everyone
        ),
        "largest difference of a distance": float(np.abs(plain - emulated).max()),
        "largest magnitude compared": max(e.largest for e in everyone),
    }
    differing = [
        {
            "pair": list(pairs[int(i)][:2]),
            "plaintext distance": float(plain[i]),
            "emulator distance": float(emulated[i]),
        }
        for i in differs
    ]
    return figures, differing


def _run_protocol(
    folder: Path, pairs: Sequence[Pair], embedded: dict[str, Embedded], model: Model, shown: bool
) -> dict[str, float | int]:
    """Run pairs for real: enrol the first photo, verify the second.

    Client and server are both in this process, so an enrolled template's two shares can be added here, to
    compare them with the plaintext network. No message of the protocol does that.
    """
    different, error, emulator_error = 0, 0.0, 0.0
    with LocalSession(model) as session:
        for first, second, _ in track(pairs, "protocol", console=Console(stderr=True), disable=not shown):
            chips = [chip_or_centre(folder / photo, model.chip_size)[0] for photo in (first, second)]
            template = session.enroll(chips[0])
            opened = decode(template.share + session.server.template_share(template.name))[0]
            error = max(error, float(np.abs(opened - embedded[first].plain).max()))
            emulator_error = max(emulator_error, float(np.abs(opened - embedded[first].emulated).max()))
            distance = np.linalg.norm(embedded[first].plain - embedded[second].plain)
            different += int(session.verify(chips[1], template).match != bool(distance < model.threshold))
    return {
        "protocol: pairs": len(pairs),
        "protocol: decisions that differ from the plaintext network": different,
        "protocol: largest difference of an embedding's element": error,
        "protocol: the same against the emulator": emulator_error,
    }
