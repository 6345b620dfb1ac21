"""What a gallery's log and limits are to its owner, on the command line: `queries`, `prune-log`, `reset-limit`."""

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hybridface.commands.gallery_options import GallerySettings
from hybridface.output.answers import say, shown
from hybridface.output.terminal import show
from protocols.errors import ParameterError

if TYPE_CHECKING:
    from parties.gallery.store.limits import Query, QueryLimits

__all__ = ["prune_log", "queries", "reset_limit"]

_SHOWN = 40


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
    path = settings.existing_path
    from parties.gallery.store.database import Database
    from parties.gallery.store.limits import EVERYONE, QueryLimits

    identity = _asked(identity)
    with closing(Database(path, read_only=True)) as database, QueryLimits(database) as limits:
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


def prune_log(
    settings: GallerySettings,
    before: Annotated[
        datetime,
        typer.Argument(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="The first day or second to keep, of this machine's time."
        ),
    ],
) -> None:
    """Remove the log's older lines: who asked what, and when, is itself personal data.

    The limits stay as they are. A line says that the log was pruned.
    """
    try:
        second = before.timestamp()
    except (OverflowError, ValueError) as error:
        raise ParameterError(f"expected a day that this machine's clock can tell, got {before:%Y-%m-%d}") from error
    with _limits(settings) as limits:
        count = limits.prune(second)
    say({"removed": count}, f"removed {count} {'line' if count == 1 else 'lines'} of the log", settings.as_json)


def reset_limit(
    settings: GallerySettings,
    client: Annotated[str, typer.Argument(help="Who may ask again, as the log names it.")],
    identity: Annotated[
        str | None,
        typer.Option("--id", help="About whom; about everyone, and names that are not enrolled, if left out."),
    ] = None,
) -> None:
    """Let a client ask again at once, after a mistake; also if the clock was ahead for a time.

    What the client was told before stays told: the limits are what makes rebuilding a template slow.
    """
    identity = _asked(identity)
    with _limits(settings) as limits:
        limits.reset(client, identity)
    about = "everyone" if identity is None else shown(identity[:_SHOWN])
    say({"client": client, "about": identity}, f"{shown(client)} may ask about {about} again", settings.as_json)


def _asked(identity: str | None) -> str | None:
    """Return the name that is meant; None for nobody."""
    from parties.gallery.store.identities import asked_name

    return None if identity is None else asked_name(identity)


def _limits(settings: GallerySettings) -> "QueryLimits":
    """Open the limits of a gallery that is there."""
    path = settings.existing_path
    from parties.gallery.store.limits import QueryLimits

    return QueryLimits(path)


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
