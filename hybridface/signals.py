"""Signals that end a command: Ctrl-C, a request to terminate, a closed terminal.

A signal ends the command at once, at any moment, with one line and exit status 128 plus the signal's number. An
exception would not do: a library may swallow it while it is imported or while it calls back. Some code must clean up
before the end: it ends processes or removes a temporary folder. Such code runs in `cleaning_up`, where a signal raises
an exception instead, and the cleanup gets one second.
"""

import atexit
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
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal was closed",
    signal.SIGQUIT: "quit",
}
_CLEANING_SECONDS = 1.0
_STANDARD_ERROR = 2
_SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"


class Interrupted(BaseException):
    """A signal arrived in code that must clean up before the end.

    Args:
        number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_on_signals() -> None:
    """Let signals end this process from now on, except those that it already ignores, as under `nohup`."""
    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    atexit.register(_end_before_python)  # the first one, and so the last to be called


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Raise `Interrupted` on a signal in this block, so that `with` and `finally` clean up; they have one second.

    Does nothing in a process that handles signals in another way, or outside the main thread.
    """
    before = _ours()
    try:
        for number in before:
            signal.signal(number, _raise)
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _raise:  # otherwise one has arrived, and no other may disturb the cleanup
                signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Hold signals back in this block; at its end, act on the first one that came."""
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
    """Block signals, so that processes started in this block do not receive Ctrl-C: this process ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NAMES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(interrupted: Interrupted) -> NoReturn:
    """Report the signal after the cleanup, and exit; the timer of `_raise` ends an exit that takes too long."""
    number = interrupted.number
    _tell(number)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
    sys.exit(128 + number)


def _tell(number: int) -> None:
    """Say on one line what has ended this process; a rank leaves that to the process that started it."""
    if not was_started_by_mpiexec(os.environ):
        with suppress(OSError):  # nobody reads it
            shown = _SHOW_CURSOR if os.isatty(_STANDARD_ERROR) else b""
            os.write(_STANDARD_ERROR, shown + f"hybridface: {_NAMES[signal.Signals(number)]}\n".encode())


def _ours() -> dict[int, Callable[[int, FrameType | None], None]]:
    """Return the signals that `end_on_signals` has set, with their handlers now; none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: do for number in _NAMES for do in (_end, _raise) if signal.getsignal(number) is do}


def _end_before_python() -> None:
    """End this process if a signal ends it: Python forgets the handler of the timer next, and SIGALRM would kill it."""
    if signal.getitimer(signal.ITIMER_REAL)[0]:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        signal.raise_signal(signal.SIGALRM)


def _end(number: int, _: FrameType | None) -> None:
    _tell(number)
    os._exit(128 + number)


def _raise(number: int, _: FrameType | None) -> None:
    """Raise `Interrupted`; end the process anyway if the cleanup takes too long or the exception is swallowed."""
    for other in _NAMES:
        signal.signal(other, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: _end(number, None))
    signal.setitimer(signal.ITIMER_REAL, _CLEANING_SECONDS)
    raise Interrupted(number)
