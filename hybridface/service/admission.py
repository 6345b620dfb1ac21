"""Decide what a client may use: the sessions that it may open, and what the server tells it of itself."""

from dataclasses import dataclass

from hybridface.modes import Mode
from hybridface.service.catalogue import Catalogue, ServedModel
from hybridface.service.configuration import ClientSettings, GallerySettings, ServiceConfiguration
from hybridface.service.requests import Described, DescribedGallery, Purpose, Refusal, RefusalKind, SessionRequest
from hybridface.version import __version__
from parties.gallery.rights import Right

__all__ = ["Grant", "admit", "describe", "may_see"]


@dataclass(frozen=True)
class Grant:
    """A session that a client may have.

    Args:
        client: who asks; TLS has authenticated it.
        request: what it asks for.
        served: the network.
        gallery: the gallery; None without one.
        may: what the client may do in the gallery.
    """

    client: ClientSettings
    request: SessionRequest
    served: ServedModel
    gallery: GallerySettings | None = None
    may: frozenset[Right] = frozenset()


def may_see(client: ClientSettings, catalogue: Catalogue) -> set[str]:
    """Return the names of the networks whose public half a client may have."""
    of_galleries = {catalogue.galleries[name].model for name in client.galleries if name in catalogue.galleries}
    return (set(client.models) & set(catalogue.models)) | of_galleries


def admit(request: SessionRequest, client: ClientSettings, catalogue: Catalogue) -> Grant | Refusal:
    """Return what a client gets for its request. A refusal says the same of what is unknown and what is not allowed."""
    served = catalogue.models.get(request.model)
    if served is None or request.model not in may_see(client, catalogue):
        return _no_right(client, f"the network {request.model!r}")
    if request.digest != served.digest:
        return Refusal("its network has changed; ask for it again", RefusalKind.UNKNOWN)
    if request.correlations.needs_dealer:
        return Refusal("a dealer does not take part over the network", RefusalKind.UNKNOWN)
    if request.mode not in served.settings.modes:
        return Refusal(f"the network {request.model!r} does not run in {request.mode} mode here", RefusalKind.UNKNOWN)
    if request.purpose is Purpose.GALLERY:
        return _admit_to_gallery(request, client, served, catalogue)
    if request.gallery is not None or (request.purpose is Purpose.PREPARE and request.mode is not Mode.HYBRID):
        return Refusal("the settings of the session do not fit together", RefusalKind.UNKNOWN)
    if request.purpose is Purpose.PAIR and request.model not in client.models:
        return _no_right(client, f"comparing photos with {request.model!r}")
    return Grant(client, request, served)


def describe(
    configuration: ServiceConfiguration, client: ClientSettings, catalogue: Catalogue, is_busy: bool
) -> Described:
    """Return what the server tells a client of itself: only what this client may use."""
    galleries = {
        name: DescribedGallery(
            catalogue.kind_of(name), catalogue.galleries[name].model, tuple(Right(right) for right in sorted(may))
        )
        for name, may in client.galleries.items()
        if name in catalogue.galleries
    }
    digests = {name: catalogue.models[name].digest for name in may_see(client, catalogue)}
    compares = tuple(name for name in client.models if name in catalogue.models)
    return Described(configuration.name, __version__, client.name, digests, compares, galleries, is_busy)


def _admit_to_gallery(
    request: SessionRequest, client: ClientSettings, served: ServedModel, catalogue: Catalogue
) -> Grant | Refusal:
    gallery = catalogue.galleries.get(request.gallery or "")
    if gallery is None or request.gallery not in client.galleries:
        return _no_right(client, f"the gallery {request.gallery!r}")
    if gallery.model != request.model or request.mode is not Mode.HYBRID:
        return Refusal(f"the gallery {request.gallery!r} uses the network {gallery.model!r}", RefusalKind.UNKNOWN)
    may = frozenset(Right(right) for right in client.galleries[gallery.name])
    return Grant(client, request, served, gallery, may)


def _no_right(client: ClientSettings, what: str) -> Refusal:
    return Refusal(f"{client.name!r} has no right to use {what}; ask the server's operator", RefusalKind.RIGHTS)
