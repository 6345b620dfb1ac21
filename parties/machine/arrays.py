"""Arrays of an .npz archive: of the size that is announced, within a bound, and as they were written.

What an archive announces is checked before memory is taken: some kilobytes may say that they are gigabytes. An archive
may hold SHA-256 digests of its arrays (`digested`), each of which is then compared. Nothing is unpickled.

Parties may read as threads of one process, but numpy reads a header through `ast.parse`, which in Python 3.11 fails
when another thread does so too (SystemError, "AST constructor recursion depth mismatch"): so one reads headers at a
time.
"""

import hashlib
import io
import json
import math
import threading
import zipfile
from collections.abc import Collection, Mapping
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from protocols.errors import ParameterError

__all__ = ["DIGESTS", "digested", "read_arrays"]

DIGESTS = "sha256"
"""The name of the array that holds the others' digests."""

_READING = threading.Lock()
_COUNT = slice(-12, -10)
"""Where an archive, before its comment, has the number of what is in it."""

_CHUNK = 1 << 18
_SUFFIX = ".npy"


def digested(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays, and one more that holds their digests: so written, `read_arrays` finds damage in any of them."""
    digests = json.dumps({name: _digest(array) for name, array in arrays.items()})
    return {**arrays, DIGESTS: np.frombuffer(digests.encode(), dtype=np.uint8)}


def read_arrays(
    content: bytes | memoryview, most: int | None = None, names: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Return arrays of an archive by name.

    Args:
        most: bytes of all arrays that are read; as many as the archive has, if left out.
        names: those to read, as far as they are there; no other is decompressed. All of them if left out.

    Raises:
        ParameterError: the content is no such archive, is damaged, or larger than that.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            count = _count(content, len(archive.comment))
            return _read(archive, count, len(content) if most is None else most, names)
    except ParameterError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen types for content that is none of theirs
        raise ParameterError(f"expected an archive of arrays, got one that is damaged ({error})") from error


def _count(content: bytes | memoryview, comment: int) -> int:
    """Return how many arrays the archive's end announces, which zipfile does not compare with those that it lists."""
    end = len(content) - comment
    return int.from_bytes(content[end + _COUNT.start : end + _COUNT.stop], "little")


def _read(archive: zipfile.ZipFile, count: int, most: int, names: Collection[str] | None) -> dict[str, NDArray[Any]]:
    members = {entry.filename.removesuffix(_SUFFIX): entry for entry in archive.infolist()}
    if not len(members) == len(archive.infolist()) == count:
        raise ParameterError(f"expected the {count} arrays of the archive's end, each of another name, got others")
    chosen = [name for name in members if names is None or name in {*names, DIGESTS}]
    size = sum(members[name].file_size for name in chosen)
    if size > most:
        raise ParameterError(f"expected arrays of at most {most} bytes, got {size}")
    arrays = {name: _array(archive, members[name]) for name in chosen}
    if DIGESTS in arrays:
        _compare(arrays, arrays.pop(DIGESTS), members.keys() - {DIGESTS})
    return arrays


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Read an array, to its end, where the archive's checksum is compared."""
    with cast(zipfile.ZipExtFile, archive.open(member)) as file:
        with _READING:
            version = npy.read_magic(file)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, is_fortran, dtype = header(file)
        if dtype.hasobject:
            raise ParameterError("expected arrays of numbers or text, got one of objects")
        if min((1, *shape)) < 0 or math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise ParameterError(f"expected an array of {member.file_size - file.tell()} bytes, got {dtype} {shape}")
        content = np.empty(member.file_size - file.tell(), dtype=np.uint8)
        filled = 0
        while filled < len(content) and (count := file.readinto(content[filled : filled + _CHUNK].data)):
            filled += count
        if filled < len(content) or file.read(1):
            raise ParameterError(f"expected an array of {len(content)} bytes, got fewer or more")
    return content.view(dtype).reshape(shape, order="F" if is_fortran else "C")


def _compare(arrays: Mapping[str, NDArray[Any]], digests: NDArray[Any], present: Collection[str]) -> None:
    """Compare arrays that were read with their digests, and what is there with what is to be there."""
    known = json.loads(digests.tobytes())
    if not isinstance(known, dict) or known.keys() != set(present):
        raise ParameterError("expected the arrays of the archive's digests, got others")
    for name, array in arrays.items():
        if _digest(array) != known[name]:
            raise ParameterError(f"expected the array {name} of the archive's digest, it is damaged")


def _digest(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(json.dumps([array.dtype.str, array.shape]).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
