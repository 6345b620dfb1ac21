"""Read weight files whole, up to a maximal size. Compare packaged files with their known digests."""

import hashlib
from pathlib import Path

from hybridface.errors import ModelError
from parties.machine.plain_files import read_plain

__all__ = ["MAX_BYTES", "read_weight_file"]

MAX_BYTES = 1 << 30
"""The maximal size of a weight file, and of the arrays in it."""

_DIGESTS = {
    "patchnet.npz": "e68829afd13eddaf6e56bc9c74a3a29eabaebb6bd0879fc40485a4e9a1a407ef",
    "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}
"""SHA-256 of the packaged files, which never change."""


def read_weight_file(path: Path, is_packaged: bool) -> bytes:
    """Return the content of a weight file.

    Args:
        is_packaged: whether the file belongs to a packaged network, whose digest is known. A user's own file may hold
            anything.

    Raises:
        ModelError: the file cannot be read, is too large, or belongs to a packaged network and is damaged.
    """
    try:
        content = read_plain(path, MAX_BYTES)
    except OSError as error:
        raise ModelError(f"cannot read model file {path}: {error.strerror}") from error
    if is_packaged and hashlib.sha256(content).hexdigest() != _DIGESTS[path.name]:
        raise ModelError(
            f"cannot read model file {path}: expected the packaged network, it is damaged; install it again"
        )
    return content
