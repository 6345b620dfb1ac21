"""The two kinds of gallery: a file says which it is; one set of verbs does for both, in the file and in `Gallery`."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hybridface as hf
from hybridface.errors import ImageError, ModelError
from hybridface.galleries.clear_embedding import ClearEmbedding
from hybridface.galleries.file import GalleryFile, index_folder
from hybridface.galleries.kind import kind_for_import, kind_for_use
from hybridface.local.gallery import Gallery
from hybridface.models.model import load_model
from hybridface.photos import photo_path
from parties.gallery import errors
from parties.gallery.errors import QueryRefusedError, StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.exchange import exported_kind
from parties.gallery.store.limits import OPERATOR, QueryLimits
from parties.gallery.store.store import GalleryStore, header_of
from protocols.errors import ParameterError
from protocols.matching.reveal import Reveal
from support.tiny_network import save_chips

pytestmark = pytest.mark.slow

MODEL = load_model("tiny-test")
DIGEST = MODEL.graph.digest()
LONG_NAME = "-".join(["名前"] * 300)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_chips(tmp_path_factory.mktemp("photos"), seed=3)


def made(path: Path, kind: GalleryKind) -> Path:
    GalleryStore(path, DIGEST, 8, kind).close()
    return path


@pytest.mark.parametrize("kind", list(GalleryKind))
def test_a_file_says_its_kind(tmp_path: Path, kind: GalleryKind) -> None:
    path, new = made(tmp_path / "g", kind), tmp_path / "new"
    before = path.read_bytes()
    assert header_of(path).kind is kind_for_use(path) is kind_for_use(path, kind) is kind
    assert path.read_bytes() == before
    other = next(one for one in GalleryKind if one is not kind)
    with pytest.raises(ParameterError, match=f"g: expected a gallery of kind {other}, found one of kind {kind}"):
        kind_for_use(path, other)
    with pytest.raises(ParameterError, match="expected a gallery, found no .*new: enrol somebody first"):
        kind_for_use(new, kind)
    assert kind_for_use(new, kind, new=True) is kind
    assert kind_for_use(new, new=True) is GalleryKind.PRIVATE
    assert not new.exists()


def test_which_errors_peers_may_hear() -> None:
    """Whoever asks hears why it is refused; what may name a file is for the server's own output."""
    told = {error for error in vars(errors).values() if isinstance(error, type) and getattr(error, "for_peers", False)}
    assert told == {errors.RefusalError, errors.IndexChangedError, errors.QueryLimitError}


def test_a_file_is_made_only_for_whoever_may_make_one(tmp_path: Path) -> None:
    """A server that is given a name with a typing error must not begin a gallery in which nobody is."""
    path = tmp_path / "below" / "typo.db"
    for options in ({"new": False}, {"read_only": True}):
        with pytest.raises(StoreError, match=r"typo\.db: expected a gallery, found no such file; enrol somebody first"):
            GalleryFile(path, MODEL, **options)
        assert not list(tmp_path.iterdir())
    GalleryFile(path, MODEL).close()
    GalleryFile(path, MODEL, new=False).close()
    with pytest.raises(StoreError, match="x: cannot use the gallery: File name too long"):
        GalleryFile(tmp_path / ("x" * 300), MODEL, new=False)


def test_a_gallery_is_listed_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g"
    with GalleryFile(path, MODEL, GalleryKind.LIST) as file:
        file.enroll("Ann", np.zeros(8, np.uint64))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr("parties.gallery.store.store.WriterLock", lambda *_: pytest.fail("it is opened for writing"))
    with GalleryFile(path, MODEL, read_only=True) as file:
        assert (file.identities(), len(file.limits.queries())) == ({"Ann": 1}, 1)
    assert {name: content for name, content in before.items() if (tmp_path / name).read_bytes() != content} == {}


def test_files_without_a_kind(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="got no file"):
        header_of(tmp_path / "none")
    (tmp_path / "text").write_text("no database at all, but longer than the header of one" * 40)
    with pytest.raises(StoreError, match="text"):
        header_of(tmp_path / "text")
    path = made(tmp_path / "g", GalleryKind.LIST)
    for value in ("both", b"list", None):
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("UPDATE state SET kind = ?", (value or "",))
        connection.close()
        with pytest.raises(StoreError, match="kind private or list: the store is damaged"):
            header_of(path)


def test_an_exported_file_says_its_kind(tmp_path: Path) -> None:
    for kind in GalleryKind:
        with GalleryFile(tmp_path / kind, MODEL, kind) as file:
            file.store.enroll("Ann", np.zeros(8, dtype=np.uint64))
            assert file.export(tmp_path / f"{kind}.jsonl") == 1
        assert exported_kind(tmp_path / f"{kind}.jsonl") is kind
        assert kind_for_import(tmp_path / "new", tmp_path / f"{kind}.jsonl") is kind
    with pytest.raises(ParameterError, match="list.jsonl: expected a gallery of kind private, found one of kind list"):
        kind_for_import(tmp_path / "new", tmp_path / "list.jsonl", GalleryKind.PRIVATE)
    with pytest.raises(ParameterError, match="private: expected a gallery of kind list, found one of kind private"):
        kind_for_import(tmp_path / "private", tmp_path / "list.jsonl")
    for name, text in (("none", None), ("text", "no\n"), ("array", "[]\n"), ("folder", "")):
        path = tmp_path / f"{name}.jsonl"
        path.mkdir() if name == "folder" else path.write_text(text) if text else None
        with pytest.raises(StoreError, match=f"{name}.jsonl"):
            exported_kind(path)
    header = (tmp_path / "list.jsonl").read_text().splitlines()[0].replace('"list"', '["list"]')
    (tmp_path / "odd.jsonl").write_text(header + "\n")
    with pytest.raises(StoreError, match="one that is damaged"):
        exported_kind(tmp_path / "odd.jsonl")


def test_what_the_owner_does_is_logged_and_a_removal_erases(tmp_path: Path) -> None:
    path = tmp_path / "list.db"
    with GalleryFile(path, MODEL, GalleryKind.LIST) as file:
        for name in ("Ann", "Bob"):
            file.enroll(name, np.arange(8, dtype=np.uint64))
        hashes = [file.limits.tag(name) or b"" for name in ("Ann", "Bob")]
        assert all(tag in path.read_bytes() + Path(f"{path}-wal").read_bytes() for tag in hashes)
        assert file.remove(["Ann", "nobody"]) == 1
        assert not index_folder(path).exists(), "a list has none"
        assert file.identities() == {"Bob": 1}
        file.export(tmp_path / "list.jsonl")
        with pytest.raises(ParameterError, match="1 to 10000 characters"):
            file.enroll("", np.arange(8, dtype=np.uint64))
        lines = file.limits.queries()
        assert {line.client for line in lines} == {OPERATOR}
        assert [line.operation for line in lines] == ["enroll", "enroll", "remove", "export"]
        assert [line.tag for line in lines] == [None, hashes[1], None, None]
    left = path.read_bytes()
    assert b"Ann" not in left
    assert hashes[0] not in left
    with GalleryFile(tmp_path / "other.db", MODEL, GalleryKind.LIST) as file:
        assert file.import_(tmp_path / "list.jsonl") == 1
        assert [line.operation for line in file.limits.queries()] == ["import"]
    with GalleryFile(tmp_path / "private.db", MODEL, GalleryKind.PRIVATE) as file:
        with pytest.raises(ParameterError, match="expected a list, got a private gallery"):
            file.enroll("Ann", np.arange(8, dtype=np.uint64))


def test_a_clear_embedding_is_the_protocols(photos: dict[str, str]) -> None:
    """But for the protocol's random truncation, which moves numbers by a few last bits."""
    embedding = ClearEmbedding(MODEL)
    with hf.local_session(MODEL) as session:
        for name, photo in photos.items():
            template = session.enroll(photo, name, aligned=True)
            shared = (template.share + session.server.template_share(name)).view(np.int64)[0]
            assert np.abs(embedding(photo, aligned=True).view(np.int64) - shared).max() <= 8
    with pytest.raises(ImageError):
        embedding(photo_path("person_a_1.jpg"), aligned=True)
    with pytest.raises(ModelError, match="weights"):
        ClearEmbedding(load_model("tiny-test", weights=False))


@pytest.mark.parametrize("kind", [None, "private", "list"])
def test_one_set_of_verbs(tmp_path: Path, photos: dict[str, str], kind: str | None) -> None:
    key = None if kind == "list" else tmp_path / "key"
    path, options = tmp_path / "gallery.db", {"aligned": True}
    Image.fromarray(np.zeros((5, 5, 3), dtype=np.uint8)).save(tmp_path / "small.png")
    with Gallery(MODEL, path, key, kind) as gallery:
        assert gallery.kind == (kind or "private")
        people = [(LONG_NAME, photos["a"]), ("Bob", photos["different"]), ("Cy", tmp_path / "small.png")]
        assert [error is None for *_, error in gallery.enroll_many(people, **options)] == [True, True, False]
        assert gallery.list() == {LONG_NAME: 1, "Bob": 1}
        assert gallery.verify(LONG_NAME, photos["same"], **options).match is True
        assert gallery.server.last_decisions == (None,)
        assert gallery.verify("Bob", photos["same"], **options).match is False
        assert gallery.server.last_decisions == (None,)
        assert gallery.identify(photos["same"], **options).identities == (LONG_NAME,)
        assert (gallery.server.last_identities, gallery.server.last_decisions) == ((None,), ())
        gallery.enroll("Bob", photos["same"], **options)
        assert gallery.identify(photos["different"], **options).identity == "Bob", "in the same session"
        assert gallery.list()["Bob"] == 2
        assert gallery.remove(["Bob", "nobody"]) == 2
        with pytest.raises(QueryRefusedError, match="found none of that name"):
            gallery.verify("Bob", photos["same"], **options)
        assert gallery.identify(photos["different"], **options).identity is None
        assert gallery.export(tmp_path / "gallery.jsonl") == 1
    with Gallery(MODEL, path, key) as gallery:
        assert gallery.kind == (kind or "private"), "the file says so"
        assert gallery.verify(LONG_NAME, photos["same"], **options).match is True
    with QueryLimits(path) as limits:
        operations = {line.operation for line in limits.queries()}
    read = {"read"} if kind == "list" else {"list", "index"}
    assert operations == {"enroll", "verify", "identify", "remove", "export"} | read


@pytest.mark.parametrize("kind", ["private", "list"])
def test_the_server_may_learn(tmp_path: Path, photos: dict[str, str], kind: str) -> None:
    key = None if kind == "list" else tmp_path / "key"
    with Gallery(MODEL, tmp_path / "g", key, kind, reveal="server") as gallery:
        gallery.enroll("Ann", photos["a"], aligned=True)
        assert gallery.verify("Ann", photos["same"], aligned=True).match is None
        assert (gallery.server.last_decisions, gallery.server.last_asked) == ((True,), "Ann")
        assert gallery.identify(photos["different"], aligned=True).identities == (None,)
        assert gallery.server.last_identities == (None,)
        assert gallery.identify(photos["same"], aligned=True).identities == (None,)
        assert gallery.server.last_identities == ("Ann",)
        assert gallery.server.last_decisions == ()


def test_what_does_not_fit_is_refused(tmp_path: Path, photos: dict[str, str]) -> None:
    files: Any = made(tmp_path / "list.db", GalleryKind.LIST), made(tmp_path / "private.db", GalleryKind.PRIVATE)
    with pytest.raises(ParameterError, match="list.db: expected a gallery of kind private, found one of kind list"):
        Gallery(MODEL, files[0], tmp_path / "key", "private")
    with pytest.raises(ParameterError, match="expected no key for a gallery of kind list"):
        Gallery(MODEL, files[0], tmp_path / "key")
    with pytest.raises(ParameterError, match="expected a key file for a gallery of kind private"):
        Gallery(MODEL, files[1])
    for options in ({"kind": "lists"}, {"reveal": "nobody"}):
        with pytest.raises(ParameterError, match="expected"):
            Gallery(MODEL, tmp_path / "new.db", tmp_path / "key", **options)
    with pytest.raises(ModelError, match="open gallery"):
        Gallery(MODEL, files[0]).list()
    with pytest.raises(ModelError, match="open gallery"):
        Gallery(MODEL, files[0]).server.serve()
    with Gallery(MODEL, files[0]) as gallery:
        with pytest.raises(ParameterError, match="expected a private gallery, got a list"):
            gallery.rotate_key(tmp_path / "new.key")
        assert not (tmp_path / "new.key").exists()
        with pytest.raises(QueryRefusedError, match="expected enrolled identities, found none"):
            gallery.identify(photos["a"], aligned=True)
    shutil.copy(files[0], tmp_path / "copy.db")
    assert Gallery(MODEL, tmp_path / "copy.db", reveal=Reveal.BOTH).kind is GalleryKind.LIST
