"""What is said before a session: it arrives as it was said, and anything else is a protocol error."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridface.modes import Mode
from hybridface.service.requests import (
    MAX_ANSWERS,
    Described,
    DescribedGallery,
    Purpose,
    Refusal,
    RefusalKind,
    SessionRequest,
    as_text,
    described,
    document_of,
    session_answer,
)
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.session.correlations import Correlations
from protocols.errors import ProtocolError
from protocols.matching.reveal import Reveal

DIGEST = "0f" * 32
REQUEST = SessionRequest(Purpose.PAIR, "tiny-test", DIGEST)
FULL_REQUEST = SessionRequest(
    Purpose.GALLERY, "tiny-test", DIGEST, "staff", Mode.PURE_HE, Reveal.BOTH, Correlations.DEALER, MAX_ANSWERS
)
REFUSAL = Refusal("it is busy", RefusalKind.BUSY, 2.5)
DESCRIBED = Described(
    "match",
    "1.0",
    "bank",
    {"tiny-test": DIGEST, "patchnet": DIGEST[::-1]},
    ("tiny-test",),
    {
        "staff": DescribedGallery(GalleryKind.PRIVATE, "tiny-test", (Right.VERIFY, Right.LIST)),
        "guests": DescribedGallery(GalleryKind.LIST, "patchnet", ()),
    },
    True,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def read_request(fields: dict[str, Any]) -> SessionRequest:
    """Return the request that a server reads, after the door has taken the field `ask`."""
    document = document_of(as_text(fields), "bank")
    assert document.fields.pop("ask", None) == "session"
    return SessionRequest.read(document)


@pytest.mark.parametrize("request_", [REQUEST, FULL_REQUEST])
def test_a_request_arrives_as_it_was_made(request_: SessionRequest) -> None:
    assert read_request(request_.document()) == request_


@pytest.mark.parametrize("refusal", [REFUSAL, replace(REFUSAL, retry_after=None)])
def test_a_refusal_arrives_as_it_was_made(refusal: Refusal) -> None:
    assert session_answer(document_of(as_text(refusal.document()), "match")) == refusal


def test_a_session_that_begins_is_no_refusal() -> None:
    assert session_answer(document_of('{"session": "open"}', "match")) is None


def test_a_description_arrives_as_it_was_made() -> None:
    assert described(document_of(as_text(DESCRIBED.document()), "match")) == DESCRIBED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("purpose", "other"),
        ("purpose", None),
        ("model", ""),
        ("model", "x" * 257),
        ("digest", DIGEST[2:]),
        ("digest", DIGEST.upper()),
        ("gallery", ""),
        ("gallery", 3),
        ("mode", "fast"),
        ("reveal", "nobody"),
        ("correlations", "magic"),
        ("max_answers", 0),
        ("max_answers", MAX_ANSWERS + 1),
        ("max_answers", True),
        ("max_answers", 1.0),
        ("other", 3),
    ],
)
def test_a_malformed_request_is_refused(name: str, value: object) -> None:
    with pytest.raises(ProtocolError, match="bank"):
        read_request({**REQUEST.document(), name: value})


@pytest.mark.parametrize("name", sorted(set(REQUEST.document()) - {"ask"}))
def test_a_request_names_all_its_settings(name: str) -> None:
    fields = REQUEST.document()
    del fields[name]
    with pytest.raises(ProtocolError, match=f"expected {name} to be"):
        read_request(fields)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"session": "closed"},
        {"session": "open", "refused": "no"},
        {**REFUSAL.document(), "refused": ""},
        {**REFUSAL.document(), "refused": "x" * 1001},
        {**REFUSAL.document(), "kind": "other"},
        {**REFUSAL.document(), "retry_after": -1},
        {**REFUSAL.document(), "retry_after": 1e10},
        {**REFUSAL.document(), "more": 1},
    ],
)
def test_a_malformed_answer_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="match"):
        session_answer(document_of(as_text(answer), "match"))


@pytest.mark.parametrize(
    "name", ["", "../other/staff", "a/b", ".staff", "x" * 65, "two words", "a\n", "\x1b[2J", "[/]"]
)
@pytest.mark.parametrize("of", ["models", "galleries", "compares"])
def test_a_server_cannot_name_a_file_of_another_folder(of: str, name: str) -> None:
    """A client keeps its key of a gallery in a file of the gallery's name."""
    fields = DESCRIBED.document()
    fields[of] = [name] if of == "compares" else [{**fields[of][0], "name": name}]
    with pytest.raises(ProtocolError, match="a name of 1 to 63 letters"):
        described(document_of(as_text(fields), "match"))


@pytest.mark.parametrize("message", ["", "3", "[]", "null", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 10_000])
def test_what_is_no_json_object_is_refused(message: str) -> None:
    with pytest.raises(ProtocolError, match="a message from match"):
        document_of(message, "match")


@given(st.data())
def test_changed_documents_raise_nothing_else(data: st.DataObject) -> None:
    """Replace a value anywhere, leave one out, or add one."""
    reader, fields = data.draw(
        st.sampled_from(
            [
                (read_request, FULL_REQUEST.document()),
                (lambda fields: session_answer(document_of(json.dumps(fields), "match")), REFUSAL.document()),
                (lambda fields: described(document_of(json.dumps(fields), "match")), DESCRIBED.document()),
            ]
        )
    )
    fields = json.loads(json.dumps(fields))
    place: Any = fields
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    if data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(anything)
    if reader is read_request and fields.get("ask") != "session":
        return
    with suppress(ProtocolError):
        reader(fields)
