"""An extension of Griffe: an entry of a docstring for several parameters becomes one entry for each."""

import re
from typing import Any

import griffe

__all__ = ["OneEntryEach"]

_SEVERAL = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+):(?P<text>.*(?:\n(?P=indent) +\S.*)*)$", re.MULTILINE)


class OneEntryEach(griffe.Extension):
    """Turns "a, b: what both are" into "a: what both are" and "b: what both are", so that both get their types."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _SEVERAL.sub(_each, obj.docstring.value)


def _each(entry: re.Match[str]) -> str:
    return "\n".join(f"{entry['indent']}{name}:{entry['text']}" for name in entry["names"].split(", "))
