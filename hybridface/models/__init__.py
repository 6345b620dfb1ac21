"""The known face networks: a public layer graph, and weights for the server alone.

`model` has what `load_model` returns; `terms` what sessions take from it; the other modules one network each, and
`importing` how networks of other libraries become layer graphs.
"""

from hybridface.errors import ModelError

__all__ = ["DEFAULT_MODEL", "MODELS", "PATCH_NETWORKS", "check_name"]

MODELS = ("dlib-resnet29", "patchnet", "tiny-test")
"""The names that `load_model` knows."""

DEFAULT_MODEL = MODELS[0]
"""The network that is meant if none is named."""

PATCH_NETWORKS = ("patchnet",)
"""Those of them that can run under encryption from end to end."""


def check_name(name: str, under_encryption: bool = False) -> None:
    """Check a model's name, without loading anything.

    Args:
        under_encryption: whether it is to run under encryption from end to end.

    Raises:
        ModelError: there is no such model, or it cannot.
    """
    if name not in MODELS:
        raise ModelError(f"expected a model named {', '.join(MODELS[:-1])} or {MODELS[-1]}, got {name!r}")
    if under_encryption and name not in PATCH_NETWORKS:
        raise ModelError(f"expected a patch network ({', '.join(PATCH_NETWORKS)}) for pure-HE mode, got {name}")
