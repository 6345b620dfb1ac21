"""Run makers of correlations side by side, so that one round carries the messages of all of them.

A maker is a generator. It yields the turn that it wants next, and returns its result. In a turn, messages go one way.
Four turns repeat: the parties draw transfers in which the server chooses; they draw transfers in which the client
chooses; the server speaks; the client speaks. Both parties run the same makers in the same order, so their turns are
the same.
"""

from collections.abc import Generator, Iterator, Sequence
from enum import IntEnum
from typing import TypeVar

__all__ = ["Steps", "Turn", "finish", "pieces", "together"]

Result = TypeVar("Result")


class Turn(IntEnum):
    """A step that all makers take together. The turns repeat in this order."""

    SERVER_CHOOSES = 0
    """The parties draw transfers in which the server chooses."""

    CLIENT_CHOOSES = 1
    """The parties draw transfers in which the client chooses."""

    SERVER = 2
    """The server sends, the client receives."""

    CLIENT = 3
    """The client sends, the server receives."""


Steps = Generator[Turn, None, Result]
"""A maker. It yields the turn in which it wants to continue."""


def together(makers: Sequence[Steps[Result]]) -> Steps[list[Result]]:
    """Run makers side by side, each in the turns that it wants; return their results."""
    results: dict[int, Result] = {}
    wanted: dict[int, Turn] = {}

    def go_on(index: int) -> None:
        try:
            wanted[index] = next(makers[index])
        except StopIteration as end:
            wanted.pop(index, None)
            results[index] = end.value

    for index in range(len(makers)):
        go_on(index)
    while wanted:
        for turn in Turn:
            ready = [index for index, other in wanted.items() if other is turn]
            if ready:
                yield turn
            for index in ready:
                go_on(index)
    return [results[index] for index in range(len(makers))]


def finish(maker: Steps[Result]) -> Result:
    """Run a maker to its end."""
    while True:
        try:
            next(maker)
        except StopIteration as end:
            result: Result = end.value
            return result


def pieces(count: int, most: int) -> Iterator[slice]:
    """Cut `count` elements into runs of at most `most`, for a maker that makes one run after the other."""
    for start in range(0, count, most):
        yield slice(start, min(start + most, count))
