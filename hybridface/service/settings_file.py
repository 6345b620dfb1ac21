"""Read a TOML file with settings strictly: each key has a type and bounds, and no other keys are allowed.

    with read_settings(path) as settings:
        name = settings.take("name", text(64, 1))
        for table in settings.tables("models"):
            ...

Every error is one line that names the file and the key, says what was expected and what stands there.
"""

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from hybridface.errors import ConfigurationError
from parties.machine.plain_files import read_plain
from protocols.document import Kind
from protocols.errors import HybridFaceError

__all__ = ["LABEL", "Settings", "check_label", "converted", "quoted", "read_settings"]

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""The names of clients, servers and galleries: they are also names of files, and keys of settings."""

_MOST_BYTES = 1 << 20
_SHOWN = 60
_MISSING: Any = object()

T = TypeVar("T")
S = TypeVar("S")


@dataclass
class Settings:
    """A table of settings. The caller takes each key once; the end of a `with` block checks that none is left.

    Args:
        values: the values by key.
        path: the file.
        name: the table's name within the file, empty for the whole file.
    """

    values: dict[str, Any] = field(repr=False)
    path: Path
    name: str = ""
    taken: list[str] = field(default_factory=list)

    @overload
    def take(self, key: str, kind: Kind[T]) -> T: ...
    @overload
    def take(self, key: str, kind: Kind[T], default: S) -> T | S: ...
    def take(self, key: str, kind: Kind[Any], default: Any = _MISSING) -> Any:
        """Return a value; without a default, the key must be there.

        Raises:
            ConfigurationError: the value is of another kind, or missing.
        """
        self.taken.append(key)
        if key not in self.values:
            if default is _MISSING:
                raise self.error(f"expected {self._full(key)} = {kind.what}, found no such key")
            return default
        value = self.values.pop(key)
        try:
            return kind.read(value)
        except ValueError as error:
            raise self.error(f"expected {self._full(key)} to be {error}, got {_shown(value)}") from None

    def table(self, key: str) -> "Settings":
        """Return the table under a key, empty if there is none."""
        self.taken.append(key)
        value = self.values.pop(key, {})
        if not isinstance(value, dict):
            raise self.error(f"expected {self._full(key)} to be a table, got {_shown(value)}")
        return Settings(dict(value), self.path, self._full(key))

    def tables(self, key: str) -> list[tuple[str, "Settings"]]:
        """Return the tables under a key with their names, such as `[models.NAME]`."""
        outer = self.table(key)
        return [(name, outer.table(name)) for name in list(outer.values)]

    def error(self, text: str) -> ConfigurationError:
        """Return an error about this file."""
        return ConfigurationError(f"{self.path}: {text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.values:
            known = ", ".join(self.taken) or "none"
            raise self.error(f"unknown key {self._full(next(iter(self.values)))}; the keys here are {known}")

    def _full(self, key: str) -> str:
        shown = key if LABEL.fullmatch(key) else json.dumps(key[:_SHOWN])
        return f"{self.name}.{shown}" if self.name else shown


def read_settings(path: Path) -> Settings:
    """Return the settings of a file.

    Raises:
        ConfigurationError: the file cannot be read, or is no TOML.
    """
    try:
        return Settings(tomllib.loads(read_plain(path, _MOST_BYTES).decode()), path)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: expected TOML: {' '.join(str(error).split())}") from error


def converted(kind: Kind[T], convert: Callable[[T], S], what: str = "") -> Kind[S]:
    """Return a kind whose values a function converts; the function's own errors say what was expected."""

    def read(value: Any) -> S:
        try:
            return convert(kind.read(value))
        except HybridFaceError as error:
            raise ValueError(what or str(error).partition(", got ")[0].removeprefix("expected ")) from None

    return Kind(what or kind.what, read)


def check_label(name: str, what: str) -> str:
    """Return a name that can be that of a file and a key.

    Args:
        what: what the name is of, for the message.

    Raises:
        ConfigurationError: it has other characters, or is too long.
    """
    if not LABEL.fullmatch(name):
        raise ConfigurationError(
            f"expected a name of a {what}: 1 to 63 letters, digits, dots, dashes or underscores, got {name[:_SHOWN]!r}"
        )
    return name


def quoted(value: str) -> str:
    """Return a text as TOML writes it, in quotation marks."""
    return json.dumps(value)


def _shown(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
