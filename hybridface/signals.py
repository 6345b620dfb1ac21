"""What ends a command: Ctrl-C, a request to terminate, a closed terminal.

A command ends at once, at any moment, with one line and exit status 128 plus the signal's number. An exception would
not do: while a library is imported, or calls back, it may be swallowed. Where something must be put away first,
processes or a temporary folder, `cleaning_up` has an exception raised instead, and gives it a second.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from parties.transport.started import was_started_by_mpiexec

__all__ = ["Interrupted", "cleaning_up", "deferred", "end", "end_on_signals", "unheard"]

_NAMES = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "told to end",
    signal.SIGHUP: "the terminal was closed",
    signal.SIGQUIT: "told to quit",
}
_CLEANING_SECONDS = 1.0
_STANDARD_ERROR = 2
_SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"


class Interrupted(BaseException):
    """A signal has come while something was to be put away first.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_on_signals() -> None:
    """From now on let signals end this process, but those that it is to ignore, as under `nohup`."""
    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Have `Interrupted` raised meanwhile, so that `with` and `finally` put things away; they have a second to do so.

    Does nothing in a process where signals do something else, or in another thread than the main one.
    """
    before = _ours()
    try:
        for number in before:
            signal.signal(number, _raise)
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _raise:  # else one has come, and no other is to disturb the end
                signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait meanwhile, and do what they do at the end."""
    before, came = _ours(), list[int]()
    try:
        for number in before:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            before[came[0]](came[0], None)


@contextmanager
def unheard() -> Iterator[None]:
    """Start processes meanwhile that do not hear Ctrl-C themselves: this process ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NAMES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(interrupted: Interrupted) -> NoReturn:
    """Say that a signal has ended this process, where things have been put away, and end it as usual, in a second."""
    number = interrupted.number
    _tell(number)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
    sys.exit(128 + number)


def _tell(number: int) -> None:
    """Say what has ended this process, on one line; a rank leaves that to who started it."""
    if not was_started_by_mpiexec(os.environ):
        with suppress(OSError):  # nobody reads it
            shown = _SHOW_CURSOR if os.isatty(_STANDARD_ERROR) else b""
            os.write(_STANDARD_ERROR, shown + f"hybridface: {_NAMES[signal.Signals(number)]}\n".encode())


def _ours() -> dict[int, Callable[[int, FrameType | None], None]]:
    """Return the signals that `end_on_signals` has set, with what they do now; none outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: do for number in _NAMES for do in (_end, _raise) if signal.getsignal(number) is do}


def _end(number: int, _: FrameType | None) -> None:
    _tell(number)
    os._exit(128 + number)


def _raise(number: int, _: FrameType | None) -> None:
    """Raise, and see to the end if what is put away takes too long, or the exception is swallowed."""
    for other in _NAMES:
        signal.signal(other, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: _end(number, None))
    signal.setitimer(signal.ITIMER_REAL, _CLEANING_SECONDS)
    raise Interrupted(number)
