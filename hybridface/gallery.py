"""A private gallery with all parties in this process: for notebooks, examples and tests.

All share this process's memory, so it protects nothing from anybody who can read it; the files are as they would be
between organisations: what the server stores is noise without the client's key. Between machines: docs/GALLERIES.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hybridface.errors import ImageError, ModelError
from hybridface.hybrid_terms import hybrid_terms
from hybridface.local_parties import LocalParties
from hybridface.models import Model
from hybridface.photo_input import Photo, load_images
from parties.client import MatchResult
from parties.cost import CostReport
from parties.gallery.client import GalleryClientSession
from parties.gallery.key import create_key, read_key
from parties.gallery.limits import IDENTIFY, VERIFY, QueryLimits
from parties.gallery.query_client import Identification
from parties.gallery.records import Kind
from parties.gallery.server import GalleryServerSession
from parties.gallery.store import GalleryStore
from parties.local import PartyThread, local_channels
from parties.progress import OnProgress
from protocols.correlations import Dealer

__all__ = ["Gallery", "index_folder"]


def index_folder(path: Path) -> Path:
    """Return where the index beside a gallery's or a key's file is kept."""
    return path.with_name(f"{path.name}.index")


class Gallery(LocalParties[GalleryClientSession]):
    """Enrolled people: client, server and dealer in one process. Use as a context manager.

    Args:
        model: with weights.
        path: the server's file; made if there is none.
        key: the client's key file, 32 bytes; made if there is none.
        limits: whether the server limits queries (docs/GALLERIES.md).
        on_progress: called as steps begin.
        timeout: seconds that a party waits for another.
        cache: a folder where the server keeps encoded weights for the next session; None to encode them anew.

    Raises:
        ModelError: the model has no weights. KeyFileError, StoreError: a file cannot be used.
    """

    def __init__(
        self,
        model: Model,
        path: str | Path,
        key: str | Path,
        limits: bool = True,
        on_progress: OnProgress | None = None,
        timeout: float = 300.0,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(timeout)
        if model.weights is None:
            raise ModelError(f"expected a model with weights, got {model.name} without")
        self.model, self._path, self._key = model, Path(path).expanduser(), Path(key).expanduser()
        self._rates = (VERIFY, IDENTIFY) if limits else (None, None)
        self._on_progress = on_progress
        self._cache = None if cache is None else Path(cache).expanduser()

    def __enter__(self) -> "Gallery":
        secret = read_key(self._key) if self._key.exists() else create_key(self._key)
        self._store().close()  # tells here, and not in a thread, what is wrong with the file
        terms = hybrid_terms(self.model)
        to_server, to_client = local_channels("client", "server", self._timeout)
        client_dealer, dealer_client = local_channels("client", "dealer", self._timeout)
        server_dealer, dealer_server = local_channels("server", "dealer", self._timeout)

        def serve() -> None:
            with self._store() as store, QueryLimits(self._path, *self._rates) as limits:
                GalleryServerSession(
                    to_client,
                    server_dealer,
                    terms,
                    self.model.weights or {},
                    cache=self._cache,
                    store=store,
                    limits=limits,
                    client_name="client",
                    index_folder=index_folder(self._path),
                ).serve()

        self._start(
            PartyThread("server", serve, (to_client, server_dealer)),
            PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server)),
        )
        folder = index_folder(self._key)
        self._client = GalleryClientSession(
            to_server, client_dealer, terms, self._on_progress, key=secret, index_folder=folder
        )
        return self

    def enroll(self, identity: str, photo: Photo, aligned: bool = False) -> CostReport:
        """Add a photo of an identity."""
        return self.client.enroll_identity(identity, load_images(self.model, [photo], aligned))

    def enroll_many(
        self, people: Iterable[tuple[str, Photo]], aligned: bool = False
    ) -> Iterator[tuple[str, Photo, ImageError | None]]:
        """Add many photos; yield each with None, or with why it shows no usable face."""
        for identity, photo in people:
            error = None
            try:
                self.enroll(identity, photo, aligned)
            except ImageError as reason:
                error = reason
            yield identity, photo, error

    def verify(self, identity: str, photo: Photo, aligned: bool = False) -> MatchResult:
        """Compare a photo with an identity: with the nearest of its photos.

        Raises:
            QueryRefusedError: it is not enrolled, or was asked about too often.
        """
        return self.client.verify_identity(identity, load_images(self.model, [photo], aligned))

    def identify(self, photo: Photo, top: int = 1, aligned: bool = False) -> Identification:
        """Return who is nearest to a photo and near enough; never a distance.

        Raises:
            QueryRefusedError: nobody is enrolled, or too much was asked.
        """
        image = load_images(self.model, [photo], aligned)
        self.client.update_index()
        return self.client.identify(image, top)

    def list(self) -> dict[str, int]:
        """Return who is enrolled, in order of enrolment, and how many photos each has."""
        return self.client.list_identities()

    def remove(self, identities: Sequence[str]) -> int:
        """Remove identities with all their photos, and every trace of them in the file; return how many photos."""
        return self.client.remove_identities(identities)

    def rotate_key(self, path: str | Path) -> int:
        """Put the gallery under a new key, in a new file, without enrolling anybody again; return its generation."""
        return self.client.rotate_key(create_key(Path(path).expanduser()))

    def _store(self) -> GalleryStore:
        (dimension,) = self.model.graph.output_shape
        return GalleryStore(self._path, self.model.graph.digest(), dimension, Kind.PRIVATE)
