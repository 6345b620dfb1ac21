"""Features-only encryption, as in CipherFace (Serengil and Ozpinar, arXiv 2502.18514): only the matching is encrypted.

The client computes the embedding in the clear, so **the client must hold the network**: where the weights are the
server's secret, this is no answer. Template and probe are CKKS ciphertexts under the client's key; the server, which
needs no weights, returns the encrypted squared distance, and the client decrypts a score. Security rests on ring-LWE
(128 bits), and on scores that stay with the client: 50 to 200 of them rebuild a template, and a CKKS decryption must
not be published (Li and Micciancio, ePrint 2020/1533). Two processes, `features_only_party`.
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
    """One enrolment and some verifications.

    Args:
        results: of every verification `match`, `squared_distance`, and its `cost` (`CostReport.document`).
        setup: the cost of the keys, once per client (a `StageCost` as a dictionary).
        features: of the photo, as the client computed them in float32.
        memory: peak bytes by role.
    """

    results: tuple[dict[str, Any], ...]
    setup: dict[str, Any]
    features: list[float]
    memory: dict[str, int]


def features_only_session(
    task: PeerTask, verifications: int = 1, link: Link = NONE, timeout: float = 300.0
) -> FeaturesOnlySession:
    """Enrol the second photo of a task, and verify the first some times, between two processes of this machine.

    Args:
        link: simulated between them.
        timeout: seconds that a process waits for the other.

    Raises:
        RunError: a process failed, or did not say what was expected.
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
