"""Runs in which every draw is the same each time, so that what the parties send can be compared between revisions.

Every secret comes from the module `secrets` or from SEAL's generator. Here both are replaced for the length of a `with`
block, in this process alone: by SHAKE-256 of a name, of the drawing party's thread, and of how often that thread has
drawn. `secrets` draws through `random._urandom`; what else calls the system's generator (a name for a compiler's
temporary file) is left alone. The product has no switch for this, and no parameter that takes a generator; a test of
the layers sees to that.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import tenseal.sealapi as seal

__all__ = ["deterministic", "party_of_thread"]

_SEAL_SEED_WORDS = 8


class _Streams:
    """A stream of bytes for each party's thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._drawn: dict[str, int] = {}
        self._lock = threading.Lock()

    def urandom(self, size: int) -> bytes:
        """What `secrets` gets from the system meanwhile."""
        party = party_of_thread()
        with self._lock:
            count = self._drawn[party] = self._drawn.get(party, 0) + 1
        return hashlib.shake_256(f"{self._name}/{party}/{count}".encode()).digest(size)


def party_of_thread() -> str:
    """Return the party that the current thread is: the main thread drives sessions, and is the client."""
    name = threading.current_thread().name
    return "client" if name == "MainThread" else name.removeprefix("hybridface-")


@contextmanager
def deterministic(name: str) -> Iterator[None]:
    """Draw by a name meanwhile, and let no time pass on the clock that measures costs, which are sent."""
    original = seal.EncryptionParameters
    generator = seal.Blake2xbPRNGFactory([1] * _SEAL_SEED_WORDS)

    def parameters(scheme: seal.SCHEME_TYPE) -> seal.EncryptionParameters:
        made = original(scheme)
        made.set_random_generator(generator)
        return made

    urandom = _Streams(name).urandom
    with (
        mock.patch("random._urandom", urandom),
        mock.patch.object(seal, "EncryptionParameters", parameters),
        mock.patch.object(time, "perf_counter", return_value=0.0),
    ):
        yield
