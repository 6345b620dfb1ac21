"""What every rank does alike: one that fails tells its user and its peers, and ends all, whatever else goes wrong."""

from typing import Any

import pytest

from hybridface.errors import EXIT_ERROR
from hybridface.processes import joined
from parties.transport.roles import Role
from protocols.errors import UNTOLD, ParameterError, PeerLostError


class World:
    """Remembers how it was ended."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, int]] = []

    def fail(self, reason: str, status: int) -> None:
        self.failed.append((reason, status))

    def close(self) -> None:
        pass


@pytest.fixture
def aborted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit statuses with which all ranks were ended by one that has not joined; this one is not the first rank."""
    statuses: list[int] = []
    monkeypatch.setattr(joined, "abort_world", statuses.append)
    monkeypatch.setattr(joined, "is_first_rank", lambda: False)
    monkeypatch.setattr(joined, "leave", lambda timeout: None)
    monkeypatch.setattr(joined, "tune_process", lambda: None)
    return statuses


def run(work: Any, said: list[str], say: Any = None) -> int:
    return joined.run_joined(Role.SERVER, work, say or (lambda error: said.append(str(error))), required=())


def joining(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    def join(*_: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(joined, "join", join)


def test_what_all_are_refused_is_said_by_the_first_alone(monkeypatch: pytest.MonkeyPatch, aborted: list[int]) -> None:
    said: list[str] = []
    joining(monkeypatch, ParameterError("other ranks"))
    assert run(lambda world: 0, said) == EXIT_ERROR
    monkeypatch.setattr(joined, "is_first_rank", lambda: True)
    assert run(lambda world: 0, said) == EXIT_ERROR
    assert (said, aborted) == (["other ranks"], [])


@pytest.mark.parametrize("error", [PeerLostError("no answer"), RuntimeError("MPI is broken")])
def test_a_rank_that_cannot_join_ends_all(
    monkeypatch: pytest.MonkeyPatch, aborted: list[int], error: Exception
) -> None:
    said: list[str] = []
    joining(monkeypatch, error)
    assert run(lambda world: 0, said) == EXIT_ERROR
    assert (said, aborted) == ([str(error)], [EXIT_ERROR])


@pytest.mark.parametrize("refused", [False, True])
def test_a_rank_whose_peers_do_not_leave_ends_all(
    monkeypatch: pytest.MonkeyPatch, aborted: list[int], refused: bool
) -> None:
    def leave(_: float) -> None:
        raise PeerLostError("the others stay")

    said: list[str] = []
    joining(monkeypatch, ParameterError("other ranks") if refused else World())
    monkeypatch.setattr(joined, "leave", leave)
    assert run(lambda world: 0, said) == EXIT_ERROR
    assert (said, aborted) == (["the others stay"], [EXIT_ERROR])


@pytest.mark.usefixtures("aborted")
def test_peers_hear_of_an_error_also_if_nobody_reads_it_here(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    joining(monkeypatch, world)

    def work(_: Any) -> int:
        raise ParameterError("wrong photo")

    def say(_: Exception) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(work, [], say)
    assert world.failed == [(UNTOLD, EXIT_ERROR)], "not the error's own words"
