"""How many bits each comparison of a network looks at: as few as the layer's range allows, and still exact.

A comparison on k bits is exact for magnitudes below 2^(k-1), in last bits (16 of them fractional). A narrower one costs
less. Ranges are measured on representative inputs (`Emulator.ranges`). A width leaves a margin above the largest
magnitude that was seen. So a width reveals only in which of a few ranges a layer's values lie. Widths are public and
part of the terms.

A value beyond its range gives a wrong result without an error, since neither party sees the value. An emulator with
these widths raises an error instead, when ranges are calibrated and accuracy is measured.
"""

from collections.abc import Mapping

from protocols.arithmetic.fixed_point import FRACTION_BITS
from protocols.correlations.comparison_masks import WIDTHS
from protocols.errors import ParameterError
from protocols.shares.comparison import COMPARISON_BITS

__all__ = ["MARGIN", "NARROWEST", "Widths", "check_widths", "choose_width", "range_of"]

Widths = Mapping[str, int]
"""Bits by the name of the layer. A layer without an entry has `COMPARISON_BITS`."""

MARGIN = 2.0
"""The factor by which a range must exceed the largest magnitude that was seen."""

NARROWEST = 19
"""The narrowest width of a network's layer. Narrower widths are for tests: their ranges end below 4."""


def range_of(bits: int) -> float:
    """Return the magnitude, as a real, below which a comparison on `bits` bits is exact."""
    return float(2.0 ** (bits - 1 - FRACTION_BITS))


def choose_width(largest: float, margin: float = MARGIN) -> int:
    """Return the narrowest width for a largest magnitude, a real.

    Raises:
        ParameterError: the magnitude is too large for every width that a network's layer may have.
    """
    for bits in WIDTHS:
        if NARROWEST <= bits <= COMPARISON_BITS and margin * largest < range_of(bits):
            return bits
    raise ParameterError(f"expected magnitudes below {range_of(COMPARISON_BITS) / margin:g}, got {largest:g}")


def check_widths(widths: Widths, layers: Mapping[str, object]) -> None:
    """Check that each width belongs to a comparing layer, and is one that a layer may have.

    Raises:
        ParameterError: a name is not that of a comparing layer, or a layer may not have that width.
    """
    for name, bits in widths.items():
        if name not in layers or bits not in WIDTHS or not NARROWEST <= bits <= COMPARISON_BITS:
            allowed = ", ".join(str(width) for width in WIDTHS if NARROWEST <= width <= COMPARISON_BITS)
            raise ParameterError(
                f"expected widths of {allowed} bits for comparing layers, got {bits} for {name[:40]!r}"
            )
