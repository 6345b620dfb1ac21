"""The memory of this process, for benchmarks."""

from pathlib import Path

__all__ = ["peak_bytes"]

_STATUS = Path("/proc/self/status")
_PEAK = "VmHWM:"


def peak_bytes() -> int:
    """Return the most memory that was ever resident since this program began.

    Unlike `ru_maxrss`, which begins with the size of the process that started this one.
    """
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(_PEAK))
    return int(line.split()[1]) * 1024
