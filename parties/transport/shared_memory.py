"""Find the shared memory of MPI's ranks on one machine: files that stay behind when ranks are killed."""

from contextlib import suppress
from pathlib import Path

__all__ = ["PLACE", "segments_of"]

PLACE = Path("/dev/shm")  # noqa: S108
"""The folder of these files."""

_NAME = "mpich_shm_"


def segments_of(process: int | str) -> set[Path]:
    """Return the files of MPI's shared memory that a process has mapped and that still have a name; none without /proc.

    Args:
        process: the process's number, or "self".
    """
    with suppress(OSError):
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
        names = {Path(line.split(maxsplit=5)[-1]) for line in lines if f"{PLACE}/{_NAME}" in line}
        return {name for name in names if not name.name.endswith("(deleted)")}
    return set()
