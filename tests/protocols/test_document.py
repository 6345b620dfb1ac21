"""Documents of peers: each field is taken if it is of its kind and within bounds; refusals tell no content."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.document import (
    LARGEST,
    Document,
    Kind,
    boolean,
    hexadecimal,
    integer,
    list_of,
    number,
    objects,
    optional,
    parsed,
    row,
    text,
    word,
)
from protocols.errors import ProtocolError
from support.frames import outcome

KINDS: dict[str, tuple[Kind[Any], list[Any]]] = {
    "integer": (integer(1, 5), [1, 5]),
    "any integer": (integer(), [0, LARGEST]),
    "number": (number(0, 2), [0, 2, 0.5]),
    "boolean": (boolean, [True, False]),
    "text": (text(3, 1), ["a", "äöü"]),
    "word": (word("yes", "no"), ["yes", "no"]),
    "optional": (optional(integer(1, 5)), [None, 3]),
    "list": (list_of(boolean, 2, 1), [[True], [True, False]]),
    "row": (row(integer(1, 5), text(3)), [[3, "abc"]]),
    "objects": (objects(1), [[], [{}], [{"a": 1}]]),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_takes_its_values(name: str) -> None:
    kind, values = KINDS[name]
    for value in values:
        taken = Document({"field": value}, "a test").take("field", kind)
        assert json.dumps(taken) == json.dumps(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (integer(1, 5), True),
        (integer(1, 5), 1.0),
        (integer(1, 5), 6),
        (integer(), -1),
        (integer(), 2**63),
        (number(0, 2), True),
        (number(0, 2), 1e400),
        (number(0, 2), float("nan")),
        (number(0, 2), 10**400),
        (boolean, 1),
        (boolean, None),
        (text(3, 1), ""),
        (text(3, 1), "abcd"),
        (text(3, 1), "\ud800"),
        (word("yes"), ["yes"]),
        (hexadecimal(2), "00ff0"),
        (hexadecimal(2), "00FF"),
        (hexadecimal(2), " 0ff"),
        (hexadecimal(2), "00f\n"),
        (hexadecimal(2), "0"),
        (list_of(boolean, 1), [True, True]),
        (list_of(boolean, 1), [1]),
        (list_of(boolean, 1), {"a": True}),
        (row(boolean, boolean), [True]),
        (row(boolean, boolean), [True, 1]),
        (objects(1), [[]]),
    ],
)
def test_what_is_not_of_a_kind(kind: Kind[Any], value: Any) -> None:
    with pytest.raises(ProtocolError, match="^expected field to be ") as caught:
        Document({"field": value}, "a test").take("field", kind)
    assert str(caught.value).endswith("(a test)")


def test_bytes_come_from_small_hexadecimal_digits() -> None:
    document = Document({"a": "00ff", "b": ""}, "a test")
    assert (document.take("a", hexadecimal(0, 2)), document.take("b", hexadecimal(0, 2))) == (b"\x00\xff", b"")


def test_every_field_is_taken_once() -> None:
    with Document({"a": 1}, "a test") as document:
        assert document.has("a")
        assert document.take("a", integer()) == 1
        assert not document.has("a")
        with pytest.raises(ProtocolError, match="got nothing"):
            document.take("a", integer())
    with pytest.raises(ProtocolError, match="expected no other fields, got 2 more"), Document({"a": 1, "b": 2}, "x"):
        pass
    with pytest.raises(KeyError), Document({"a": 1}, "what failed first counts"):
        raise KeyError


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a secret", "a text of 8 characters"),
        (["a secret"], "a list of 1"),
        ({"a secret": "a secret"}, "an object of 1 fields"),
        (31337, "a number"),
        (-31337.5, "a number"),
        (10**400, "a number"),
        (True, "a truth value"),
        (False, "a truth value"),
        (None, "null"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_refusal_tells_the_kind_and_the_size_alone(value: object, said: str) -> None:
    """Peers hear it, and a value may be private."""
    with pytest.raises(ProtocolError) as caught:
        Document({"field": value}, "a test").take("field", integer(1, 5))
    assert str(caught.value) == f"expected field to be a whole number of 1 to 5, got {said} (a test)"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a": 1, "a": 1}',
        b'{"b": {"a": 1, "a": 2}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 9 + b"]" * 9 + b"}",
        b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"[" * 100_000,
        b"[]",
        b"3",
        b'"text"',
        b"",
        b"\xff",
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_what_is_no_document(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="^a test: expected "):
        parsed(payload, "a test")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
@settings(max_examples=200, deadline=None)
def test_any_value_is_taken_or_refused(value: Any) -> None:
    for kind, _ in KINDS.values():
        _, error = outcome(Document({"field": value}, "a test").take, "field", kind)
        assert error.isprintable()
