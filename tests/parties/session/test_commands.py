"""Commands: what sessions without a gallery obey, and that other operations and fields are refused."""

from collections.abc import Callable
from functools import partialmethod
from typing import Any

import pytest

import hybridface as hf
from hybridface.models.model import Model
from parties.session.commands import Command, is_end, work_of
from parties.session.pure_he import PureHeServerSession
from parties.session.server import ServerSession
from protocols.document import Document, integer
from protocols.errors import ProtocolError

OPENS_NOTHING_OF_OTHERS = {
    "prepare": "makes masks and correlations, which depend on no input",
    "kept server": "tells who keeps the client's prepared runs: a random number",
    "kept runs": "compares random numbers of prepared runs",
    "keep": "writes a prepared run, which depends on no input",
    "adopt": "reads one",
    "enroll": "opens nothing, and the template lives as long as the session",
    "verify": "opens whether the client's own photos match, which it has enrolled in this session",
}
"""Why no limit counts these where there is no gallery. Pure HE counts its scores: `max_answers`."""


def test_sessions_without_a_gallery_obey_nothing_else(model: Model) -> None:
    with hf.local_session(model) as session:
        server = session.server
        assert {*server.commands, *server.endpoint.commands} == set(OPENS_NOTHING_OF_OTHERS)
    assert not isinstance(server, PureHeServerSession)
    assert isinstance(server, ServerSession)


def test_a_session_says_which_commands_it_has_carried_out(
    model: Model, chips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of preparations, and never the decision."""
    heard: list[tuple[Any, ...]] = []
    serve = partialmethod(ServerSession.serve, on_command=lambda *told: heard.append(told))
    monkeypatch.setattr(ServerSession, "serve", serve)
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        session.verify(chips[0], template)
        session.verify(chips[1], template)
    assert [told[:2] for told in heard] == [("enroll", True), ("verify", True), ("verify", True)]
    assert all(len(told) == 3 and isinstance(told[2], float) and told[2] > 0 for told in heard)


def reader(done: list[int]) -> Callable[[Command], Callable[[], None]]:
    def read(command: Command) -> Callable[[], None]:
        count = command.take("count", integer(1, 5))
        return lambda: done.append(count)

    return read


def test_a_command_is_read_before_it_is_done() -> None:
    done: list[int] = []
    work = work_of(Document({"operation": "count", "count": 3}, "command"), {"count": reader(done)})
    assert done == []
    work()
    assert done == [3]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"operation": "other", "count": 3},
        {"operation": ["count"], "count": 3},
        {"operation": "count"},
        {"operation": "count", "count": 6},
        {"operation": "count", "count": 3, "more": None},
    ],
    ids=str,
)
def test_what_is_no_command(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="^expected "):
        work_of(Document(fields, "command"), {"count": reader([])})


def test_the_end_says_nothing_more() -> None:
    assert is_end(Document({"operation": "end"}, "command"))
    assert not is_end(Document({"operation": "ends"}, "command"))
    assert not is_end(Document({}, "command"))
    with pytest.raises(ProtocolError, match="no other fields"):
        is_end(Document({"operation": "end", "more": 1}, "command"))
