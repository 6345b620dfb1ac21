"""Run the comparison: every peer in turn, again and again, so that a busy minute of the machine affects all peers."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hybridface.errors import RunError
from hybridface.measure.peers.crypten_alone import crypten_peer
from hybridface.measure.peers.hybrid import hybrid_peer
from hybridface.measure.peers.measure import Peer, PeerResult, PeerTask, Run
from hybridface.measure.peers.plaintext import plaintext_peer
from hybridface.measure.peers.spu_cheetah import DEFAULT_INTERPRETER, spu_peer
from parties.session.correlations import Correlations
from protocols.errors import HybridFaceError, ParameterError

__all__ = ["OnRun", "all_peers", "compare", "progress_bar"]

OnRun = Callable[[str, int, int], None]
"""Called before each run with the peer's name, the number of runs done, and the number of runs planned."""


def all_peers(task: PeerTask, spu: Path = DEFAULT_INTERPRETER, timeout: float = 300.0) -> list[Peer]:
    """Return the peers for one task: plaintext, hybridface with and without a dealer, CrypTen alone, SPU's Cheetah.

    Args:
        spu: Python of SPU's environment.
        timeout: seconds that a process of hybridface waits for another, and that a run of CrypTen may take.
    """
    ours = [hybrid_peer(task, timeout, correlations) for correlations in (Correlations.OT, Correlations.DEALER)]
    return [plaintext_peer(task), *ours, crypten_peer(task, timeout), spu_peer(task, spu)]


def compare(task: PeerTask, peers: Sequence[Peer], runs: int = 5, on_run: OnRun | None = None) -> list[PeerResult]:
    """Run the peers, interleaved: the first run of each, then the second run of each, and so on.

    Raises:
        ParameterError: `runs` is not positive.
        RunError: a peer that is not optional failed, or its decision differs from that of the network in float64.
    """
    if runs < 1:
        raise ParameterError(f"expected at least 1 run, got {runs}")
    plan = [peer for i in range(runs) for peer in peers if peer.most_runs is None or i < peer.most_runs]
    done: dict[str, list[Run]] = {peer.name: [] for peer in peers}
    reasons: dict[str, str] = {}
    for index, peer in enumerate(plan):
        if on_run:
            on_run(peer.name, index, len(plan))
        try:
            done[peer.name].append(_checked(peer, task))
        except HybridFaceError as error:
            if not peer.optional:
                raise
            reasons[peer.name] = str(error)
    return [PeerResult(peer.name, peer.security, tuple(done[peer.name]), reasons.get(peer.name)) for peer in peers]


def _checked(peer: Peer, task: PeerTask) -> Run:
    run = peer.run()
    if run.match != task.match:
        words = {True: "same person", False: "different people"}
        raise RunError(f"{peer.name}: expected the decision {words[task.match]}, got {words[run.match]}")
    return run


@contextmanager
def progress_bar(shown: bool = True) -> Iterator[OnRun]:
    """Yield a function for `compare` that shows a progress bar on standard error, if that is a terminal."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    hidden = not (shown and sys.stderr.isatty())
    with Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        task = progress.add_task("preparation", total=None)
        yield lambda name, done, total: progress.update(task, completed=done, total=total, description=name)
