"""`hybridface import`: a whole folder of photos, or an exported file, into a gallery."""

from pathlib import Path
from typing import Annotated

import typer

from hybridface.commands.effects import expect_effect
from hybridface.commands.gallery_options import OF_SESSIONS, KindOption, PhotoSettings
from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME, ImageError
from hybridface.galleries.import_plan import IdentityRule
from protocols.errors import ParameterError

__all__ = ["import_people"]

_OF_FOLDERS = (*OF_SESSIONS, "key", "aligned", "face", "accept_damaged", "identity_from", "names", "dry_run")


def import_people(
    settings: PhotoSettings,
    source: Annotated[Path, typer.Argument(help="A folder with NAME/PHOTO.jpg or NAME.jpg; or a file from `export`.")],
    kind: KindOption = None,
    identity_from: Annotated[
        IdentityRule,
        typer.Option(
            "--identity-from",
            help="Where a person's name comes from: the photo's folder, its file name, or a CSV file.",
        ),
    ] = IdentityRule.FOLDER,
    names: Annotated[
        Path | None,
        typer.Option("--names", help="CSV file in UTF-8, with the columns photo (a path in the folder) and identity."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say who would be enrolled and which files would not be used; change nothing."),
    ] = False,
) -> None:
    """Enrol a whole folder, or read an exported file into a new gallery.

    The command reports every file that it does not use, with the reason. Run it again after an interruption, or when
    photos were added or replaced: it enrols the photos that are missing.

    Exit status: 0 all photos are enrolled, 1 some are not, 2 error.
    """
    if not (source.is_file() or source.is_dir()):
        raise ImageError(f"{source}: expected a folder of photos, or an exported file")
    from hybridface.commands.import_runs import FolderSource, import_file, import_folder

    if settings.server:
        from hybridface.commands.import_remote import import_remotely

        if source.is_file():
            raise ParameterError(f"{source.name}: expected a folder with --server: only its owner reads exported files")
        done = import_remotely(settings, FolderSource(source, identity_from, names, dry_run))
        raise typer.Exit(EXIT_SAME if done else EXIT_DIFFERENT)
    if source.is_file():
        if settings.context:
            expect_effect(settings.context, _OF_FOLDERS, f"for {source.name}, which is an exported file")
        import_file(settings, source, kind)
        return
    folder = FolderSource(source, identity_from, names, dry_run)
    raise typer.Exit(EXIT_SAME if import_folder(settings, folder, kind) else EXIT_DIFFERENT)
