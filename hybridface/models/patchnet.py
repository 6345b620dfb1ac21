"""Define patchnet, a mixture of shallow polynomial networks, one per patch of the face, for pure-HE mode.

The client cuts an aligned crop of 64x64 pixels into P patches of `inputs` values each, in the clear (`cut`). Every
patch has small dense maps of its own, and a square follows each map. The embedding is a sum over the patches:

    h1[p] = (W1[p] x[p] + b1[p])^2,  h2[p] = (W2[p] h1[p] + b2[p])^2, ...,  e = sum over p of J[p] h_last[p] + c.

The network has no ReLU, no division and no root. So n squares need 2 n + 1 levels of a ciphertext, and the squared
distance of two embeddings needs one more. The idea is CryptoFace's (https://arxiv.org/abs/2509.00332). The weights
come from a file that `hybridface train` writes. docs/PATCHNET.md describes the file that is shipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.models.patches import CHIP_SIZE, MEAN, SCALE, PatchCutting
from hybridface.models.weight_files import MAX_BYTES, read_weight_file
from parties.machine.arrays import digested, read_arrays
from parties.machine.durable import PRIVATE, PUBLIC, replaced
from protocols.errors import ParameterError

__all__ = [
    "PATCHNET_PATH",
    "PatchNet",
    "PatchShape",
    "PatchWeights",
    "Ranges",
    "mirrored",
    "read_patchnet",
    "read_ranges",
    "read_shape",
    "stored",
    "write_patchnet",
    "write_public",
]

_PUBLIC = ("patches", "widths", "outputs", "threshold", "normalisation", "contrast", "mirror")
"""The arrays of a file that a client reads. Older files do not have the last two."""

_Arrays = Mapping[str, NDArray[Any]]

PATCHNET_PATH = Path(__file__).with_name("patchnet.npz")
"""The trained network that is shipped."""

MAX_WIDTH = 1 << 14


@dataclass(frozen=True)
class PatchShape:
    """The public part of a patch network.

    Args:
        patches: (P, 4) as tuples: top, left and side in pixels of the crop, and the side of the squares that are
            averaged.
        widths: the number of values per patch after every square.
        outputs: the number of elements of the embedding.
        threshold: two faces show the same person if the *squared* distance of their embeddings is below it.
        contrast: whether the crop goes through `normalised_contrast` before it is cut.

    Raises:
        ModelError: a patch is not inside the crop, the patches have different numbers of values, a patch has more than
            1,024 values, a width is above 16,384, or the threshold is not positive.
    """

    patches: tuple[tuple[int, int, int, int], ...]
    widths: tuple[int, ...]
    outputs: int
    threshold: float
    contrast: bool = False

    def __post_init__(self) -> None:
        PatchCutting(self.patches, self.contrast)  # checks the patches
        sizes_ok = all(0 < size <= MAX_WIDTH for size in (*self.widths, self.outputs))
        if not self.widths or not sizes_ok or not 0 < self.threshold < np.inf:
            raise ModelError(
                f"expected a positive threshold, and widths and outputs of 1 to {MAX_WIDTH},"
                f" got {self.threshold}, {self.widths} and {self.outputs}"
            )

    @property
    def inputs(self) -> int:
        """Values per patch: colours times height times width."""
        return self.normalise.inputs

    @property
    def normalise(self) -> PatchCutting:
        """How the client makes the network's input from an aligned crop."""
        return PatchCutting(self.patches, self.contrast)


@dataclass(frozen=True)
class PatchWeights:
    """The secret part of a patch network: the float64 maps of every patch, and the sum over patches.

    Args:
        maps: for every square, the map (P, width, values before) and its bias (P, width).
        join: the sum's matrix (outputs, P * width), patch after patch, and its bias (outputs,).
    """

    maps: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    join: tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Ranges:
    """The largest magnitudes in a network, over the photos on which it was trained and measured.

    Args:
        before_squares: for every square, the largest magnitude of the values that it squares.
        element: the largest magnitude of an element of an embedding.
        difference: the largest difference of an element between two photos.
    """

    before_squares: tuple[float, ...]
    element: float
    difference: float


def mirrored(shape: PatchShape, weights: PatchWeights) -> tuple[PatchShape, PatchWeights]:
    """Return a network whose embedding is the mean of the embeddings of a face and of its mirror image.

    The network has twice the patches, but its input is only the face. A patch of the mirror image is the mirror image
    of another patch of the face. So the network mirrors the map instead of the patch.

    Raises:
        ModelError: a patch's mirror image is not averaged over the same squares.
    """
    (weight, bias), *others = weights.maps
    side = round((shape.inputs // 3) ** 0.5)
    turned = weight.reshape(*weight.shape[:2], 3, side, side)[..., ::-1].reshape(weight.shape)
    first = np.concatenate([weight, turned]), np.concatenate([bias, bias])
    maps = (first, *((np.concatenate([w, w]), np.concatenate([b, b])) for w, b in others))
    join = np.concatenate([weights.join[0]] * 2, 1) / 2
    return replace(shape, patches=_with_mirror(shape.patches)), PatchWeights(maps, (join, weights.join[1]))


def _with_mirror(patches: tuple[tuple[int, int, int, int], ...]) -> tuple[tuple[int, int, int, int], ...]:
    return patches + tuple((top, CHIP_SIZE - side - left, side, pool) for top, left, side, pool in patches)


class PatchNet(torch.nn.Module):  # type: ignore[misc]
    """The network in layers that a layer graph can express: the maps are grouped convolutions of a 1x1 image.

    Args:
        shape: the public part of the network.
        device: torch's device; "meta" allocates no weights.
    """

    def __init__(self, shape: PatchShape, device: str = "cpu") -> None:
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": torch.float64}
        count, before = len(shape.patches), shape.inputs
        self.maps = torch.nn.ModuleList()
        for width in shape.widths:
            self.maps.append(torch.nn.Conv2d(count * before, count * width, 1, groups=count, **factory))
            before = width
        self.flatten = torch.nn.Flatten()
        self.join = torch.nn.Linear(count * before, shape.outputs, **factory)

    def forward(self, x: Any) -> Any:
        """Map patches (batch, P * inputs, 1, 1) to embeddings (batch, outputs)."""
        for layer in self.maps:
            x = torch.square(layer(x))
        return self.join(self.flatten(x))

    @classmethod
    def from_weights(cls, shape: PatchShape, weights: PatchWeights) -> "PatchNet":
        """Return the network with these weights."""
        module = cls(shape)
        with torch.no_grad():
            for layer, (weight, bias) in zip(module.maps, weights.maps, strict=True):
                layer.weight.copy_(torch.from_numpy(weight.reshape(-1, weight.shape[2], 1, 1)))
                layer.bias.copy_(torch.from_numpy(bias.reshape(-1)))
            module.join.weight.copy_(torch.from_numpy(weights.join[0]))
            module.join.bias.copy_(torch.from_numpy(weights.join[1]))
        return module.eval()


def read_shape(path: str | Path = PATCHNET_PATH) -> PatchShape:
    """Return the public part of a file, without reading any weights.

    Raises:
        ModelError: the file is missing, or has no patch network.
    """
    return _whole_shape(path, _read(path, _PUBLIC))


def _whole_shape(path: str | Path, arrays: _Arrays) -> PatchShape:
    shape = _stored_shape(path, arrays)
    return replace(shape, patches=_with_mirror(shape.patches)) if _flag(arrays, "mirror") else shape


def _stored_shape(path: str | Path, arrays: _Arrays) -> PatchShape:
    """Return the shape of the weights in a file. A mirrored network's file has only the first half of the patches."""
    patches, widths, outputs, threshold = _taken(path, arrays, ("patches", "widths", "outputs", "threshold"))
    contrast = _flag(arrays, "contrast")
    try:
        rows = tuple((int(t), int(left), int(side), int(pool)) for t, left, side, pool in patches)
        sizes = tuple(int(width) for width in widths), int(outputs)
        return PatchShape(rows, *sizes, float(threshold), contrast)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"cannot use model file {path}: {error}") from error


def read_patchnet(path: str | Path = PATCHNET_PATH) -> tuple[PatchShape, PatchWeights]:
    """Return the public part and the weights of a file, in float64.

    Raises:
        ModelError: the file is missing, has no patch network, or its weights do not fit its shape.
    """
    arrays = _read(path)
    shape = _stored_shape(path, arrays)
    count, before, maps = len(shape.patches), shape.inputs, []
    for number, width in enumerate(shape.widths, 1):
        weight, bias = _taken(path, arrays, (f"W{number}", f"b{number}"))
        maps.append((_checked(path, weight, (count, width, before)), _checked(path, bias, (count, width))))
        before = width
    join, offset = _taken(path, arrays, ("J", "c"))
    sum_over_patches = _checked(path, join, (shape.outputs, count * before)), _checked(path, offset, (shape.outputs,))
    weights = PatchWeights(tuple(maps), sum_over_patches)
    return mirrored(shape, weights) if _flag(arrays, "mirror") else (shape, weights)


def stored(weights: PatchWeights) -> PatchWeights:
    """Return the weights as a file keeps them: W1 (nearly all weights) rounded to float16, the others to float32."""
    first, *others = [(_rounded(weight), _rounded(bias)) for weight, bias in weights.maps]
    first = (_rounded(weights.maps[0][0], np.float16), first[1])
    return PatchWeights((first, *others), (_rounded(weights.join[0]), _rounded(weights.join[1])))


def read_ranges(path: str | Path = PATCHNET_PATH) -> Ranges | None:
    """Return the ranges in a file; None if it has none, like hand-made or older files.

    Raises:
        ModelError: the file is missing, has no patch network, or its ranges do not fit its shape.
    """
    arrays = _read(path, (*_PUBLIC, "ranges"))
    count, values = len(_whole_shape(path, arrays).widths), arrays.get("ranges")
    if values is None:
        return None
    *before_squares, element, difference = (float(value) for value in _checked(path, values, (count + 2,)))
    return Ranges(tuple(before_squares), element, difference)


def write_patchnet(
    path: str | Path,
    shape: PatchShape,
    weights: PatchWeights,
    ranges: Ranges | None = None,
    mirror: bool = False,
    **notes: str,
) -> None:
    """Write a network to a file, with its weights rounded as in `stored`. Never leave half a file.

    Args:
        shape, weights: the public part and the weights.
        ranges: the ranges of the network that the file describes.
        mirror: whether the file describes the `mirrored` network of these weights. If so, the network that is read back
            has twice the patches.
        notes: strings to keep in the file.
    """
    weights = stored(weights)
    arrays: dict[str, Any] = {name: np.array(note) for name, note in notes.items()}
    arrays |= {
        "patches": np.array(shape.patches, dtype=np.int32),
        "widths": np.array(shape.widths, dtype=np.int32),
        "outputs": np.int32(shape.outputs),
        "threshold": np.float64(shape.threshold),
        "normalisation": np.array([MEAN, SCALE]),
        "contrast": np.bool_(shape.contrast),
        "mirror": np.bool_(mirror),
        "J": weights.join[0].astype(np.float32),
        "c": weights.join[1].astype(np.float32),
    }
    for number, (weight, bias) in enumerate(weights.maps, 1):
        kept = np.float16 if number == 1 else np.float32
        arrays |= {f"W{number}": weight.astype(kept), f"b{number}": bias.astype(np.float32)}
    if ranges is not None:
        arrays["ranges"] = np.array([*ranges.before_squares, ranges.element, ranges.difference])
    _write(Path(path), arrays)


def write_public(path: str | Path, source: str | Path) -> None:
    """Write only the public arrays of a file: they are all that a client needs, and have no weights."""
    _write(Path(path), _read(source, _PUBLIC), PUBLIC)


def _write(path: Path, arrays: dict[str, Any], mode: int = PRIVATE) -> None:
    """Write a file with all arrays, or no file. By default, only the owner can read it, because it may have weights."""
    with replaced(path, mode) as file:
        np.savez_compressed(file, **digested(arrays))  # type: ignore[arg-type]


def _rounded(values: NDArray[np.float64], kind: type[np.floating[Any]] = np.float32) -> NDArray[np.float64]:
    return values.astype(kind).astype(np.float64)


def _read(path: str | Path, names: tuple[str, ...] | None = None) -> dict[str, NDArray[Any]]:
    """Return a file's arrays of these names, or all its arrays. Decompress no others, and unpickle nothing."""
    content = read_weight_file(Path(path), is_packaged=Path(path) == PATCHNET_PATH)
    try:
        return read_arrays(content, MAX_BYTES, names)
    except ParameterError as error:
        raise ModelError(f"cannot read model file {path}: {error}") from error


def _taken(path: str | Path, arrays: _Arrays, names: tuple[str, ...]) -> list[NDArray[Any]]:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ModelError(f"cannot use model file {path}: expected a patch network, found no {missing[0]}")
    return [arrays[name] for name in names]


def _flag(arrays: _Arrays, name: str) -> bool:
    value = arrays.get(name)
    return value is not None and value.dtype.kind in "bui" and bool(value.all())


def _checked(path: str | Path, value: NDArray[Any], expected: tuple[int, ...]) -> NDArray[np.float64]:
    if value.shape != expected or value.dtype.kind != "f" or not np.isfinite(value).all():
        raise ModelError(f"cannot use model file {path}: expected finite weights {expected}, got {value.shape}")
    return value.astype(np.float64)
