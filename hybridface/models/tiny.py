"""Define the tiny network for tests. It has one layer of each kind and random weights, and recognises nobody."""

from typing import Any

import numpy as np
import torch

from hybridface.models.dlib_resnet import ResidualBlock
from hybridface.models.preprocessing import ChannelScaling

__all__ = ["TINY_SIZE", "tiny_module", "tiny_normalise"]

TINY_SIZE = 16
_SEED = 20

tiny_normalise = ChannelScaling(TINY_SIZE, (127.5, 127.5, 127.5), 128.0)
"""Maps an aligned crop (16, 16, 3) uint8 to the network's input (3, 16, 16) float64."""


def tiny_module(weights: bool) -> Any:
    """Return a module with one layer of each kind. Without weights, it is on the meta device."""
    nn = torch.nn
    factory: dict[str, Any] = {"device": "meta", "dtype": torch.float64}
    module = nn.Sequential()
    module.add_module("conv", nn.Conv2d(3, 8, 3, 2, 1, **factory))
    module.add_module("relu", nn.ReLU())
    module.add_module("pool", nn.MaxPool2d(2, 2))
    module.add_module("block", ResidualBlock(8, 16, 4, 2, **factory))
    module.add_module("depthwise", nn.Conv2d(16, 16, 3, 1, 1, groups=16, **factory))
    module.add_module("prelu", nn.PReLU(16, **factory))
    module.add_module("average", nn.AdaptiveAvgPool2d(1))
    module.add_module("flatten", nn.Flatten())
    module.add_module("fc", nn.Linear(16, 8, **factory))
    if not weights:
        return module
    module = module.to_empty(device="cpu")
    random = np.random.default_rng(_SEED)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = max(1, int(np.prod(parameter.shape[1:])))
            values = random.standard_normal(tuple(parameter.shape)) * np.sqrt(1.5 / fan_in)
            parameter.copy_(torch.from_numpy(values))
        module.prelu.weight.mul_(0.2).abs_()
        module.fc.weight.mul_(2)  # so that random images lie on both sides of the threshold
    return module
