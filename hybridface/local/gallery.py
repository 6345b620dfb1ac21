"""A gallery with all parties in this process: for notebooks, examples and tests.

All parties share this process's memory, so nothing is protected from anybody who can read it. The files are the same
as between organisations: the server's file of a private gallery is noise without the client's key, and the file of a
list holds its embeddings. For galleries between machines, see docs/GALLERIES.md.
"""

import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from hybridface.errors import ImageError, ModelError
from hybridface.faces.inputs import Photo, load_images
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.galleries.clear_embedding import ClearEmbedding
from hybridface.galleries.file import GalleryFile, index_folder
from hybridface.galleries.following import change_key, rename_identity
from hybridface.galleries.import_journal import RecordBusyError
from hybridface.galleries.kind import kind_for_use
from hybridface.local.parties import LocalLinks, LocalParties, correlations_named
from hybridface.models.model import Model
from hybridface.models.terms import hybrid_terms
from parties.gallery.index.search import PROBE
from parties.gallery.key import create_key, read_key
from parties.gallery.kind import GalleryKind
from parties.gallery.sessions.client import GalleryClientSession, Identification
from parties.gallery.sessions.list_client import ListClientSession
from parties.gallery.sessions.list_server import ListServerSession
from parties.gallery.sessions.private_client import PrivateClientSession
from parties.gallery.sessions.private_server import PrivateServerSession
from parties.gallery.sessions.server import GalleryQueries, GalleryServerSession
from parties.local import PartyThread
from parties.session.client import MatchResult
from parties.session.client_endpoint import ClientEndpoint
from parties.session.correlations import Correlations
from parties.session.cost import CostReport
from parties.session.progress import OnProgress
from parties.session.server_endpoint import ServerEndpoint
from protocols.channel import Channel
from protocols.errors import ParameterError
from protocols.matching.reveal import Reveal

__all__ = ["Gallery"]


class Gallery(LocalParties[GalleryClientSession]):
    """A gallery with all parties in one process. Use as a context manager.

    Args:
        model: a model with weights.
        path: the server's file; made if it does not exist.
        key: the client's key file (32 bytes) for a private gallery; made if it does not exist. A list has no key.
        kind: "private" or "list"; by default the kind of the file, and private for a new file.
        reveal: who learns the outcome of queries.
        limits: whether the server limits queries (docs/GALLERIES.md).
        on_progress: called as steps begin.
        timeout: seconds that a party waits for another.
        cache: a folder where the server keeps encoded weights for the next session; None to encode them anew.
        correlations: who makes them: "ot" or "ot-iknp" (client and server), or "dealer" (faster offline phase).

    Raises:
        ModelError: the model has no weights. ParameterError: the file is of another kind, a private gallery got no key,
            or a list got one. KeyFileError, StoreError: a file cannot be used.
    """

    def __init__(
        self,
        model: Model,
        path: str | Path,
        key: str | Path | None = None,
        kind: GalleryKind | str | None = None,
        *,
        reveal: Reveal | str = Reveal.CLIENT,
        limits: bool = True,
        on_progress: OnProgress | None = None,
        timeout: float = 300.0,
        cache: str | Path | None = None,
        correlations: Correlations | str = Correlations.OT,
    ) -> None:
        super().__init__(timeout)
        if model.weights is None:
            raise ModelError(f"expected a model with weights, got {model.name} without")
        for value, known in ((kind, GalleryKind), (reveal, Reveal)):
            if value is not None and value not in list(known):
                raise ParameterError(f"expected {' or '.join(known)}, got {value!r}")
        self.model, self._path = model, Path(path).expanduser()
        self._key = None if key is None else Path(key).expanduser()
        self.kind = kind_for_use(self._path, None if kind is None else GalleryKind(kind), new=True)
        if (self.kind is GalleryKind.LIST) is (self._key is not None):
            wanted = "no key" if self._key else "a key file"
            raise ParameterError(f"expected {wanted} for a gallery of kind {self.kind}: only a private one has a key")
        self._terms = hybrid_terms(model, Reveal(reveal), correlations_named(correlations))
        self._limits, self._on_progress = limits, on_progress
        self._cache = None if cache is None else Path(cache).expanduser()
        self._embedding = ClearEmbedding(model) if self.kind is GalleryKind.LIST else None
        self._file: GalleryFile | None = None
        self._server: GalleryServerSession | None = None
        self._server_is_open = threading.Event()

    def __enter__(self) -> "Gallery":
        secret = None
        if self._key:
            secret = read_key(self._key) if self._key.exists() else create_key(self._key)
        self._file = GalleryFile(self._path, self.model, self.kind, self._limits)
        links = LocalLinks.make(self._terms.correlations, self._timeout)

        def serve() -> None:
            self._server = self._served(links.to_client, links.of_server)
            self._server_is_open.set()
            self._server.serve()

        self._start(PartyThread("server", serve, links.server_ends), *links.others)
        try:
            peers = links.to_server, links.of_client
            endpoint = ClientEndpoint(*peers, self._terms, on_progress=self._on_progress, refilled=PROBE)
            if self._key and secret:
                self._client = PrivateClientSession(endpoint, secret, index_folder(self._key))
            else:
                self._client = ListClientSession(endpoint)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._opened().close()

    def _served(self, client: Channel, dealer: Channel | None) -> GalleryServerSession:
        """Open the server's side."""
        file = self._opened()
        endpoint = ServerEndpoint(client, dealer, self._terms, self.model.weights or {}, cache=self._cache)
        queries = GalleryQueries(file.store, file.limits, "client")
        if self.kind is GalleryKind.LIST:
            return ListServerSession(endpoint, queries)
        return PrivateServerSession(endpoint, queries, index_folder(self._path))

    @property
    def server(self) -> GalleryServerSession:
        """The server's session, with `last_decisions` and `last_identities` if they are revealed to the server.

        Raises:
            ModelError: the gallery is not open.
        """
        if self._threads:
            self._server_is_open.wait(self._timeout)
        if self._server is None:
            raise ModelError("expected an open gallery: use `with Gallery(...) as gallery`")
        return self._server

    def enroll(
        self, identity: str, photo: Photo, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> CostReport:
        """Add a photo of an identity: to a private gallery by the protocol, to the server's own list in the clear.

        Args:
            aligned, options: as for `load_images`.

        Returns:
            The cost of the protocol; empty for a list.
        """
        if self._embedding:
            self._opened().enroll(identity, self._embedding(photo, aligned, options))
            return CostReport(())
        return self._private().enroll_identity(identity, load_images(self.model, [photo], aligned, options)).cost

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
            QueryRefusedError: the identity is not enrolled, or there were too many queries about it.
        """
        return self.client.verify_identity(identity, load_images(self.model, [photo], aligned, options))

    def identify(
        self, photo: Photo, top: int = 1, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN
    ) -> Identification:
        """Return who is nearest to a photo and below the threshold; never return a distance.

        Args:
            aligned, options: as for `load_images`.

        Raises:
            QueryRefusedError: nobody is enrolled, or there were too many queries.
        """
        image = load_images(self.model, [photo], aligned, options)
        self.client.update_index()
        return self.client.identify(image, top)

    def list(self) -> dict[str, int]:
        """Return who is enrolled, and how many photos each has: a private gallery in order of enrolment, a list sorted.

        Only the server knows the names in a list.
        """
        return self._opened().identities() if self.kind is GalleryKind.LIST else self._private().list_identities()

    def remove(self, identities: Sequence[str]) -> int:
        """Remove identities with all their photos, and every trace of them in the files; return how many photos.

        Raises:
            ParameterError: of a private gallery, more than 1 MiB of names at once; nobody is removed.
        """
        if self.kind is GalleryKind.LIST:
            return self._opened().remove(identities)
        return self._private().remove_identities(identities)

    def remove_photos(self, identity: str, photos: Sequence[int]) -> int:
        """Remove some of an identity's photos by their numbers; return how many. The server does this alone."""
        return self._opened().remove_photos(identity, photos)

    def rename(self, old: str, new: str) -> None:
        """Give somebody a name that nobody has; the next import of a folder knows the person by that name."""
        if self._key is None:
            self._opened().rename(old, new)
        else:
            rename_identity(self._private(), self._key, old, new)

    def export(self, path: str | Path) -> int:
        """Write what the gallery stores to a new file, for another server; return how many photos."""
        return self._opened().export(Path(path).expanduser())

    def rotate_key(self, path: str | Path) -> int:
        """Put a private gallery under a new key in a new file, without enrolling anybody again; return its generation.

        Raises:
            ParameterError: the gallery is a list, which has no key. RecordBusyError: an import is running; the key
                stays.
        """
        session, path, warned = self._private(), Path(path).expanduser(), list[str]()
        secret = create_key(path)
        try:
            generation = change_key(session, self._key or path, path, secret, warned.append)
        except RecordBusyError:
            path.unlink()  # nothing uses it, and it would block the next attempt
            raise
        self._key = path
        for warning in warned:  # a warning may be an error: first comes what counts
            warnings.warn(warning, stacklevel=2)
        return generation

    def _opened(self) -> GalleryFile:
        if self._file is None:
            raise ModelError("expected an open gallery: use `with Gallery(...) as gallery`")
        return self._file

    def _private(self) -> PrivateClientSession:
        if not isinstance(self.client, PrivateClientSession):
            raise ParameterError("expected a private gallery, got a list that the server owns, which has no key")
        return self.client
