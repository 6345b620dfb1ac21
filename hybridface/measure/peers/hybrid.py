"""Measure hybridface itself: client and server as MPI processes, one photo against an enrolled template.

Security rests on ring-LWE (for the encrypted masks), on AES, and on one of two: the assumptions of the oblivious
transfers, or a dealer that colludes with neither party. All parties are semi-honest.

No process of a timed run can open the features. So their error comes from one separate enrolment in this process, which
adds the template's two shares.
"""

from hybridface.errors import RunError
from hybridface.folders import cache_directory
from hybridface.local.session import LocalSession
from hybridface.measure.peers.measure import Peer, PeerTask, Run
from hybridface.processes.runs import HybridRun
from hybridface.processes.start import start
from parties.session.correlations import Correlations
from protocols.arithmetic.fixed_point import decode

__all__ = ["enrolment_error", "hybrid_peer"]

_NAMES = {Correlations.OT: "hybridface", Correlations.DEALER: "hybridface, dealer"}
_SECURITY = {
    Correlations.OT: "ring-LWE, LPN, AES, Curve25519; semi-honest",
    Correlations.DEALER: "ring-LWE, AES, a dealer that colludes with neither party; semi-honest",
}


def hybrid_peer(task: PeerTask, timeout: float = 300.0, correlations: Correlations = Correlations.OT) -> Peer:
    """Return the peer. Each run starts its processes and enrols a photo before it verifies.

    Args:
        timeout: seconds that a rank waits for another.
        correlations: how the correlations are made: "ot" (by oblivious transfers) or "dealer".
    """
    error = enrolment_error(task, timeout)
    verification = HybridRun(
        model=task.model.name,
        timeout=timeout,
        correlations=correlations,
        cache=cache_directory(),
        photos=task.photos,
        aligned=task.aligned,
        enrolled=True,
    )

    def run() -> Run:
        outcome = start(verification)
        if outcome.match is None:
            raise RunError("expected the client to learn the decision, but it did not")
        online, offline = (outcome.results[-1]["cost"][phase] for phase in ("online", "offline"))
        return Run(
            seconds=float(online["elapsed_seconds"]),
            match=outcome.match,
            max_error=error,
            offline_seconds=float(offline["elapsed_seconds"]),
            bytes_online=_bytes(online),
            bytes_offline=_bytes(offline),
            rounds=int(online["rounds"]),
        )

    return Peer(_NAMES[correlations], _SECURITY[correlations], run)


def enrolment_error(task: PeerTask, timeout: float = 300.0) -> float:
    """Enrol the photo in this process, add the template's shares, and return the largest error of the features."""
    with LocalSession(task.model, timeout=timeout) as session:
        template = session.enroll(str(task.photos[0]), aligned=task.aligned)
        features = decode(template.share + session.server.template_share(template.name))
    return task.error_of(features)


def _bytes(cost: dict[str, int]) -> int:
    return int(cost["bytes_up"]) + int(cost["bytes_down"]) + int(cost["dealer_bytes"])
