"""The memory of a process, as one sees it that starts, reserves, touches and gives back."""

import json
import subprocess
import sys

import pytest

from hybridface.processes.memory import peak_bytes
from support.paths import ROOT

SIZE, SLACK = 2**26, 2**23
PROGRAM = f"""
import json, mmap
from hybridface.processes.memory import peak_bytes, resident_bytes

seen = [(peak_bytes(), resident_bytes())]
memory = mmap.mmap(-1, {SIZE}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
seen.append((peak_bytes(), resident_bytes()))
memory[:: mmap.PAGESIZE] = bytes([1]) * ({SIZE} // mmap.PAGESIZE)
seen.append((peak_bytes(), resident_bytes()))
memory.close()
seen.append((peak_bytes(), resident_bytes()))
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_memory_counts_from_when_it_is_touched() -> None:
    held = bytearray(b"1") * SIZE
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    started, reserved, touched, freed = json.loads(done.stdout)
    assert 0 < started[1] < started[0] + SLACK
    assert started[0] < SIZE < len(held) + SIZE < peak_bytes(), "the peak of who started it is not its own"
    for before, after in zip(started, reserved, strict=True):
        assert after - before < SLACK, "untouched"
    for before, after in zip(reserved, touched, strict=True):
        assert abs(after - before - SIZE) < SLACK
    assert abs(freed[0] - touched[0]) < SLACK, "a peak stays"
    assert abs(touched[1] - freed[1] - SIZE) < SLACK
