"""The protocol: the client uploads keys once, then an encrypted input each time; the server computes alone.

| | client | server |
|---|---|---|
| holds | the input, the secret key | the weights, templates under the client's key |
| gets | the squared distance of two embeddings, blurred | nothing |
| sees | an encryption of that number on fresh randomness | keys and ciphertexts under ring-LWE |
| knows | the network's shape, the threshold | the same |

Both parties are semi-honest. A verification is one upload and one answer; no message depends on an earlier answer. The
server's object gets keys that cannot decrypt, and works on ciphertexts alone. The client sees a *score*. See `answer`
for what else the client could see, and docs/PURE_HE.md for what scores reveal.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from protocols.channel import Channel
from protocols.errors import ParameterError, ProtocolError
from protocols.pure_he.answer import make_answer, open_answer
from protocols.pure_he.circuit import Circuit
from protocols.pure_he.evaluation_keys import EvaluationKeys, ciphertext_of_message, message_sizes
from protocols.pure_he.evaluator import EncodedNetwork, PureHeEvaluator
from protocols.pure_he.keys import PureHeKeys, wire_bytes

__all__ = ["EncryptedEmbedding", "PureHeClient", "PureHeServer"]

EncryptedEmbedding: TypeAlias = seal.Ciphertext
"""An embedding as the server holds it: a ciphertext under the client's key."""

_PUBLIC, _RELINEARISATION, _ROTATION, _INPUT, _ANSWER = (
    "public key",
    "relinearisation key",
    "rotation key",
    "encrypted input",
    "encrypted distance",
)


class PureHeClient:
    """The client's side.

    Args:
        keys: made for the circuit of the network's shape.
    """

    def __init__(self, keys: PureHeKeys) -> None:
        self.keys = keys

    def prepare(self, channel: Channel) -> None:
        """Send the keys, once per server."""
        channel.send(_PUBLIC, self.keys.public_key())
        channel.send(_RELINEARISATION, self.keys.relinearisation_key())
        for step in self.keys.circuit.rotation_keys:
            channel.send(f"{_ROTATION} {step}", self.keys.rotation_key(step))

    def upload(self, channel: Channel, values: NDArray[np.float64]) -> None:
        """Encrypt and send an input (P, inputs) of magnitude below 2^16; its embedding stays with the server."""
        channel.send(_INPUT, self.keys.encrypt(values))

    def receive_distance(self, channel: Channel) -> float:
        """Receive the squared distance: exact up to the server's blur and the encryption's precision."""
        return open_answer(self.keys, channel.receive(_ANSWER, np.uint64, (self.keys.context.degree + 1,)))

    def run(self, channel: Channel, values: NDArray[np.float64]) -> float:
        """Return the squared distance of an input's embedding to the one that the server compares it with."""
        self.upload(channel, values)
        return self.receive_distance(channel)


class PureHeServer:
    """The server's side, for one client.

    Args:
        network: the encoded weights; one network may serve many clients.
        blur: the largest magnitude of the random number that is added to a squared distance; above 0.
    """

    def __init__(self, network: EncodedNetwork, blur: float) -> None:
        if not blur > 0:
            raise ParameterError(f"expected a blur above 0, got {blur}")
        self.network, self.blur = network, blur
        self._evaluator: PureHeEvaluator | None = None

    @property
    def circuit(self) -> Circuit:
        """The plan, which the client knows as well."""
        return self.network.circuit

    def prepare(self, channel: Channel) -> None:
        """Receive the client's keys.

        Raises:
            ProtocolError: the keys are not those that the protocol expects.
        """
        messages = {
            label: channel.receive(label, np.uint8, (size,)) for label, size in message_sizes(self.circuit).items()
        }
        rotations = {step: messages.pop(f"{_ROTATION} {step}") for step in self.circuit.rotation_keys}
        keys = EvaluationKeys(self.circuit, messages[_PUBLIC], messages[_RELINEARISATION], rotations)
        self._evaluator = PureHeEvaluator(self.network, keys)

    def extract(self, channel: Channel, on_stage: Callable[[str], None] | None = None) -> EncryptedEmbedding:
        """Receive an input and return its encrypted embedding.

        Args:
            on_stage: called with a stage's name when it begins.

        Raises:
            ProtocolError: the input is not a ciphertext, or came before the keys.
        """
        evaluator, context = self._ready(), self.circuit.context
        size = wire_bytes(context.data_primes(context.fresh), 1, context.degree)
        messages = channel.receive(_INPUT, np.uint8, (self.circuit.inputs, size))
        inputs = [ciphertext_of_message(context, message, self.circuit.input_scale) for message in messages]
        return evaluator.embed(inputs, on_stage)

    def answer(self, channel: Channel, embedding: EncryptedEmbedding, template: EncryptedEmbedding) -> None:
        """Send the squared distance of two embeddings, encrypted.

        Raises:
            ProtocolError: both are the same ciphertext.
        """
        evaluator = self._ready()
        squares = evaluator.squared_difference(embedding, template)
        channel.send(_ANSWER, make_answer(self.circuit, evaluator.keys.public, squares, self.blur))

    def run(
        self, channel: Channel, template: EncryptedEmbedding, on_stage: Callable[[str], None] | None = None
    ) -> EncryptedEmbedding:
        """Receive an input, send its squared distance to a template, and return its encrypted embedding."""
        embedding = self.extract(channel, on_stage)
        self.answer(channel, embedding, template)
        return embedding

    def _ready(self) -> PureHeEvaluator:
        if self._evaluator is None:
            raise ProtocolError("expected the client's keys before its input, got none")
        return self._evaluator
