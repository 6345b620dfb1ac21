"""Change names of people: in a private gallery by ranks, in a list in this process."""

from collections.abc import Collection, Sequence

from hybridface.commands.gallery_options import SessionSettings
from hybridface.commands.gallery_runs import run_queries
from hybridface.commands.places import say_warning
from hybridface.galleries.file import GalleryFile
from hybridface.galleries.tasks import GalleryTask, Verb
from hybridface.models.model import load_model
from parties.gallery.errors import RefusalError, TracesLeftError
from parties.gallery.kind import GalleryKind

__all__ = ["people_of", "rename_people"]


def people_of(settings: SessionSettings) -> Collection[str]:
    """Return who is in a gallery."""
    with GalleryFile(settings.path, load_model(settings.model, weights=False)) as file:
        return file.identities().keys()


def rename_people(names: Sequence[tuple[str, str]], settings: SessionSettings) -> dict[str, str]:
    """Give people other names, one by one; return the reasons for those who were not renamed, by old name."""
    if settings.kind() is GalleryKind.LIST:
        return _rename_in_list(names, settings)
    tasks = [GalleryTask(Verb.RENAME, old, name=new) for old, new in names]
    answers = run_queries(tasks, settings, GalleryKind.PRIVATE).answers
    return {str(one["identity"]): str(one["refused"]) for one in answers if "refused" in one}


def _rename_in_list(names: Sequence[tuple[str, str]], settings: SessionSettings) -> dict[str, str]:
    refused = {}
    with GalleryFile(settings.path, load_model(settings.model, weights=False)) as file:
        for old, new in names:
            try:
                file.rename(old, new)
            except RefusalError as error:
                refused[old] = str(error)
            except TracesLeftError as error:
                say_warning(str(error))
    return refused
