"""Read files without waiting and within a size bound, whatever is there under their names by now.

Instead of one of our files there may be a folder, a device or a pipe. Opening a pipe that nobody writes to would wait
forever.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

__all__ = ["open_plain", "read_plain"]


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
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
        if max(size, len(content)) > most:
            raise OSError(errno.EFBIG, f"expected at most {most} bytes, got more", str(path))
        return content
