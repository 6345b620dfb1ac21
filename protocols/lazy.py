"""Load the names that a package re-exports when they are first used, so that importing a small module stays quick.

A package lists its names under `if TYPE_CHECKING`, for type checkers and readers. For Python it says which module holds
each name:

    __getattr__ = hand_on(__name__, {"protocols.channel": ["Channel", "Transport"]})
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["hand_on"]


def hand_on(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return a package's `__getattr__` (PEP 562).

    Args:
        names: the re-exported names, by the module that holds them.
    """
    places = {name: module for module, listed in names.items() for name in listed}

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(places[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
