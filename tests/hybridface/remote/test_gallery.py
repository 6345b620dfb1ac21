"""A remote server's gallery from Python: its verbs, the client's rights, and the client's key."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hybridface as hf
from hybridface.galleries.file import GalleryFile
from hybridface.local.gallery import Gallery
from hybridface.models.model import load_model
from hybridface.remote.gallery import ServerGallery
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from support.remote_server import NAME, RemoteServerThread, serving

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:match. first use")]

ALL = tuple(Right)


@contextmanager
def opened(server: RemoteServerThread, *arguments: str | Path) -> Iterator[ServerGallery]:
    with hf.connect(NAME, identity=server.identity) as session:
        assert isinstance(session, hf.RemoteSession)
        with session.gallery(*arguments) as gallery:  # type: ignore[arg-type]
            yield gallery


def test_the_verbs(tmp_path: Path, photos: dict[str, str]) -> None:
    a, same, different = (photos[name] for name in ("a", "same", "different"))
    with serving(tmp_path, "tiny-test", galleries={"staff": ALL}) as server:
        with opened(server) as gallery:
            assert gallery.about.kind is GalleryKind.PRIVATE
            assert gallery.key == server.identity / "keys" / NAME / "staff.key"
            people = [("Ann", a), ("Bob", different), ("Cy", str(tmp_path / "none.png"))]
            outcome = list(gallery.enroll_many(people, aligned=True))
            assert [error is None for *_, error in outcome] == [True, True, False]
            assert gallery.list() == {"Ann": 1, "Bob": 1}
            assert gallery.verify("Ann", same, aligned=True).match is True
            assert server.sessions == 1
        with opened(server, "staff") as gallery:
            found = gallery.identify(same, aligned=True)
            assert (found.identity, found.identities) == ("Ann", ("Ann",))
            gallery.rename("Ann", "Anna")
            assert gallery.rotate_key(tmp_path / "new.key") == 2
            assert gallery.key == tmp_path / "new.key"
            assert gallery.remove(["Bob", "nobody"]) == 1
            with pytest.raises(hf.QueryRefusedError, match="found none of that name"):
                gallery.verify("Bob", same, aligned=True)
        with opened(server, "staff", tmp_path / "new.key") as gallery:
            assert gallery.verify("Anna", same, aligned=True).match is True
        assert server.errors == []


def test_the_methods_are_those_of_a_gallery_within_one_process() -> None:
    for name in ("enroll", "enroll_many", "verify", "identify", "list", "remove", "rename", "rotate_key"):
        here, remote = (inspect.signature(getattr(one, name)) for one in (Gallery, ServerGallery))
        assert here == remote, name


def test_rights_are_checked_before_anything_is_made(tmp_path: Path, photos: dict[str, str]) -> None:
    with serving(tmp_path, "tiny-test", galleries={"staff": (Right.VERIFY,)}) as server, opened(server) as gallery:
        with pytest.raises(hf.ParameterError, match="expected the right to enroll in staff on match, which .* verify;"):
            gallery.enroll("Ann", photos["a"], aligned=True)
        for call in (
            lambda: gallery.identify(photos["a"], aligned=True),
            gallery.list,
            lambda: gallery.remove(["Ann"]),
            lambda: gallery.rename("Ann", "Bea"),
            lambda: gallery.rotate_key(tmp_path / "new.key"),
        ):
            with pytest.raises(hf.ParameterError, match="expected the right to"):
                call()
        assert gallery.key is not None
        assert not gallery.key.exists()
        assert not (tmp_path / "new.key").exists()
        with pytest.raises(hf.ParameterError, match="expected the key of staff on match, found no .*staff.key"):
            gallery.verify("Ann", photos["a"], aligned=True)
        assert server.sessions == 0


def test_a_list_answers_queries_only(tmp_path: Path, photos: dict[str, str]) -> None:
    with serving(tmp_path, "tiny-test", galleries={"guests": ALL}, kind=GalleryKind.LIST) as server:
        model = load_model("tiny-test")
        with Gallery(model, server.configuration.galleries["guests"].file) as own:
            own.enroll("Ann", photos["a"], aligned=True)
        with pytest.raises(hf.ParameterError, match="expected no key for guests on match"):
            with opened(server, "guests", tmp_path / "key"):
                pass
        with opened(server, "guests") as gallery:
            assert gallery.key is None
            assert gallery.verify("Ann", photos["same"], aligned=True).match is True
            assert gallery.identify(photos["different"], aligned=True).identity is None
            with pytest.raises(hf.ParameterError, match="expected a private gallery, got guests, a list"):
                gallery.enroll("Bob", photos["different"], aligned=True)
            with pytest.raises(hf.ParameterError, match="expected a private gallery, got guests, a list"):
                gallery.list()
        with GalleryFile(server.configuration.galleries["guests"].file, model, read_only=True) as file:
            assert file.identities() == {"Ann": 1}


def test_the_servers_names_are_checked(tmp_path: Path) -> None:
    with serving(tmp_path, "tiny-test", galleries={"guests": ALL, "staff": ALL}) as server:
        with pytest.raises(hf.ParameterError, match="expected --gallery with the name of one"), opened(server):
            pass
        with pytest.raises(hf.ParameterError, match="got 'others'"), opened(server, "others"):
            pass
        for name in ("../../../staff", "/staff", ""):
            server.alter = lambda said, name=name: {**said, "galleries": [{**said["galleries"][0], "name": name}]}
            with pytest.raises((hf.ParameterError, hf.RunError), match="name"), opened(server):
                pass
