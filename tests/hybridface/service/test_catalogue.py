"""What a server offers: networks with weights, and galleries of these networks."""

from pathlib import Path

import pytest

from hybridface.errors import ConfigurationError
from hybridface.models.model import load_model
from hybridface.models.public import public_digest, public_document
from hybridface.service.catalogue import load_catalogue
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import GalleryStore
from support.service_folder import SETTINGS, read_settings


def make_gallery(path: Path, kind: GalleryKind, digest: str | None = None) -> None:
    """Make a gallery's file, for the tiny network unless it has another digest."""
    with GalleryStore(path, digest or load_model("tiny-test", weights=False).graph.digest(), 8, kind):
        pass


def test_networks_have_weights_and_public_halves(tmp_path: Path) -> None:
    found = load_catalogue(read_settings(tmp_path))
    served = found.models["tiny-test"]
    assert served.model.weights
    assert served.document == public_document(load_model("tiny-test", weights=False))
    assert served.digest == public_digest(served.document)
    assert list(found.galleries) == ["staff", "guests"]


def test_a_threshold_of_the_settings_is_in_the_public_half(tmp_path: Path) -> None:
    text = SETTINGS.replace("[models.tiny-test]", "[models.tiny-test]\nthreshold = 0.25")
    served = load_catalogue(read_settings(tmp_path, text)).models["tiny-test"]
    assert served.model.threshold == 0.25
    assert served.document["threshold"] == 0.25
    plain = load_catalogue(read_settings(tmp_path)).models["tiny-test"]
    assert served.digest != plain.digest


def test_a_gallery_without_a_file_will_be_private(tmp_path: Path) -> None:
    make_gallery(tmp_path / "guests.gallery", GalleryKind.LIST)
    found = load_catalogue(read_settings(tmp_path))
    assert (found.kind_of("staff"), found.kind_of("guests")) == (GalleryKind.PRIVATE, GalleryKind.LIST)
    make_gallery(tmp_path / "staff.gallery", GalleryKind.PRIVATE)
    assert found.kind_of("staff") is GalleryKind.PRIVATE


def test_a_gallery_of_another_network_is_refused(tmp_path: Path) -> None:
    make_gallery(tmp_path / "staff.gallery", GalleryKind.PRIVATE, "0" * 64)
    with pytest.raises(ConfigurationError, match="^gallery staff: "):
        load_catalogue(read_settings(tmp_path))


def test_a_file_that_is_no_gallery_is_refused(tmp_path: Path) -> None:
    (tmp_path / "guests.gallery").write_bytes(b"words" * 1000)
    with pytest.raises(ConfigurationError, match="^gallery guests: "):
        load_catalogue(read_settings(tmp_path))


def test_weights_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"words" * 1000)
    text = SETTINGS.replace("[models.tiny-test]", '[models.patchnet]\nweights = "weights"\n[models.tiny-test]')
    with pytest.raises(ConfigurationError, match="^network patchnet: "):
        load_catalogue(read_settings(tmp_path, text))
