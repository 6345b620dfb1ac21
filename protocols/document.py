"""Read a peer's JSON object strictly: each field has a type and bounds, and no other fields are allowed.

    with channel.receive_document("job") as job:
        name, items = job.take("layer", text(80)), job.take("items", integer(1, 16))

Nothing is converted: JSON's true is not 1, and 1.0 is not 1 either. A refusal says what was expected. About the value
that came, it says only the kind and the size, since peers see the refusal and the content may be private.
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
    "json_object",
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
    """A requirement on a value.

    Args:
        what: the requirement in words.
        read: checks a value, and returns it in the form that the caller uses. It raises ValueError with the expected
            kind if the value does not fit.
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

json_object: Kind[dict[str, Any]] = _checked("an object", lambda value: isinstance(value, dict))
"""The kind of objects. The caller checks their fields."""


@dataclass
class Document:
    """A peer's JSON object. The caller takes each field once; the end of a `with` block checks that none is left.

    Args:
        fields: the fields by name.
        what: what the object is, and who sent it, for error messages.
    """

    fields: dict[str, Any] = field(repr=False)
    what: str

    def take(self, name: str, kind: Kind[T]) -> T:
        """Return a field.

        Raises:
            ProtocolError: the field is of another kind, or is missing.
        """
        if name not in self.fields:
            raise ProtocolError(f"expected {name} to be {kind.what}, got nothing ({self.what})")
        value = self.fields.pop(name)
        try:
            return kind.read(value)
        except ValueError as error:
            raise ProtocolError(f"expected {name} to be {error}, got {shown(value)} ({self.what})") from None

    def has(self, name: str) -> bool:
        """Return whether a field of this name is there, is not null, and was not taken yet."""
        return self.fields.get(name) is not None

    def inner(self, name: str) -> "Document":
        """Return a field that is an object itself. Taking from the inner document leaves that object as it is.

        Raises:
            ProtocolError: the field is no object, or is missing.
        """
        fields = self.take(name, json_object)
        return Document(dict(fields), f"{name} of {self.what}")

    def end(self) -> None:
        """Check that no field is left.

        Raises:
            ProtocolError: a field is left.
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
    """Return the JSON object that a message holds.

    Raises:
        ProtocolError: the message is no JSON object, names a field twice, or nests lists and objects too deeply.
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
    """Return what a value is, without its content: its kind, and its size if it has one."""
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
    """Return the kind of finite numbers within bounds."""
    what = f"a number of {least:g} to {most:g}"
    return _checked(what, lambda value: type(value) in (int, float) and least <= value <= most)


def text(most: int, least: int = 0) -> Kind[str]:
    """Return the kind of texts of `least` to `most` characters."""
    what = f"a text of {least} to {most} characters"
    return _checked(what, lambda value: isinstance(value, str) and least <= len(value) <= most and _is_unicode(value))


def word(*words: str) -> Kind[str]:
    """Return the kind that allows only these texts."""
    return _checked(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


def hexadecimal(*sizes: int) -> Kind[bytes]:
    """Return the kind of byte strings of one of these sizes, in lower-case hexadecimal digits."""

    def fits(value: Any) -> bool:
        return isinstance(value, str) and len(value) in [2 * s for s in sizes] and bool(_HEXADECIMAL.fullmatch(value))

    digits: Kind[str] = _checked(f"{' or '.join(map(str, sizes))} bytes in hexadecimal", fits)
    return Kind(digits.what, lambda value: bytes.fromhex(digits.read(value)))


def objects(most: int) -> Kind[list[dict[str, Any]]]:
    """Return the kind of lists of at most `most` JSON objects. The caller checks their fields."""
    what = f"a list of at most {most} objects"
    return _checked(
        what, lambda value: isinstance(value, list) and len(value) <= most and all(isinstance(o, dict) for o in value)
    )


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Return the kind that allows null as well."""

    def read(value: Any) -> T | None:
        try:
            return None if value is None else kind.read(value)
        except ValueError as error:
            raise ValueError(f"{error}, or null") from None

    return Kind(f"{kind.what}, or null", read)


def list_of(kind: Kind[T], most: int, least: int = 0) -> Kind[list[T]]:
    """Return the kind of lists of `least` to `most` values of one kind."""
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
    """Return the kind of lists with one value of each of these kinds, in order."""
    what = f"a list of {len(kinds)}: {'; '.join(kind.what for kind in kinds)}"
    fits: Kind[list[Any]] = _checked(what, lambda value: isinstance(value, list) and len(value) == len(kinds))
    return Kind(what, lambda value: tuple(kind.read(one) for kind, one in zip(kinds, fits.read(value), strict=True)))


def _is_unicode(value: str) -> bool:
    """Return whether a text can be encoded. An escape in JSON may stand for a lone surrogate, which cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _children(parent: dict[str, Any] | list[Any]) -> Sequence[Any]:
    return list(parent.values()) if isinstance(parent, dict) else parent


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object made of pairs. Refuse a name that comes twice, of which `json` would take the last value."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name twice")
    return fields


def _no_constant(name: str) -> Any:
    """Refuse NaN and infinity, which `json` accepts although JSON does not have them."""
    raise ValueError(name)
