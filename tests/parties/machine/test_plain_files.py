"""Reading files that may be anything: a pipe does not block, and a large file is not read."""

import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest

from parties.machine.plain_files import open_plain, plain_lines, read_digested, read_plain


def test_what_a_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert read_plain(path, 7) == b"content"
    with open_plain(path) as file:
        assert file.read(3) == b"con"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path = Path("/dev/zero")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="expected a plain file, got a folder, a pipe or a device") as caught:
        read_plain(path, 10)
    assert caught.value.filename == str(path)
    assert len(os.listdir("/proc/self/fd")) == before, "it is left open"


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="expected at most 1000 bytes, got more"):
        read_plain(path, 1000)


def test_lines_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("a\r\nZoë\n\nend".encode())
    assert list(plain_lines(path, 100, 4)) == ["a\r\n", "Zoë\n", "\n", "end"]
    path.write_bytes(b"\xef\xbb\xbfa\rb")
    assert list(plain_lines(path, 100, 4, encoding="utf-8-sig", newline="")) == ["a\r", "b"]
    path.write_bytes(b"a\n\xff\n")
    assert list(plain_lines(path, 100, 4, errors="replace")) == ["a\n", "\ufffd\n"]
    with pytest.raises(UnicodeDecodeError):
        list(plain_lines(path, 100, 4))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"abc", "at most 2 bytes"),
        (b"\n\n", "at most 1 lines"),
        (b"x" * ((1 << 20) + 1), "at most 1048576 characters in a line"),
    ],
)
def test_more_lines_or_longer_ones_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(OSError, match=f"expected {said}, got more") as caught:
        list(plain_lines(tmp_path / "file", 2 if len(content) < 10 else 1 << 30, 1))
    assert caught.value.filename == str(tmp_path / "file")


def test_content_of_another_digest_is_none_and_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(hashlib.sha256(b"content").digest() + b"content")
    assert read_digested(path, 39) == b"content"
    with pytest.raises(OSError, match="expected at most 38 bytes, got more"):
        read_digested(path, 38)
    for content in (b"", b"short", hashlib.sha256(b"other").digest() + b"content"):
        path.write_bytes(content)
        assert read_digested(path, 100) is None
    os.truncate(path, 1 << 28)
    tracemalloc.start()
    try:
        assert read_digested(path, 1 << 30) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_link_is_followed_only_if_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_plain(tmp_path / "link", 10) == b"content"
    with pytest.raises(OSError, match="symbolic"):
        read_plain(tmp_path / "link", 10, follow_links=False)
