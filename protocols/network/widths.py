"""How many bits each comparison of a network looks at: as few as the layer's range allows, exactly all the same.

A comparison on k bits is exact for magnitudes below 2^(k-1), in last bits (16 of them fractional), and costs the less
the narrower it is. Ranges are measured on representative inputs (`Emulator.ranges`); a width is chosen with a margin
above the largest magnitude that was seen, so it tells of a layer's values only to which of a few ranges they belong.
Widths are public and part of the terms. A value beyond its range gives a wrong result without an error, since nobody
sees it: so an emulator that is told the widths raises instead, when ranges are calibrated and accuracy is measured.
"""

from collections.abc import Mapping

from protocols.arithmetic.fixed_point import FRACTION_BITS
from protocols.correlations.comparison_masks import WIDTHS
from protocols.errors import ParameterError
from protocols.shares.comparison import COMPARISON_BITS

__all__ = ["MARGIN", "NARROWEST", "Widths", "check_widths", "choose_width", "range_of"]

Widths = Mapping[str, int]
"""Bits by the name of the layer; layers that are not in it have `COMPARISON_BITS`."""

MARGIN = 2.0
"""How far a range must reach beyond the largest magnitude that was seen."""

NARROWEST = 19
"""Narrower ones are for tests: they end below magnitudes of 4."""


def range_of(bits: int) -> float:
    """Return the magnitude, as a real, below which a comparison on so many bits is exact."""
    return float(2.0 ** (bits - 1 - FRACTION_BITS))


def choose_width(largest: float, margin: float = MARGIN) -> int:
    """Return the narrowest width for a largest magnitude, a real.

    Raises:
        ParameterError: none that a network's layer may have reaches so far.
    """
    for bits in WIDTHS:
        if NARROWEST <= bits <= COMPARISON_BITS and margin * largest < range_of(bits):
            return bits
    raise ParameterError(f"expected magnitudes below {range_of(COMPARISON_BITS) / margin:g}, got {largest:g}")


def check_widths(widths: Widths, layers: Mapping[str, object]) -> None:
    """Check widths.

    Raises:
        ParameterError: one is of no comparing layer, or no width that a layer may have.
    """
    for name, bits in widths.items():
        if name not in layers or bits not in WIDTHS or not NARROWEST <= bits <= COMPARISON_BITS:
            allowed = ", ".join(str(width) for width in WIDTHS if NARROWEST <= width <= COMPARISON_BITS)
            raise ParameterError(
                f"expected widths of {allowed} bits for comparing layers, got {bits} for {name[:40]!r}"
            )
