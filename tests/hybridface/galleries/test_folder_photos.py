"""What lies in a folder: every file is a photo, or is told with the reason."""

import errno
import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pillow_heif
import pytest

from hybridface.faces.formats import SUFFIXES, UNREAD_SUFFIXES, format_of
from hybridface.galleries import folder_photos
from hybridface.galleries.folder_photos import Kind, find_photos
from support.pictures import encoded, picture

KINDS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)


def found(folder: Path) -> tuple[list[str], dict[str, tuple[Kind, str]]]:
    photos, unused = find_photos(folder)
    told = {str(one.path.relative_to(folder)): (one.kind, one.reason) for one in unused}
    assert len(told) == len(unused), "each file once"
    return [str(photo.relative_to(folder)) for photo in photos], told


@pytest.mark.parametrize("suffix", sorted(SUFFIXES | UNREAD_SUFFIXES))
def test_a_photo_is_known_by_its_name(tmp_path: Path, suffix: str) -> None:
    for name in (f"A{suffix.upper()}", f"a{suffix}"):
        (tmp_path / name).write_bytes(b"")
    assert found(tmp_path) == ([f"A{suffix.upper()}", f"a{suffix}"], {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["IMG_0001", "photo.jpg.bak", "alice.large"])
def test_a_photo_of_another_name_is_known_as_it_would_be_read(tmp_path: Path, kind: str, name: str) -> None:
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    data = encoded(picture(), kind)
    (tmp_path / name).write_bytes(data)
    assert format_of(name, data) == kind
    assert found(tmp_path) == ([name], {})


def test_the_largest_file_is_known_by_its_ends(tmp_path: Path) -> None:
    with open(tmp_path / "photo", "wb") as file:
        file.truncate(1 << 40)
        file.seek(-18, os.SEEK_END)
        file.write(b"TRUEVISION-XFILE.\0")
    assert found(tmp_path) == (["photo"], {})


NO_PHOTOS = [
    b"", b"name,photo\n", b"%PDF-1.7", b"0000ftypisom", b"RIFF0000AVI ", b"PK\3\4", b"BMW and other makers of cars\n",
    b"(\0\0\0" + bytes(range(40)), b"\0\0\1\0\1\0", b"P5 is the fifth point\n",
]  # fmt: skip


@pytest.mark.parametrize("content", NO_PHOTOS)
def test_what_is_no_photo_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.dat").write_bytes(content)
    assert found(tmp_path) == ([], {"file.dat": (Kind.OTHER, "no photo")})


SYSTEM = [
    "._1.jpg", ".DS_Store", ".hidden.jpg", "Thumbs.db", "DESKTOP.INI", "Icon\r", "__MACOSX/a.jpg", "@eaDir/1.jpg/x.jpg",
    ".git/a.jpg", "$RECYCLE.BIN/a.jpg", "System Volume Information/a.jpg", "lost+found/a.jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", SYSTEM)
def test_a_systems_files_are_no_photos(tmp_path: Path, name: str) -> None:
    path = tmp_path / "alice" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(JPEG)
    photos, told = found(tmp_path)
    assert photos == []
    assert list(told) == [f"alice/{name.partition('/')[0]}"]
    assert next(iter(told.values()))[0] is Kind.SYSTEM


def test_links_lead_to_files_and_never_round(tmp_path: Path) -> None:
    folder = tmp_path / "people"
    (folder / "alice").mkdir(parents=True)
    (tmp_path / "elsewhere.jpg").write_bytes(JPEG)
    (folder / "alice" / "1.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (folder / "alice" / "up").symlink_to(folder)
    (folder / "alice" / "2.jpg").symlink_to(tmp_path / "none.jpg")
    (folder / "self.jpg").symlink_to(folder / "self.jpg")
    photos, told = found(folder)
    assert photos == ["alice/1.jpg"]
    assert told.pop("alice/up") == (Kind.FAULT, "a link to a folder, which is not followed")
    assert told.pop("alice/2.jpg") == (Kind.FAULT, "a link to nothing")
    assert told.pop("self.jpg") == (Kind.FAULT, "cannot be read: Too many levels of symbolic links")
    assert not told
    (tmp_path / "link").symlink_to(folder)
    assert len(find_photos(tmp_path / "link")[0]) == 1, "the folder itself may be a link"


def test_what_is_no_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        server.bind("c.jpg")
        photos, told = found(tmp_path)
    assert photos == []
    assert told == {"a.jpg": (Kind.OTHER, "no file but a pipe"), "c.jpg": (Kind.OTHER, "no file but a socket")}


@pytest.mark.timeout(20)
def test_a_file_that_became_a_pipe_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.dat")
    writer = os.open(tmp_path / "a.dat", os.O_RDWR)  # somebody writes, but not yet
    before = SimpleNamespace(S_ISDIR=stat.S_ISDIR, S_ISREG=lambda _: True)  # as it was when it was looked at
    monkeypatch.setattr(folder_photos, "stat", before)
    kind, reason = found(tmp_path)[1]["a.dat"]
    assert (kind, reason.partition(",")[0]) == (Kind.FAULT, "cannot be read: expected a plain file")
    os.close(writer)


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alice").mkdir()
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "1.jpg").write_bytes(JPEG)
    scandir = os.scandir

    def denied(folder: Any) -> Any:
        if folder.name == "alice":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(folder_photos.os, "scandir", denied)
    assert found(tmp_path) == (
        ["bob/1.jpg"],
        {"alice": (Kind.FAULT, "cannot look into the folder: Permission denied")},
    )


def test_a_file_that_vanishes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.dat").write_bytes(b"")

    def gone(_: Path) -> bool:
        raise FileNotFoundError

    monkeypatch.setattr(folder_photos, "_is_photo", gone)
    assert found(tmp_path) == ([], {"a.dat": (Kind.FAULT, "removed while the folder was read")})


def test_names_that_are_no_text_and_deep_folders(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "x.jpg").write_bytes(JPEG)
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(JPEG)
    (tmp_path / "new\nline.jpg").write_bytes(JPEG)
    assert len(find_photos(tmp_path)[0]) == 3


def test_ten_thousand_photos(tmp_path: Path) -> None:
    for person in range(100):
        (tmp_path / f"p{person}").mkdir()
        for photo in range(100):
            (tmp_path / f"p{person}" / f"{photo}.jpg").touch()
    photos, unused = find_photos(tmp_path)
    assert (len(photos), unused) == (10_000, [])
