"""The client's keys that the server holds: to encrypt zero, to relinearise, to rotate. None of them decrypts.

The server checks that each message has its exact size, and residues below their primes. SEAL then checks the objects
that the server builds from the messages. A key that is valid but wrong makes answers wrong; it does not make the server
fail.
"""

from collections.abc import Mapping

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import KEY_BYTES
from protocols.encryption.seal_format import ciphertext_from_words, public_key_from_words, switching_key_from_words
from protocols.errors import ProtocolError
from protocols.pure_he.circuit import Circuit
from protocols.pure_he.keys import galois_element, key_primes, wire_bytes
from protocols.pure_he.parameters import PureHeContext
from protocols.pure_he.residues import expand_uniform, unpack

__all__ = ["EvaluationKeys", "ciphertext_of_message", "message_sizes"]


class EvaluationKeys:
    """The client's public, relinearisation and rotation keys.

    Args:
        circuit: says which keys are needed.
        public, relinearisation: the messages that `PureHeKeys` returned.
        rotations: the messages of all the circuit's rotations, by step.

    Raises:
        ProtocolError: a message has another size, a residue is too large, a key is missing, or SEAL refuses one.
    """

    def __init__(
        self,
        circuit: Circuit,
        public: NDArray[np.uint8],
        relinearisation: NDArray[np.uint8],
        rotations: Mapping[int, NDArray[np.uint8]],
    ) -> None:
        context, degree = circuit.context, circuit.context.degree
        if set(rotations) != set(circuit.rotation_keys):
            raise ProtocolError(f"expected keys for rotations {sorted(circuit.rotation_keys)}, got {sorted(rotations)}")
        words = _words(public, list(context.primes), 1, degree, "public key")
        self.public = public_key_from_words(context.seal, words[0])
        words = _switching_key(circuit, relinearisation, circuit.relinearisation_primes, "relinearisation key")
        self.relinearisation = switching_key_from_words(context.seal, seal.RelinKeys, 1, 0, words)
        self.rotations: dict[int, seal.GaloisKeys] = {}
        for step, primes in circuit.rotation_keys.items():
            words = _switching_key(circuit, rotations[step], primes, f"key of rotation {step}")
            index = galois_element(step, degree) >> 1
            self.rotations[step] = switching_key_from_words(context.seal, seal.GaloisKeys, degree, index, words)


def message_sizes(circuit: Circuit) -> dict[str, int]:
    """Return the bytes of every key message by label: "public key", "relinearisation key", "rotation key <step>"."""
    degree = circuit.context.degree
    sizes = {"public key": wire_bytes(circuit.context.primes, 1, degree)}
    counts = {"relinearisation key": circuit.relinearisation_primes}
    counts |= {f"rotation key {step}": primes for step, primes in circuit.rotation_keys.items()}
    return sizes | {label: wire_bytes(key_primes(circuit, count), count, degree) for label, count in counts.items()}


def ciphertext_of_message(context: PureHeContext, message: NDArray[np.uint8], scale: float) -> seal.Ciphertext:
    """Return the fresh ciphertext that a message holds.

    Raises:
        ProtocolError: the message has another size, a residue is too large, or SEAL refuses the ciphertext.
    """
    primes = list(context.data_primes(context.fresh))
    words = _words(message, primes, 1, context.degree, "encrypted input")
    return ciphertext_from_words(context.seal, context.parms_id(context.fresh), words[0], scale)


def _switching_key(circuit: Circuit, message: NDArray[np.uint8], primes: int, what: str) -> RingArray:
    """Return a key of all parts and primes, (parts, 2, primes, N); parts and primes that are never touched are zero."""
    context = circuit.context
    found = _words(message, key_primes(circuit, primes), primes, context.degree, what)
    words = np.zeros((context.fresh, 2, len(context.primes), context.degree), dtype=np.uint64)
    words[:primes, :, :primes] = found[:, :, :primes]
    words[:primes, :, -1] = found[:, :, -1]
    return words


def _words(message: NDArray[np.uint8], primes: list[int], parts: int, degree: int, what: str) -> RingArray:
    """Return the polynomials of a message, (parts, 2, primes, N)."""
    if message.dtype != np.uint8 or message.shape != (wire_bytes(primes, parts, degree),):
        expected = wire_bytes(primes, parts, degree)
        raise ProtocolError(f"{what}: expected {expected} bytes, got {message.dtype} {message.shape}")
    c0 = unpack(message[KEY_BYTES:], primes, parts, degree, what)
    return np.stack([c0, expand_uniform(message[:KEY_BYTES].tobytes(), primes, parts, degree)], axis=1)
