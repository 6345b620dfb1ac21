"""A peer's JSON object, read strictly: each field has a type and bounds, and there are no fields besides.

    with channel.receive_document("job") as job:
        name, items = job.take("layer", text(80)), job.take("items", integer(1, 16))

Nothing is converted: JSON's true is no 1, and 1.0 is no 1. A refusal says what was
expected, and of what came the kind and the size alone: peers hear it, and the content may be private.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from protocols.errors import ProtocolError

__all__ = [
    "LARGEST",
    "Document",
    "Kind",
    "boolean",
    "hexadecimal",
    "integer",
    "list_of",
    "number",
    "objects",
    "optional",
    "parsed",
    "row",
    "shown",
    "text",
    "word",
]

LARGEST = 2**63 - 1
"""The largest integer in a document."""

_MAX_DEPTH = 8
_HEXADECIMAL = re.compile("[0-9a-f]*")

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a value must be.

    Args:
        what: in words.
        read: returns the value as it is used; raises ValueError, with what was expected, for any other.
    """

    what: str
    read: Callable[[Any], T]


def _checked(what: str, fits: Callable[[Any], bool]) -> Kind[Any]:
    def read(value: Any) -> Any:
        if not fits(value):
            raise ValueError(what)
        return value

    return Kind(what, read)


boolean: Kind[bool] = _checked("true or false", lambda value: isinstance(value, bool))
"""The kind of truth values."""


@dataclass
class Document:
    """A peer's JSON object, of which each field is taken once. As a context manager it sees at its end that all were.

    Args:
        fields: by name.
        what: it is, and from whom, for error messages.
    """

    fields: dict[str, Any] = field(repr=False)
    what: str

    def take(self, name: str, kind: Kind[T]) -> T:
        """Return a field.

        Raises:
            ProtocolError: it is of another kind, or there is none.
        """
        if name not in self.fields:
            raise ProtocolError(f"expected {name} to be {kind.what}, got nothing ({self.what})")
        value = self.fields.pop(name)
        try:
            return kind.read(value)
        except ValueError as error:
            raise ProtocolError(f"expected {name} to be {error}, got {shown(value)} ({self.what})") from None

    def has(self, name: str) -> bool:
        """Return whether there is a field of this name that was not taken yet, and that is not null."""
        return self.fields.get(name) is not None

    def end(self) -> None:
        """See that nothing is left.

        Raises:
            ProtocolError: there is another field.
        """
        if self.fields:
            raise ProtocolError(f"expected no other fields, got {len(self.fields)} more ({self.what})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()


def parsed(payload: bytes, what: str) -> Document:
    """Return what a message holds.

    Raises:
        ProtocolError: it is no JSON object, names a field twice, or holds lists and objects in each other too deep.
    """
    try:
        fields = json.loads(payload, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{what}: expected JSON, got {len(payload)} other bytes") from None
    if not isinstance(fields, dict):
        raise ProtocolError(f"{what}: expected a JSON object, got {shown(fields)}")
    level: list[Any] = [fields]
    for _ in range(_MAX_DEPTH):
        level = [one for parent in level if isinstance(parent, dict | list) for one in _children(parent)]
    if level:
        raise ProtocolError(f"{what}: expected a JSON object of at most {_MAX_DEPTH} levels, got more")
    return Document(fields, what)


def shown(value: Any) -> str:
    """Return what a value is, without its content: its kind, and the size of what has one."""
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return f"a text of {len(value)} characters"
        case list():
            return f"a list of {len(value)}"
        case _:
            return f"an object of {len(value)} fields"


def integer(least: int = 0, most: int = LARGEST) -> Kind[int]:
    """Return the kind of whole numbers within bounds."""
    what = f"a whole number of {least} to {most}"
    return _checked(what, lambda value: type(value) is int and least <= value <= most)


def number(least: float, most: float) -> Kind[float]:
    """Return the kind of numbers within bounds, which are finite."""
    what = f"a number of {least:g} to {most:g}"
    return _checked(what, lambda value: type(value) in (int, float) and least <= value <= most)


def text(most: int, least: int = 0) -> Kind[str]:
    """Return the kind of texts of so many characters."""
    what = f"a text of {least} to {most} characters"
    return _checked(what, lambda value: isinstance(value, str) and least <= len(value) <= most and _is_unicode(value))


def word(*words: str) -> Kind[str]:
    """Return the kind of some texts alone."""
    return _checked(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


def hexadecimal(*sizes: int) -> Kind[bytes]:
    """Return the kind of byte strings of one of these sizes, in small hexadecimal digits."""

    def fits(value: Any) -> bool:
        return isinstance(value, str) and len(value) in [2 * s for s in sizes] and bool(_HEXADECIMAL.fullmatch(value))

    digits: Kind[str] = _checked(f"{' or '.join(map(str, sizes))} bytes in hexadecimal", fits)
    return Kind(digits.what, lambda value: bytes.fromhex(digits.read(value)))


def objects(most: int) -> Kind[list[dict[str, Any]]]:
    """Return the kind of lists of so many JSON objects; whoever takes one checks its fields."""
    what = f"a list of at most {most} objects"
    return _checked(
        what, lambda value: isinstance(value, list) and len(value) <= most and all(isinstance(o, dict) for o in value)
    )


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Return a kind, or null."""

    def read(value: Any) -> T | None:
        try:
            return None if value is None else kind.read(value)
        except ValueError as error:
            raise ValueError(f"{error}, or null") from None

    return Kind(f"{kind.what}, or null", read)


def list_of(kind: Kind[T], most: int, least: int = 0) -> Kind[list[T]]:
    """Return the kind of lists of so many values of a kind."""
    what = f"a list of {least} to {most}, each {kind.what}"
    fits: Kind[list[Any]] = _checked(what, lambda value: isinstance(value, list) and least <= len(value) <= most)
    return Kind(what, lambda value: [kind.read(one) for one in fits.read(value)])


@overload
def row(first: Kind[A], second: Kind[B], /) -> Kind[tuple[A, B]]: ...
@overload
def row(first: Kind[A], second: Kind[B], third: Kind[C], /) -> Kind[tuple[A, B, C]]: ...
@overload
def row(first: Kind[A], second: Kind[B], third: Kind[C], fourth: Kind[D], /) -> Kind[tuple[A, B, C, D]]: ...
def row(*kinds: Kind[Any]) -> Kind[Any]:
    """Return the kind of lists whose values have a kind each."""
    what = f"a list of {len(kinds)}: {'; '.join(kind.what for kind in kinds)}"
    fits: Kind[list[Any]] = _checked(what, lambda value: isinstance(value, list) and len(value) == len(kinds))
    return Kind(what, lambda value: tuple(kind.read(one) for kind, one in zip(kinds, fits.read(value), strict=True)))


def _is_unicode(value: str) -> bool:
    """Return whether a text can be encoded: JSON has escapes of lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _children(parent: dict[str, Any] | list[Any]) -> Sequence[Any]:
    return list(parent.values()) if isinstance(parent, dict) else parent


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of pairs; `json` takes the last one of a name."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name twice")
    return fields


def _no_constant(name: str) -> Any:
    """Refuse what `json` takes and JSON has not: NaN and infinity."""
    raise ValueError(name)
