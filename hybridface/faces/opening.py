"""Read a photo's bytes from a file, a pipe, standard input, or memory.

Nothing is read beyond a limit, and no read waits for ever. `decoding` interprets the bytes.
"""

import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridface.errors import ImageError

__all__ = ["MAX_BYTES", "PIPE_SECONDS", "STANDARD_INPUT", "PhotoFile", "photo_name", "read_file"]

MAX_BYTES = 200_000_000
"""The most bytes of a photo. An uncompressed RGB picture of 64 megapixels has 192 million."""

PIPE_SECONDS = 120.0
"""How long a pipe or standard input may take to deliver a whole photo."""

STANDARD_INPUT = "-"

_CHUNK = 1 << 20


@dataclass(frozen=True)
class PhotoFile:
    """A photo as a file has it, not decoded yet.

    Args:
        name: the photo's name in messages.
        data: at most `MAX_BYTES` bytes, and at least one.
    """

    name: str
    data: bytes = field(repr=False)


def read_file(photo: Any) -> PhotoFile:
    """Read a photo that is given by its path, as bytes, or as an open file.

    Args:
        photo: a path, "-" for standard input, bytes, or an object with `read` that gives bytes.

    Raises:
        ImageError: the photo is none of these, cannot be read, is empty or too long, or a pipe takes too long.
    """
    name = photo_name(photo)
    if isinstance(photo, str | os.PathLike):
        path = os.fspath(photo)
        return _joined(name, _standard_input() if path == STANDARD_INPUT else _path(name, path))
    if isinstance(photo, bytes | bytearray | memoryview):
        return _joined(name, iter((photo,)))
    if hasattr(photo, "read"):
        return _joined(name, _stream(name, photo))
    kinds = "a path, bytes, an open file, an array, or an image"
    raise ImageError(f"{name}: expected {kinds}, got {type(photo).__name__}")


def photo_name(photo: Any) -> str:
    """Return the name of a photo in messages: a file's name without its folders."""
    given = photo if isinstance(photo, str | os.PathLike) else getattr(photo, "name", None)
    if not isinstance(given, str | os.PathLike):
        return "the photo"
    text = os.fspath(given)
    return "standard input" if text == STANDARD_INPUT else Path(str(text)).name or repr(text)


def _joined(name: str, chunks: Iterator[Any]) -> PhotoFile:
    parts, size = [], 0
    try:
        for part in chunks:
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                raise ImageError(f"{name}: expected at most {MAX_BYTES} bytes, got more")
    except OSError as error:
        raise ImageError(f"{name}: {_reason(error)}") from error
    if not size:
        raise ImageError(f"{name}: expected a photo, got an empty file")
    return PhotoFile(name, bytes(parts[0]) if len(parts) == 1 else b"".join(parts))  # `bytes` does not copy bytes


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "cannot read the file: permission denied"
    return f"cannot read the file: {error.strerror or error}"


def _path(name: str, path: Any) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte
        raise ImageError(f"{name!r}: no such file; {error}") from error
    try:
        yield from _descriptor(name, descriptor)
    finally:
        os.close(descriptor)


def _standard_input() -> Iterator[bytes]:
    name = "standard input"
    if sys.stdin is None or sys.stdin.closed:
        raise ImageError(f"{name}: expected a photo, but it is closed")
    try:
        descriptor = sys.stdin.fileno()
    except OSError:  # in a notebook or a test
        yield from _stream(name, sys.stdin.buffer)
        return
    yield from _descriptor(name, descriptor)


def _descriptor(name: str, descriptor: int) -> Iterator[bytes]:
    """Read an open file or pipe; refuse anything else, and say what it is."""
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode):
        if found.st_size > MAX_BYTES:
            raise ImageError(f"{name}: expected at most {MAX_BYTES} bytes, got {found.st_size}")
        while chunk := os.read(descriptor, max(_CHUNK, found.st_size)):
            yield chunk
    elif stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        yield from _pipe(name, descriptor)
    elif stat.S_ISDIR(found.st_mode):
        raise ImageError(f"{name}: expected a photo, got a folder; name a photo in it")
    else:
        what = "a terminal; send a photo there, as in `... - < photo.jpg`" if os.isatty(descriptor) else "a device"
        raise ImageError(f"{name}: expected a photo, got {what}")


def _pipe(name: str, descriptor: int) -> Iterator[bytes]:
    """Read until the writers have closed their end; wait for the first writer if none is there yet."""
    waiting, end = select.poll(), time.monotonic() + PIPE_SECONDS
    waiting.register(descriptor, select.POLLIN)
    while True:
        left = end - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left):
            raise ImageError(f"{name}: expected a whole photo within {PIPE_SECONDS:g} seconds, got none from this pipe")
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return
        yield chunk


def _stream(name: str, file: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = file.read(_CHUNK)
        except ValueError as error:  # it is closed
            raise ImageError(f"{name}: cannot read the file: {error}") from error
        if not isinstance(chunk, bytes):
            raise ImageError(f"{name}: expected a file of bytes, got {type(chunk).__name__}; open it in mode 'rb'")
        if not chunk:
            return
        yield chunk
