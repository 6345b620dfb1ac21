"""What a server offers: its networks with their weights, and its galleries, read before any client comes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybridface.errors import ConfigurationError
from hybridface.galleries.kind import expect_model
from hybridface.models.model import Model, load_model
from hybridface.models.public import public_digest, public_document
from hybridface.service.configuration import GallerySettings, ModelSettings, ServiceConfiguration
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import header_of
from protocols.errors import HybridFaceError

__all__ = ["Catalogue", "ServedModel", "load_catalogue"]


@dataclass(frozen=True)
class ServedModel:
    """A network that clients may use.

    Args:
        settings: from the configuration.
        model: with weights.
        document: its public half, for clients.
        digest: of the document, 64 hexadecimal digits.
    """

    settings: ModelSettings
    model: Model
    document: dict[str, Any]
    digest: str


@dataclass(frozen=True)
class Catalogue:
    """What a server offers.

    Args:
        models: by name.
        galleries: by name.
    """

    models: Mapping[str, ServedModel]
    galleries: Mapping[str, GallerySettings]

    def kind_of(self, gallery: str) -> GalleryKind:
        """Return a gallery's kind; a gallery that has no file yet will be private."""
        path = self.galleries[gallery].file
        return header_of(path).kind if path.exists() else GalleryKind.PRIVATE


def load_catalogue(configuration: ServiceConfiguration) -> Catalogue:
    """Load the networks, and check the galleries.

    Raises:
        ConfigurationError: a network or a gallery cannot be used.
    """
    models = {name: _served(settings) for name, settings in configuration.models.items()}
    for name, gallery in configuration.galleries.items():
        try:
            if gallery.file.exists():
                expect_model(gallery.file, models[gallery.model].model)
        except HybridFaceError as error:
            raise ConfigurationError(f"gallery {name}: {error}") from error
    return Catalogue(models, configuration.galleries)


def _served(settings: ModelSettings) -> ServedModel:
    try:
        model = load_model(settings.name, path=settings.weights).with_threshold(settings.threshold)
    except HybridFaceError as error:
        raise ConfigurationError(f"network {settings.name}: {error}") from error
    document = public_document(model)
    return ServedModel(settings, model, document, public_digest(document))
