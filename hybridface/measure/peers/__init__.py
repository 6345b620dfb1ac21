"""Compare hybridface with other ways to do a verification: plaintext torch, CrypTen alone, and SPU's Cheetah.

In this package, a *peer* is one way to do a verification, hybridface included. Every peer gets the same photo, template
and network, and computes the same bit. Every peer but plaintext torch runs processes of its own. A peer's row says what
its security rests on. The process that starts a peer holds the inputs of both parties: this is a benchmark, not a
product.
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from hybridface.measure.peers.comparison import all_peers, compare, progress_bar
    from hybridface.measure.peers.measure import Peer, PeerResult, PeerTask, Run, make_task
    from hybridface.measure.peers.report import comparison_document, comparison_table

__all__ = [
    "Peer",
    "PeerResult",
    "PeerTask",
    "Run",
    "all_peers",
    "compare",
    "comparison_document",
    "comparison_table",
    "make_task",
    "progress_bar",
]

__getattr__ = hand_on(
    __name__,
    {
        "hybridface.measure.peers.comparison": ["all_peers", "compare", "progress_bar"],
        "hybridface.measure.peers.measure": ["Peer", "PeerResult", "PeerTask", "Run", "make_task"],
        "hybridface.measure.peers.report": ["comparison_document", "comparison_table"],
    },
)
