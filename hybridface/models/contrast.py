"""Normalise the local contrast of a face, to remove the effect of the light before the network sees the face.

The function replaces brightness and colours:

- Brightness becomes the difference from the mean of the surroundings, in standard deviations of the surroundings.
- Colours become red - green and blue - green, less their mean over the face.

The function is fixed and public, and it needs only one photo: nothing in it is learned. Source: Jarrett, Kavukcuoglu,
Ranzato, LeCun, What is the best multi-stage architecture for object recognition?, ICCV 2009.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)

__all__ = ["normalised_contrast"]

_SIGMA = 8.0
_FLOOR, _GAIN, _COLOUR = 0.05, 0.5, 2.0
_MARGIN = 8


def normalised_contrast(images: Any) -> Any:
    """Return the normalised brightness, red - green and blue - green of RGB images.

    Args:
        images: float32 tensor (N, 3, height, width) with values in [-1, 1]; height and width are above 24 pixels.

    Returns:
        a tensor of the same shape, with values in about [-2, 2].
    """
    brightness = images.mean(1, keepdim=True)
    detail = brightness - _blurred(brightness)
    deviation = _blurred(detail.square()).sqrt()
    colours = torch.stack([images[:, 0] - images[:, 1], images[:, 2] - images[:, 1]], 1)
    middle = colours[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN].mean((2, 3), keepdim=True)
    return torch.cat([_GAIN * detail / (deviation + _FLOOR), _COLOUR * (colours - middle)], 1)


def _blurred(images: Any) -> Any:
    """Convolve images (N, 1, height, width), mirrored at the edges, with a Gaussian. Use two matrix products."""
    height, width = images.shape[2:]
    return _gaussian(height, images.dtype) @ images @ _gaussian(width, images.dtype).T


def _gaussian(size: int, dtype: Any) -> Any:
    """Return the matrix (size, size) that blurs a line of pixels."""
    radius = int(3 * _SIGMA)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-steps.square() / (2 * _SIGMA**2))
    lines = F.pad(torch.eye(size, dtype=torch.float64)[None], (radius, radius), mode="reflect")[0]
    return F.conv1d(lines[:, None], (kernel / kernel.sum())[None, None])[:, 0].T.to(dtype)
