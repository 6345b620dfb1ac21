"""CKKS without slots: keys, fresh encryptions of zero, and polynomials as numpy arrays, on SEAL through TenSEAL.

A message lives in the *coefficients* of a polynomial modulo X^N + 1 and Q = p0 p1, so one product of polynomials is a
convolution, and depth one is all that a linear layer needs: no rotation, relinearisation, rescaling or evaluation key
exists here (coefficient packing: Kim et al., TIFS 2023; Cheetah, USENIX Security 2022).

Security rests on ring-LWE with N = 4096, a ternary secret, noise of deviation 3.2 (SEAL draws a centred binomial) and
a 109-bit modulus (47 + 46 + SEAL's special prime of 16 bits), which the HomomorphicEncryption.org standard puts at 128
bits; SEAL itself refuses anything weaker. The client's `ClientKeys` alone holds the secret key; the server's
`PublicKey` is built from two polynomials that the client sent.

Polynomials move in and out through SEAL's documented serialisation, into an anonymous memory file. SEAL wrote the
header that is reused here, and SEAL checks what it loads against the parameters. Uncompressed input, zstd output.
"""

import hashlib
import os
import secrets
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tenseal.sealapi as seal
import zstandard
from numpy.typing import NDArray

from protocols.errors import ParameterError, ProtocolError
from protocols.ring import CrtModulus, RingArray, random_ring

__all__ = ["CkksContext", "CkksParameters", "ClientKeys", "PublicKey", "check_residues"]

MAX_POLYNOMIALS = 16
"""SEAL allows 16 polynomials in one ciphertext; several ciphertexts share one container to share its overhead."""

SEED_BYTES = 32
_TRY_BYTES = 6
_SEAL_HEADER = struct.Struct("<HBBBBHQ")
_NO_COMPRESSION = 0
_CIPHERTEXT_FIELDS = struct.Struct("<32sBQQQ16s")  # parms_id, NTT form, size, N, primes, scale and correction
_PLAINTEXT_FIELDS = struct.Struct("<32sQd")  # parms_id (zero unless in NTT form), coefficients, scale
_ARRAY_SIZE = struct.Struct("<Q")


@dataclass(frozen=True)
class CkksParameters:
    """Public parameters of the encryption.

    Args:
        degree: N, a power of two.
        prime_bits: bits of p0, p1 and of SEAL's special prime, which carries nothing.
        guard_bits: s; a fixed-point share is encrypted times 2^s, so that noise stays under its last bit.
        weight_bits: fractional bits of a weight.
    """

    degree: int = 4096
    prime_bits: tuple[int, int, int] = (47, 46, 16)
    guard_bits: int = 6
    weight_bits: int = 18


class CkksContext:
    """SEAL's context for the parameters, and polynomial input and output. One per thread: SEAL calls hold the GIL.

    Raises:
        ParameterError: SEAL does not accept the parameters at 128-bit security.
    """

    def __init__(self, parameters: CkksParameters | None = None) -> None:
        self.parameters = parameters or CkksParameters()
        encryption = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        try:
            encryption.set_poly_modulus_degree(self.degree)
            encryption.set_coeff_modulus(seal.CoeffModulus.Create(self.degree, list(self.parameters.prime_bits)))
        except (ValueError, RuntimeError) as error:
            raise ParameterError(f"SEAL refuses {self.parameters}: {error}") from error
        self.seal = seal.SEALContext(encryption, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.seal.parameters_set():
            raise ParameterError(f"SEAL refuses {self.parameters} at 128 bits: {self.seal.parameters_error_message()}")
        p0, p1, _ = (int(m.value()) for m in encryption.coeff_modulus())
        self.modulus = CrtModulus(p0, p1)
        self.evaluator = seal.Evaluator(self.seal)
        self._file = _MemoryFile()
        empty = seal.Ciphertext(self.seal, self.seal.first_parms_id(), 2)
        empty.resize(2)
        self._template = self._save(empty)

    @property
    def degree(self) -> int:
        """N, the number of coefficients of a polynomial."""
        return self.parameters.degree

    def load(self, polynomials: RingArray, ntt: bool) -> seal.Ciphertext:
        """Build a ciphertext of 2 to 16 polynomials from residues of shape (count, 2, N)."""
        count = polynomials.shape[0]
        if polynomials.shape != (count, 2, self.degree) or not 2 <= count <= MAX_POLYNOMIALS:
            raise ParameterError(f"expected residues of shape (2..16, 2, {self.degree}), got {polynomials.shape}")
        parms_id, _, _, degree, primes, tail = _CIPHERTEXT_FIELDS.unpack_from(self._template)
        fields = _CIPHERTEXT_FIELDS.pack(parms_id, ntt, count, degree, primes, tail)
        return self._load(seal.Ciphertext(), fields, polynomials)

    def read(self, ciphertext: seal.Ciphertext) -> RingArray:
        """Return a ciphertext's residues, shape (polynomials, 2, N), in the form (coefficients or NTT) it is in."""
        raw = self._save(ciphertext)
        start = _CIPHERTEXT_FIELDS.size + _SEAL_HEADER.size + _ARRAY_SIZE.size
        return np.frombuffer(raw, dtype=np.uint64, offset=start).reshape(-1, 2, self.degree)

    def load_plaintext(self, polynomial: RingArray) -> seal.Plaintext:
        """Build a plaintext in NTT form from NTT residues of shape (2, N)."""
        fields = _PLAINTEXT_FIELDS.pack(self._template[:32], 2 * self.degree, 1.0)
        return self._load(seal.Plaintext(), fields, polynomial)

    def to_ntt(self, polynomials: RingArray) -> RingArray:
        """Transform residues of shape (count, 2, N), any count, to NTT form."""
        return self._transform(polynomials, self.evaluator.transform_to_ntt_inplace, ntt=False)

    def from_ntt(self, polynomials: RingArray) -> RingArray:
        """Transform NTT residues of shape (count, 2, N), any count, to coefficients."""
        return self._transform(polynomials, self.evaluator.transform_from_ntt_inplace, ntt=True)

    def encode_plaintexts(self, polynomials: Sequence[NDArray[np.int64]]) -> list[seal.Plaintext]:
        """Encode signed integer polynomials of shape (N,), none of them zero, as plaintexts in NTT form."""
        plaintexts = []
        for start in range(0, len(polynomials), MAX_POLYNOMIALS):
            part = np.stack(polynomials[start : start + MAX_POLYNOMIALS])
            transformed = self.to_ntt(self.modulus.lift_signed(part))
            plaintexts += [self.load_plaintext(polynomial) for polynomial in transformed]
        return plaintexts

    def _transform(self, polynomials: RingArray, operation: object, ntt: bool) -> RingArray:
        parts = []
        for container in in_containers(polynomials):
            ciphertext = self.load(container, ntt)
            operation(ciphertext)  # type: ignore[operator]
            parts.append(self.read(ciphertext))
        return np.concatenate(parts)[: len(polynomials)] if parts else polynomials

    def _save(self, value: object) -> bytes:
        raw = self._file.save(value)
        magic, header_size, _, _, mode, _, size = _SEAL_HEADER.unpack_from(raw)
        if size != len(raw):
            raise ProtocolError(f"SEAL wrote {len(raw)} bytes where its header says {size}")
        self._seal_header = (magic, header_size, raw[3], raw[4])
        body = raw[_SEAL_HEADER.size :]
        return body if mode == _NO_COMPRESSION else zstandard.ZstdDecompressor().decompressobj().decompress(body)

    def _load(self, target: object, fields: bytes, data: RingArray) -> object:
        words = np.ascontiguousarray(data, dtype=np.uint64)
        array = self._header(_ARRAY_SIZE.size + words.nbytes) + _ARRAY_SIZE.pack(words.size)
        size = len(fields) + len(array) + words.nbytes
        return self._file.load(self.seal, target, [self._header(size), fields, array, words.data.cast("B")])

    def _header(self, size: int) -> bytes:
        magic, header_size, major, minor = self._seal_header
        return _SEAL_HEADER.pack(magic, header_size, major, minor, _NO_COMPRESSION, 0, _SEAL_HEADER.size + size)


@dataclass(frozen=True)
class SeededZero:
    """A symmetric encryption of zero (c0, c1) whose c1 is `expand_seed(seed)`.

    Args:
        seed: 32 bytes, public, used once.
        c0: residues (2, N) in coefficient form.
    """

    seed: bytes
    c0: RingArray


class ClientKeys:
    """The client's key pair: encrypts zero, opens masked ciphertexts. The secret key never leaves this object."""

    def __init__(self, context: CkksContext) -> None:
        self.context = context
        generator = seal.KeyGenerator(context.seal)
        secret = generator.secret_key()
        self._public = seal.PublicKey()
        generator.create_public_key(self._public)
        start = _PLAINTEXT_FIELDS.size + _SEAL_HEADER.size + _ARRAY_SIZE.size
        words = np.frombuffer(context._save(secret), dtype=np.uint64, offset=start)[: 2 * context.degree]
        self._secret_ntt = context.load_plaintext(words.reshape(2, context.degree))

    def public_key(self) -> RingArray:
        """Return the public key, residues of shape (2, 3, N) in NTT form (the third prime is SEAL's special one)."""
        raw = self.context._save(self._public)
        start = _CIPHERTEXT_FIELDS.size + _SEAL_HEADER.size + _ARRAY_SIZE.size
        return np.frombuffer(raw, dtype=np.uint64, offset=start).reshape(2, 3, self.context.degree)

    def encrypt_zeros(self, count: int) -> list[SeededZero]:
        """Return fresh symmetric encryptions of zero (e - a s, a), each to be used once.

        a is expanded from a fresh public seed, which travels in its place; e is drawn from the system's CSPRNG.
        """
        modulus, degree = self.context.modulus, self.context.degree
        seeds = [secrets.token_bytes(SEED_BYTES) for _ in range(count)]
        zeros: list[SeededZero] = []
        for start in range(0, count, MAX_POLYNOMIALS):
            part = seeds[start : start + MAX_POLYNOMIALS]
            product = self.multiply_by_secret(np.stack([expand_seed(seed, modulus, degree) for seed in part]))
            noise = modulus.lift_signed(centred_binomial((len(part), degree)))
            bodies = modulus.subtract(noise, product)
            zeros += [SeededZero(seed, body) for seed, body in zip(part, bodies, strict=True)]
        return zeros

    def multiply_by_secret(self, polynomials: RingArray) -> RingArray:
        """Return c1 s for residues c1 of shape (count, 2, N) in coefficient form; decryption is c0 + c1 s."""
        parts = []
        evaluator = self.context.evaluator
        for container in in_containers(polynomials):
            ciphertext = self.context.load(container, ntt=False)
            try:
                evaluator.transform_to_ntt_inplace(ciphertext)
                evaluator.multiply_plain_inplace(ciphertext, self._secret_ntt)
            except RuntimeError as error:  # SEAL refuses a product that is zero
                raise ProtocolError(
                    f"expected ciphertexts with a random component, got one without: {error}"
                ) from error
            evaluator.transform_from_ntt_inplace(ciphertext)
            parts.append(self.context.read(ciphertext))
        return np.concatenate(parts)[: len(polynomials)]


class PublicKey:
    """The client's public key as the server holds it: it can encrypt zero, and nothing else.

    Args:
        polynomials: residues of shape (2, 3, N) as `ClientKeys.public_key` returned them.

    Raises:
        ProtocolError: SEAL does not accept them as a public key for these parameters.
    """

    def __init__(self, context: CkksContext, polynomials: RingArray) -> None:
        self.context = context
        key_id = seal.Ciphertext(context.seal, context.seal.key_context_data().parms_id(), 2)
        key_id.resize(2)
        parms_id, _, _, degree, primes, tail = _CIPHERTEXT_FIELDS.unpack_from(context._save(key_id))
        fields = _CIPHERTEXT_FIELDS.pack(parms_id, True, 2, degree, primes, tail)
        try:
            self._key = context._load(seal.PublicKey(), fields, polynomials)
        except (RuntimeError, ValueError) as error:
            raise ProtocolError(f"the client's public key is not valid for {context.parameters}: {error}") from error
        self._encryptor = seal.Encryptor(context.seal, self._key)

    def encrypt_zeros(self, count: int) -> seal.Ciphertext:
        """Return `count` (1 to 8) fresh encryptions of zero in one container, in NTT form, to be used once."""
        ciphertexts = [seal.Ciphertext() for _ in range(count)]
        for ciphertext in ciphertexts:
            self._encryptor.encrypt_zero(ciphertext)
        if count == 1:
            return ciphertexts[0]
        return self.context.load(np.concatenate([self.context.read(c) for c in ciphertexts]), ntt=True)


def expand_seed(seed: bytes, modulus: CrtModulus, degree: int) -> RingArray:
    """Return the uniform polynomial of a public seed: residues (2, degree) in coefficient form.

    SHAKE-128 as an extendable-output function, six bytes a try, rejecting tries not below the prime: as ML-KEM expands
    its public matrix (FIPS 203, algorithm 7).
    """
    planes = []
    for index, prime in enumerate((modulus.p0, modulus.p1)):
        bits = (prime - 1).bit_length()
        tries = degree + 64
        kept = np.empty(0, dtype=np.uint64)
        while kept.size < degree:
            stream = hashlib.shake_128(seed + bytes([index])).digest(_TRY_BYTES * tries)
            words = np.zeros((tries, 8), dtype=np.uint8)
            words[:, :_TRY_BYTES] = np.frombuffer(stream, dtype=np.uint8).reshape(-1, _TRY_BYTES)
            candidates = words.view(np.uint64)[:, 0] & np.uint64((1 << bits) - 1)
            kept = candidates[candidates < prime][:degree]
            tries *= 2
        planes.append(kept)
    return np.stack(planes)


def centred_binomial(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Draw noise from the system's CSPRNG: the difference of two sums of 21 bits, deviation 3.24, as SEAL does."""
    words = random_ring(shape)
    mask = np.uint64((1 << 21) - 1)
    first, second = np.bitwise_count(words & mask), np.bitwise_count((words >> np.uint64(21)) & mask)
    return first.astype(np.int64) - second.astype(np.int64)


def check_residues(residues: RingArray, modulus: CrtModulus, what: str) -> RingArray:
    """Return the residues (..., 2, n) unchanged if all are below their primes.

    Raises:
        ProtocolError: one is not.
    """
    if np.any(residues >= modulus.primes):
        raise ProtocolError(f"{what}: expected residues below {modulus.p0} and {modulus.p1}, got a larger one")
    return residues


def in_containers(polynomials: RingArray) -> list[RingArray]:
    """Cut polynomials (count, 2, N) into runs of at most 16; a run of one is doubled, since SEAL takes no fewer."""
    runs = [polynomials[i : i + MAX_POLYNOMIALS] for i in range(0, len(polynomials), MAX_POLYNOMIALS)]
    if runs and len(runs[-1]) == 1:
        runs[-1] = np.concatenate([runs[-1], runs[-1]])
    return runs


class _MemoryFile:
    """An anonymous file in memory, by whose path SEAL saves and loads."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("hybridface")
        self._path = f"/proc/self/fd/{self._descriptor}"
        self._lock = threading.Lock()

    def save(self, value: object) -> bytes:
        with self._lock:
            os.ftruncate(self._descriptor, 0)
            value.save(self._path)  # type: ignore[attr-defined]
            return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)

    def load(self, context: seal.SEALContext, target: object, parts: list[bytes | memoryview]) -> object:
        with self._lock:
            os.ftruncate(self._descriptor, 0)
            os.pwritev(self._descriptor, parts, 0)
            target.load(context, self._path)  # type: ignore[attr-defined]
            return target

    def __del__(self) -> None:
        os.close(self._descriptor)
