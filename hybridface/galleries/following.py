"""What the client of a private gallery does that its record of imports follows: another name, another key.

Whoever renames or changes the key does it here, in a process or in a rank: the record says which photos are enrolled by
their rows, which a renaming changes, and lies beside the key. A list's owner renames in `GalleryFile`, likewise.
"""

from collections.abc import Callable
from pathlib import Path

from hybridface.galleries.import_journal import moving, take_along
from parties.gallery.key import GalleryKey
from parties.gallery.sessions.private_client import PrivateClientSession
from parties.machine import locks

__all__ = ["change_key", "rename_identity"]


def rename_identity(session: PrivateClientSession, key: Path, old: str, new: str) -> None:
    """Give somebody another name, as `PrivateClientSession.rename_identity`.

    Args:
        key: file of the key, which the record lies beside.

    Raises:
        RunError: an import runs, and nobody is renamed; or somebody is, and the record cannot be written.
    """
    with moving(key.parent, session.scope, _seconds(session)) as note:
        note(session.rename_identity(old, new))


def change_key(
    session: PrivateClientSession, key: Path, new: Path, secret: GalleryKey, on_warning: Callable[[str], None]
) -> int:
    """Put the gallery under another key, as `PrivateClientSession.rotate_key`; return its generation.

    Args:
        key: file of the key until now, which the record lies beside.
        new: file of the new one.
        secret: what it holds.
        on_warning: called with one line, if the record cannot be copied.

    Raises:
        RunError: an import runs; the gallery stays under the old key.
    """
    with moving(key.parent, session.scope, _seconds(session)):
        generation = session.rotate_key(secret)
        try:
            take_along(session.scope, key.parent, new.parent)
        except OSError as error:
            on_warning(f"the record of imports stays beside {key}: {error.strerror}")
    return generation


def _seconds(session: PrivateClientSession) -> float:
    """Return how long to wait for the record: less than the server waits for this client."""
    return min(locks.LOCK_SECONDS, session.endpoint.channel.timeout / 2)
