"""A key and a gallery that each side makes for itself, before the two have met."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from parties.gallery.key import read_key
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import header_of
from support.ranks import Done


def test_a_key_is_new_and_its_owners(call: Callable[..., Done], tmp_path: Path) -> None:
    first, second = tmp_path / "not yet" / "one.key", tmp_path / "two.key"
    status, out, errors = call("create-key", "--key", str(first))
    assert (status, errors) == (0, "")
    assert out == f"made a new key, {first}: keep a copy, nothing can be read without it\n"
    status, out, _ = call("create-key", "--key", str(second), "--json")
    assert (status, json.loads(out)) == (0, {"key": str(second)})
    assert read_key(first) != read_key(second)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (first, second))


@pytest.mark.parametrize("chosen", [True, False])
def test_folders_of_a_key_are_its_owners(call: Callable[..., Done], home: Path, chosen: bool) -> None:
    path = (home / "not" / "yet" if chosen else home / "XDG_CONFIG_HOME" / "hybridface") / "gallery.key"
    options = ["--key", str(path)] if chosen else []
    assert call("create-key", *options)[0] == 0
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]
    assert path.exists()


def test_a_key_that_is_there_stays(call: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "one.key"
    call("create-key", "--key", str(path))
    before = path.read_bytes()
    status, out, errors = call("create-key", "--key", str(path))
    assert (status, out) == (2, "")
    assert "one.key: expected a new key file, got one that exists" in errors
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", [None, *GalleryKind])
def test_a_gallery_is_empty_and_of_its_kind(
    call: Callable[..., Done], tmp_path: Path, kind: GalleryKind | None
) -> None:
    path, chosen = tmp_path / "not yet" / "gallery.db", ["--kind", kind.value] if kind else []
    status, out, errors = call("create-gallery", "--gallery", str(path), "--model", "tiny-test", *chosen)
    expected = kind or GalleryKind.PRIVATE
    assert (status, errors) == (0, "")
    assert out == f"made a new {expected.value} gallery, {path}, for tiny-test\n"
    header = header_of(path)
    assert (header.kind, header.count) == (expected, 0)
    status, out, errors = call("create-gallery", "--gallery", str(path), "--model", "tiny-test", "--json")
    message = f"cannot make the gallery {path}: there is a file already; choose another --gallery"
    assert (status, errors) == (2, f"hybridface: {message}\n")
    assert json.loads(out) == {"error": {"kind": "parameter", "message": message}}
