"""What the two parties must agree on before anything private moves."""

from dataclasses import asdict, dataclass, field
from typing import Any

from protocols.channel import VERSION, Channel, printable
from protocols.ckks import CkksParameters
from protocols.comparison import COMPARISON_BITS
from protocols.errors import ParameterError, ProtocolError
from protocols.graph import Graph
from protocols.matching import Reveal
from protocols.ring import FRACTION_BITS

__all__ = ["Terms", "agree"]


@dataclass(frozen=True)
class Terms:
    """The public terms of a session; all of them must be equal on both sides.

    Args:
        graph: the network, without weights.
        threshold: Euclidean distance below which two embeddings match.
        reveal: who learns the decision.
        parameters: of the encryption.
    """

    graph: Graph
    threshold: float
    reveal: Reveal = Reveal.CLIENT
    parameters: CkksParameters = field(default_factory=CkksParameters)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 2**14:
            raise ParameterError(f"expected a threshold above 0 and below 2^14, got {self.threshold}")

    def document(self) -> dict[str, Any]:
        """Return the terms as they are compared."""
        parameters = {f"encryption {key}": value for key, value in asdict(self.parameters).items()}
        parameters["encryption prime_bits"] = list(self.parameters.prime_bits)
        return {
            "protocol version": VERSION,
            "model": self.graph.digest(),
            "threshold": self.threshold,
            "reveal": self.reveal.value,
            "fraction bits": FRACTION_BITS,
            "comparison bits": COMPARISON_BITS,
            **parameters,
        }


def agree(channel: Channel, terms: Terms) -> None:
    """Exchange terms with the peer.

    Raises:
        ProtocolError: they differ; names the first term that does.
    """
    own = terms.document()
    channel.send_document("terms", own)
    theirs = channel.receive_document("terms")
    for key in {**own, **theirs}:
        if own.get(key) != theirs.get(key):
            mine, other = (printable(document.get(key), 16) for document in (own, theirs))
            raise ProtocolError(
                f"the peers disagree on {printable(key, 40)}: expected {mine}, the {channel.peer} has {other}"
            )
