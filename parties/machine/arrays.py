"""Arrays of an .npz archive, for parties that read as threads of one process.

numpy reads a header through `ast.parse`, which in Python 3.11 fails when another thread does so too (SystemError, "AST
constructor recursion depth mismatch"): so one reads at a time.
"""

import io
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_arrays"]

_READING = threading.Lock()


def read_arrays(content: bytes | memoryview) -> dict[str, NDArray[Any]]:
    """Return all arrays of an archive by name; nothing is unpickled.

    Raises:
        what numpy raises for content that is no archive: ValueError, zipfile.BadZipFile, zlib.error, EOFError, ...
    """
    with _READING, np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
