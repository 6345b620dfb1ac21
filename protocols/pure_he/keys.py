"""The client's keys. Only the client encrypts under the secret key, and decrypts. It sends seeds and residues.

SEAL makes every key and ciphertext. This module then replaces c1 by one that a public seed expands to (`residues`).
Some keys are used only on ciphertexts with few primes left. Key switching then does not touch all parts and primes of
such a key, and the module drops those that it does not touch.

The message of a key or ciphertext is a seed of 32 bytes, then the packed residues of c0 of every part.
"""

import secrets

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import KEY_BYTES
from protocols.encryption.seal_format import (
    ciphertext_from_words,
    ciphertext_words,
    plaintext_words,
    switching_key_words,
)
from protocols.errors import ParameterError
from protocols.pure_he.circuit import Circuit
from protocols.pure_he.residues import expand_uniform, multiply_mod, pack, packed_bytes, subtract_mod, sum_mod

__all__ = ["PureHeKeys", "galois_element", "key_primes", "wire_bytes"]

_GENERATOR = 3


class PureHeKeys:
    """The client's secret key, and everything made with it. The secret key never leaves this object.

    Args:
        circuit: says which keys are needed.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.circuit, self.context = circuit, circuit.context
        self._generator = seal.KeyGenerator(self.context.seal)
        secret = self._generator.secret_key()
        self._encryptor = seal.Encryptor(self.context.seal, secret)
        self._decryptor = seal.Decryptor(self.context.seal, secret)
        self._encoder = seal.CKKSEncoder(self.context.seal)
        self._secret = plaintext_words(secret).reshape(len(self.context.primes), self.context.degree)

    def public_key(self) -> NDArray[np.uint8]:
        """Return a message with a public key: it lets the server encrypt zero."""
        key = seal.PublicKey()
        self._generator.create_public_key(key)
        words = ciphertext_words(key.data(), self.context.degree)
        return self._message(words[None], list(range(len(self.context.primes))))

    def relinearisation_key(self) -> NDArray[np.uint8]:
        """Return a message with the key that turns squares back into ciphertexts of two polynomials."""
        keys = seal.RelinKeys()
        self._generator.create_relin_keys(keys)
        return self._switching_key(keys, self.circuit.relinearisation_primes)

    def rotation_key(self, step: int) -> NDArray[np.uint8]:
        """Return a message with the key of one rotation of the circuit."""
        keys = seal.GaloisKeys()
        self._generator.create_galois_keys([galois_element(step, self.context.degree)], keys)
        return self._switching_key(keys, self.circuit.rotation_keys[step])

    def encrypt(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return a message with the encrypted input: float64 (P, inputs) to uint8 (ciphertexts, bytes).

        Raises:
            ParameterError: values have another shape, or a number is not finite or not of magnitude below 2^16.
        """
        shape = (self.circuit.shape.patches, self.circuit.shape.inputs)
        if values.shape != shape or not np.all(np.abs(values) < 2.0**16):  # also catches nan
            raise ParameterError(f"expected values of shape {shape} and magnitude below 2^16, got {values.shape}")
        messages = []
        for slots in self.circuit.stages[0].plan.arrange(values):
            plain, ciphertext = seal.Plaintext(), seal.Ciphertext()
            self._encoder.encode(slots, self.context.seal.first_parms_id(), self.circuit.input_scale, plain)
            self._encryptor.encrypt_symmetric(plain, ciphertext)
            words = ciphertext_words(ciphertext, self.context.degree)
            messages.append(self._message(words[None], list(range(self.context.fresh))))
        return np.stack(messages)

    def open_constant(self, constant: int, c1: RingArray) -> float:
        """Decrypt the constant coefficient of (c0, c1) modulo q0, at the answer's scale.

        Args:
            constant: the constant coefficient of c0, below q0. The other coefficients of c0 are not needed.
            c1: residues (N,) in NTT form.
        """
        q0, degree = self.context.primes[0], self.context.degree
        c0 = np.full(degree, constant, dtype=np.uint64)  # the NTT form of a constant
        words, scale = np.stack([c0, c1])[:, None], self.circuit.answer_scale
        ciphertext = ciphertext_from_words(self.context.seal, self.context.parms_id(1), words, scale)
        plain = seal.Plaintext()
        self._decryptor.decrypt(ciphertext, plain)
        value = sum_mod(plaintext_words(plain), q0) * pow(degree, -1, q0) % q0
        return (value - q0 if value > q0 // 2 else value) / scale

    def _switching_key(self, keys: object, primes: int) -> NDArray[np.uint8]:
        words = switching_key_words(keys, self.context.degree)
        chosen = [*range(primes), len(self.context.primes) - 1]
        return self._message(words[:primes, :, chosen], chosen)

    def _message(self, words: RingArray, chosen: list[int]) -> NDArray[np.uint8]:
        """Replace c1 of (parts, 2, primes, N) by one from a fresh seed; return the seed and the new c0."""
        seed = secrets.token_bytes(KEY_BYTES)
        primes = [self.context.primes[i] for i in chosen]
        uniform = expand_uniform(seed, primes, len(words), self.context.degree)
        c0 = np.empty_like(uniform)
        for row, (index, prime) in enumerate(zip(chosen, primes, strict=True)):
            difference = subtract_mod(uniform[:, row], words[:, 1, row], prime)
            c0[:, row] = subtract_mod(words[:, 0, row], multiply_mod(difference, self._secret[index], prime), prime)
        return np.concatenate([np.frombuffer(seed, dtype=np.uint8), pack(c0, primes)])


def galois_element(step: int, degree: int) -> int:
    """Return the power of X that rotates slots by a positive step."""
    return pow(_GENERATOR, step, 2 * degree)


def key_primes(circuit: Circuit, primes: int) -> list[int]:
    """Return the primes of a switching key for ciphertexts with `primes` left."""
    return [*circuit.context.data_primes(primes), circuit.context.primes[-1]]


def wire_bytes(primes: list[int] | tuple[int, ...], parts: int, degree: int) -> int:
    """Return the bytes of a message with `parts` parts."""
    return KEY_BYTES + packed_bytes(primes, parts, degree)
