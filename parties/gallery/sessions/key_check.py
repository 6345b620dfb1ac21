"""Check that a client has the gallery's key, by a value that the server keeps beside the store.

**Why.** Without a check, nobody would notice a wrong key. Photos enrolled under a wrong key would be noise among the
others. A change from a wrong key would leave a gallery that no key opens.

**Value.** The check is a PRF's output under the key, so it reveals nothing about the key.

**Change of key.** A check belongs to one generation of the key. While the key changes, the server keeps the checks of
the old and of the new key. After a crash, the check of the key that the shares are under counts.

**Damage.** A damaged value opens the gallery to nobody. If the server took it for a missing value, it would let any key
in. So the file has a digest; files of older versions have none.
"""

import hashlib
import json
from typing import Any

from parties.gallery.errors import StoreError
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
_DIGEST = "sha256"


class KeyCheck:
    """The check of a store's key.

    Args:
        store: of the gallery. The file of the check lies beside the store's.
    """

    def __init__(self, store: GalleryStore) -> None:
        self._store = store
        self._path = store.path.with_name(f"{store.path.name}.keycheck")
        self._given = ""
        self._is_old = False

    def compare(self, check: str) -> None:
        """Compare the check that a client sends when its session opens.

        Raises:
            ProtocolError: the client has another key. StoreError: the kept value is damaged, or cannot be read or
                written.
        """
        self._given = check
        known = self._read()
        if self._store.count and known not in ("", check):
            raise ProtocolError("expected the gallery's key, the client has another one")
        if self._store.count and (not known or self._is_old):
            self._write(check)

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
            document = _parsed(read_plain(self._path, _MAX_BYTES))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self._path.is_symlink():
                return ""
            raise self._refusal(error.strerror) from error
        except (ValueError, RecursionError) as error:
            raise self._refusal("it is damaged") from error
        generation = self._store.generation - document["generation"]
        if document["scope"] != self._store.scope.hex():
            return ""
        if generation not in (0, 1):
            if self._store.count:
                raise self._refusal("it is of another time than the gallery")
            return ""
        self._is_old = _DIGEST not in document and "next" not in document
        return str(document.get("next", "") if generation else document["check"])

    def _write(self, check: str, following: str = "") -> None:
        document = {"generation": self._store.generation, "scope": self._store.scope.hex(), "check": check}
        whole = {**document, "next": following} if following else document
        try:
            write_durably(self._path, json.dumps({**whole, _DIGEST: _digest(whole)}).encode())
        except OSError as error:
            raise self._refusal(error.strerror) from error

    def _refusal(self, reason: str | None) -> StoreError:
        return StoreError(
            f"{self._path.name}: cannot tell the gallery's key from others: {reason}; restore the file, or remove it:"
            " then the next client's key is taken for the gallery's"
        )


def _parsed(content: bytes) -> dict[str, Any]:
    """Return what a file of ours says.

    Raises:
        ValueError, RecursionError: it is none, or damaged.
    """
    document = json.loads(content)
    match document:
        case {"generation": int(generation), "scope": str(), "check": str(), **others} if type(generation) is int:
            digest = others.pop(_DIGEST, None)
            whole = {key: value for key, value in document.items() if key != _DIGEST}
            checks = [document["check"], *others.values()]
            if others.keys() <= {"next"} and all(map(_is_check, checks)) and digest in (None, _digest(whole)):
                return document
    raise ValueError("expected a key's check")


def _is_check(value: object) -> bool:
    return isinstance(value, str) and len(value) == _DIGITS and set(value) <= set("0123456789abcdef")


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
