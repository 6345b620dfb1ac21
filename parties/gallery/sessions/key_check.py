"""Whether a client has the gallery's key: a value that follows from the key alone is kept beside the store.

Without it a wrong key would be noticed by nobody: photos enrolled under it would be noise among the others, and a
change of key would leave nothing that any key opens. The value is a PRF's output, so nothing follows from it. It
belongs to a generation: while the key changes, the values of both are kept, so that after a crash the one counts that
the shares are under.
"""

import json

from parties.gallery.store.store import GalleryStore
from parties.machine.durable import write_durably
from parties.machine.plain_files import read_plain
from protocols.document import hexadecimal
from protocols.errors import ProtocolError

__all__ = ["CHECK", "KeyCheck"]

CHECK = hexadecimal(16)
"""A check, as a client sends it."""

_DIGITS = 32
_MAX_BYTES = 4096


class KeyCheck:
    """The check of a store's key.

    Args:
        store: whose file the check lies beside.
    """

    def __init__(self, store: GalleryStore) -> None:
        self._store = store
        self._path = store.path.with_name(f"{store.path.name}.keycheck")
        self._given = ""

    def compare(self, check: str) -> None:
        """Compare what a client sends when its session opens.

        Raises:
            ProtocolError: it has another key.
        """
        self._given = check
        known = self._read()
        if self._store.count and known not in ("", check):
            raise ProtocolError("expected the gallery's key, the client has another one")
        if self._store.count and not known:
            self.keep()

    def keep(self) -> None:
        """Keep the client's check, after its first enrolment."""
        if self._read() != self._given:
            self._write(self._given)

    def expect(self, check: str) -> None:
        """Keep, beside the check of today's key, that of the key under which all shares are about to come."""
        self._write(self._given, check)

    def replace(self, check: str) -> None:
        """Keep the check of the key that the gallery is under now."""
        self._given = check
        self._write(check)

    def _read(self) -> str:
        """Return the check of this generation's key; "" if there is none."""
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
