"""Commands for galleries that need the server's file only: `list`, `remove`, `export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from hybridface.commands.effects import expect_effect
from hybridface.commands.gallery_answers import refuse
from hybridface.commands.gallery_options import OF_SESSIONS, FileSettings, SessionSettings
from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME
from hybridface.output.answers import photos_text, say, shown
from hybridface.output.terminal import show
from parties.gallery.kind import GalleryKind
from protocols.errors import ParameterError

if TYPE_CHECKING:
    from hybridface.galleries.file import GalleryFile

__all__ = ["export", "list_people", "remove"]


def list_people(
    settings: SessionSettings,
    photos: Annotated[bool, typer.Option("--photos", help="Also print the numbers of everybody's photos.")] = False,
) -> None:
    """List who is enrolled, and how many photos of each person."""
    numbers: dict[str, list[int]] = {}
    if settings.server:
        if settings.context:
            expect_effect(settings.context, ("photos",), "with --server")
        people, kind = _people_remotely(settings), GalleryKind.PRIVATE
    else:
        _expect_no_session(settings)
        with _file(settings, read_only=True) as file:
            people, kind = file.identities(), file.kind
            numbers = file.photos() if photos else {}

    def table(document: dict[str, Any]) -> Table:
        title = f"{len(people)} enrolled ({kind})"
        lines = Table(
            "identity", "photos", *(["numbers"] if photos else []), box=None, title=title, min_width=len(title)
        )
        for person in document["people"]:
            more = [", ".join(map(str, person["numbers"]))] if photos else []
            lines.add_row(Text(shown(person["identity"])), str(person["photos"]), *more)
        return lines

    entries = [
        {"identity": name, "photos": count, **({"numbers": numbers[name]} if photos else {})}
        for name, count in people.items()
    ]
    show({"people": entries}, table, settings.as_json)


def remove(
    settings: SessionSettings,
    identities: Annotated[list[str], typer.Argument(help="The people to remove, with all their photos.")],
    photos: Annotated[
        list[int] | None,
        typer.Option("--photo", min=1, help="Remove only this photo of one person; see list --photos."),
    ] = None,
) -> None:
    """Remove people, or some photos of one person; leave no trace of them in the file.

    Exit status: 0 all were enrolled, 1 some were not, 2 error.
    """
    if settings.server:
        if settings.context:
            expect_effect(settings.context, ("photos",), "with --server")
        count, missing = _remove_remotely(settings, identities)
    else:
        _expect_no_session(settings)
        count, missing = _remove_here(settings, identities, photos)
    text = f"removed {photos_text(count)}" + "".join(f"\nnot enrolled: {name!r}" for name in missing)
    say({"removed": count, "not_enrolled": missing}, text, settings.as_json)
    raise typer.Exit(EXIT_DIFFERENT if missing else EXIT_SAME)


def export(settings: FileSettings, output: Annotated[Path, typer.Argument(help="A new file.")]) -> None:
    """Write what the gallery stores to a new file, for another server.

    The file of a private gallery is noise without the client's key. The file of a list holds its embeddings.
    """
    with _file(settings) as file:
        count = file.export(output)
    say({"exported": count}, f"exported {photos_text(count)} to {output}", settings.as_json)


def _people_remotely(settings: SessionSettings) -> dict[str, int]:
    """Return who is enrolled in a remote server's gallery, and how many photos of each person."""
    from hybridface.commands.gallery_remote import answers_of
    from hybridface.galleries.tasks import GalleryTask, Verb

    answer = answers_of(settings, [GalleryTask(Verb.LIST)])[-1]
    refuse([answer])
    return dict(answer["enrolled"])


def _remove_remotely(settings: SessionSettings, identities: list[str]) -> tuple[int, list[str]]:
    """Remove people from a remote server's gallery; return how many photos, and who was not enrolled."""
    from hybridface.commands.gallery_remote import answers_of
    from hybridface.galleries.tasks import GalleryTask, Verb

    answers = answers_of(settings, [GalleryTask(Verb.REMOVE, name) for name in identities])
    refuse(answers)
    counts = [int(answer["removed"]) for answer in answers]
    return sum(counts), [name for name, count in zip(identities, counts, strict=True) if not count]


def _remove_here(settings: SessionSettings, identities: list[str], photos: list[int] | None) -> tuple[int, list[str]]:
    """Remove people or photos from the gallery's file; return how many photos, and who was not enrolled."""
    from parties.gallery.store.identities import asked_name

    with _file(settings) as file:
        known = file.identities()
        if photos and len(identities) != 1:
            raise ParameterError(f"expected one person with --photo, got {len(identities)}")
        count = file.remove_photos(identities[0], photos) if photos else file.remove(identities)
    return count, [name for name in identities if asked_name(name, known) not in known]


def _expect_no_session(settings: SessionSettings) -> None:
    """Refuse options of a session, which the gallery's file does not need."""
    if settings.context:
        expect_effect(settings.context, (*OF_SESSIONS, "key", "quiet"), "without --server")


def _file(settings: FileSettings, read_only: bool = False) -> "GalleryFile":
    """Open an existing gallery."""
    path = settings.existing_path
    from hybridface.galleries.file import GalleryFile
    from hybridface.models.model import load_model

    return GalleryFile(path, load_model(settings.model, weights=False), new=False, read_only=read_only)
