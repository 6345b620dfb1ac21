"""Run decoders without output on the terminal: no warnings of Python, and no lines of C libraries on descriptor 2."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quietly"]

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints a library's errors as a last resort

_ONE_AT_A_TIME = threading.Lock()
"""Filters of warnings and descriptor 2 belong to the whole process. Also, one photo at a time bounds the memory."""


@contextmanager
def quietly(c_library: bool = False) -> Iterator[None]:
    """Run a decoder in silence, and no other at the same time.

    Args:
        c_library: whether the decoder may write to descriptor 2 itself, as libtiff does. Output of other threads to
            that descriptor is then lost too, so set this for such decoders only.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not c_library:
            yield
            return
        with _no_standard_error():
            yield


@contextmanager
def _no_standard_error() -> Iterator[None]:
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # it is closed: nobody hears anything
        yield
        return
    try:
        with open(os.devnull, "wb") as ignored:
            os.dup2(ignored.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
