"""A gallery of a server of another organisation, for programs. The server decides what this client may do there.

The client's key of a private gallery stays with this client. The server's file is noise without it.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from hybridface.errors import ImageError
from hybridface.faces.inputs import Photo, load_images
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.galleries.file import index_folder
from hybridface.galleries.following import change_key, rename_identity
from hybridface.galleries.import_journal import RecordBusyError
from hybridface.models.model import Model
from hybridface.models.terms import hybrid_terms
from hybridface.processes.runs import GalleryRun
from hybridface.remote.access import Access, LazySession
from hybridface.service.requests import DescribedGallery
from parties.gallery.errors import QueryRefusedError
from parties.gallery.index.search import PROBE
from parties.gallery.key import create_key, read_key
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.gallery.sessions.client import GalleryClientSession, Identification
from parties.gallery.sessions.list_client import ListClientSession
from parties.gallery.sessions.private_client import PrivateClientSession
from parties.machine.durable import make_folder
from parties.session.client import MatchResult
from parties.session.client_endpoint import ClientEndpoint
from parties.session.correlations import Correlations
from parties.session.cost import CostReport
from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.matching.reveal import Reveal

__all__ = ["ServerGallery"]


class ServerGallery(LazySession[GalleryClientSession]):
    """A gallery of a remote server. Use as a context manager. `RemoteSession.gallery` makes it.

    Its session begins with the first request.

    Args:
        access: how to reach the server.
        name: the server's name for the gallery; None for the only one.
        key: the client's key file of a private gallery; None for the one where commands look. The first enrolment
            makes the file if it does not exist.
        reveal: who learns the outcome of queries.
        correlations: "ot" or "ot-iknp".

    Raises:
        ParameterError: on entering, if there is no such gallery, or if a list got a key.
    """

    def __init__(
        self,
        access: Access,
        name: str | None,
        key: Path | None,
        *,
        reveal: Reveal = Reveal.CLIENT,
        correlations: Correlations = Correlations.OT,
    ) -> None:
        super().__init__(access)
        self._wanted, self._key = name, key
        self._reveal, self._correlations = reveal, correlations
        self._about: DescribedGallery | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        server = self._reached
        about = server.use_gallery(self._wanted)
        if about.kind is GalleryKind.LIST and self._key:
            raise ParameterError(f"expected no key for {server.gallery} on {server.name}: a list has none")
        if about.kind is GalleryKind.PRIVATE and self._key is None:
            self._key = server.usual_key
        self._about = about
        return self

    @property
    def about(self) -> DescribedGallery:
        """The gallery's kind and network, and what this client may do there."""
        server = self._reached
        return self._about or server.use_gallery(self._wanted)

    @property
    def key(self) -> Path | None:
        """The client's key file; None for a list."""
        return self._key

    def enroll(
        self, identity: str, photo: Photo, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> CostReport:
        """Add a photo of an identity to a private gallery; return the cost.

        Args:
            aligned, options: as for `load_images`.

        Raises:
            ImageError: the photo cannot be used.
            ParameterError: the client has no right to, or the gallery is a list, in which only its owner enrols.
            QueryRefusedError: the server refuses it. RunError: the server is gone; the session is over.
        """
        self._expect_private()
        self._reached.expect_right(Right.ENROLL)
        image = load_images(self.model, [photo], aligned, options)
        if self._key and not self._key.exists():
            make_folder(self._key.parent)
            create_key(self._key)
        with self._private(Right.ENROLL) as client:
            return client.enroll_identity(identity, image).cost

    def enroll_many(
        self, people: Iterable[tuple[str, Photo]], aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> Iterator[tuple[str, Photo, ImageError | None]]:
        """Add many photos; yield each with None, or with the error that says why it shows no usable face."""
        for identity, photo in people:
            error = None
            try:
                self.enroll(identity, photo, aligned, options)
            except ImageError as reason:
                error = reason
            yield identity, photo, error

    def verify(
        self, identity: str, photo: Photo, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> MatchResult:
        """Compare a photo with an identity, that is, with the nearest of its photos.

        Args:
            aligned, options: as for `load_images`.

        Raises:
            ImageError, RunError: as for `enroll`. ParameterError: the client has no right to, or has no key.
            QueryRefusedError: the identity is not enrolled, or there were too many queries.
        """
        self._reached.expect_right(Right.VERIFY)
        image = load_images(self.model, [photo], aligned, options)
        with self._using() as client:
            return client.verify_identity(identity, image)

    def identify(
        self, photo: Photo, top: int = 1, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> Identification:
        """Return who is nearest to a photo and below the threshold; never return a distance.

        Args:
            aligned, options: as for `load_images`.

        Raises:
            ImageError, ParameterError, QueryRefusedError, RunError: as for `verify`.
        """
        self._reached.expect_right(Right.IDENTIFY)
        image = load_images(self.model, [photo], aligned, options)
        with self._using() as client:
            client.update_index()
            return client.identify(image, top)

    def list(self) -> dict[str, int]:
        """Return who is enrolled in a private gallery, in order of enrolment, and how many photos each has."""
        with self._private(Right.LIST) as client:
            return client.list_identities()

    def remove(self, identities: Sequence[str]) -> int:
        """Remove identities with all their photos from a private gallery; return how many photos."""
        with self._private(Right.REMOVE) as client:
            return client.remove_identities(identities)

    def rename(self, old: str, new: str) -> None:
        """Give somebody a name that nobody has; the next import of a folder knows the person by that name."""
        with self._private(Right.RENAME) as client:
            rename_identity(client, self._key or Path(), old, new)

    def rotate_key(self, path: str | Path) -> int:
        """Put a private gallery under a new key in a new file, without enrolling anybody again; return its generation.

        From then on, this object uses the new file. If the session fails, keep both files.

        Raises:
            RecordBusyError: an import is running; the key stays. QueryRefusedError: the server refuses; the key stays.
            RunError: the server is gone; the gallery is under either key.
        """
        path, warned = Path(path).expanduser(), list[str]()
        with self._private(Right.ROTATE) as client:
            secret = create_key(path)
            try:
                generation = change_key(client, self._key or path, path, secret, warned.append)
            except (RecordBusyError, QueryRefusedError):
                path.unlink()  # nothing uses it, and it would block the next attempt
                raise
        self._key = path
        for warning in warned:  # a warning may be an error: first comes what counts
            warnings.warn(warning, stacklevel=2)
        return generation

    def _run(self, model: Model) -> GalleryRun:
        if self._key and not self._key.exists():
            where = f"{self._reached.gallery} on {self._reached.name}"
            raise ParameterError(f"expected the key of {where}, found no {self._key}; another key finds nobody")
        if self._key:
            read_key(self._key)  # now, before the server opens a session
        return GalleryRun(model=model.name, reveal=self._reveal, correlations=self._correlations, key=self._key)

    def _begun(self, channel: Channel, model: Model) -> GalleryClientSession:
        terms = hybrid_terms(model, self._reveal, self._correlations)
        endpoint = ClientEndpoint(channel, None, terms, on_progress=self._access.on_progress, refilled=PROBE)
        if self._key is None:
            return ListClientSession(endpoint)
        return PrivateClientSession(endpoint, read_key(self._key), index_folder(self._key))

    def _expect_private(self) -> None:
        if self.about.kind is not GalleryKind.PRIVATE:
            raise ParameterError(
                f"expected a private gallery, got {self._reached.gallery}, a list that the server owns"
            )

    @contextmanager
    def _private(self, right: Right) -> Iterator[PrivateClientSession]:
        """Give the session of a private gallery, for something that the client may do there."""
        self._expect_private()
        self._reached.expect_right(right)
        with self._using() as client:
            if not isinstance(client, PrivateClientSession):
                raise ParameterError("expected a private gallery, got a list")
            yield client
