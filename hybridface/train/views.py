"""Make the views that a student learns from: changed copies of the faces, with the teacher's embedding of each.

A view is a face that is randomly moved, turned, scaled, mirrored and lit differently. Most views are also mixed with
another photo's face through a soft random mask. The teacher sees exactly the view that the student sees. So mixed
faces, which belong to nobody, teach the student the teacher's function on far more faces than there are photos. The
teacher embeds each view once; views and embeddings stay on disk.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from hybridface.errors import ModelError
from hybridface.models.model import Model
from hybridface.models.patches import CHIP_SIZE
from hybridface.train.chips import FACE_SIZE, WIDE_SIZE, Chips
from parties.machine.durable import PUBLIC, replaced

__all__ = ["Teacher", "clean_answers", "load_view", "random_faces"]

_BATCH = 64
_MIXED = 0.8
_TURN, _GROW, _MOVE, _CUT = (
    0.07,
    0.05,
    0.032,
    2.2,
)  # radians, logarithm, fraction of half a wide crop; where the normal distribution is cut, in standard deviations
_BRIGHTNESS, _CONTRAST, _COLOUR = 0.18, 0.15, 0.05

View = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Aligned crops (n, 64, 64, 3) uint8 and the teacher's embeddings of them (n, d)."""


class Teacher:
    """A face network of this project, in float32, or in bfloat16 if the processor has matrix units for it.

    Args:
        model: a model with weights.
        device: torch's device.

    Raises:
        ModelError: the model has no weights.
    """

    def __init__(self, model: Model, device: str = "cpu") -> None:
        if model.module is None:
            raise ModelError(f"expected a teacher with weights, got {model.name} without")
        fast = device == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
        self.model, self._device = model, device
        self._dtype = torch.bfloat16 if fast else torch.float32
        self._module: Any = model.module.to(device, self._dtype, memory_format=torch.channels_last).eval()

    def answers(self, faces: Any) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of aligned faces, a tensor (n, 3, 150, 150) with values in 0 to 255."""
        size = self.model.chip_size
        if size != FACE_SIZE:
            faces = F.interpolate(faces, size=size, mode="bilinear", antialias=True)
        pixels = faces.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        inputs = torch.from_numpy(np.stack([self.model.normalise(face) for face in pixels]))
        with torch.inference_mode():
            embeddings = self._module(inputs.to(self._device, self._dtype, memory_format=torch.channels_last))
        return np.asarray(embeddings.float().cpu().numpy(), dtype=np.float32)


def clean_answers(chips: Chips, teacher: Teacher, shown: bool = True) -> NDArray[np.float32]:
    """Return the teacher's embeddings (2, n, d) of the unchanged faces and of their mirror images."""
    path = chips.folder / f"{teacher.model.name}-clean.npy"
    if not path.is_file():
        margin = (WIDE_SIZE - FACE_SIZE) // 2
        middle = chips.wide[:, margin:-margin, margin:-margin]
        pieces = []
        for rows in _batches(len(middle), "teacher", shown):
            faces = _images(middle[rows])
            pieces.append(np.stack([teacher.answers(faces), teacher.answers(faces.flip(3))]))
        _save(path, np.concatenate(pieces, 1))
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)


def load_view(chips: Chips, rows: NDArray[np.int64], teacher: Teacher, seed: int, number: int, shown: bool) -> View:
    """Return view `number` of the photos `rows`. Make it now, unless it is on disk. Mix only faces of these photos."""
    digest = _fingerprint(rows)
    stem = chips.folder / f"{teacher.model.name}-{digest}-{seed}-{number}"
    paths = [stem.with_name(f"{stem.name}-{kind}.npy") for kind in ("faces", "answers")]
    if not paths[1].is_file():
        generator = torch.Generator().manual_seed(1_000_003 * seed + number)
        small = np.empty((len(rows), CHIP_SIZE, CHIP_SIZE, 3), np.uint8)
        answers = []
        for batch in _batches(len(rows), f"view {number}", shown):
            partners = np.sort(rows[torch.randint(len(rows), (len(small[batch]),), generator=generator).numpy()])
            faces = random_faces(_images(chips.wide[rows[batch]]), _images(chips.wide[partners]), generator)
            answers.append(teacher.answers(faces))
            shrunk = F.interpolate(faces, size=CHIP_SIZE, mode="bilinear", antialias=True)
            small[batch] = shrunk.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        _save(paths[0], small)
        _save(paths[1], np.concatenate(answers))  # last: this file shows that the other one is complete
    faces_path, answers_path = paths
    return np.load(faces_path, mmap_mode="r", allow_pickle=False), np.load(answers_path, allow_pickle=False)


def random_faces(wide: Any, partners: Any, generator: torch.Generator) -> Any:
    """Return one random view, with values in 0 to 255, of each wide crop.

    Args:
        wide: the wide crops, a tensor (n, 3, 190, 190).
        partners: the crops to mix them with, of the same shape.

    Returns:
        a tensor (n, 3, 150, 150).
    """
    count = len(wide)

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator).clamp(-_CUT, _CUT)

    def uniform() -> Any:
        return torch.rand(count, 1, 1, 1, generator=generator)

    mixed = wide + _mask(count, generator) * (
        _lit_as(partners[torch.randperm(count, generator=generator)], wide) - wide
    )
    angle, scale = _TURN * normal(count), torch.exp(_GROW * normal(count)) * (FACE_SIZE / WIDE_SIZE)
    mirror = torch.where(uniform().flatten() < 0.5, -1.0, 1.0)
    cosine, sine, (right, down) = scale * torch.cos(angle), scale * torch.sin(angle), _MOVE * normal(2, count)
    maps = torch.stack([cosine * mirror, -sine, right, sine * mirror, cosine, down], 1).reshape(-1, 2, 3)
    grid = F.affine_grid(maps, [count, 3, FACE_SIZE, FACE_SIZE], align_corners=False)
    faces = F.grid_sample(mixed, grid, padding_mode="reflection", align_corners=False)
    mean = faces.mean((1, 2, 3), keepdim=True)
    faces = (faces - mean) * (1 + _CONTRAST * normal(count, 1, 1, 1)) + mean
    return (faces * (1 + _BRIGHTNESS * normal(count, 1, 1, 1)) * (1 + _COLOUR * normal(count, 3, 1, 1))).clamp(0, 255)


def _mask(count: int, generator: torch.Generator) -> Any:
    """Return the partners' share, (count, 1, 190, 190) in 0 to 1: zero, a constant, or smoothly varying."""
    shape = (count, 1, 1, 1)
    kind, constant = (torch.rand(shape, generator=generator) for _ in range(2))
    field = F.interpolate(torch.randn(count, 1, 4, 4, generator=generator), size=WIDE_SIZE, mode="bicubic")
    smooth = torch.sigmoid(2.5 * field + torch.randn(shape, generator=generator))
    return torch.where(kind < _MIXED / 2, smooth, torch.where(kind < _MIXED, constant, torch.zeros(1)))


def _lit_as(faces: Any, others: Any) -> Any:
    """Return the faces, scaled and shifted to the mean and the standard deviation of the others."""
    axes = (1, 2, 3)
    scale = others.std(axes, keepdim=True) / faces.std(axes, keepdim=True).clamp(min=1.0)
    return (faces - faces.mean(axes, keepdim=True)) * scale + others.mean(axes, keepdim=True)


def _images(chips: NDArray[np.uint8]) -> Any:
    return torch.from_numpy(np.array(chips)).permute(0, 3, 1, 2).float()


def _batches(count: int, label: str, shown: bool) -> Iterator[slice]:
    starts = range(0, count, _BATCH)
    for start in track(starts, label, console=Console(stderr=True), transient=True, disable=not shown):
        yield slice(start, min(count, start + _BATCH))


def _fingerprint(rows: NDArray[np.int64]) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:8]


def _save(path: Path, array: NDArray[Any]) -> None:
    with replaced(path, PUBLIC) as file:
        np.save(file, array)
