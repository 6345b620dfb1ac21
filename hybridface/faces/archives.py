"""Photos in a tar file, which may come from anybody.

Only plain files are unpacked, so that no link leads out of the folder. The number of bytes is limited: sizes that the
file announces are checked before anything is read.
"""

import lzma
import tarfile
import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from parties.machine.plain_files import open_plain

__all__ = ["DAMAGE", "MAX_BYTES", "MAX_FILE_BYTES", "sizes_in", "unpack"]

MAX_FILE_BYTES, MAX_BYTES = 150_000_000, 16 << 30
"""The most bytes to unpack: of one file, and of all files together."""

DAMAGE = (OSError, ValueError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError)
"""The exceptions when a file that is read is damaged, or is no tar file."""

_MAX_MEMBERS = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
_LONG_HEADERS = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.XHDTYPE,
}


def sizes_in(path: Path) -> dict[str, int]:
    """Return the size in bytes of every plain file in a tar file, by name.

    Raises one of `DAMAGE`: the tar file cannot be read, has too many members, or a name that leads out of the folder.
    """
    with _opened(path) as archive:
        return {_name(member): member.size for member in _plain(archive)}


def unpack(path: Path, names: Set[str], folder: Path) -> None:
    """Write the named plain files of a tar file to a new folder; if a name occurs twice, the last file wins.

    Raises one of `DAMAGE`: as for `sizes_in`; or files are too large, or the folder cannot be written.
    """
    left = MAX_BYTES
    with _opened(path) as archive:
        for member in _plain(archive):
            if _name(member) in names:
                left -= member.size
                if member.size > MAX_FILE_BYTES or left < 0:
                    raise ValueError(f"{_shown(member)} of {member.size} bytes, which is too large; unpack it first")
                _write(archive, member, folder / _name(member))


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read())


class _Member(tarfile.TarInfo):
    """A member with a limit on its long headers, because they are read into memory."""

    @classmethod
    def frombuf(cls, *arguments: Any) -> "_Member":
        member = super().frombuf(*arguments)
        if member.type in _LONG_HEADERS and not 0 <= member.size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        return member


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    with open_plain(path) as file, tarfile.open(fileobj=file, tarinfo=_Member) as archive:
        yield archive


def _plain(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the plain files: no links, devices, or files with holes."""
    for number, member in enumerate(archive):
        if number >= _MAX_MEMBERS:
            raise ValueError(f"more than {_MAX_MEMBERS} members")
        if member.isreg() and not member.issparse():
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(f"{_shown(member)}, whose name leads elsewhere")
            if member.size < 0:
                raise ValueError(f"{_shown(member)} of {member.size} bytes")
            yield member


def _name(member: tarfile.TarInfo) -> str:
    return PurePosixPath(member.name).as_posix()


def _shown(member: tarfile.TarInfo) -> str:
    return repr(member.name[:100])
