"""Changes of JSON documents: a value replaced, left out, or given twice, anywhere."""

import copy
from typing import Any

from hypothesis import strategies as st

__all__ = ["anything", "mutated"]

_NUMBERS = [0, 1, -1, 2, 3, 7, 1 << 20, (1 << 20) + 1, 1 << 26, 1 << 62, 1 << 63, 10**30, 0.5, -0.0, 1e-300, 1e300]

anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.sampled_from(_NUMBERS) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value; often a number that bounds are about."""


@st.composite
def mutated(draw: st.DrawFn, document: dict[str, Any], most: int = 3) -> dict[str, Any]:
    """Return a copy of a document with one to `most` changes."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        _change(draw, changed)
    return changed


def _change(draw: st.DrawFn, place: Any) -> None:
    """Change something below a place."""
    while place:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            continue
        match draw(st.sampled_from(["replace", "replace", "replace", "leave out", "twice"])):
            case "replace":
                place[key] = draw(anything)
            case "leave out":
                del place[key]
            case "twice" if isinstance(place, list):
                place.append(copy.deepcopy(place[key]))
            case "twice":
                place[f"{key}x"] = place[key]
        return
