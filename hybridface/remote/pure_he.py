"""A session in pure-HE mode with a server of another organisation. The client learns a score: see docs/PURE_HE.md."""

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybridface.faces.inputs import Photo, load_images
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.models.model import Model
from hybridface.models.terms import pure_he_inputs, pure_he_terms
from hybridface.processes.runs import PureHeRun
from hybridface.remote.access import Access, LazySession
from hybridface.service.requests import MAX_ANSWERS
from parties.session.pure_he import EncryptedTemplate, PureHeClientSession, PureHeResult
from protocols.channel import Channel
from protocols.errors import ParameterError

__all__ = ["RemotePureHeSession"]


class RemotePureHeSession(LazySession[PureHeClientSession]):
    """A session in pure-HE mode with a remote server. Use as a context manager. `hybridface.connect` makes it.

    It begins with the first verification or enrolment. The network must be a patch network.

    Args:
        access: how to reach the server.
        max_answers: number of scores that the session may give, at most 1,000.

    Raises:
        ParameterError: `max_answers` is out of range.
    """

    def __init__(self, access: Access, *, max_answers: int = 50) -> None:
        super().__init__(access)
        if not 0 < max_answers <= MAX_ANSWERS:
            raise ParameterError(f"expected 1 to {MAX_ANSWERS} answers, got {max_answers}")
        self._max_answers = max_answers

    def enroll(
        self, photo: Photo, name: str | None = None, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> EncryptedTemplate:
        """Store a photo's encrypted embedding at the server, for this session.

        Args:
            name: a new name; a random name if left out.
            aligned, options: as for `load_images`.

        Raises:
            ImageError: the photo cannot be used. ModelError: the network is no patch network.
            QueryRefusedError: the server refuses the session. RunError: the server is gone; the session is over.
        """
        values = self._inputs([photo], aligned, options)[0]
        with self._using() as client:
            return client.enroll(name or secrets.token_hex(8), values)

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

        Raises:
            ImageError, ModelError, QueryRefusedError, RunError: as for `enroll`.
        """
        if not isinstance(second, EncryptedTemplate):
            second = self.enroll(second, aligned=aligned, options=options)
        values = self._inputs([first], aligned, options)[0]
        with self._using() as client:
            return client.verify(values, second)

    def _inputs(
        self, photos: Sequence[Photo], aligned: bool | None, options: PhotoOptions
    ) -> list[NDArray[np.float64]]:
        return [pure_he_inputs(self.model, image) for image in load_images(self.model, photos, aligned, options)]

    def _run(self, model: Model) -> PureHeRun:
        return PureHeRun(model=model.name, max_answers=self._max_answers)

    def _begun(self, channel: Channel, model: Model) -> PureHeClientSession:
        return PureHeClientSession(channel, pure_he_terms(model, self._max_answers), self._access.on_progress)
