"""Define dlib's face recognition ResNet as a torch module: 29 convolutions, an RGB image in, 128 features out.

- Two photos show the same person if the Euclidean distance of their features is below 0.6.
- dlib's affine layers are folded into the convolutions before them.
- Convolutions of stride 2 have no padding. So in a downsampling block, the average-pooled shortcut can be larger than
  the convolved side, and it has fewer channels. dlib pads the smaller side with zeros: after the last channel, at the
  bottom and at the right.
- All sizes are known when a block is built, so that tracing sees constants.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.models import dlib_dat
from hybridface.models.dlib_dat import packaged_path, read_dat
from hybridface.models.preprocessing import ChannelScaling

__all__ = ["BLOCKS", "CHIP_SIZE", "MEANS", "DlibResNet", "ResidualBlock", "default_dat_path", "normalise"]

CHIP_SIZE = 150
MEANS = (122.782, 117.001, 104.298)
"""The means of red, green and blue that dlib's input layer subtracts (dlib, input_rgb_image_sized)."""

BLOCKS: tuple[tuple[int, int], ...] = (
    *((32, 1),) * 3,
    *((64, 2), (64, 1), (64, 1), (64, 1)),
    *((128, 2), (128, 1), (128, 1)),
    *((256, 2), (256, 1), (256, 1), (256, 2)),
)
"""The channels and the stride of every residual block, from input to output."""


_POOLS = (
    dlib_dat.MaxPool((3, 3), (2, 2), (0, 0)),
    dlib_dat.AvgPool((2, 2), (2, 2), (0, 0)),
    dlib_dat.AvgPool((0, 0), (1, 1), (0, 0)),
)


def default_dat_path() -> Path:
    """Return the path of the network's file in the PyPI package face_recognition_models.

    Raises:
        ModelError: the package is not installed, or has no such file.
    """
    return packaged_path("dlib_face_recognition_resnet_model_v1.dat")


normalise = ChannelScaling(CHIP_SIZE, MEANS, 256.0)
"""Maps an aligned crop (150, 150, 3) uint8 to the network's input (3, 150, 150) float64, (x - mean) / 256."""


class ResidualBlock(torch.nn.Module):  # type: ignore[misc]
    """relu(conv2(relu(conv1(x))) + shortcut(x)), where the smaller side is padded with zeros as in dlib.

    Args:
        channels_in, channels: the channels of the input and of the output; channels_in <= channels.
        size: the height and width of the input.
        stride: 1, or 2 for conv1 without padding and a 2x2 average pool in the shortcut.
    """

    def __init__(self, channels_in: int, channels: int, size: int, stride: int, **factory: Any) -> None:
        super().__init__()
        padding = 1 if stride == 1 else 0
        self.conv1 = torch.nn.Conv2d(channels_in, channels, 3, stride, padding, **factory)
        self.relu1 = torch.nn.ReLU()
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, 1, 1, **factory)
        self.shortcut = torch.nn.Identity() if stride == 1 else torch.nn.AvgPool2d(stride)
        self.relu2 = torch.nn.ReLU()
        convolved, pooled = (size + 2 * padding - 3) // stride + 1, size // stride
        self.size = max(convolved, pooled)
        self.convolved_padding = _padding(0, self.size - convolved)
        self.shortcut_padding = _padding(channels - channels_in, self.size - pooled)

    def forward(self, x: Any) -> Any:
        """Map (batch, channels_in, size, size) to (batch, channels, self.size, self.size)."""
        y = self.conv2(self.relu1(self.conv1(x)))
        x = self.shortcut(x)
        if any(self.convolved_padding):
            y = F.pad(y, self.convolved_padding)
        if any(self.shortcut_padding):
            x = F.pad(x, self.shortcut_padding)
        return self.relu2(y + x)


class DlibResNet(torch.nn.Module):  # type: ignore[misc]
    """The network, with float64 weights that are not set yet. `from_dat` sets them.

    Args:
        device: torch's device; "meta" allocates no weights.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": torch.float64}
        channels, size = 32, ((CHIP_SIZE - 7) // 2 + 1 - 3) // 2 + 1
        self.conv1 = torch.nn.Conv2d(3, channels, 7, 2, **factory)
        self.relu = torch.nn.ReLU()
        self.pool = torch.nn.MaxPool2d(3, 2)
        self.blocks = torch.nn.Sequential()
        for channels_out, stride in BLOCKS:
            block = ResidualBlock(channels, channels_out, size, stride, **factory)
            self.blocks.append(block)
            channels, size = channels_out, block.size
        self.average = torch.nn.AdaptiveAvgPool2d(1)
        self.flatten = torch.nn.Flatten()
        self.fc = torch.nn.Linear(channels, 128, bias=False, **factory)

    def forward(self, x: Any) -> Any:
        """Map normalised images (batch, 3, 150, 150) to features (batch, 128)."""
        x = self.blocks(self.pool(self.relu(self.conv1(x))))
        return self.fc(self.flatten(self.average(x)))

    @classmethod
    def from_dat(cls, path: str | Path | None = None) -> "DlibResNet":
        """Return the network with the weights of a dlib file; by default, of the file in face_recognition_models.

        Raises:
            ModelError: the file is missing, truncated, or holds another network.
        """
        is_packaged = path is None
        path = default_dat_path() if path is None else path
        layers = read_dat(path, is_packaged)
        if [type(layer) for layer in layers] != _expected_kinds():
            raise ModelError(f"cannot use model file {path}: expected dlib's 29-layer ResNet, got other layers")
        module = cls()
        module.eval()
        try:
            module._load(layers)
        except ModelError as error:
            raise ModelError(f"cannot use model file {path}: {error}") from error
        return module

    def _load(self, layers: list[dlib_dat.Layer]) -> None:
        convolutions = iter([module for module in self.modules() if isinstance(module, torch.nn.Conv2d)])
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            match layer:
                case dlib_dat.Input(means, size):
                    if size != (CHIP_SIZE, CHIP_SIZE) or not np.allclose(means, MEANS, atol=1e-4):
                        raise ModelError(f"expected images of 150x150 with means {MEANS}, got {size} with {means}")
                case dlib_dat.Convolution():
                    assert isinstance(following, dlib_dat.Affine)  # noqa: S101  (`from_dat` has compared the kinds)
                    _load_convolution(next(convolutions), layer, following)
                case dlib_dat.MaxPool() | dlib_dat.AvgPool() if layer not in _POOLS:
                    raise ModelError(f"expected one of dlib's pools, got {layer}")
                case dlib_dat.FullyConnected(weight):
                    _set(self.fc.weight, weight.astype(np.float64))


def _padding(channels: int, pixels: int) -> tuple[int, ...]:
    """Return the argument of torch.nn.functional.pad for zeros after the channels, at the bottom and at the right."""
    return (0, pixels, 0, pixels, 0, channels) if channels else (0, pixels, 0, pixels)


def _expected_kinds() -> list[type[dlib_dat.Layer]]:
    convolution: list[type[dlib_dat.Layer]] = [dlib_dat.Convolution, dlib_dat.Affine]
    kinds: list[type[dlib_dat.Layer]] = [dlib_dat.Input, *convolution, dlib_dat.ReLU, dlib_dat.MaxPool]
    for _, stride in BLOCKS:
        kinds += [*convolution, dlib_dat.ReLU, *convolution]
        kinds += [dlib_dat.AvgPool] if stride == 2 else []
        kinds += [dlib_dat.AddPrevious, dlib_dat.ReLU]
    return [*kinds, dlib_dat.AvgPool, dlib_dat.FullyConnected]


def _load_convolution(module: Any, layer: dlib_dat.Convolution, affine: dlib_dat.Affine) -> None:
    """Set a convolution's weight and bias to those of gamma (w * x + b) + beta, folded in float64."""
    if (layer.stride, layer.padding) != (module.stride, module.padding):
        raise ModelError(
            f"expected stride {module.stride} and padding {module.padding}, got {layer.stride}, {layer.padding}"
        )
    gamma, beta = affine.gamma.astype(np.float64), affine.beta.astype(np.float64)
    if gamma.shape != layer.bias.shape:
        raise ModelError(f"expected an affine layer of {layer.bias.size} channels, got {gamma.size}")
    _set(module.weight, layer.filters * gamma[:, None, None, None])
    _set(module.bias, layer.bias * gamma + beta)


def _set(parameter: Any, value: NDArray[np.float64]) -> None:
    if tuple(parameter.shape) != value.shape:
        raise ModelError(f"expected weights of shape {tuple(parameter.shape)}, got {value.shape}")
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(value))
