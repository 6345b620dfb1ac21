"""Record what code does to the files below a folder: every call, in order, with what it writes.

The code runs in a process of its own, into which `record.c` is preloaded: so SQLite's calls are seen like Python's.
"""

import ctypes
import os
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.paths import ROOT

__all__ = ["Call", "mark", "recorded"]

_HEAD = struct.Struct("<cIIQQQ")
_SOURCE = Path(__file__).with_name("record.c")
_LIBRARY = "record.so"
_SECONDS = 120.0


@dataclass(frozen=True)
class Call:
    """One call that changed a file.

    Args:
        kind: "create" a file (under a name, or without one), "write", "truncate", "sync" a file or a "sync folder",
            "rename", "link", "unlink", "mkdir", "rmdir"; or a "mark" of the recorded code.
        path: that was created, synced (a folder), linked or renamed to, unlinked; or the mark.
        source: the old path of a rename or link.
        number: of the file.
        place: of what is written; the size to truncate to.
        content: that is written.
    """

    kind: str
    path: str
    source: str
    number: int
    place: int
    content: bytes

    def __str__(self) -> str:
        name = Path(self.path).name or f"file {self.number}"
        return f"{self.kind} {name}" + (f" ({len(self.content)} bytes)" if self.kind == "write" else "")


_KINDS = {
    b"c": "create",
    b"w": "write",
    b"t": "truncate",
    b"s": "sync",
    b"d": "sync folder",
    b"r": "rename",
    b"l": "link",
    b"u": "unlink",
    b"m": "mkdir",
    b"x": "rmdir",
    b"n": "mark",
}


def mark(text: str) -> None:
    """Note, from the recorded code, that something has happened by now; nothing where nothing is recorded."""
    note = getattr(ctypes.CDLL(None), "crash_mark", None)
    if note is not None:
        note(text.encode())


def recorded(folder: Path, module: str, *arguments: str) -> list[Call]:
    """Run `module.main(folder, *arguments)` in a process of its own; return what it did to the files in the folder."""
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        code = (
            f"import sys; from {module} import main; from pathlib import Path; main(Path(sys.argv[1]), *sys.argv[2:])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), *arguments],
            env=_environment(folder, log),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return list(_read(log.read_bytes()))


def _environment(folder: Path, log: Path) -> dict[str, str]:
    library = Path(_library().name) / _LIBRARY
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "LD_PRELOAD": str(library)}
    return {**os.environ, **paths, "CRASH_FOLDER": str(folder.resolve()), "CRASH_LOG": str(log)}


@cache
def _library() -> "tempfile.TemporaryDirectory[str]":
    """Compile the recorder; return the folder, which is removed when this process ends."""
    folder = tempfile.TemporaryDirectory()
    library = Path(folder.name) / _LIBRARY
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def _read(log: bytes) -> Iterator[Call]:
    place = 0
    while place < len(log):
        kind, first, second, number, offset, size = _HEAD.unpack_from(log, place)
        place += _HEAD.size
        parts = []
        for length in (first, second, size):
            parts.append(log[place : place + length])
            place += length
        a, b = parts[0].decode(), parts[1].decode()
        source, path = (a, b) if kind in b"rl" else ("", a)
        yield Call(_KINDS[kind], path, source, number, offset, parts[2])
