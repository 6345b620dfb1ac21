"""A photo's bytes: from files, pipes, standard input, and memory; and each kind of place that gives none."""

import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hybridface.errors import ImageError
from hybridface.faces import opening
from hybridface.faces.opening import photo_name, read_file

DATA = bytes(range(256)) * 1000


@contextmanager
def writing(path: Path, *chunks: bytes) -> Iterator[None]:
    """Write to a FIFO, a chunk at a time, in a thread."""

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for chunk in chunks:
                file.write(chunk)

    thread = threading.Thread(target=write)
    thread.start()
    yield
    thread.join(10)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(DATA)
    for given in (path, str(path)):
        file = read_file(given)
        assert (file.name, file.data) == ("photo.jpg", DATA)


@pytest.mark.parametrize("photo", [DATA, bytearray(DATA), memoryview(DATA), io.BytesIO(DATA)])
def test_memory(photo: Any) -> None:
    file = read_file(photo)
    assert (file.name, file.data) == ("the photo", DATA)


def test_an_open_file_has_a_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        assert read_file(file).name == "photo.jpg"
    with pytest.raises(ImageError, match=r"^photo\.jpg: cannot read the file: .*closed"):
        read_file(file)
    with path.open(encoding="latin-1") as text, pytest.raises(ImageError, match=r"got str; open it in mode 'rb'"):
        read_file(text)


def test_a_pipe_that_comes_slowly(fifo: Path) -> None:
    with writing(fifo, *(DATA[start : start + 9000] for start in range(0, len(DATA), 9000))):
        assert read_file(fifo).data == DATA


def test_a_pipe_by_descriptor() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"bytes")
    os.close(writer)
    try:
        assert read_file(f"/dev/fd/{reader}").data == b"bytes"
    finally:
        os.close(reader)


@pytest.mark.timeout(20)
def test_nothing_waits_for_ever(fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PIPE_SECONDS", 0.2)
    with pytest.raises(ImageError, match=r"^pipe: expected a whole photo within 0\.2 seconds"):
        read_file(fifo)
    writer = os.open(fifo, os.O_RDWR)
    try:
        os.write(writer, b"some")
        with pytest.raises(ImageError, match=r"^pipe: expected a whole photo within 0\.2 seconds"):
            read_file(fifo)
    finally:
        os.close(writer)


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo").write_bytes(DATA)
    with (tmp_path / "photo").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert read_file("-") == opening.PhotoFile("standard input", DATA)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DATA)))  # of a notebook
    assert read_file(Path("-")).data == DATA
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ImageError, match="standard input: expected a photo, but it is closed"):
        read_file("-")


@pytest.mark.slow
def test_standard_input_of_a_process() -> None:
    program = "from hybridface.faces.opening import read_file; print(len(read_file('-').data))"
    ran = subprocess.run([sys.executable, "-c", program], input=DATA, capture_output=True, check=True, timeout=60)
    assert int(ran.stdout) == len(DATA)


def test_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    try:
        with open(theirs, closefd=False) as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            with pytest.raises(ImageError, match="standard input: expected a photo, got a terminal"):
                read_file("-")
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^none\.jpg: no such file$"):
        read_file(tmp_path / "none.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone")
    with pytest.raises(ImageError, match=r"^link\.jpg: no such file$"):
        read_file(tmp_path / "link.jpg")
    with pytest.raises(ImageError, match=r"^people: expected a photo, got a folder"):
        (tmp_path / "people").mkdir()
        read_file(tmp_path / "people")
    with pytest.raises(ImageError, match=r"''|\.: expected a photo, got a folder|no such file"):
        read_file("")
    with pytest.raises(ImageError, match=r"^zero: expected a photo, got a device"):
        read_file("/dev/zero")
    with pytest.raises(ImageError, match="no such file; embedded null byte"):
        read_file("a\0b")
    with pytest.raises(ImageError, match="cannot read the file: File name too long"):
        read_file("x" * 5000)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"^empty\.jpg: expected a photo, got an empty file"):
        read_file(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match="cannot read the file: Not a directory"):
        read_file(tmp_path / "empty.jpg" / "photo.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(ImageError, match=r"^socket: cannot read the file: No such device"):
            read_file(tmp_path / "socket")


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:  # root may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(opening.os, "open", refuse)
    with pytest.raises(ImageError, match=r"^photo\.jpg: cannot read the file: permission denied$"):
        read_file(tmp_path / "photo.jpg")


@pytest.mark.parametrize("place", ["file", "pipe", "memory", "stream"])
def test_too_many_bytes(tmp_path: Path, fifo: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(opening, "MAX_BYTES", 1000)
    (tmp_path / "file").write_bytes(DATA[:1001])
    with writing(fifo, DATA[:1001]) if place == "pipe" else open(os.devnull):
        photo = {"file": tmp_path / "file", "pipe": fifo, "memory": DATA[:1001], "stream": io.BytesIO(DATA[:1001])}[
            place
        ]
        with pytest.raises(ImageError, match=r"expected at most 1000 bytes, got (more|1001)$"):
            read_file(photo)
    assert len(read_file(DATA[:1000]).data) == 1000


@pytest.mark.parametrize("photo", [None, 3, ["a.jpg"], object()])
def test_other_things_are_no_photo(photo: Any) -> None:
    with pytest.raises(ImageError, match=r"^the photo: expected a path, bytes, an open file, .*, got "):
        read_file(photo)


def test_names() -> None:
    assert [photo_name(photo) for photo in ("a/b.jpg", Path("c.png"), "-", b"", "/")] == [
        "b.jpg",
        "c.png",
        "standard input",
        "the photo",
        "'/'",
    ]
