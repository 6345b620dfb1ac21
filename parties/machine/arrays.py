"""Read the arrays of an .npz archive within a size bound, and check that they are as they were written.

The sizes that an archive announces are checked before memory is taken, since some kilobytes may announce gigabytes. An
archive may hold SHA-256 digests of its arrays (`digested`). Each array that is read is then compared with its digest.
Nothing is unpickled.

Parties may read archives in several threads of one process. But numpy reads a header through `ast.parse`, which in
Python 3.11 fails while another thread calls it too (SystemError, "AST constructor recursion depth mismatch"). So only
one thread at a time reads a header.
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
"""The name of the array that holds the digests of the others."""

_READING = threading.Lock()
_COUNT = slice(-12, -10)
"""The place of the number of entries in an archive, counted from the start of its final comment."""

_CHUNK = 1 << 18
_SUFFIX = ".npy"


def digested(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays, and one more with their digests. In an archive of these, `read_arrays` finds any damage."""
    digests = json.dumps({name: _digest(array) for name, array in arrays.items()})
    return {**arrays, DIGESTS: np.frombuffer(digests.encode(), dtype=np.uint8)}


def read_arrays(
    content: bytes | memoryview, most: int | None = None, names: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Return arrays of an archive by name.

    Args:
        most: bytes of all arrays that are read, at most; by default the size of the archive.
        names: names of the arrays to read. A name that is not there is skipped, and no other array is decompressed. By
            default all arrays are read.

    Raises:
        ParameterError: the content is no such archive, is damaged, or has arrays that are larger than `most`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            count = _count(content, len(archive.comment))
            return _read(archive, count, len(content) if most is None else most, names)
    except ParameterError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen types for malformed content
        raise ParameterError(f"expected an archive of arrays, got one that is damaged ({error})") from error


def _count(content: bytes | memoryview, comment: int) -> int:
    """Return the number of arrays that the archive's end announces. zipfile does not compare it with its own list."""
    end = len(content) - comment
    return int.from_bytes(content[end + _COUNT.start : end + _COUNT.stop], "little")


def _read(archive: zipfile.ZipFile, count: int, most: int, names: Collection[str] | None) -> dict[str, NDArray[Any]]:
    members = {entry.filename.removesuffix(_SUFFIX): entry for entry in archive.infolist()}
    if not len(members) == len(archive.infolist()) == count:
        raise ParameterError(f"expected {count} arrays of different names, as the archive announces, got others")
    chosen = [name for name in members if names is None or name in {*names, DIGESTS}]
    size = sum(members[name].file_size for name in chosen)
    if size > most:
        raise ParameterError(f"expected arrays of at most {most} bytes, got {size}")
    arrays = {name: _array(archive, members[name]) for name in chosen}
    if DIGESTS in arrays:
        _compare(arrays, arrays.pop(DIGESTS), members.keys() - {DIGESTS})
    return arrays


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Read an array to its end, where zipfile compares the archive's checksum."""
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
    """Compare the arrays that were read with their digests, and the names in the archive with those of the digests."""
    known = json.loads(digests.tobytes())
    if not isinstance(known, dict) or known.keys() != set(present):
        raise ParameterError("expected the arrays that the archive has digests of, got others")
    for name, array in arrays.items():
        if _digest(array) != known[name]:
            raise ParameterError(f"expected the array {name} to fit the archive's digest, but it is damaged")


def _digest(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(json.dumps([array.dtype.str, array.shape]).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
