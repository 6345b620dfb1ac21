"""Name the modes in which accuracy is measured."""

from enum import StrEnum

__all__ = ["EvalMode"]


class EvalMode(StrEnum):
    """How the decisions are computed: in float64, by the emulator, or by a protocol."""

    PLAIN = "plain"
    EMULATED = "emulated"
    HYBRID = "hybrid"
    PURE_HE = "pure-he"
