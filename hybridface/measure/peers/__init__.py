"""This project beside other ways to do the same: plaintext torch, CrypTen alone, and SPU's Cheetah.

Every peer takes the same photo, template and network to the same bit, by processes of its own; what each one's
security rests on is part of its row. The parties' inputs meet in the process that starts them: a benchmark, no product.
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from hybridface.measure.peers.compare import all_peers, compare, progress_bar
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
        "hybridface.measure.peers.compare": ["all_peers", "compare", "progress_bar"],
        "hybridface.measure.peers.measure": ["Peer", "PeerResult", "PeerTask", "Run", "make_task"],
        "hybridface.measure.peers.report": ["comparison_document", "comparison_table"],
    },
)
