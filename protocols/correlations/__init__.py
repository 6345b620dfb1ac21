"""Correlated randomness: the correlations that comparisons and products use up, and their sources."""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from protocols.correlations.comparison_masks import BorrowJoin, ComparisonMask
    from protocols.correlations.dealer import Dealer, DealerClient, DealerServer
    from protocols.correlations.fixed_mask import FixedMask, FixedNorms, FixedProduct
    from protocols.correlations.request import Request
    from protocols.correlations.source import CorrelationSource
    from protocols.correlations.types import (
        ArithmeticTriple,
        BinaryTriple,
        SharedBit,
        SquarePair,
        TruncationMask,
        WrapCount,
    )

__all__ = [
    "ArithmeticTriple",
    "BinaryTriple",
    "BorrowJoin",
    "ComparisonMask",
    "CorrelationSource",
    "Dealer",
    "DealerClient",
    "DealerServer",
    "FixedMask",
    "FixedNorms",
    "FixedProduct",
    "Request",
    "SharedBit",
    "SquarePair",
    "TruncationMask",
    "WrapCount",
]

__getattr__ = hand_on(
    __name__,
    {
        "protocols.correlations.comparison_masks": ["BorrowJoin", "ComparisonMask"],
        "protocols.correlations.dealer": ["Dealer", "DealerClient", "DealerServer"],
        "protocols.correlations.fixed_mask": ["FixedMask", "FixedNorms", "FixedProduct"],
        "protocols.correlations.request": ["Request"],
        "protocols.correlations.source": ["CorrelationSource"],
        "protocols.correlations.types": [
            "ArithmeticTriple",
            "BinaryTriple",
            "SharedBit",
            "SquarePair",
            "TruncationMask",
            "WrapCount",
        ],
    },
)
