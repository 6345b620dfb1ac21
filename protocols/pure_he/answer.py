"""The answer: one coefficient, on fresh randomness, blurred; what the client can learn from it, and what not.

Each slot i of the server's result holds (a_i - b_i)^2, with the index taken modulo the dimension d. The polynomial's
constant coefficient is the mean of all slots: the squared distance over d. The other coefficients would show the single
coordinates, and their noise depends on the weights. So the server takes three steps:

1. It adds a fresh encryption of zero under the client's public key. The new c1 is pseudorandom to the client, who knows
   the secret key but not the fresh u in a u + e1 (ring-LWE; the noise gives one known linear relation on u, a hint).
2. It sends only the constant coefficient of c0. That is as good as replacing the other coefficients by uniform numbers.
   So the client gets an encryption of one number, without any of the computation's other noise.
3. It adds to this number a uniform integer of magnitude up to `blur`. The integer hides the noise of that one
   coefficient, up to a statistical distance of (noise / blur) per answer. This distance is small, but *not* negligible:
   a distance of 2^-40 would cost 40 bits of modulus. The client may know the answer's own value.

None of this holds against a client that sends keys or ciphertexts that do not follow the protocol.
"""

import secrets

import numpy as np
import tenseal.sealapi as seal

from protocols.arithmetic.fixed_point import RingArray
from protocols.encryption.seal_format import ciphertext_words
from protocols.errors import ParameterError, ProtocolError
from protocols.pure_he.circuit import Circuit
from protocols.pure_he.keys import PureHeKeys
from protocols.pure_he.residues import sum_mod

__all__ = ["make_answer", "open_answer"]


def make_answer(circuit: Circuit, public_key: seal.PublicKey, squares: seal.Ciphertext, blur: float) -> RingArray:
    """Return the message of an answer, uint64 (N + 1,): the constant coefficient of c0, then c1 in NTT form.

    Args:
        squares: the encrypted squares, with one prime left, at the answer's scale.
        blur: the largest magnitude of the random number that is added to the squared distance.

    Raises:
        ParameterError: the blur is not positive, or too large.
    """
    q0, degree, dimension = circuit.context.primes[0], circuit.context.degree, circuit.shape.dimension
    bound = round(blur / dimension * circuit.answer_scale)
    if not 0 < bound < q0 // 4:
        raise ParameterError(f"expected a blur between the last bit and a quarter of the range, got {blur:g}")
    zero = seal.Ciphertext()
    seal.Encryptor(circuit.context.seal, public_key).encrypt_zero(circuit.context.parms_id(1), zero)
    (c0,), (c1,) = ciphertext_words(squares, degree)
    (z0,), (z1,) = ciphertext_words(zero, degree)
    constant = (sum_mod(c0, q0) + sum_mod(z0, q0)) * pow(degree, -1, q0)
    constant += secrets.randbelow(2 * bound + 1) - bound
    message = np.empty(degree + 1, dtype=np.uint64)
    message[0] = constant % q0
    message[1:] = (c1 + z1) % np.uint64(q0)
    return message


def open_answer(keys: PureHeKeys, message: RingArray) -> float:
    """Decrypt an answer with the client's keys, and return the squared distance.

    Raises:
        ProtocolError: the message has another size, or a residue is not below q0.
    """
    circuit = keys.circuit
    q0 = circuit.context.primes[0]
    if message.dtype != np.uint64 or message.shape != (circuit.context.degree + 1,):
        raise ProtocolError(f"answer: expected uint64 ({circuit.context.degree + 1},), got {message.shape}")
    if np.any(message >= np.uint64(q0)):
        raise ProtocolError(f"answer: expected residues below {q0}, got a larger one")
    return circuit.shape.dimension * keys.open_constant(int(message[0]), message[1:])
