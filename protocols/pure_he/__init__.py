"""Pure-HE mode: the server alone computes the whole network on ciphertexts, from end to end.

The modules, from the ground up: `parameters` (primes, levels) -> `weights` (the network) -> `packing` (slots and
diagonals, numpy only) -> `circuit` (levels, scales, keys needed) -> `residues` -> `keys` (client), `evaluation_keys`
(server) -> `evaluator` -> `answer` -> `protocol`. The design follows CryptoFace (arXiv 2509.00332), without its
bootstrapping.
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from protocols.pure_he.circuit import Circuit
    from protocols.pure_he.evaluation_keys import EvaluationKeys, message_sizes
    from protocols.pure_he.evaluator import EncodedNetwork, PureHeEvaluator
    from protocols.pure_he.keys import PureHeKeys
    from protocols.pure_he.parameters import PureHeContext, PureHeParameters
    from protocols.pure_he.protocol import EncryptedEmbedding, PureHeClient, PureHeServer
    from protocols.pure_he.weights import PatchNetShape, PatchNetWeights

__all__ = [
    "Circuit",
    "EncodedNetwork",
    "EncryptedEmbedding",
    "EvaluationKeys",
    "PatchNetShape",
    "PatchNetWeights",
    "PureHeClient",
    "PureHeContext",
    "PureHeEvaluator",
    "PureHeKeys",
    "PureHeParameters",
    "PureHeServer",
    "message_sizes",
]

__getattr__ = hand_on(
    __name__,
    {
        "protocols.pure_he.circuit": ["Circuit"],
        "protocols.pure_he.evaluation_keys": ["EvaluationKeys", "message_sizes"],
        "protocols.pure_he.evaluator": ["EncodedNetwork", "PureHeEvaluator"],
        "protocols.pure_he.keys": ["PureHeKeys"],
        "protocols.pure_he.parameters": ["PureHeContext", "PureHeParameters"],
        "protocols.pure_he.protocol": ["EncryptedEmbedding", "PureHeClient", "PureHeServer"],
        "protocols.pure_he.weights": ["PatchNetShape", "PatchNetWeights"],
    },
)
