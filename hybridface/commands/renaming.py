"""How names get changed: in a private gallery by ranks, in a list in this process; the record of imports follows."""

import sys
from collections.abc import Collection, Sequence

from hybridface.commands.gallery_options import SessionSettings
from hybridface.commands.gallery_runs import run_queries
from hybridface.galleries.file import GalleryFile
from hybridface.galleries.import_journal import renumber
from hybridface.galleries.tasks import GalleryTask, Verb
from hybridface.models.model import load_model
from parties.gallery.errors import RefusalError, TracesLeftError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import header_of

__all__ = ["people_of", "rename_people"]


def people_of(settings: SessionSettings) -> Collection[str]:
    """Return who is in a gallery."""
    with GalleryFile(settings.path, load_model(settings.model, weights=False)) as file:
        return file.identities().keys()


def rename_people(names: Sequence[tuple[str, str]], settings: SessionSettings) -> dict[str, str]:
    """Give people other names, each by itself; return why somebody was not renamed, by the old name."""
    before = _rows(settings)
    if settings.kind() is GalleryKind.LIST:
        refused, folder = _rename_in_list(names, settings), settings.path.parent
    else:
        tasks = [GalleryTask(Verb.RENAME, old, name=new) for old, new in names]
        answers = run_queries(tasks, settings, GalleryKind.PRIVATE).answers
        refused = {str(one["identity"]): str(one["refused"]) for one in answers if "refused" in one}
        folder = settings.key_path.parent
    after = _rows(settings)
    moved = [pair for old, new in names if old not in refused for pair in zip(before[old], after[new], strict=True)]
    renumber(folder, header_of(settings.path).scope, dict(moved))
    return refused


def _rename_in_list(names: Sequence[tuple[str, str]], settings: SessionSettings) -> dict[str, str]:
    refused = {}
    with GalleryFile(settings.path, load_model(settings.model, weights=False)) as file:
        for old, new in names:
            try:
                file.rename(old, new)
            except RefusalError as error:
                refused[old] = str(error)
            except TracesLeftError as error:
                sys.stderr.write(f"hybridface: {error}\n")
    return refused


def _rows(settings: SessionSettings) -> dict[str, list[int]]:
    """Return the rows of everybody's photos."""
    rows: dict[str, list[int]] = {}
    with GalleryFile(settings.path, load_model(settings.model, weights=False)) as file:
        for entry in file.store.listing(0)[-1]:
            rows.setdefault(entry.identity, []).append(entry.row)
    return rows
