"""`hybridface import --server`: put a folder of photos into a gallery of another organisation's server."""

from collections.abc import Sequence
from pathlib import Path

from hybridface.commands.gallery_options import PhotoSettings
from hybridface.commands.gallery_remote import RemoteGallery, remote_gallery
from hybridface.commands.gallery_runs import enroll_remotely
from hybridface.commands.import_runs import FolderSource, Known, OnAnswer, import_plan, planned
from hybridface.galleries.import_journal import ImportJournal, held
from hybridface.galleries.tasks import Verb
from parties.gallery.kind import GalleryKind
from protocols.errors import ParameterError

__all__ = ["import_remotely"]


def import_remotely(settings: PhotoSettings, source: FolderSource) -> bool:
    """Enrol a folder's photos, report the result, and return whether all are enrolled.

    The record of what is enrolled lies beside the client's key.
    """
    plan = planned(source)
    with remote_gallery(settings) as gallery:
        if gallery.key is None or gallery.kind is not GalleryKind.PRIVATE:
            raise ParameterError(f"{gallery.name}: expected a private gallery, got a list: only its owner enrols in it")
        gallery.expect_right(Verb.ENROLL)
        gallery.make_key()
        folder = gallery.key.parent

        def enroll(photos: Sequence[tuple[str, Path]], on_answer: OnAnswer) -> None:
            enroll_remotely(photos, gallery, whole=False, on_answer=on_answer)

        scope, enrolled = _surveyed(gallery)
        with held(folder, scope):
            journal = ImportJournal(folder, scope, enrolled, source.dry_run)
            known = Known(set(enrolled.values()), journal)
            return import_plan(plan, known, enroll, source.dry_run, settings.as_json)


def _surveyed(gallery: RemoteGallery) -> tuple[bytes, dict[int, str]]:
    """Return the gallery's scope, and who is enrolled, by row."""
    with gallery.session() as session:
        return session.scope, session.list_rows()
