"""Write and read one message of a channel, so that the receiver notices an accident on the way.

A message is a header (magic, version, element type, tag, number of dimensions, number, checksum), the dimensions and
the raw array. Each direction numbers its messages.

A message's checksum (CRC-32) covers the whole message and the checksum of the message before it. So it covers all that
was sent in this direction. The receiver notices a message that was damaged, lost, repeated or moved, or that comes from
another session, except for one such accident in 2^32. The checksum has no key: somebody who alters messages on purpose
can make the checksums fit.
"""

import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import PeerLostError, ProtocolError

__all__ = ["VERSION", "Direction", "checksum_of_data", "frame_size", "is_error_report", "printable", "tag_of"]

VERSION = 3
MAX_ERROR_BYTES = 400
"""Bytes of an error report's text, at most."""

_MAGIC = b"HF"
_HEADER = struct.Struct("<2sBBIB3sI")
_SUMMED = 12  # bytes of the header before its last field, the checksum
_NUMBERS = 1 << 24  # message numbers start again at 0 when they reach this
_CHECKSUM = struct.Struct("<I")
_DIMENSION = struct.Struct("<Q")  # like the header a multiple of eight bytes, so that the array begins at one
_MAX_DIMENSIONS = 8
_ERROR_CODE = 255
_CODES: dict[int, np.dtype[Any]] = {
    0: np.dtype(np.uint8),
    1: np.dtype(np.uint64),
    2: np.dtype(np.int64),
    3: np.dtype(np.float64),
}
_CODE_OF = {dtype: code for code, dtype in _CODES.items()}


def tag_of(label: str) -> int:
    """Return the 32-bit tag of a protocol step's label; both ends derive it from the same label."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "little")


@dataclass
class Direction:
    """The messages of one direction. One end makes them, the other end checks them.

    Args:
        number: the next message's number.
        checksum: the last message's checksum.
    """

    number: int = 0
    checksum: int = 0

    def frame(self, label: str, array: NDArray[Any], of_data: int | None = None) -> bytes:
        """Return the next message.

        Args:
            of_data: `checksum_of_data` of the array, if the caller knows it.

        Raises:
            ProtocolError: the array is not uint8, uint64, int64 or float64, or has more than 8 dimensions.
        """
        code = _CODE_OF.get(array.dtype)
        if code is None or array.ndim > _MAX_DIMENSIONS:
            raise ProtocolError(f"{label}: cannot send {array.dtype} with {array.ndim} dimensions")
        data = _bytes_of(array)
        return self._head(code, tag_of(label), array.shape, zlib.crc32(data) if of_data is None else of_data) + data

    @classmethod
    def error_report(cls, message: str) -> bytes:
        """Return a last message that says why its sender ends.

        It stands outside the numbering, so the peer reads it even after another message was lost.
        """
        text = message.encode(errors="replace")[:MAX_ERROR_BYTES]
        return cls()._head(_ERROR_CODE, 0, (len(text),), zlib.crc32(text)) + text

    def array_of(
        self, frame: bytes | memoryview, label: str, peer: str, expected: tuple[np.dtype[Any], tuple[int, ...]]
    ) -> NDArray[Any]:
        """Return the array of the next message, which must have the expected type and shape.

        Raises:
            ProtocolError: the message is another one, or was changed on its way.
            PeerLostError: the message is an error report.
        """
        what = f"{label} from {peer}"
        dtype, shape = expected
        if len(frame) < _HEADER.size:
            raise ProtocolError(f"{what}: expected a header of {_HEADER.size} bytes, got {len(frame)} bytes")
        magic, version, code, tag, dimensions, *_ = _HEADER.unpack_from(frame)
        if magic != _MAGIC or version != VERSION:
            raise ProtocolError(f"{what}: expected protocol version {VERSION}, got {magic!r} version {version}")
        start = _HEADER.size + dimensions * _DIMENSION.size
        if dimensions > _MAX_DIMENSIONS or len(frame) < start:
            raise ProtocolError(f"{what}: truncated header ({len(frame)} bytes, {dimensions} dimensions)")
        (Direction() if code == _ERROR_CODE else self)._check(frame, start, what)
        if code == _ERROR_CODE:
            text = bytes(frame[start : start + MAX_ERROR_BYTES]).decode(errors="replace")
            raise PeerLostError(f"{peer} ended: {printable(text, MAX_ERROR_BYTES)}")
        if tag != tag_of(label):
            raise ProtocolError(f"{what}: expected tag {tag_of(label):#x}, got {tag:#x} (the peers are out of step)")
        came = tuple(d for (d,) in _DIMENSION.iter_unpack(frame[_HEADER.size : start]))
        if _CODES.get(code) != dtype or came != shape:
            raise ProtocolError(f"{what}: expected {dtype} {shape}, got {_CODES.get(code, code)} {came}")
        size = dtype.itemsize * math.prod(shape)
        if len(frame) - start != size:
            raise ProtocolError(f"{what}: expected {size} bytes of data, got {len(frame) - start}")
        owned = frame if isinstance(frame, memoryview) and not frame.readonly else bytearray(frame)
        return np.frombuffer(owned, dtype=dtype, offset=start).reshape(shape)

    def _head(self, code: int, tag: int, shape: Sequence[int], of_data: int) -> bytes:
        """Return the next message's header and dimensions, and count the message as the last one."""
        dimensions = b"".join(_DIMENSION.pack(d) for d in shape)
        number = self.number.to_bytes(3, "little")
        fields = _HEADER.pack(_MAGIC, VERSION, code, tag, len(shape), number, 0)[:_SUMMED]
        self._go_on(self._checksum(fields + dimensions, of_data))
        return fields + _CHECKSUM.pack(self.checksum) + dimensions

    def _check(self, frame: bytes | memoryview, start: int, what: str) -> None:
        """Check that a message, whose data begin at `start`, is the next one and is unchanged."""
        *_, came, checksum = _HEADER.unpack_from(frame)
        if (number := int.from_bytes(came, "little")) != self.number:
            raise ProtocolError(
                f"{what}: expected message {self.number}, got {number}: one was lost, repeated, moved or damaged"
            )
        view = memoryview(frame)
        head = bytes(view[:_SUMMED]) + view[_HEADER.size : start]
        if self._checksum(head, zlib.crc32(view[start:])) != checksum:
            raise ProtocolError(f"{what}: expected a message as it was sent, got one with another checksum")
        self._go_on(checksum)

    def _checksum(self, head: bytes, of_data: int) -> int:
        return zlib.crc32(_CHECKSUM.pack(self.checksum), zlib.crc32(head, of_data))

    def _go_on(self, checksum: int) -> None:
        self.number, self.checksum = (self.number + 1) % _NUMBERS, checksum


def checksum_of_data(array: NDArray[Any]) -> int:
    """Return the CRC-32 of an array's bytes, for an array that goes to several peers."""
    return zlib.crc32(_bytes_of(array))


def is_error_report(frame: bytes | memoryview) -> bool:
    """Return whether a message says that its sender has ended."""
    return len(frame) >= _HEADER.size and _HEADER.unpack_from(frame)[2] == _ERROR_CODE


def frame_size(dtype: Any, shape: Sequence[int]) -> int:
    """Return the size of the largest message that may come: the expected one, or an error report."""
    data = np.dtype(dtype).itemsize * math.prod(shape)
    return max(_HEADER.size + _MAX_DIMENSIONS * _DIMENSION.size + data, 1024)


def printable(text: object, length: int = 80) -> str:
    """Return a peer's text in a form that may be shown: one line of at most `length` printable characters."""
    return "".join(c for c in str(text)[: 4 * length] if c.isprintable())[:length]


def _bytes_of(array: NDArray[Any]) -> memoryview | bytes:
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""
