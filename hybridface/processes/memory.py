"""The memory of this process, for benchmarks."""

import resource
from pathlib import Path

__all__ = ["peak_bytes", "resident_bytes"]

_STATUS = Path("/proc/self/status")
_PEAK = "VmHWM:"


def peak_bytes() -> int:
    """Return the peak of this process's resident memory, in bytes, since its program began.

    `ru_maxrss` does not give this figure: it begins with the size of the process that started this one.
    """
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(_PEAK))
    return int(line.split()[1]) * 1024


def resident_bytes() -> int:
    """Return the resident memory of this process now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
