"""The files of shared memory that a process has."""

import mmap
import os
import uuid

from parties.transport.shared_memory import PLACE, segments_of


def test_files_that_are_mapped_and_still_have_a_name() -> None:
    names = [PLACE / f"mpich_shm_{uuid.uuid4().hex}" for _ in range(2)]
    maps = []
    try:
        for name in names:
            name.write_bytes(bytes(4096))
            file = os.open(name, os.O_RDWR)
            maps.append(mmap.mmap(file, 4096))
            os.close(file)
        assert set(names) <= segments_of(os.getpid()) == segments_of("self")
        names[0].unlink()
        assert names[0] not in segments_of("self")
        assert names[1] in segments_of("self")
    finally:
        for name in names:
            name.unlink(missing_ok=True)


def test_a_process_that_has_ended_has_none() -> None:
    assert segments_of(2**22 + 1) == set()
