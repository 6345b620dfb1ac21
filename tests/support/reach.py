"""Everything that an object holds."""

import gc
import types
from collections.abc import Iterator
from typing import Any

__all__ = ["reachable"]


def reachable(*roots: Any) -> Iterator[Any]:
    """Yield every object that can be reached from `roots` through attributes, containers, closures and arguments."""
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, type | types.ModuleType):
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, types.FunctionType):  # not its globals: they hold the whole program
            todo += [value.__closure__, value.__defaults__, value.__kwdefaults__]
        else:
            todo += gc.get_referents(value)
        todo.append(getattr(value, "__dict__", None))
