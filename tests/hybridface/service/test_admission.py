"""Who gets which session: every combination of what a client asks for and what it may do."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from hybridface.models.model import load_model
from hybridface.modes import Mode
from hybridface.service.admission import Grant, admit, describe, may_see
from hybridface.service.catalogue import Catalogue, ServedModel
from hybridface.service.configuration import ClientSettings, GallerySettings, ModelSettings
from hybridface.service.requests import DescribedGallery, Purpose, Refusal, RefusalKind, SessionRequest
from hybridface.version import __version__
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.session.correlations import Correlations
from support.service_folder import FINGERPRINT, read_settings

DIGEST, OTHER_DIGEST = "0f" * 32, "f0" * 32
BOTH = (Mode.HYBRID, Mode.PURE_HE)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Two networks, of which one runs in both modes, and a gallery of each."""
    folder = tmp_path_factory.mktemp("galleries")
    model = load_model("tiny-test", weights=False)
    models = {
        "tiny-test": ServedModel(ModelSettings("tiny-test"), model, {}, DIGEST),
        "patchnet": ServedModel(ModelSettings("patchnet", modes=BOTH), model, {}, OTHER_DIGEST),
    }
    galleries = {
        "staff": GallerySettings("staff", folder / "staff", "tiny-test"),
        "guests": GallerySettings("guests", folder / "guests", "patchnet"),
    }
    return Catalogue(models, galleries)


def client(*models: str, **galleries: tuple[Right, ...]) -> ClientSettings:
    """Return a client with rights."""
    return ClientSettings("bank", FINGERPRINT, None, models, galleries)


def pair(model: str = "tiny-test", digest: str = DIGEST) -> SessionRequest:
    """Return a request to compare two photos."""
    return SessionRequest(Purpose.PAIR, model, digest)


def in_gallery(name: str = "staff", model: str = "tiny-test", digest: str = DIGEST) -> SessionRequest:
    """Return a request for a gallery."""
    return SessionRequest(Purpose.GALLERY, model, digest, name)


def refused(answer: Grant | Refusal, kind: RefusalKind) -> str:
    """Return the reason of a refusal of this kind."""
    assert isinstance(answer, Refusal)
    assert (answer.kind, answer.retry_after) == (kind, None)
    return answer.reason


def test_a_client_compares_with_the_networks_that_it_may_use(catalogue: Catalogue) -> None:
    granted = admit(pair(), client("tiny-test"), catalogue)
    assert granted == Grant(client("tiny-test"), pair(), catalogue.models["tiny-test"])


def test_a_client_gets_its_rights_in_its_gallery(catalogue: Catalogue) -> None:
    who = client(staff=(Right.VERIFY, Right.LIST), guests=tuple(Right))
    granted = admit(in_gallery(), who, catalogue)
    may = frozenset({Right.VERIFY, Right.LIST})
    assert granted == Grant(who, in_gallery(), catalogue.models["tiny-test"], catalogue.galleries["staff"], may)


def test_a_right_in_a_gallery_is_none_to_compare_photos(catalogue: Catalogue) -> None:
    who = client(staff=tuple(Right))
    assert "comparing photos" in refused(admit(pair(), who, catalogue), RefusalKind.RIGHTS)
    assert isinstance(admit(replace(pair(), purpose=Purpose.PREPARE), who, catalogue), Grant)
    assert isinstance(admit(in_gallery(), client("tiny-test"), catalogue), Refusal)


@pytest.mark.parametrize("purpose", Purpose)
def test_the_unknown_and_the_forbidden_are_refused_alike(catalogue: Catalogue, purpose: Purpose) -> None:
    """Otherwise a client could find out what others use."""
    gallery = "guests" if purpose is Purpose.GALLERY else None
    forbidden = SessionRequest(purpose, "patchnet", OTHER_DIGEST, gallery)
    unknown = replace(forbidden, model="facenet")
    said = [
        refused(admit(one, client("tiny-test"), catalogue), RefusalKind.RIGHTS).replace(one.model, "...")
        for one in (forbidden, unknown)
    ]
    assert said[0] == said[1]
    who = client(staff=(Right.VERIFY,))
    said = [
        refused(admit(in_gallery(name), who, catalogue), RefusalKind.RIGHTS).replace(name, "...")
        for name in ("guests", "nothing")
    ]
    assert said[0] == said[1]


def test_the_digest_of_a_forbidden_network_is_not_compared(catalogue: Catalogue) -> None:
    for digest in (OTHER_DIGEST, DIGEST):
        assert "no right" in refused(admit(pair("patchnet", digest), client(), catalogue), RefusalKind.RIGHTS)


WRONG: dict[str, tuple[SessionRequest, str]] = {
    "another public half": (pair(digest=OTHER_DIGEST), "its network has changed; ask for it again"),
    "a dealer": (replace(pair(), correlations=Correlations.DEALER), "a dealer does not take part"),
    "a mode that is off": (replace(pair(), mode=Mode.PURE_HE), "does not run in pure-he mode"),
    "a pair in a gallery": (replace(pair(), gallery="staff"), "do not fit together"),
    "preparations in a gallery": (replace(pair(), purpose=Purpose.PREPARE, gallery="staff"), "do not fit together"),
    "preparations in pure-HE mode": (
        replace(pair("patchnet", OTHER_DIGEST), purpose=Purpose.PREPARE, mode=Mode.PURE_HE),
        "do not fit together",
    ),
    "a gallery in pure-HE mode": (
        replace(in_gallery("guests", "patchnet", OTHER_DIGEST), mode=Mode.PURE_HE),
        "uses the network 'patchnet'",
    ),
    "a gallery of another network": (in_gallery("guests"), "uses the network 'patchnet'"),
}


@pytest.mark.parametrize("how", WRONG)
def test_settings_that_do_not_fit_are_refused(catalogue: Catalogue, how: str) -> None:
    request, said = WRONG[how]
    who = client("tiny-test", "patchnet", staff=tuple(Right), guests=tuple(Right))
    assert said in refused(admit(request, who, catalogue), RefusalKind.UNKNOWN)


def test_no_gallery_named_is_no_gallery(catalogue: Catalogue) -> None:
    who = client("tiny-test", staff=tuple(Right))
    refused(admit(replace(in_gallery(), gallery=None), who, catalogue), RefusalKind.RIGHTS)


def all_requests() -> Iterator[SessionRequest]:
    """Yield requests of every kind."""
    models, galleries = (("tiny-test", DIGEST), ("patchnet", OTHER_DIGEST)), (None, "staff", "guests")
    for purpose, (model, digest), gallery, mode in product(Purpose, models, galleries, Mode):
        yield SessionRequest(purpose, model, digest, gallery, mode)


@pytest.mark.parametrize("models", [(), ("tiny-test",), ("patchnet",), ("tiny-test", "patchnet")])
@pytest.mark.parametrize("galleries", [(), ("staff",), ("guests",), ("staff", "guests")])
def test_nothing_is_granted_beyond_the_rights(
    catalogue: Catalogue, models: tuple[str, ...], galleries: tuple[str, ...]
) -> None:
    who = client(*models, **dict.fromkeys(galleries, (Right.VERIFY,)))
    granted = 0
    for request in all_requests():
        answer = admit(request, who, catalogue)
        if isinstance(answer, Refusal):
            continue
        granted += 1
        assert answer.served is catalogue.models[request.model]
        assert request.mode in answer.served.settings.modes
        assert request.model in may_see(who, catalogue)
        match request.purpose:
            case Purpose.GALLERY:
                assert request.gallery in galleries
                assert answer.gallery == catalogue.galleries[request.gallery]
                assert answer.gallery.model == request.model
                assert answer.may == {Right.VERIFY}
            case Purpose.PAIR:
                assert request.model in models
        if request.purpose is not Purpose.GALLERY:
            assert (answer.gallery, answer.may, request.gallery) == (None, frozenset(), None)
    seen = set(models) | {catalogue.galleries[name].model for name in galleries}
    assert granted == len(models) + ("patchnet" in models) + len(seen) + len(galleries)


def test_a_client_sees_only_what_it_may_use(catalogue: Catalogue, tmp_path: Path) -> None:
    settings = read_settings(tmp_path)
    said = describe(settings, client("tiny-test", staff=(Right.VERIFY, Right.ENROLL)), catalogue, False)
    assert (said.server, said.version, said.client, said.is_busy) == ("match", __version__, "bank", False)
    assert said.models == {"tiny-test": DIGEST}
    assert said.compares == ("tiny-test",)
    may = (Right.ENROLL, Right.VERIFY)
    assert said.galleries == {"staff": DescribedGallery(GalleryKind.PRIVATE, "tiny-test", may)}
    said = describe(settings, client(guests=()), catalogue, True)
    assert (said.models, said.compares, said.is_busy) == ({"patchnet": OTHER_DIGEST}, (), True)
    assert list(said.galleries) == ["guests"]
    said = describe(settings, client(), catalogue, False)
    assert (said.models, said.compares, said.galleries) == ({}, (), {})
