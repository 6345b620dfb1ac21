"""A session with a server of another organisation, for programs: `hybridface.connect`.

This process is the client. It has the photos, and the server never sees them. The server has the network's weights, and
this process never sees those. Both sides authenticate each other: see `hybridface client --help`.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hybridface.faces.inputs import Photo, load_images
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.folders import configuration_directory
from hybridface.models.model import Model
from hybridface.models.terms import hybrid_terms
from hybridface.modes import Mode
from hybridface.processes.runs import HybridRun
from hybridface.remote.access import Access, LazySession
from hybridface.remote.gallery import ServerGallery
from hybridface.remote.pure_he import RemotePureHeSession
from parties.prepared.store import opened_store
from parties.session.client import ClientSession, MatchResult, Template
from parties.session.correlations import Correlations
from parties.session.progress import OnProgress
from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.matching.reveal import Reveal

__all__ = ["RemoteSession", "connect"]


class RemoteSession(LazySession[ClientSession]):
    """A session in hybrid mode with a server of another organisation. Use as a context manager.

    It begins with the first verification, enrolment or preparation. `connect` makes it.

    Args:
        access: how to reach the server.
        reveal: who learns the decision.
        pool: number of verifications of one photo to keep prepared in the background, between requests.
        correlations: "ot" or "ot-iknp".
        prepared: folder of runs that `hybridface prepare --server` has kept; None for none.
    """

    def __init__(
        self,
        access: Access,
        *,
        reveal: Reveal = Reveal.CLIENT,
        pool: int = 0,
        correlations: Correlations = Correlations.OT,
        prepared: Path | None = None,
    ) -> None:
        super().__init__(access)
        self._reveal, self._correlations = reveal, correlations
        self._pool, self._prepared = pool, prepared

    def gallery(
        self, name: str | None = None, key: str | Path | None = None, *, reveal: Reveal | str | None = None
    ) -> ServerGallery:
        """Return one of the server's galleries, to use as a context manager. It has a session of its own.

        Args:
            name: the server's name for it; None for the only one.
            key: the client's key file of a private gallery; None for the one where commands look.
            reveal: who learns the outcome of queries; by default as in this session.

        Raises:
            ParameterError: there is no such choice.
        """
        return ServerGallery(
            replace(self._access, model=""),
            name,
            None if key is None else Path(key).expanduser(),
            reveal=self._reveal if reveal is None else _reveal_named(reveal),
            correlations=self._correlations,
        )

    def prepare(self, images: int = 2, decisions: int = 1) -> None:
        """Do the offline phase of one verification ahead of time: 2 images for a pair, 1 against a template.

        Args:
            decisions: number of decisions; for a batch (`verify_batch`) as many as images.
        """
        with self._using() as client:
            client.prepare(images, decisions)

    def verify(
        self, first: Photo, second: Photo | Template, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> MatchResult:
        """Compare two photos, or a photo with an enrolled template.

        Args:
            aligned, options: as for `load_images`.

        Raises:
            ImageError: a photo cannot be used. QueryRefusedError: the server refuses the session.
            RunError: the server is gone; the session is over.
        """
        photos = [first] if isinstance(second, Template) else [first, second]
        images = load_images(self.model, photos, aligned, options)
        with self._using() as client:
            return client.verify(images, second) if isinstance(second, Template) else client.verify_pair(images)

    def verify_batch(
        self,
        photos: Sequence[Photo],
        template: Template | Sequence[Template],
        aligned: bool | None = None,
        options: PhotoOptions = AS_GIVEN,
    ) -> MatchResult:
        """Compare up to 16 photos with a template, or each with its own, in one batch: as many rounds as for one photo.

        Args:
            aligned, options: as for `load_images`.

        Raises:
            ImageError, QueryRefusedError, RunError: as for `verify`.
        """
        images = load_images(self.model, photos, aligned, options)
        with self._using() as client:
            return client.verify(images, template)

    def enroll(
        self, photo: Photo, name: str | None = None, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> Template:
        """Store a photo's embedding as shares: the returned template is the client's share, the server keeps the other.

        Both are of use in this session only; a gallery keeps people for longer.

        Args:
            name: a new name; a random name if left out.
            aligned, options: as for `load_images`.

        Raises:
            ImageError, QueryRefusedError, RunError: as for `verify`.
        """
        image = load_images(self.model, [photo], aligned, options)
        with self._using() as client:
            return client.enroll(name or secrets.token_hex(8), image)

    def _run(self, model: Model) -> HybridRun:
        return HybridRun(model=model.name, reveal=self._reveal, correlations=self._correlations)

    def _begun(self, channel: Channel, model: Model) -> ClientSession:
        return ClientSession(
            channel,
            None,
            hybrid_terms(model, self._reveal, self._correlations),
            on_progress=self._access.on_progress,
            pool=self._pool,
            prepared=opened_store(self._prepared),
        )


def connect(
    server: str,
    mode: Mode | str = Mode.HYBRID,
    *,
    model: str = "",
    identity: str | Path | None = None,
    on_progress: OnProgress | None = None,
    timeout: float = 300.0,
    reveal: Reveal | str = Reveal.CLIENT,
    pool: int = 0,
    correlations: Correlations | str = Correlations.OT,
    prepared: str | Path | None = None,
    max_answers: int | None = None,
) -> RemoteSession | RemotePureHeSession:
    """Return a session with a server of another organisation, which this client knows by `hybridface client add`.

    Args:
        server: the client's name for the server, or its address.
        mode: "hybrid", which opens one bit, or "pure-he", in which the client sees a score.
        model: the network's name at the server; by default the only one, or the default network.
        identity: folder of this client's key and of the servers that it knows; by default ~/.config/hybridface.
        on_progress: called as steps begin.
        timeout: seconds to wait for a message.
        reveal, pool, correlations, prepared: as for `RemoteSession`.
        max_answers: as for `RemotePureHeSession`.

    Raises:
        ParameterError: there is no such mode, or the mode has no such option.
    """
    if mode not in list(Mode):
        raise ParameterError(f"expected a mode {' or '.join(Mode)}, got {mode!r}")
    folder = configuration_directory() if identity is None else Path(identity).expanduser()
    access = Access(server=server, identity=folder, model=model, timeout=timeout, on_progress=on_progress)
    named, chosen = _reveal_named(reveal), _correlations_named(correlations)
    if mode == Mode.HYBRID:
        _refuse(mode, max_answers=max_answers is not None)
        folder_of_runs = None if prepared is None else Path(prepared).expanduser()
        return RemoteSession(access, reveal=named, pool=pool, correlations=chosen, prepared=folder_of_runs)
    unusual = {"reveal": named is not Reveal.CLIENT, "correlations": chosen is not Correlations.OT}
    _refuse(mode, **unusual, pool=bool(pool), prepared=prepared is not None)
    return RemotePureHeSession(access, max_answers=50 if max_answers is None else max_answers)


def _reveal_named(reveal: Reveal | str) -> Reveal:
    """Return who learns an outcome.

    Raises:
        ParameterError: there is no such choice.
    """
    if reveal not in list(Reveal):
        raise ParameterError(f"expected to reveal to {', '.join(Reveal)}, got {reveal!r}")
    return Reveal(reveal)


def _correlations_named(name: Correlations | str) -> Correlations:
    """Return the way to make correlations that has this name; a dealer does not take part over the network."""
    allowed = [one for one in Correlations if not one.needs_dealer]
    if name not in allowed:
        raise ParameterError(f"expected correlations from {' or '.join(allowed)}, got {name!r}")
    return Correlations(name)


def _refuse(mode: Mode | str, **options: bool) -> None:
    """Raise `ParameterError` for the first option that is given."""
    for name, given in options.items():
        if given:
            raise ParameterError(f"expected no option {name}: {mode} mode has no such option")
