"""By what arithmetic accuracy is measured."""

from enum import StrEnum

__all__ = ["EvalMode"]


class EvalMode(StrEnum):
    """What computes the decisions."""

    PLAIN = "plain"
    EMULATED = "emulated"
    HYBRID = "hybrid"
    PURE_HE = "pure-he"
