"""This project: client, server and dealer as MPI processes, one photo against an enrolled template.

Security rests on ring-LWE (the masks' ciphertexts), AES (the dealer's random numbers), and a dealer that colludes with
neither party; semi-honest. No process of a timed run can open the features, so their error is taken once, from an
enrolment in this process whose two shares are added.
"""

from hybridface.errors import RunError
from hybridface.peers.measure import Peer, Run, Task
from hybridface.run import run_parties
from hybridface.session import LocalSession
from protocols.ring import decode

__all__ = ["enrolment_error", "hybrid_peer"]

_SECURITY = "ring-LWE, AES, a dealer who colludes with neither party; semi-honest"


def hybrid_peer(task: Task, timeout: float = 300.0) -> Peer:
    """Return the peer. Each run starts three processes and enrols before it verifies.

    Args:
        timeout: seconds that a rank waits for another.
    """
    error = enrolment_error(task, timeout)
    options = ["--enrolled", "--repeat", "1", *(["--aligned"] if task.aligned else [])]

    def run() -> Run:
        outcome = run_parties(task.photos, options, ["--model", task.model.name], timeout)
        if outcome.match is None:
            raise RunError("expected the client to learn the decision, it did not")
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

    return Peer("hybridface", _SECURITY, run)


def enrolment_error(task: Task, timeout: float = 300.0) -> float:
    """Enrol the photo in this process, and return the largest error of the features that the shares add up to."""
    with LocalSession(task.model, timeout=timeout) as session:
        template = session.enroll(str(task.photos[0]), aligned=task.aligned)
        features = decode(template.share + session.server.template_share(template.name))
    return task.error_of(features)


def _bytes(cost: dict[str, int]) -> int:
    return int(cost["bytes_up"]) + int(cost["bytes_down"]) + int(cost["dealer_bytes"])
