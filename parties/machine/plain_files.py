"""Read files without waiting and within a size bound, whatever is there under their names by now.

Instead of one of our files there may be a folder, a device or a pipe. Opening a pipe that nobody writes to would wait
forever.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from pathlib import Path

__all__ = ["open_plain", "plain_lines", "read_digested", "read_plain"]

_LONGEST_LINE = 1 << 20
_DIGEST_BYTES = 32


def open_plain(path: Path, follow_links: bool = True) -> BufferedReader:
    """Open a file for reading.

    Args:
        follow_links: whether the name may be a symbolic link.

    Raises:
        OSError: the file is missing or cannot be read, or is a folder, a pipe or a device.
    """
    links = 0 if follow_links else os.O_NOFOLLOW
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | links)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "expected a plain file, got a folder, a pipe or a device", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_plain(path: Path, most: int, follow_links: bool = True) -> bytes:
    """Return the content of a file.

    Args:
        most: bytes of the file, at most. A larger file is refused before anything is read.
        follow_links: whether the name may be a symbolic link.

    Raises:
        OSError: as for `open_plain`, or the file is larger.
    """
    with open_plain(path, follow_links) as file:
        _expect_at_most(most, os.fstat(file.fileno()).st_size, "bytes", path)
        content = file.read(most + 1)
        _expect_at_most(most, len(content), "bytes", path)
        return content


def read_digested(path: Path, most: int) -> bytes | None:
    """Return what follows a SHA-256 in a file; None if it is not what the digest is of, which takes no memory.

    Args:
        most: bytes that the file may have.

    Raises:
        OSError: as for `read_plain`.
    """
    with open_plain(path) as file:
        _expect_at_most(most, os.fstat(file.fileno()).st_size, "bytes", path)
        digest = file.read(_DIGEST_BYTES)
        if hashlib.file_digest(file, "sha256").digest() != digest:
            return None
        file.seek(_DIGEST_BYTES)
        content = file.read(most + 1)
        _expect_at_most(most, len(content), "bytes", path)
        return content


def plain_lines(
    path: Path, most: int, lines: int, *, encoding: str = "utf-8", errors: str = "strict", newline: str = "\n"
) -> Iterator[str]:
    """Yield a file's lines, each with its end; only one of them is in memory, which has at most 2^20 characters.

    Args:
        most: bytes that the file may have; a larger one is refused before anything is read.
        lines: that it may have, since a reader keeps more for a line than the file does.
        encoding, errors, newline: as for `open`.

    Raises:
        OSError: as for `open_plain`, or there are more bytes, more lines, or a longer line. UnicodeDecodeError: it is
            not in this encoding.
    """
    size = 0
    with TextIOWrapper(open_plain(path), encoding, errors, newline) as text:
        _expect_at_most(most, os.fstat(text.fileno()).st_size, "bytes", path)
        for number, line in enumerate(iter(lambda: text.readline(_LONGEST_LINE + 1), ""), 1):
            size += len(line)
            _expect_at_most(most, size, "bytes", path)
            _expect_at_most(lines, number, "lines", path)
            _expect_at_most(_LONGEST_LINE, len(line), "characters in a line", path)
            yield line


def _expect_at_most(most: int, count: int, what: str, path: Path) -> None:
    if count > most:
        raise OSError(errno.EFBIG, f"expected at most {most} {what}, got more", str(path))
