"""What a rank has printed is not lost when it ends all others."""

import os
import select
import threading
from collections.abc import Iterator

import pytest

from parties.transport.mpi_library import wait_until_read

GUARD_SECONDS = 60.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_it_waits_until_a_slow_reader_has_everything(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"the reason")
    reader = threading.Timer(0.2, os.read, (pipe[0], 100))
    reader.start()
    wait_until_read(pipe[1], GUARD_SECONDS)
    assert select.select([pipe[0]], [], [], 0)[0] == []
    reader.join()


def test_it_does_not_wait_for_a_reader_that_never_reads(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"the reason")
    wait_until_read(pipe[1], 0.05)
    assert os.read(pipe[0], 100) == b"the reason"


def test_it_does_not_wait_for_a_file_or_a_terminal() -> None:
    with open(os.devnull, "wb") as nowhere:
        wait_until_read(nowhere.fileno(), GUARD_SECONDS)
