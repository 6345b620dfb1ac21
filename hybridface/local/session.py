"""A session with all parties in this process: for notebooks, examples and tests.

The parties share this process's memory, so nothing is protected from anybody who can read it. Between organisations,
run the parties as MPI ranks (`hybridface party`, see launch/).
"""

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridface.errors import ModelError
from hybridface.faces.inputs import Photo, load_images
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.local.parties import LocalLinks, LocalParties, correlations_named
from hybridface.local.pure_he import LocalPureHeSession
from hybridface.models.model import Model
from hybridface.models.terms import hybrid_terms
from hybridface.modes import Mode
from parties.local import PartyThread
from parties.session.client import ClientSession, MatchResult, Template
from parties.session.correlations import Correlations
from parties.session.progress import OnProgress
from parties.session.server import ServerSession
from protocols.errors import ParameterError
from protocols.link import NONE, Link, link_named
from protocols.matching.reveal import Reveal
from protocols.pure_he import PureHeParameters

__all__ = ["LocalSession", "local_session"]


class LocalSession(LocalParties[ClientSession]):
    """Client and server, and a dealer if there is one, in one process. Use as a context manager.

    Args:
        model: a model with weights.
        reveal: who learns the decision.
        on_progress: called as steps begin.
        timeout: seconds that a party waits for another.
        pool: number of verifications of one photo to keep prepared in the background, between requests.
        cache: a folder where the server keeps encoded weights for the next session; None to encode them anew.
        link: the connection to simulate between them: a profile, or its name; "none" slows nothing down.
        correlations: who makes them: "ot" or "ot-iknp" (client and server), or "dealer".
    """

    def __init__(
        self,
        model: Model,
        *,
        reveal: Reveal | str = Reveal.CLIENT,
        on_progress: OnProgress | None = None,
        timeout: float = 300.0,
        link: Link | str = NONE,
        pool: int = 0,
        cache: str | Path | None = None,
        correlations: Correlations | str = Correlations.OT,
    ) -> None:
        super().__init__(timeout)
        if model.weights is None:
            raise ModelError(f"expected a model with weights, got {model.name} without")
        self.model = model
        if reveal not in list(Reveal):
            raise ParameterError(f"expected to reveal to {', '.join(Reveal)}, got {reveal!r}")
        self._terms = hybrid_terms(model, Reveal(reveal), correlations_named(correlations))
        self._on_progress = on_progress
        self._pool, self._cache = pool, None if cache is None else Path(cache).expanduser()
        self._link = link_named(link) if isinstance(link, str) else link
        self._server: ServerSession | None = None
        self._server_is_open = threading.Event()

    def __enter__(self) -> "LocalSession":
        links = LocalLinks.make(self._terms.correlations, self._timeout, self._link)
        weights = self.model.weights or {}

        def serve() -> None:
            self._server = ServerSession(links.to_client, links.of_server, self._terms, weights, cache=self._cache)
            self._server_is_open.set()
            self._server.serve()

        self._start(PartyThread("server", serve, links.server_ends), *links.others)
        self._client = ClientSession(
            links.to_server, links.of_client, self._terms, on_progress=self._on_progress, pool=self._pool
        )
        return self

    @property
    def server(self) -> ServerSession:
        """The server's session, with `last_decisions` if they are revealed to the server."""
        if self._threads:
            self._server_is_open.wait(self._timeout)
        if self._server is None:
            raise ModelError("expected an open session: use `with local_session(model) as session`")
        return self._server

    def prepare(self, images: int = 2, decisions: int = 1) -> None:
        """Do the offline phase of one verification ahead of time: 2 images for a pair, 1 against a template.

        Args:
            decisions: number of decisions; for a batch (`verify_batch`) as many as images.
        """
        self.client.prepare(images, decisions)

    def verify(
        self, first: Photo, second: Photo | Template, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> MatchResult:
        """Compare two photos, or a photo with an enrolled template.

        Args:
            aligned, options: as for `load_images`.
        """
        if isinstance(second, Template):
            return self.client.verify(load_images(self.model, [first], aligned, options), second)
        return self.client.verify_pair(load_images(self.model, [first, second], aligned, options))

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
        """
        return self.client.verify(load_images(self.model, photos, aligned, options), template)

    def enroll(
        self, photo: Photo, name: str | None = None, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> Template:
        """Store a photo's embedding as shares: the returned template is the client's share, the server keeps the other.

        Args:
            name: a new name; a random name if left out.
            aligned, options: as for `load_images`.
        """
        return self.client.enroll(name or secrets.token_hex(8), load_images(self.model, [photo], aligned, options))


def local_session(
    model: Model,
    mode: Mode | str = Mode.HYBRID,
    *,
    on_progress: OnProgress | None = None,
    timeout: float = 300.0,
    link: Link | str = NONE,
    reveal: Reveal | str = Reveal.CLIENT,
    pool: int = 0,
    cache: str | Path | None = None,
    correlations: Correlations | str = Correlations.OT,
    max_answers: int | None = None,
    parameters: PureHeParameters | None = None,
) -> LocalSession | LocalPureHeSession:
    """Return a session with all parties in this process.

    Args:
        mode: "hybrid", which opens one bit, or "pure-he", in which the client sees a score.
        on_progress, timeout, link: as for either session.
        reveal, pool, cache, correlations: as for `LocalSession`.
        max_answers, parameters: as for `LocalPureHeSession`.

    Raises:
        ParameterError: there is no such mode, or the mode has no such option.
    """
    if mode not in list(Mode):
        raise ParameterError(f"expected a mode {' or '.join(Mode)}, got {mode!r}")
    if mode == Mode.HYBRID:
        _refuse(mode, max_answers=max_answers, parameters=parameters)
        hybrid: Any = {"reveal": reveal, "pool": pool, "cache": cache, "correlations": correlations}
        return LocalSession(model, on_progress=on_progress, timeout=timeout, link=link, **hybrid)
    unusual = {"reveal": reveal != Reveal.CLIENT, "pool": pool, "cache": cache}
    _refuse(mode, **unusual, correlations=correlations != Correlations.OT)
    answers = 50 if max_answers is None else max_answers
    pure: Any = {"max_answers": answers, "parameters": parameters}
    return LocalPureHeSession(model, on_progress=on_progress, timeout=timeout, link=link, **pure)


def _refuse(mode: Mode | str, **options: Any) -> None:
    """Raise `ParameterError` for the first option that is given."""
    for name, given in options.items():
        if given:
            raise ParameterError(f"expected no option {name}: {mode} mode has no such option")
