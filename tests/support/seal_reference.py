"""SEAL itself, as a reference for our arithmetic."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tenseal.sealapi as seal
import zstandard
from numpy.typing import NDArray

from protocols import CkksContext, ClientKeys
from protocols.arithmetic.ntt import NumberTheoreticTransform
from protocols.arithmetic.residues import CrtModulus

__all__ = ["SealReference"]

_SPECIAL_BITS = 43


class SealReference:
    """SEAL's own evaluator, encryptor and decryptor, on the same parameters, and if asked on the same secret.

    SEAL computes with a special prime more, which none of our ciphertexts has.
    Polynomials move in and out by SEAL's documented serialisation, through files.
    """

    _HEADER = struct.Struct("<HBBBBHQ")
    _CIPHERTEXT = struct.Struct("<32sBQQQ16s")  # parms_id, NTT form, size, N, primes, scale and correction
    _PLAINTEXT = struct.Struct("<32sQd")

    def __init__(self, context: CkksContext, folder: Path, keys: ClientKeys | None = None) -> None:
        self.context, self._path = context, str(folder / "seal")
        self._seal, self._special = _with_special_prime(context)
        self.evaluator = seal.Evaluator(self._seal)
        empty = seal.Ciphertext(self._seal, self._seal.first_parms_id(), 2)
        empty.resize(2)
        self._magic, self._template = b"", b""
        self._template = self._save(empty)
        if keys is not None:
            secret, public = self._secret_key(keys), seal.PublicKey()
            seal.KeyGenerator(self._seal, secret).create_public_key(public)
            self._encryptor = seal.Encryptor(self._seal, public, secret)
            self._decryptor = seal.Decryptor(self._seal, secret)

    def load(self, polynomials: Any, ntt: bool = True) -> Any:
        """Build a ciphertext of 2 to 16 polynomials (count, 2, N)."""
        parms_id, _, _, degree, primes, tail = self._CIPHERTEXT.unpack_from(self._template)
        fields = self._CIPHERTEXT.pack(parms_id, ntt, len(polynomials), degree, primes, tail)
        return self._load(seal.Ciphertext(), fields, polynomials)

    def plaintext(self, polynomial: Any) -> Any:
        """Build a plaintext in NTT form from a polynomial (2, N) in NTT form."""
        return self._load(seal.Plaintext(), self._PLAINTEXT.pack(self._template[:32], polynomial.size, 1.0), polynomial)

    def read(self, value: Any) -> NDArray[np.uint64]:
        """Return the polynomials (count, 2, N) of a ciphertext or plaintext."""
        fields = self._PLAINTEXT if isinstance(value, seal.Plaintext) else self._CIPHERTEXT
        words = np.frombuffer(self._save(value), dtype=np.uint64, offset=fields.size + self._HEADER.size + 8)
        return words.reshape(-1, 2, self.context.degree)

    def transform(self, polynomials: Any, inverse: bool = False) -> NDArray[np.uint64]:
        """Transform 2 to 16 polynomials (count, 2, N)."""
        ciphertext = self.load(polynomials, ntt=inverse)
        to_ntt, from_ntt = self.evaluator.transform_to_ntt_inplace, self.evaluator.transform_from_ntt_inplace
        (from_ntt if inverse else to_ntt)(ciphertext)
        return self.read(ciphertext)

    def encrypt_zero(self, symmetric: bool) -> NDArray[np.uint64]:
        """Return SEAL's encryption of zero (2, 2, N), in NTT form."""
        ciphertext = seal.Ciphertext()
        (self._encryptor.encrypt_zero_symmetric if symmetric else self._encryptor.encrypt_zero)(ciphertext)
        return self.read(ciphertext)

    def decrypt(self, ciphertext: Any) -> NDArray[np.uint64]:
        """Decrypt (2, 2, N) in NTT form to a polynomial (2, N) of coefficients."""
        opened = seal.Plaintext()
        self._decryptor.decrypt(self.load(ciphertext), opened)
        return self.transform(np.repeat(self.read(opened), 2, axis=0), inverse=True)[0]

    def multiply_accumulate(self, weights: Any, ciphertexts: Any) -> NDArray[np.uint64]:
        """Return the sum of ciphertexts (terms, 2, 2, N) times plaintexts (terms, 2, N), by SEAL's products."""
        total = None
        for weight, polynomials in zip(weights, ciphertexts, strict=True):
            product = self.load(polynomials)
            self.evaluator.multiply_plain_inplace(product, self.plaintext(weight))
            if total is None:
                total = product
            else:
                self.evaluator.add_inplace(total, product)
        return self.read(total)

    def _secret_key(self, keys: ClientKeys) -> Any:
        """Build SEAL's secret key of ours: the same small polynomial, modulo the special prime as well."""
        context = self.context
        small = context.transform.inverse(keys._secret[None])[:, 0].astype(np.int64)
        small[small == context.modulus.p0 - 1] = -1
        assert np.isin(small, (-1, 0, 1)).all()
        modulus = CrtModulus(context.modulus.p0, self._special)
        third = NumberTheoreticTransform(modulus, context.degree).forward(modulus.lift_signed(small))[0, 1:]
        words = np.concatenate([keys._secret, third])
        fields = self._PLAINTEXT.pack(struct.pack("<4Q", *self._seal.key_parms_id()), words.size, 1.0)
        return self._load(seal.SecretKey(), fields, words)

    def _save(self, value: Any) -> bytes:
        value.save(self._path)
        raw = Path(self._path).read_bytes()
        self._magic = raw[:5]  # magic, header size, version
        body = raw[self._HEADER.size :]
        compressed = self._HEADER.unpack_from(raw)[4] != 0
        return zstandard.ZstdDecompressor().decompressobj().decompress(body) if compressed else body

    def _load(self, target: Any, fields: bytes, data: Any) -> Any:
        words = np.ascontiguousarray(data, dtype=np.uint64).tobytes()
        array = self._framed(struct.pack("<Q", len(words) // 8) + words)
        Path(self._path).write_bytes(self._framed(fields + array))
        target.load(self._seal, self._path)
        return target

    def _framed(self, body: bytes) -> bytes:
        return self._magic + struct.pack("<BHQ", 0, 0, self._HEADER.size + len(body)) + body


def _with_special_prime(context: CkksContext) -> tuple[seal.SEALContext, int]:
    """Return SEAL's context with our primes and one more, of no security, and that prime."""
    degree, bits = context.degree, [*context.parameters.prime_bits, _SPECIAL_BITS]
    primes = seal.CoeffModulus.Create(degree, bits)
    encryption = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    encryption.set_poly_modulus_degree(degree)
    encryption.set_coeff_modulus(primes)
    return seal.SEALContext(encryption, True, seal.SEC_LEVEL_TYPE.NONE), int(primes[-1].value())
