"""Galleries on the command line, what only the server's file is needed for: `list`, `remove`, `export`, `queries`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hybridface.commands.gallery_options import FileSettings, GallerySettings
from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME
from hybridface.output.answers import photos_text, say, shown
from hybridface.output.terminal import show
from protocols.errors import ParameterError

if TYPE_CHECKING:
    from hybridface.galleries.file import GalleryFile
    from parties.gallery.store.limits import Query

__all__ = ["export", "list_people", "queries", "remove"]

_SHOWN = 40


def list_people(settings: FileSettings) -> None:
    """Say who is enrolled, and how many photos of each."""
    with _file(settings) as file:
        people, kind = file.identities(), file.kind

    def table(document: dict[str, Any]) -> Table:
        title = f"{len(people)} enrolled ({kind})"
        lines = Table("identity", "photos", box=None, title=title, min_width=len(title))
        for name, photos in document["enrolled"].items():
            lines.add_row(Text(shown(name)), str(photos))
        return lines

    show({"enrolled": people}, table, settings.as_json)


def remove(
    settings: FileSettings,
    identities: Annotated[list[str], typer.Argument(help="Who is to be removed, with all photos.")],
) -> None:
    """Remove people; nothing of them is left in the file.

    Exit status: 0 all were there, 1 some were not, 2 error.
    """
    with _file(settings) as file:
        known = file.identities()
        count = file.remove(identities)
    missing = [name for name in identities if name not in known]
    text = f"removed {photos_text(count)}" + "".join(f"\nnot enrolled: {name!r}" for name in missing)
    say({"removed": count, "not enrolled": missing}, text, settings.as_json)
    raise typer.Exit(EXIT_DIFFERENT if missing else EXIT_SAME)


def export(settings: FileSettings, output: Annotated[Path, typer.Argument(help="A new file.")]) -> None:
    """Write the gallery as it is at rest to a new file, for another server.

    A private gallery's is noise without the client's key; a list's holds its embeddings.
    """
    with _file(settings) as file:
        count = file.export(output)
    say({"exported": count}, f"exported {photos_text(count)} to {output}", settings.as_json)


def queries(
    settings: GallerySettings,
    last: Annotated[int, typer.Option("--last", min=1, help="How many lines of the log, the newest.")] = 20,
    identity: Annotated[
        str | None,
        typer.Option("--id", help="Say of each line whether it is about this identity, which the log has as a hash."),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="With --id: the lines about it alone.")] = False,
) -> None:
    """Print the log: when, who, what was asked or done, and whether it was answered; never an outcome.

    Lines of "operator" are of commands on the gallery's file, without a client.
    """
    if only and identity is None:
        raise ParameterError("expected --id, whom --only is about")
    from parties.gallery.store.limits import EVERYONE, QueryLimits

    if not settings.path.exists():
        raise ParameterError(f"expected a gallery, found no {settings.path}: enrol somebody first")
    with QueryLimits(settings.path) as limits:
        lines = limits.queries(identity if only else EVERYONE, last)
        tag = limits.tag(identity)
    documents = [_line(line, tag) for line in lines]

    def table(document: dict[str, Any]) -> Table:
        about = [] if identity is None else [escape(f"about {shown(identity[:_SHOWN])}")]
        result = Table("time", "client", "operation", "answered", *about, box=None)
        for line in document["queries"]:
            time = datetime.fromisoformat(line["time"]).astimezone()
            cells = [f"{time:%Y-%m-%d %H:%M:%S}", line["client"], line["operation"], _yes(line["allowed"], "refused")]
            result.add_row(*(Text(cell) for cell in [*cells, *([_yes(line["about"], "")] if about else [])]))
        return result

    show({"queries": documents}, table, settings.as_json)


def _line(line: "Query", tag: bytes | None) -> dict[str, Any]:
    """Return a line of the log as a JSON object; "about" is None if nobody was asked for."""
    time = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds")
    about = None if tag is None else line.tag == tag
    return {
        "time": time,
        "client": line.client,
        "operation": line.operation,
        "allowed": line.allowed,
        "about": about,
    }


def _yes(value: bool, no: str) -> str:
    return "yes" if value else no


def _file(settings: FileSettings) -> "GalleryFile":
    """Open a gallery that is there."""
    if not settings.path.exists():
        raise ParameterError(f"expected a gallery, found no {settings.path}: enrol somebody first")
    from hybridface.galleries.file import GalleryFile
    from hybridface.models.model import load_model

    return GalleryFile(settings.path, load_model(settings.model, weights=False))
