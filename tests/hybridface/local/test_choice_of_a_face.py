"""How photos are read reaches every verb of the Python API: a photo of two people is refused, unless one is chosen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.options import PhotoOptions
from hybridface.local.gallery import Gallery
from hybridface.local.pure_he import LocalPureHeSession
from hybridface.local.session import LocalSession
from hybridface.models.model import load_model
from support.portraits import portrait, two_people

pytestmark = pytest.mark.slow

LARGEST = PhotoOptions("largest")

Verb = Callable[..., Any]


@pytest.fixture(scope="module")
def both() -> Image.Image:
    """A photo of two people."""
    return two_people()


@pytest.fixture(scope="module", params=["private", "list"])
def gallery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gallery in which one person is enrolled."""
    folder: Path = tmp_path_factory.mktemp("gallery")
    key = folder / "gallery.key" if request.param == "private" else None
    with Gallery(load_model("tiny-test"), folder / "gallery.db", key, request.param) as opened:
        opened.enroll("Ann", portrait(2))
        yield opened


@pytest.fixture(scope="module")
def session() -> Any:
    """A session in hybrid mode."""
    with LocalSession(load_model("tiny-test")) as opened:
        yield opened


def expect_a_choice(verb: Verb) -> None:
    with pytest.raises(ImageError, match="expected one face, found 2"):
        verb()
    verb(options=LARGEST)


def enroll_many(gallery: Gallery, photo: Image.Image, **options: Any) -> None:
    for *_, error in gallery.enroll_many([("Cy", photo)], **options):
        if error:
            raise error


@pytest.mark.parametrize("verb", ["enroll", "enroll_many", "verify", "identify"])
def test_of_a_gallery(gallery: Gallery, both: Image.Image, verb: str) -> None:
    verbs: dict[str, Verb] = {
        "enroll": lambda **options: gallery.enroll("Bob", both, **options),
        "enroll_many": lambda **options: enroll_many(gallery, both, **options),
        "verify": lambda **options: gallery.verify("Ann", both, **options),
        "identify": lambda **options: gallery.identify(both, **options),
    }
    expect_a_choice(verbs[verb])


@pytest.mark.parametrize("verb", ["enroll", "verify", "verify_template", "verify_batch"])
def test_of_a_session(session: LocalSession, both: Image.Image, verb: str) -> None:
    template = session.enroll(portrait(2))
    verbs: dict[str, Verb] = {
        "enroll": lambda **options: session.enroll(both, **options),
        "verify": lambda **options: session.verify(portrait(2), both, **options),
        "verify_template": lambda **options: session.verify(both, template, **options),
        "verify_batch": lambda **options: session.verify_batch([both], template, **options),
    }
    expect_a_choice(verbs[verb])


class Client:
    """In place of the client of a session in pure-HE mode: takes what it is given."""

    def enroll(self, name: str, image: Any) -> str:
        return name

    def verify(self, image: Any, template: Any) -> bool:
        return True


@pytest.mark.parametrize("verb", ["enroll", "first", "second"])
def test_of_a_session_in_pure_he_mode(both: Image.Image, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalPureHeSession, "client", Client())
    session = LocalPureHeSession(load_model("patchnet"))
    verbs: dict[str, Verb] = {
        "enroll": lambda **options: session.enroll(both, **options),
        "first": lambda **options: session.verify(both, portrait(2), **options),
        "second": lambda **options: session.verify(portrait(2), both, **options),
    }
    expect_a_choice(verbs[verb])
