"""Verification in pure-HE mode, with both parties in this process: for notebooks and tests.

Both parties share this process's memory, so nothing is protected from anybody who can read it. The result holds a
score, which a session in hybrid mode never opens: read docs/PURE_HE.md before you choose this mode.
"""

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybridface.faces.inputs import Photo, load_images
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.local.parties import LocalParties
from hybridface.models.model import Model
from hybridface.models.terms import pure_he_inputs, pure_he_terms, pure_he_weights
from parties.local import PartyThread
from parties.session.progress import OnProgress
from parties.session.pure_he import (
    EncryptedTemplate,
    PureHeClientSession,
    PureHeResult,
    PureHeServerSession,
)
from parties.transport.queues import local_channels
from protocols.link import NONE, Link, link_named
from protocols.pure_he import PureHeParameters

__all__ = ["LocalPureHeSession"]


class LocalPureHeSession(LocalParties[PureHeClientSession]):
    """Client and server in one process. Use as a context manager.

    Args:
        model: a patch network with weights.
        on_progress: called as the client's steps begin.
        timeout: seconds that a party waits for the other.
        link: the connection to simulate between them: a profile, or its name.
        max_answers: number of scores that the server gives in this session.
        parameters: parameters of the encryption; by default those that the network needs.

    Raises:
        ModelError: the model is no patch network, or has no weights.
    """

    def __init__(
        self,
        model: Model,
        *,
        on_progress: OnProgress | None = None,
        timeout: float = 300.0,
        link: Link | str = NONE,
        max_answers: int = 50,
        parameters: PureHeParameters | None = None,
    ) -> None:
        super().__init__(timeout)
        self.model, self.terms = model, pure_he_terms(model, max_answers, parameters)
        self._weights, self._on_progress = pure_he_weights(model), on_progress
        self._link = link_named(link) if isinstance(link, str) else link

    def __enter__(self) -> "LocalPureHeSession":
        to_server, to_client = local_channels("client", "server", self._timeout, self._link)

        def serve() -> None:
            PureHeServerSession(to_client, self.terms, self._weights).serve()

        self._start(PartyThread("server", serve, (to_client,)))
        self._client = PureHeClientSession(to_server, self.terms, self._on_progress)
        return self

    def enroll(
        self, photo: Photo, name: str | None = None, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> EncryptedTemplate:
        """Store a photo's encrypted embedding at the server.

        Args:
            name: a new name; a random name if left out.
            aligned, options: as for `load_images`.
        """
        return self.client.enroll(name or secrets.token_hex(8), self._inputs([photo], aligned, options)[0])

    def verify(
        self,
        first: Photo,
        second: Photo | EncryptedTemplate,
        aligned: bool | None = None,
        options: PhotoOptions = AS_GIVEN,
    ) -> PureHeResult:
        """Compare a photo with an enrolled template, or with a second photo, which is enrolled first.

        Args:
            aligned, options: as for `load_images`.
        """
        if not isinstance(second, EncryptedTemplate):
            second = self.enroll(second, aligned=aligned, options=options)
        return self.client.verify(self._inputs([first], aligned, options)[0], second)

    def _inputs(
        self, photos: Sequence[Photo], aligned: bool | None, options: PhotoOptions
    ) -> list[NDArray[np.float64]]:
        return [pure_he_inputs(self.model, image) for image in load_images(self.model, photos, aligned, options)]
