"""Read dlib's serialised face recognition network (`loss_metric_2`) without dlib.

The file is a sequence of values of four types:

- an integer: a control byte with the number of bytes and the sign, then the magnitude, little endian;
- a string: its length, then its bytes;
- a floating-point scalar: two integers, mantissa and exponent;
- a tensor: a version, four dimensions, then raw float32.

dlib writes a network from the outside in: one version number for each nested layer, then the layers' own fields from
input to output. Every layer ends with three flags and three tensors of training state. The tensors are empty in a
finished network.
"""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.models.weight_files import read_weight_file

__all__ = [
    "AddPrevious",
    "Affine",
    "AvgPool",
    "Convolution",
    "FullyConnected",
    "Input",
    "Layer",
    "MaxPool",
    "ReLU",
    "packaged_path",
    "read_dat",
]

_LOSS = "loss_metric_2"
_INPUT = "input_rgb_image_sized"
_TENSOR_VERSION = 2
_MAX_NAME = 64
_MAX_EXPONENT = 1024  # float64 exponents are below this; dlib uses larger ones as codes for infinities and NaN


@dataclass(frozen=True)
class Input:
    """Subtract the means of red, green and blue from an RGB image of `size` (rows, columns); then divide by 256."""

    means: tuple[float, float, float]
    size: tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """Cross-correlation with filters float32 (out, in, rows, columns) and bias float32 (out,)."""

    filters: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Affine:
    """gamma x + beta per channel; both float32 (channels,)."""

    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]


@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class AvgPool:
    """Mean over windows; a kernel of (0, 0) means the whole image."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class AddPrevious:
    """Add the block's shortcut. The smaller side is padded with zeros at the end of each axis."""


@dataclass(frozen=True)
class FullyConnected:
    """weight @ x without bias; weight float32 (out, in)."""

    weight: NDArray[np.float32]


Layer = Input | Convolution | Affine | ReLU | MaxPool | AvgPool | AddPrevious | FullyConnected


def packaged_path(file_name: str) -> Path:
    """Return the path of a file in the PyPI package face_recognition_models, without importing that package.

    Raises:
        ModelError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations if spec else None) or []:
        path = Path(folder) / "models" / file_name
        if path.is_file():
            return path
    raise ModelError(f"expected {file_name} from the package face_recognition_models, found none")


def read_dat(path: str | Path, is_packaged: bool = False) -> list[Layer]:
    """Return the layers of a serialised network, from input to output.

    Args:
        is_packaged: whether the file is the packaged network, whose digest is known.

    Raises:
        ModelError: the file is missing, truncated, damaged, or not a network of this kind.
    """
    data = read_weight_file(Path(path), is_packaged)
    try:
        return _read_network(_Reader(data))
    except ModelError as error:
        raise ModelError(f"cannot read model file {path}: {error}") from error


class _Reader:
    """Reads dlib's scalar, string and tensor encodings, one after another, from a byte string."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, count: int) -> bytes:
        end = self._position + count
        if count < 0 or end > len(self._data):
            raise ModelError(f"expected {count} bytes at offset {self._position}, the file has {len(self._data)}")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def integer(self) -> int:
        control = self.take(1)[0]
        size = control & 0x0F
        if control & 0x70 or not 1 <= size <= 8:
            raise ModelError(f"expected an integer at offset {self._position - 1}, got control byte {control:#04x}")
        magnitude = int.from_bytes(self.take(size), "little")
        return -magnitude if control & 0x80 else magnitude

    def pair(self) -> tuple[int, int]:
        return self.integer(), self.integer()

    def real(self) -> float:
        mantissa, exponent = self.pair()
        if abs(exponent) + mantissa.bit_length() >= _MAX_EXPONENT:
            raise ModelError(f"expected a finite number, got exponent {exponent}")
        return math.ldexp(mantissa, exponent)

    def string(self) -> str:
        length = self.integer()
        if not 0 <= length <= _MAX_NAME:
            raise ModelError(f"expected a name before offset {self._position}, got length {length}")
        return self.take(length).decode("ascii", errors="replace")

    def expect(self, expected: int | str) -> None:
        actual = self.integer() if isinstance(expected, int) else self.string()
        if actual != expected:
            raise ModelError(f"expected {expected!r} before offset {self._position}, got {actual!r}")

    def shape(self) -> tuple[int, ...]:
        shape = tuple(self.integer() for _ in range(4))
        if min(shape) < 0 or math.prod(max(1, side) for side in shape) > len(self._data):
            raise ModelError(f"expected a tensor before offset {self._position}, got shape {shape}")
        return shape

    def tensor(self) -> NDArray[np.float32]:
        self.expect(_TENSOR_VERSION)
        shape = self.shape()
        values = np.frombuffer(self.take(4 * math.prod(shape)), dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise ModelError(f"expected finite weights before offset {self._position}, got infinities or NaN")
        return values.reshape(shape)


def _read_network(reader: _Reader) -> list[Layer]:
    reader.expect(1)  # the loss layer's version
    reader.expect(_LOSS)
    reader.real()  # its margin
    reader.real()  # its distance threshold
    while (version := reader.integer()) != 3:  # 3 is the version of the innermost layer, which reads the input
        if version not in (1, 2):  # 1: a tag or skip; 2: a layer
            raise ModelError(f"expected a layer version of 1, 2 or 3, got {version}")
    layers: list[Layer] = [_read_input(reader)]
    while not reader.at_end:
        layers.append(_read_layer(reader))
        _skip_training_state(reader)
        if len(layers) == 2:
            reader.expect(1)  # images per sample, which dlib writes with the innermost layer
    return layers


def _read_input(reader: _Reader) -> Input:
    reader.expect(_INPUT)
    return Input((reader.real(), reader.real(), reader.real()), reader.pair())


def _read_layer(reader: _Reader) -> Layer:
    match reader.string():
        case "con_4":
            return _read_convolution(reader)
        case "affine_":
            return _read_affine(reader)
        case "relu_":
            return ReLU()
        case "add_prev_":
            return AddPrevious()
        case "max_pool_2":
            return MaxPool(reader.pair(), reader.pair(), reader.pair())
        case "avg_pool_2":
            return AvgPool(reader.pair(), reader.pair(), reader.pair())
        case "fc_2":
            return _read_fully_connected(reader)
        case other:
            raise ModelError(f"expected a known layer, got {other!r}")


def _read_convolution(reader: _Reader) -> Convolution:
    parameters = reader.tensor().ravel()
    reader.integer()  # the number of filters, which the alias below repeats
    reader.pair()  # the kernel, likewise
    stride, padding = reader.pair(), reader.pair()
    filters, bias = _split(parameters, _read_alias(reader), _read_alias(reader))
    _skip_multipliers(reader)
    return Convolution(filters, bias.ravel(), stride, padding)


def _read_affine(reader: _Reader) -> Affine:
    gamma, beta = _split(reader.tensor().ravel(), _read_alias(reader), _read_alias(reader))
    reader.expect(0)  # per channel
    return Affine(gamma.ravel(), beta.ravel())


def _read_fully_connected(reader: _Reader) -> FullyConnected:
    outputs, inputs = reader.pair()
    parameters = reader.tensor().ravel()
    (weight,) = _split(parameters, _read_alias(reader))
    _read_alias(reader)  # the bias, empty
    reader.expect(1)  # without bias
    _skip_multipliers(reader)
    if weight.size != inputs * outputs or min(inputs, outputs) < 1:
        raise ModelError(f"expected {inputs} x {outputs} weights, got {weight.size}")
    return FullyConnected(weight.reshape(inputs, outputs).T.copy())


def _read_alias(reader: _Reader) -> tuple[int, ...]:
    """Return the shape of a view of a parameter tensor."""
    reader.expect(1)
    return reader.shape()


def _split(parameters: NDArray[np.float32], *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """Cut a flat parameter vector into views of the given shapes, in order."""
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) != parameters.size:
        raise ModelError(f"expected {parameters.size} parameters, got shapes {shapes}")
    parts = np.split(parameters, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _skip_multipliers(reader: _Reader) -> None:
    """Skip the learning rate and weight decay multipliers of weights and bias."""
    for _ in range(4):
        reader.real()


def _skip_training_state(reader: _Reader) -> None:
    flags = reader.take(3)
    if set(flags) - set(b"01"):
        raise ModelError(f"expected three flags, got {flags!r}")
    for _ in range(3):
        reader.tensor()
