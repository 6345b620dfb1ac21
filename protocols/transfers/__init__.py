"""Oblivious transfer between two semi-honest parties, without a dealer: from nothing to millions of random transfers.

Users import `random_transfers`. It builds on the other modules, from the ground up:

| module | makes |
|---|---|
| `base` | 127 transfers, by elliptic curves |
| `iknp` | any number of correlated transfers, by symmetric cryptography, for 16 bytes each |
| `ferret`, with `ggm` and `lpn` | correlated transfers for less than a bit each |
| `hashing` | random transfers from correlated ones |

`kernels` has the compiled loops.
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
