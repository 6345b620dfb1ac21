"""Renaming and changing the key of a private gallery, at the client: its record of imports must follow.

All renaming and all changes of keys go through this module, in a process or in a rank. The record lies beside the key,
and names enrolled photos by their rows, which a renaming changes. The owner of a list renames in `GalleryFile`, which
does the same.
"""

from collections.abc import Callable
from pathlib import Path

from hybridface.galleries.import_journal import moving, take_along
from parties.gallery.key import GalleryKey
from parties.gallery.sessions.private_client import PrivateClientSession
from parties.machine import locks

__all__ = ["change_key", "rename_identity"]


def rename_identity(session: PrivateClientSession, key: Path, old: str, new: str) -> None:
    """Give somebody another name, as `PrivateClientSession.rename_identity` does.

    Args:
        key: file of the key; the record lies beside it.

    Raises:
        RunError: an import is running, and nobody is renamed; or somebody is renamed, but the record cannot be written.
    """
    with moving(key.parent, session.scope, _seconds(session)) as note:
        note(session.rename_identity(old, new))


def change_key(
    session: PrivateClientSession, key: Path, new: Path, secret: GalleryKey, on_warning: Callable[[str], None]
) -> int:
    """Put the gallery under another key, as `PrivateClientSession.rotate_key` does; return the key's generation.

    Args:
        key: file of the old key; the record lies beside it.
        new: file of the new key.
        secret: the new key.
        on_warning: called with one line if the record cannot be copied.

    Raises:
        RunError: an import is running; the gallery stays under the old key.
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
