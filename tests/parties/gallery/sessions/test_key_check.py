"""The check of a gallery's key: kept, compared, and never taken for none because its file is damaged."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions.key_check import KeyCheck
from parties.gallery.store.store import GalleryStore
from protocols.errors import ProtocolError

OWN, OTHER = "ab" * 16, "cd" * 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GalleryStore]:
    """A gallery with one photo, whose key is known."""
    with GalleryStore(tmp_path / "g.db", "4f3a", 2, GalleryKind.PRIVATE) as gallery:
        gallery.enroll("Ann", np.array([1, 2], dtype=np.uint64))
        KeyCheck(gallery).compare(OWN)
        yield gallery


def expect_damage(store: GalleryStore) -> None:
    for check in (OWN, OTHER):
        with pytest.raises(StoreError, match=r"^g\.db\.keycheck: cannot tell the gallery's key .*; restore the file"):
            KeyCheck(store).compare(check)


def test_the_gallerys_key_is_known_again(store: GalleryStore) -> None:
    KeyCheck(store).compare(OWN)
    with pytest.raises(ProtocolError, match="expected the gallery's key, the client has another one"):
        KeyCheck(store).compare(OTHER)


def test_damage_lets_no_key_in(store: GalleryStore, tmp_path: Path) -> None:
    path = tmp_path / "g.db.keycheck"
    good = path.read_bytes()
    flipped = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(0, len(good), 3)]
    for content in (b"", b"null", b"[]", b"[" * 4000, good[:40], good + b"x", bytes(len(good)), bytes(5000), *flipped):
        path.write_bytes(content)
        expect_damage(store)
    path.write_bytes(good)
    KeyCheck(store).compare(OWN)


@pytest.mark.parametrize(
    "change",
    [
        {"generation": True},
        {"generation": "1"},
        {"generation": 1.0},
        {"generation": 9},
        {"check": 5},
        {"check": "x" * 32},
    ],
)
def test_values_of_other_types_are_damage(store: GalleryStore, tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "g.db.keycheck"
    older = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "sha256"}
    path.write_text(json.dumps(older | change))
    expect_damage(store)
    path.write_text(json.dumps(older))
    KeyCheck(store).compare(OWN)
    assert "sha256" in json.loads(path.read_bytes()), "from now on"
    with pytest.raises(ProtocolError, match="the client has another one"):
        KeyCheck(store).compare(OTHER)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to nothing"])
def test_what_is_no_file_is_named(store: GalleryStore, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "g.db.keycheck"
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path.symlink_to("/dev/zero" if kind == "device" else "away")
    expect_damage(store)


def test_what_cannot_be_written_is_named(store: GalleryStore, tmp_path: Path) -> None:
    check = KeyCheck(store)
    check.compare(OWN)
    (tmp_path / "g.db.keycheck").unlink()
    (tmp_path / "g.db.keycheck").mkdir()
    with pytest.raises(StoreError, match=r"^g\.db\.keycheck: cannot tell the gallery's key .*: Is a directory"):
        check.expect(OTHER)


def test_another_gallerys_check_is_none(store: GalleryStore, tmp_path: Path) -> None:
    kept = json.loads((tmp_path / "g.db.keycheck").read_bytes())
    (tmp_path / "g.db.keycheck").write_text(json.dumps({**kept, "scope": "00" * 16, "sha256": None}))
    KeyCheck(store).compare(OTHER)
