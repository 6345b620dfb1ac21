"""`hybridface import`: a whole folder of photos, or an exported file, into a gallery."""

from pathlib import Path
from typing import Annotated

import typer

from hybridface.commands.gallery_options import KindOption, PhotoSettings
from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME, ImageError

__all__ = ["import_people"]


def import_people(
    settings: PhotoSettings,
    source: Annotated[Path, typer.Argument(help="A folder, NAME/PHOTO.jpg or NAME.jpg; or a file of `export`.")],
    kind: KindOption = None,
) -> None:
    """Enrol a whole folder, or read an exported file into a new gallery.

    Photos that cannot be used are listed, each with the reason. The same command again enrols what is missing yet,
    after an interruption, or when such photos were replaced.

    Exit status: 0 all are enrolled, 1 some are not, 2 error.
    """
    if not (source.is_file() or source.is_dir()):
        raise ImageError(f"{source}: expected a folder of photos, or an exported file")
    from hybridface.commands.import_runs import import_file, import_folder

    if source.is_file():
        import_file(settings, source, kind)
        return
    raise typer.Exit(EXIT_SAME if import_folder(settings, source, kind) else EXIT_DIFFERENT)
