"""Every JSON object of every kind of session, changed in every field: refused or without an effect, and no hang."""

import copy
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from protocols.channel import Channel
from protocols.document import Document, Kind
from protocols.errors import HybridFaceError, ParameterError
from support.scenarios import SCENARIOS, SECRET, watched

_ENDLESS, _ENDLESS_TEXT = "endless number", "1e400"
_REMOVED, _ADDED = object(), object()
DEEP: Any = [[[[[[[[[[]]]]]]]]]]
VALUES: list[Any] = [None, True, -1, 0, 2**63, 10**400, 1.5, _ENDLESS, "", "x" * 5000, "\ud800", [], {}, [None], DEEP]
CHANGES: list[Any] = [*VALUES, _REMOVED, _ADDED]

Key = tuple[str, str, str]
"""To whom a document goes, its label, and its operation."""


def key_of(channel: Channel, label: str, document: dict[str, Any]) -> Key:
    operation = document.get("operation") or document.get("job") or "/".join(document)[:60]
    return channel.peer, label, str(operation)


@dataclass
class Recorded:
    """The documents of a session that nobody disturbs.

    Args:
        result: of the client.
        sent: the first document of every kind.
        taken: fields that were taken of documents, and as what, by the words that stand for the document.
        left: documents that were not read to their end.
    """

    result: list[Any] = field(default_factory=list)
    sent: dict[Key, dict[str, Any]] = field(default_factory=dict)
    taken: list[tuple[str, str, Any, Kind[Any]]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@cache
def recorded(scenario: str) -> Recorded:
    record = Recorded()
    received: list[Document] = []
    send, receive, take = Channel.send_document, Channel.receive_document, Document.take

    def noted_send(channel: Channel, label: str, document: dict[str, Any]) -> None:
        record.sent.setdefault(key_of(channel, label, document), copy.deepcopy(document))
        send(channel, label, document)

    def noted_receive(channel: Channel, label: str, timeout: float | None = None) -> Document:
        received.append(receive(channel, label, timeout))
        return received[-1]

    def noted_take(document: Document, name: str, kind: Kind[Any]) -> Any:
        record.taken.append((document.what, name, copy.deepcopy(document.fields.get(name)), kind))
        return take(document, name, kind)

    with (
        mock.patch.object(Channel, "send_document", noted_send),
        mock.patch.object(Channel, "receive_document", noted_receive),
        mock.patch.object(Document, "take", noted_take),
        tempfile.TemporaryDirectory() as folder,
        watched() as seen,
    ):
        record.result = SCENARIOS[scenario](Path(folder))
    assert (seen.errors, seen.hung) == ([], [])
    record.left = [document.what for document in received if document.fields and not document.what.startswith("terms")]
    return record


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_field_has_a_kind_that_refuses_what_it_is_not(scenario: str) -> None:
    """Terms are compared as they are; every other field is taken as a kind, and nothing is left over."""
    record = recorded(scenario)
    assert record.left == []
    names = {name for _, name, _, _ in record.taken}
    sent = {name for key, document in record.sent.items() if key[1] != "terms" for name in document}
    assert sent <= names
    for what, name, value, kind in record.taken:
        assert json.dumps(kind.read(value), default=bytes.hex) is not None
        for wrong in VALUES:
            try:
                took = kind.read(wrong)
            except ValueError:
                continue
            fits = type(wrong) is type(value) or (value is None or wrong is None) == ("or null" in kind.what)
            assert fits or kind.what.startswith("a number"), (what, name, wrong, took)


@contextmanager
def changing(key: Key, name: str, change: Any) -> Iterator[None]:
    """Let a party send another document meanwhile, the first time that it sends one of a kind."""
    send, once = Channel.send_document, threading.Lock()

    def changed(channel: Channel, label: str, document: dict[str, Any]) -> None:
        if key_of(channel, label, document) != key or not once.acquire(blocking=False):
            send(channel, label, document)
            return
        fields = {**document, "another": 1} if change is _ADDED else {**document, name: change}
        if change is _REMOVED:
            fields = {one: value for one, value in document.items() if one != name}
        payload = json.dumps(fields).replace(f'"{_ENDLESS}"', _ENDLESS_TEXT).encode()
        channel.send(f"{label}/size", np.array([len(payload)], dtype=np.uint64))
        channel.send(label, np.frombuffer(payload, dtype=np.uint8))

    with mock.patch.object(Channel, "send_document", changed):
        yield
    assert once.locked(), f"nobody has sent {key}"


def cases(scenario: str, every: int) -> Iterator[tuple[Key, str, Any]]:
    """Yield documents of a scenario, each with some of its fields and of the changes: all come about equally often."""
    turn = 0
    for key, document in recorded(scenario).sent.items():
        for name in document or ["none"]:
            turn += 1
            if turn % every == 0:
                yield key, name, CHANGES[turn // every % len(CHANGES)]


def is_callers(error: BaseException) -> bool:
    """Whether an error says that the caller has made a mistake; but a server may say that it keeps no runs."""
    return isinstance(error, ParameterError) and "with a folder for prepared runs, but it has none" not in str(error)


def disturb(scenario: str, cases: Iterator[tuple[Key, str, Any]]) -> None:
    expected = recorded(scenario).result
    for key, name, change in cases:
        result: list[Any] = []
        with tempfile.TemporaryDirectory() as folder, changing(key, name, change), watched() as seen:
            result = SCENARIOS[scenario](Path(folder))
        case = f"{key} {name} {change!r:.20}: {seen}"
        assert not seen.hung, case
        others = [e for e in seen.errors if not isinstance(e, HybridFaceError) or is_callers(e)]
        assert not others, case
        assert seen.errors or result == expected, case
        assert not [text for text in seen.reports if SECRET in text], case


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_changed_document_is_refused_or_harmless(scenario: str) -> None:
    disturb(scenario, cases(scenario, every=7))


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_more_changed_documents_are_refused_or_harmless(scenario: str) -> None:
    disturb(scenario, cases(scenario, every=1))
