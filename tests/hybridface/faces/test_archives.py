"""Photos in a tar file from a stranger: nothing outside the folder is touched, and nothing is read without bound."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hybridface.faces import archives
from hybridface.faces.archives import DAMAGE, sizes_in, unpack

Add = Callable[..., None]


def archive(path: Path, fill: Callable[[Add], object]) -> Path:
    """Write a tar file, of members that are added by name, type, target of a link, and content."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as file:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size, member.mode = kind, link, len(content), 0o755
            file.addfile(member, io.BytesIO(content))

        fill(add)
    return path


def test_plain_files_are_unpacked_the_last_of_a_name(tmp_path: Path) -> None:
    def fill(add: Add) -> None:
        add("./Ann/1.jpg", content=b"first")
        add("Ann/2.jpg", content=b"other")
        add("Ann/1.jpg", content=b"second")

    path = archive(tmp_path / "a.tar", fill)
    assert sizes_in(path) == {"Ann/1.jpg": 6, "Ann/2.jpg": 5}
    unpack(path, {"Ann/1.jpg"}, tmp_path / "out")
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "out" / "Ann").iterdir()] == [("1.jpg", b"second")]


def climbing(add: Add, outside: Path) -> None:
    """Links as long as a path may be, beyond which some Pythons' own filter does not look (CVE-2025-4517)."""
    folder, steps, path = "d" * 243 + ".jpg", [f"{letter}.jpg" for letter in "abcdefghijklmnop"], ""
    for step in steps:
        add(f"{path}{folder}", tarfile.DIRTYPE)
        add(f"{path}{step}", tarfile.SYMTYPE, folder)
        path += f"{folder}/"
    long = "/".join(steps) + "/" + "l" * 250 + ".jpg"
    add(long, tarfile.SYMTYPE, "../" * len(steps))
    add("escape.jpg", tarfile.SYMTYPE, f"{long}{'/..' * 12}{outside}")
    add("flag.jpg", tarfile.LNKTYPE, "escape.jpg/flag.jpg")
    add("flag.jpg", content=b"from the tar file")


@pytest.mark.parametrize("kind", ["symlink", "hard link", "climbing"])
def test_no_link_leads_out_of_the_folder(tmp_path: Path, kind: str) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (outside / "flag.jpg").write_bytes(b"precious")

    def fill(add: Add) -> None:
        if kind == "climbing":
            climbing(add, outside)
        elif kind == "symlink":
            add("x", tarfile.SYMTYPE, str(outside))
            add("x/flag.jpg", content=b"from the tar file")
        else:
            add("x/flag.jpg", tarfile.LNKTYPE, str(outside / "flag.jpg"))
            add("x/flag.jpg", content=b"from the tar file")

    path = archive(tmp_path / "a.tar", fill)
    out.mkdir()
    unpack(path, set(sizes_in(path)), out)
    assert [(file.name, file.read_bytes()) for file in outside.iterdir()] == [("flag.jpg", b"precious")]
    assert not any(file.is_symlink() for file in out.rglob("*"))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_what_is_no_plain_file_is_left_out(tmp_path: Path, kind: bytes) -> None:
    path = archive(tmp_path / "a.tar", lambda add: [add("x.jpg", kind, "y"), add("y.jpg", content=b"face")])
    assert sizes_in(path) == {"y.jpg": 4}


def test_a_file_with_holes_is_left_out(tmp_path: Path) -> None:
    """A few bytes in the tar file may be a terabyte of zeros on the disk."""
    member = tarfile.TarInfo("x.jpg")
    member.size, member.pax_headers = 4, {"GNU.sparse.map": "0,4", "GNU.sparse.size": str(1 << 40)}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(member, io.BytesIO(b"face"))
    assert sizes_in(tmp_path / "a.tar") == {}


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/x.jpg"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.tar", lambda add: add(name, content=b"face"))
    for use in (lambda: sizes_in(path), lambda: unpack(path, {name}, tmp_path / "out")):
        with pytest.raises(ValueError, match="whose name leads elsewhere"):
            use()


@pytest.mark.parametrize("bound", ["MAX_FILE_BYTES", "MAX_BYTES"])
def test_too_many_bytes_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(archives, bound, 7)
    path = archive(tmp_path / "a.tar", lambda add: [add("x.jpg", content=b"face"), add("y.jpg", content=b"12345678")])
    with pytest.raises(ValueError, match=r"'y.jpg' of 8 bytes, which is too large"):
        unpack(path, {"x.jpg", "y.jpg"}, tmp_path / "out")
    assert not (tmp_path / "out" / "y.jpg").exists()
    unpack(path, {"x.jpg"}, tmp_path / "small")


def test_a_long_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    for kind in archives._LONG_HEADERS:
        member = tarfile.TarInfo("header")
        member.type, member.size = kind, 1 << 40
        with gzip.open(path, "wb") as file:
            file.write(member.tobuf(tarfile.GNU_FORMAT))
        with pytest.raises(tarfile.ReadError, match="a header of 1099511627776 bytes"):
            sizes_in(path)


def test_members_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_MEMBERS", 2)
    path = archive(tmp_path / "a.tar", lambda add: [add(name) for name in "abc"])
    with pytest.raises(ValueError, match="more than 2 members"):
        sizes_in(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(OSError, match="expected a plain file"):
        sizes_in(tmp_path / "a.tar")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_any_damage_is_one_of_the_errors(tmp_path: Path, mode: str) -> None:
    path, random = tmp_path / "a.tar", np.random.default_rng(7)
    with tarfile.open(path, mode) as file:
        for name in ("a/" + "n" * 200 + ".jpg", "b.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 600
            file.addfile(member, io.BytesIO(random.bytes(600)))
    good = path.read_bytes()
    for position in random.integers(len(good), size=60).tolist():
        bad = bytearray(good)
        bad[position] ^= 1 << int(random.integers(8))
        path.write_bytes(bytes(bad[: int(random.integers(1, len(bad)))] if position % 4 == 0 else bad))
        try:
            unpack(path, set(sizes_in(path)), tmp_path / "out")
        except DAMAGE:
            continue
