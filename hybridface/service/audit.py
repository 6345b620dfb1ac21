"""The audit log: who asked for what, when, and how it ended; JSON lines in a file.

It never has a photo, a share, a score, a decision or the name of an enrolled person. A session that cannot be logged is
not served. The system writes lines to the disk in its own time, so a power cut may lose the last ones.
"""

import errno
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from hybridface.errors import RunError
from parties.machine.durable import PRIVATE
from parties.machine.locks import locked

__all__ = ["AUDIT", "FIELDS", "AuditLog", "Value"]

AUDIT = "audit.jsonl"
"""The log's name in the server's folder."""

FIELDS = (
    "event",
    "client",
    "peer",
    "session",
    "model",
    "gallery",
    "operation",
    "outcome",
    "bytes_in",
    "bytes_out",
    "seconds",
)
"""The fields of a line after its time, in the order in which they stand there.

`client` is the name that the server's operator gave to the client, `peer` its fingerprint or certified name.
"""

_VALUES = str, int, float, type(None)
_LOCK_SECONDS = 5.0

Value = str | float | int | None


class AuditLog:
    """A log that this process appends to. Several processes may append to one file.

    Each line is one write. The file may be moved away at any time: the next line begins a new one.

    Args:
        path: the file; made if it does not exist, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, **fields: Value) -> None:
        """Append a line: the time in UTC, then these fields.

        Args:
            fields: of FIELDS; `event` at least.

        Raises:
            RunError: the line cannot be written, or others than the owner may read the file. Nothing of the line is
                in the file then.
            TypeError: a field is unknown or missing, or is neither a text nor a number.
        """
        line = _line(fields)
        try:
            with locked(self._path, "the audit log", seconds=_LOCK_SECONDS):
                _append(self._path, line)
        except OSError as error:
            why = error.strerror or str(error)
            raise RunError(f"cannot write the audit log {self._path}: {why}; no session is served") from error


def _line(fields: dict[str, Value]) -> bytes:
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown or "event" not in fields:
        raise TypeError(f"expected fields of the audit log with an event, got {', '.join(unknown) or 'no event'}")
    if wrong := [name for name, value in fields.items() if not isinstance(value, _VALUES)]:
        raise TypeError(f"expected texts and numbers in the audit log, got another {', '.join(wrong)}")
    line: dict[str, Value] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
    line |= {name: fields[name] for name in FIELDS if name in fields}
    return f"{json.dumps(line, allow_nan=False)}\n".encode()


def _append(path: Path, line: bytes) -> None:
    """Append all of a line or nothing: a part of a line would spoil the next one. The caller holds the lock.

    Raises:
        OSError: the line cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, PRIVATE)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "expected a plain file, got a folder, a pipe or a device")
        if mode := stat.S_IMODE(found.st_mode) & 0o077:
            raise OSError(errno.EPERM, f"expected a file for its owner alone, others have {mode:03o}: chmod 600 it")
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, found.st_size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
