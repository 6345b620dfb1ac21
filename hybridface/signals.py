"""What ends a command: Ctrl-C, a request to terminate, a closed terminal.

A command ends at once, at any moment, with one line and exit status 128 plus the signal's number. An exception would
not do: while a library is imported, or calls back, it may be swallowed. Where something must be put away first,
processes or a temporary folder, `cleaning_up` has an exception raised instead, and gives it a second.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from parties.transport.started import was_started_by_mpiexec

__all__ = ["Interrupted", "cleaning_up", "end_now", "end_on_signals", "unheard"]

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
    """From now on let signals end this process."""
    for number in _NAMES:
        signal.signal(number, _end)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Have `Interrupted` raised meanwhile, so that `with` and `finally` put things away; they have a second to do so.

    Does nothing in a process where signals do something else, or in another thread than the main one.
    """
    ours = signal.getsignal(signal.SIGINT) in (_end, _raise)
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NAMES}
    try:
        for number in _NAMES:
            signal.signal(number, _raise)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def unheard() -> Iterator[None]:
    """Start processes meanwhile that do not hear Ctrl-C themselves: this process ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NAMES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_now(number: int) -> None:
    """Say that a signal has ended this process, on one line, and end it; a rank leaves that to who started it."""
    if not was_started_by_mpiexec(os.environ):
        with suppress(OSError):  # nobody reads it
            shown = _SHOW_CURSOR if os.isatty(_STANDARD_ERROR) else b""
            os.write(_STANDARD_ERROR, shown + f"hybridface: {_NAMES[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


def _end(number: int, _: FrameType | None) -> None:
    end_now(number)


def _raise(number: int, _: FrameType | None) -> None:
    """Raise, and see to the end if what is put away takes too long, or the exception is swallowed."""
    for other in _NAMES:
        signal.signal(other, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: end_now(number))
    signal.setitimer(signal.ITIMER_REAL, _CLEANING_SECONDS)
    raise Interrupted(number)
