"""Check that a client has the gallery's key, by a value that the server keeps beside the store.

**Why.** Without a check, nobody would notice a wrong key. Photos enrolled under a wrong key would be noise among the
others. A change from a wrong key would leave a gallery that no key opens.

**Value.** The check is a PRF's output under the key, so it reveals nothing about the key.

**Change of key.** A check belongs to one generation of the key. While the key changes, the server keeps the checks of
the old and of the new key. After a crash, the check of the key that the shares are under counts.
"""

import json

from parties.gallery.store.store import GalleryStore
from parties.machine.durable import write_durably
from parties.machine.plain_files import read_plain
from protocols.document import hexadecimal
from protocols.errors import ProtocolError

__all__ = ["CHECK", "KeyCheck"]

CHECK = hexadecimal(16)
"""Reads a check that a client sends."""

_DIGITS = 32
_MAX_BYTES = 4096


class KeyCheck:
    """The check of a store's key.

    Args:
        store: of the gallery. The file of the check lies beside the store's.
    """

    def __init__(self, store: GalleryStore) -> None:
        self._store = store
        self._path = store.path.with_name(f"{store.path.name}.keycheck")
        self._given = ""

    def compare(self, check: str) -> None:
        """Compare the check that a client sends when its session opens.

        Raises:
            ProtocolError: the client has another key.
        """
        self._given = check
        known = self._read()
        if self._store.count and known not in ("", check):
            raise ProtocolError("expected the gallery's key, the client has another one")
        if self._store.count and not known:
            self.keep()

    def keep(self) -> None:
        """Keep the client's check. The server calls this after an enrolment."""
        if self._read() != self._given:
            self._write(self._given)

    def expect(self, check: str) -> None:
        """Keep the check of the next key beside the current one's, before the shares are replaced."""
        self._write(self._given, check)

    def replace(self, check: str) -> None:
        """Keep the check of the new key alone, after the shares were replaced."""
        self._given = check
        self._write(check)

    def _read(self) -> str:
        """Return the check of the current generation's key; "" if there is none."""
        try:
            document = json.loads(read_plain(self._path, _MAX_BYTES))
            generation = self._store.generation - int(document["generation"])
            if document["scope"] != self._store.scope.hex() or generation not in (0, 1):
                return ""
            return str(document["next" if generation else "check"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return ""

    def _write(self, check: str, following: str = "") -> None:
        document = {"generation": self._store.generation, "scope": self._store.scope.hex(), "check": check}
        text = json.dumps({**document, "next": following} if following else document)
        write_durably(self._path, text.encode())
