"""Oblivious transfer between two semi-honest parties, without a dealer: from nothing to millions of random transfers.

From the ground up: `base` (elliptic curves, 127 transfers) -> `iknp` (symmetric cryptography, 16 bytes a transfer) ->
`ggm` and `lpn` -> `ferret` (less than a bit a transfer); `hashing` turns correlated transfers into random ones;
`random_transfers` is what users import. `kernels` has the loops.
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from protocols.transfers.ferret import B11, SilentParameters
    from protocols.transfers.hashing import Blocks
    from protocols.transfers.random_transfers import RandomReceiver, RandomSender, TransferKind

__all__ = ["B11", "Blocks", "RandomReceiver", "RandomSender", "SilentParameters", "TransferKind"]

__getattr__ = hand_on(
    __name__,
    {
        "protocols.transfers.ferret": ["B11", "SilentParameters"],
        "protocols.transfers.hashing": ["Blocks"],
        "protocols.transfers.random_transfers": ["RandomReceiver", "RandomSender", "TransferKind"],
    },
)
