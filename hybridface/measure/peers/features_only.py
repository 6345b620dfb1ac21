"""Measure features-only HE, as in CipherFace (Serengil and Ozpinar, arXiv 2502.18514): only the matching is encrypted.

The client computes the embedding in the clear, so **the client must hold the network**. If the weights are the server's
secret, this method is no option.

Template and probe are CKKS ciphertexts under the client's key. The server needs no weights. It returns the encrypted
squared distance, and the client decrypts a score. Two processes do this (`features_only_party`).

Security rests on ring-LWE (128 bits), and on a client that keeps its scores secret. An attacker can rebuild a template
from 50 to 200 scores. A CKKS decryption must not be published (Li and Micciancio, ePrint 2020/1533).
"""

from dataclasses import dataclass
from typing import Any

from hybridface.errors import RunError
from hybridface.measure.cost.ranks import run_ranks
from hybridface.measure.peers.measure import PeerTask
from protocols.link import NONE, Link

__all__ = ["FeaturesOnlySession", "features_only_session"]

_NAME = "features-only HE"
_START_SECONDS = 60.0


@dataclass(frozen=True)
class FeaturesOnlySession:
    """The results of one enrolment and some verifications.

    Args:
        results: for every verification, `match`, `squared_distance` and its `cost` (`CostReport.document`).
        setup: the cost of the keys, once per client (a `StageCost` as a dictionary).
        features: the photo's features, as the client computed them in float32.
        memory: the peak bytes by role.
    """

    results: tuple[dict[str, Any], ...]
    setup: dict[str, Any]
    features: list[float]
    memory: dict[str, int]


def features_only_session(
    task: PeerTask, verifications: int = 1, link: Link = NONE, timeout: float = 300.0
) -> FeaturesOnlySession:
    """Enrol the second photo of a task, then verify the first one some times, with two processes on this machine.

    Args:
        verifications: the number of verifications.
        link: the link to simulate between the processes.
        timeout: seconds that a process waits for the other.

    Raises:
        RunError: a process failed, or its output is not as expected.
    """
    arguments = [task.model.name, str(int(task.aligned)), str(verifications), link.name, str(timeout)]
    programs = [["client", *arguments, *(str(photo) for photo in task.photos)], ["server", *arguments]]
    said: dict[str, Any] = {}
    for line in run_ranks("hybridface.measure.peers.features_only_party", programs, timeout + _START_SECONDS):
        said |= line
    try:
        client, server = said["client"], said["server"]
        memory = {"client": int(client["peak_bytes"]), "server": int(server["peak_bytes"])}
        return FeaturesOnlySession(tuple(client["results"]), client["setup"], client["features"], memory)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{_NAME}: expected results, setup, features and memory, got no {error}") from error
