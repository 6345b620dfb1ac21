"""Define the known face networks. The layer graph of a network is public; only the server needs the weights.

- `model`: `load_model`, and the `Model` that it returns.
- `terms`: what sessions take from a model.
- `dlib_resnet`, `patchnet`, `tiny`: one network each.
- `preprocessing`, `patches`: from an aligned crop to a network's input, as data.
- `public`: the half of a network that a client learns, as a document.
- `importing`: turns networks of other libraries into layer graphs.
- `ranges`, `budget`: the largest values that were measured, and whether they fit the protocols.
"""

from hybridface.errors import ModelError

__all__ = ["DEFAULT_MODEL", "MODELS", "PATCH_NETWORKS", "check_name"]

MODELS = ("dlib-resnet29", "patchnet", "tiny-test")
"""The names that `load_model` knows."""

DEFAULT_MODEL = MODELS[0]
"""The network that is used if none is named."""

PATCH_NETWORKS = ("patchnet",)
"""The networks that can run in pure-HE mode."""


def check_name(name: str, under_encryption: bool = False) -> None:
    """Check a model's name without loading anything.

    Args:
        under_encryption: whether the model must be able to run in pure-HE mode.

    Raises:
        ModelError: there is no such model, or it cannot run in pure-HE mode.
    """
    if name not in MODELS:
        raise ModelError(f"expected a model named {', '.join(MODELS[:-1])} or {MODELS[-1]}, got {name!r}")
    if under_encryption and name not in PATCH_NETWORKS:
        raise ModelError(f"expected a patch network ({', '.join(PATCH_NETWORKS)}) for pure-HE mode, got {name}")
