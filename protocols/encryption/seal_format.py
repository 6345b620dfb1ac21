"""SEAL's objects as arrays of words, and back: by SEAL's documented serialisation into anonymous files.

No peer sends bytes in this format. Peers send residues and seeds of a size that the receiver knows, and the receiver
itself writes the bytes around them. As SEAL loads the bytes, it checks that they make a valid object.
"""

import os
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import tenseal.sealapi as seal
import zstandard

from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ProtocolError

__all__ = [
    "ciphertext_from_words",
    "ciphertext_words",
    "plaintext_words",
    "public_key_from_words",
    "switching_key_from_words",
    "switching_key_words",
]

_HEADER = struct.Struct("<HBBBBHQ")  # magic, header bytes, version major and minor, compression, reserved, size
_CIPHERTEXT = struct.Struct("<32sBQQQdQ")  # level, NTT form, polynomials, N, primes, scale, correction factor
_PLAINTEXT = struct.Struct("<32sQd")  # level, coefficients, scale
_WORD = struct.Struct("<Q")
_PARMS_ID = struct.Struct("<4Q")
_NO_COMPRESSION = 0
_Loaded = TypeVar("_Loaded")


def _in_memory(use: Callable[[str, int], Any]) -> Any:
    descriptor = os.memfd_create("hybridface")
    try:
        return use(f"/proc/self/fd/{descriptor}", descriptor)
    finally:
        os.close(descriptor)


def _body(value: Any) -> bytes:
    """Return the content of a SEAL object's serialisation, without header and compression."""

    def save(path: str, descriptor: int) -> bytes:
        value.save(path)
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    raw = _in_memory(save)
    _, _, _, _, mode, _, size = _HEADER.unpack_from(raw)
    if size != len(raw):
        raise ProtocolError(f"SEAL wrote {len(raw)} bytes where its header says {size}")
    body = raw[_HEADER.size :]
    return body if mode == _NO_COMPRESSION else zstandard.ZstdDecompressor().decompressobj().decompress(body)


def _version() -> tuple[int, int, int, int]:
    """Return magic, header size and version as the installed SEAL writes them."""

    def save(path: str, descriptor: int) -> bytes:
        seal.Plaintext("1").save(path)
        return os.pread(descriptor, _HEADER.size, 0)

    return _HEADER.unpack(_in_memory(save))[:4]  # type: ignore[return-value]


def _wrapped(*parts: bytes | memoryview) -> list[bytes | memoryview]:
    """Put SEAL's header for uncompressed bytes before the parts."""
    size = _HEADER.size + sum(len(part) for part in parts)
    return [_HEADER.pack(*_version(), _NO_COMPRESSION, 0, size), *parts]


def _load(value: _Loaded, context: seal.SEALContext, parts: Sequence[bytes | memoryview]) -> _Loaded:
    def load(path: str, descriptor: int) -> None:
        with open(descriptor, "wb", closefd=False) as file:
            file.writelines(parts)
        value.load(context, path)  # type: ignore[attr-defined]

    try:
        _in_memory(load)
    except (RuntimeError, ValueError) as error:
        raise ProtocolError(f"SEAL refuses a {type(value).__name__}: {error}") from error
    return value


def plaintext_words(value: Any) -> RingArray:
    """Return the polynomial of a plaintext or secret key in NTT form, uint64 (primes x N,)."""
    return np.frombuffer(_body(value), dtype="<u8", offset=_PLAINTEXT.size + _HEADER.size + _WORD.size)


def ciphertext_words(value: Any, degree: int) -> RingArray:
    """Return the polynomials of a ciphertext or public key in NTT form, uint64 (polynomials, primes, N)."""
    words = np.frombuffer(_body(value), dtype="<u8", offset=_CIPHERTEXT.size + _HEADER.size + _WORD.size)
    return words.reshape(value.size() if hasattr(value, "size") else 2, -1, degree)


def _ciphertext_parts(parms_id: Sequence[int], words: RingArray, scale: float) -> list[bytes | memoryview]:
    size, primes, degree = words.shape
    fields = _CIPHERTEXT.pack(_PARMS_ID.pack(*parms_id), True, size, degree, primes, scale, 1)
    data = np.ascontiguousarray(words, dtype="<u8").data.cast("B")
    return _wrapped(fields, *_wrapped(_WORD.pack(words.size), data))


def ciphertext_from_words(
    context: seal.SEALContext, parms_id: Sequence[int], words: RingArray, scale: float
) -> seal.Ciphertext:
    """Return a ciphertext of polynomials (polynomials, primes left, N) in NTT form.

    Args:
        parms_id: SEAL's name for the level at which these primes are left.

    Raises:
        ProtocolError: SEAL does not accept the polynomials.
    """
    return _load(seal.Ciphertext(), context, _ciphertext_parts(parms_id, words, scale))


def public_key_from_words(context: seal.SEALContext, words: RingArray) -> seal.PublicKey:
    """Return a public key of polynomials (2, primes, N), the special prime last."""
    return _load(seal.PublicKey(), context, _ciphertext_parts(context.key_parms_id(), words, 1.0))


def switching_key_words(keys: Any, degree: int) -> RingArray:
    """Return the one switching key that a SEAL object (relinearisation, Galois) holds: (parts, 2, primes, N)."""
    body = _body(keys)
    offset = _PARMS_ID.size + _WORD.size
    (entries,) = _WORD.unpack_from(body, _PARMS_ID.size)
    found = []
    for _ in range(entries):
        (parts,) = _WORD.unpack_from(body, offset)
        offset += _WORD.size
        for _ in range(parts):
            *_, size = _HEADER.unpack_from(body, offset)
            start = _HEADER.size + _CIPHERTEXT.size + _HEADER.size + _WORD.size
            words = np.frombuffer(body, dtype="<u8", offset=offset + start, count=(size - start) // 8)
            found.append(words.reshape(2, -1, degree))
            offset += size
    return np.stack(found)


def switching_key_from_words(
    context: seal.SEALContext, kind: type[_Loaded], entries: int, index: int, words: RingArray
) -> _Loaded:
    """Return a SEAL object that holds one switching key.

    Args:
        kind: the object's class, `RelinKeys` or `GaloisKeys`.
        entries: how many keys an object of this kind has room for.
        index: the key's place among them.
        words: the key, (parts, 2, primes, N).
    """
    parms_id = context.key_parms_id()
    parts: list[bytes | memoryview] = [_PARMS_ID.pack(*parms_id), _WORD.pack(entries), _WORD.pack(0) * index]
    parts.append(_WORD.pack(len(words)))
    for part in words:
        parts += _ciphertext_parts(parms_id, part, 1.0)
    parts.append(_WORD.pack(0) * (entries - index - 1))
    return _load(kind(), context, _wrapped(*parts))
