"""CKKS without slots: keys, fresh encryptions and decryption, with polynomials as numpy arrays.

A message is the *coefficients* of a polynomial modulo X^N + 1 and Q = p0 p1, so one product of polynomials is a
convolution. A linear layer needs only depth one: there is no rotation, relinearisation, rescaling or evaluation key
here (coefficient packing: Kim et al., TIFS 2023; Cheetah, USENIX Security 2022).

Security rests on ring-LWE with N = 4096, a ternary secret, and noise of standard deviation 3.2 (a centred binomial, as
SEAL draws it). Q has 93 bits; up to 106 bits give 128 bits of security (`seal_context`).

SEAL makes the keys, modulo Q. Encryptions are the textbook ones, on arrays in SEAL's own NTT form. The tests decrypt
them with SEAL, and decrypt SEAL's encryptions with this module. Only the client's `ClientKeys` holds the secret key.
The server's `PublicKey` is two polynomials that the client sent.
"""

import secrets
from dataclasses import dataclass

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray, random_ring
from protocols.arithmetic.kernels import keep_below
from protocols.arithmetic.ntt import NumberTheoreticTransform
from protocols.arithmetic.randomness import KEY_BYTES, keystream, random_words
from protocols.arithmetic.residues import CrtModulus
from protocols.encryption.seal_context import seal_context
from protocols.encryption.seal_format import ciphertext_words, plaintext_words
from protocols.errors import ParameterError, ProtocolError

__all__ = [
    "SEED_BYTES",
    "CkksContext",
    "CkksParameters",
    "ClientKeys",
    "PublicKey",
    "centred_binomial",
    "check_residues",
    "expand_seed",
    "ternary",
]

SEED_BYTES = KEY_BYTES
_SPARE_TRIES = 8
_CHUNK = 32
"""Polynomials that are worked on together. The expansion of a seed depends on this number."""

_NOISE_COINS = 21


@dataclass(frozen=True)
class CkksParameters:
    """Public parameters of the encryption.

    Args:
        degree: N, a power of two.
        prime_bits: bits of p0 and p1.
        guard_bits: s; a share is multiplied by 2^s before encryption, so that noise stays below the share's last bit.
        weight_bits: fractional bits of a weight.
    """

    degree: int = 4096
    prime_bits: tuple[int, int] = (47, 46)
    guard_bits: int = 6
    weight_bits: int = 18


class CkksContext:
    """Parameters that SEAL accepts, with the modulus Q and its transform.

    Raises:
        ParameterError: the parameters do not give 128 bits of security, or SEAL does not accept them.
    """

    def __init__(self, parameters: CkksParameters | None = None) -> None:
        self.parameters = parameters or CkksParameters()
        self.seal, (p0, p1) = seal_context(self.parameters)
        self.modulus = CrtModulus(p0, p1)
        self.transform = NumberTheoreticTransform(self.modulus, self.degree)

    @property
    def degree(self) -> int:
        """N, the number of coefficients of a polynomial."""
        return self.parameters.degree

    def encode(self, polynomials: NDArray[np.int64]) -> RingArray:
        """Encode signed integer polynomials (count, N) as residues (count, 2, N) in NTT form."""
        return self.transform.forward(self.modulus.lift_signed(polynomials), in_place=True)

    def expand(self, seed: bytes, count: int, out: RingArray | None = None) -> RingArray:
        """Expand a seed to random components c1: residues (count, 2, N) in NTT form, written to `out` if given."""
        return expand_seed(seed, self.modulus, self.degree, count, out)


class ClientKeys:
    """The client's key pair: encrypts, and decrypts masked ciphertexts. The secret key never leaves this object."""

    def __init__(self, context: CkksContext) -> None:
        self.context = context
        generator = seal.KeyGenerator(context.seal)
        public = seal.PublicKey()
        generator.create_public_key(public)
        self._public = ciphertext_words(public, context.degree).copy()
        self._secret = plaintext_words(generator.secret_key()).reshape(2, context.degree).copy()

    def public_key(self) -> RingArray:
        """Return the public key (e - a s, a) modulo Q: residues (2, 2, N) in NTT form."""
        return self._public

    def encrypt(self, messages: RingArray) -> tuple[bytes, RingArray]:
        """Encrypt polynomials afresh under the secret key: c0 = m + e - a s, c1 = a.

        One fresh public seed expands to all a, and is sent in their place. e is secret noise.

        Args:
            messages: residues (count, 2, N) in coefficient form.

        Returns:
            The seed (32 bytes, public, never used again), and c0: residues (count, 2, N) in NTT form.
        """
        modulus = self.context.modulus
        seed = secrets.token_bytes(SEED_BYTES)
        result = np.empty_like(messages)
        for index, part in enumerate(_chunks(len(messages))):
            bodies = messages[part].copy()
            modulus.add_small(bodies, centred_binomial((len(bodies), self.context.degree)))
            self.context.transform.forward(bodies, in_place=True)
            random = np.empty_like(bodies)
            _expand_chunk(seed, index, modulus, random)
            result[part] = modulus.subtract(bodies, modulus.multiply(random, self._secret))
        return seed, result

    def multiply_by_secret(self, c1: RingArray) -> RingArray:
        """Return c1 s for residues c1 (count, 2, N), all in coefficient form; a ciphertext decrypts to c0 + c1 s."""
        transform = self.context.transform
        result = np.empty_like(c1)
        for part in _chunks(len(c1)):
            product = self.context.modulus.multiply(transform.forward(c1[part]), self._secret)
            result[part] = transform.inverse(product, in_place=True)
        return result


class PublicKey:
    """The client's public key, as the server holds it. This object can only encrypt zero.

    Args:
        polynomials: residues of shape (2, 2, N) as `ClientKeys.public_key` returned them.

    Raises:
        ProtocolError: the polynomials are not residues of that shape.
    """

    def __init__(self, context: CkksContext, polynomials: RingArray) -> None:
        if polynomials.shape != (2, 2, context.degree):
            raise ProtocolError(f"expected a public key of shape (2, 2, {context.degree}), got {polynomials.shape}")
        self.context = context
        self._key = check_residues(polynomials, context.modulus, "the client's public key")

    @property
    def polynomials(self) -> RingArray:
        """The key: residues (2, 2, N) in NTT form."""
        return self._key

    def rerandomise(self, ciphertexts: RingArray) -> RingArray:
        """Add a fresh encryption of zero to each ciphertext, and leave NTT form.

        For the key (b, a), the encryption of zero is (b u + e0, a u + e1).

        Args:
            ciphertexts: residues (count, 2, 2, N) in NTT form, contiguous; overwritten.

        Returns:
            The same array in coefficient form. Its c1 is pseudorandom to the client, whatever c1 was before.
        """
        degree, modulus = self.context.degree, self.context.modulus
        for part in _chunks(len(ciphertexts)):
            chunk = ciphertexts[part]
            modulus.add_multiplied(chunk, self.context.encode(ternary((len(chunk), degree))), self._key)
            flat = chunk.reshape(-1, 2, degree)
            self.context.transform.inverse(flat, in_place=True)
            modulus.add_small(flat, centred_binomial((len(flat), degree)))
        return ciphertexts


def expand_seed(
    seed: bytes, modulus: CrtModulus, degree: int, count: int = 1, out: RingArray | None = None
) -> RingArray:
    """Expand a public seed to uniform polynomials: residues (count, 2, degree), taken to be in NTT form.

    Each prime and each chunk of 32 polynomials has its own keystream of AES-256-CTR under the seed. Each word, cut to
    the bits of the prime, is one try. Tries that are not below the prime are rejected. FrodoKEM expands its public
    matrix with AES in the same way; ML-KEM expands its own in NTT form, with SHAKE (FIPS 203, algorithm 7). The
    counter's first byte is the prime's number, 0 or 1. The next seven bytes are the chunk's number.

    Args:
        out: residues (count, 2, degree) to write to, any strides; a new array if left out.
    """
    if out is None:
        out = np.empty((count, 2, degree), dtype=np.uint64)
    if out.shape != (count, 2, degree) or out.dtype != np.uint64:
        raise ParameterError(f"expected room for residues {(count, 2, degree)}, got {out.shape}")
    for index, part in enumerate(_chunks(count)):
        _expand_chunk(seed, index, modulus, out[part])
    return out


def _expand_chunk(seed: bytes, index: int, modulus: CrtModulus, out: RingArray) -> None:
    """Write chunk number `index` of a seed's polynomials to `out`."""
    wanted = out.shape[0] * out.shape[2]
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        mask = np.uint64((1 << (prime - 1).bit_length()) - 1)
        counter = bytes([plane]) + index.to_bytes(7, "big") + bytes(8)
        tries = wanted + _SPARE_TRIES
        while keep_below(keystream(seed, counter, tries), np.uint64(prime), mask, plane, out) < wanted:
            tries *= 2


def _chunks(count: int) -> list[slice]:
    """Return slices that cut `count` polynomials into chunks, which stay in cache."""
    return [slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]


def centred_binomial(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Draw secret noise: the difference of two sums of 21 random bits, standard deviation 3.24, as SEAL does."""
    words = random_ring(shape)
    mask = np.uint64((1 << _NOISE_COINS) - 1)
    first, second = np.bitwise_count(words & mask), np.bitwise_count((words >> np.uint64(_NOISE_COINS)) & mask)
    return np.subtract(first, second, dtype=np.int64)


def ternary(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Draw secret uniform elements of {-1, 0, 1}: random bytes modulo 3, rejecting 255."""
    missing = int(np.prod(shape))
    kept = []
    while missing:
        draws = random_words(missing // 8 + missing // 512 + 2).view(np.uint8)
        kept.append(draws[draws < 255][:missing])
        missing -= kept[-1].size
    return (np.concatenate(kept) % np.uint8(3)).astype(np.int64).reshape(shape) - 1


def check_residues(residues: RingArray, modulus: CrtModulus, what: str) -> RingArray:
    """Return the residues (..., 2, n) unchanged if all are below their primes.

    Raises:
        ProtocolError: a residue is not below its prime.
    """
    if np.any(residues >= modulus.primes[:, None]):
        raise ProtocolError(f"{what}: expected residues below {modulus.p0} and {modulus.p1}, got a larger one")
    return residues
