"""Commands for the owner of a gallery, about its log and limits: `queries`, `prune-log`, `reset-limit`."""

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
    last: Annotated[int, typer.Option("--last", min=1, help="How many of the newest lines to print.")] = 20,
    identity: Annotated[
        str | None,
        typer.Option(
            "--id", help="Say for each line whether it is about this person; the log has only hashes of names."
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="With --id: print only the lines about that person.")] = False,
) -> None:
    """Print the log: when, who, what was asked or done, and whether it was answered. The log has no outcomes.

    Lines of "operator" come from commands on the gallery's file, without a client.
    """
    if only and identity is None:
        raise ParameterError("expected --id with --only, got none")
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
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="The first day or second to keep, in this machine's time."
        ),
    ],
) -> None:
    """Remove older lines of the log: who asked what and when is personal data too.

    The limits stay as they are. A new line records that the log was pruned.
    """
    try:
        second = before.timestamp()
    except (OverflowError, ValueError) as error:
        raise ParameterError(f"expected a day that this machine's clock can show, got {before:%Y-%m-%d}") from error
    with _limits(settings) as limits:
        count = limits.prune(second)
    say({"removed": count}, f"removed {count} {'line' if count == 1 else 'lines'} of the log", settings.as_json)


def reset_limit(
    settings: GallerySettings,
    client: Annotated[str, typer.Argument(help="The client, by its name in the log.")],
    identity: Annotated[
        str | None,
        typer.Option(
            "--id", help="The person that it may ask about; if left out, everyone, and names that are not enrolled."
        ),
    ] = None,
) -> None:
    """Let a client ask again at once, after a mistake, or if the clock was ahead for a time.

    The client keeps the answers it has. The limits are what makes it slow to rebuild a template from answers.
    """
    identity = _asked(identity)
    with _limits(settings) as limits:
        limits.reset(client, identity)
    about = "everyone" if identity is None else shown(identity[:_SHOWN])
    say({"client": client, "about": identity}, f"{shown(client)} may ask about {about} again", settings.as_json)


def _asked(identity: str | None) -> str | None:
    """Return the name in the form that the gallery uses; None for no name."""
    from parties.gallery.store.identities import asked_name

    return None if identity is None else asked_name(identity)


def _limits(settings: GallerySettings) -> "QueryLimits":
    """Open the limits of an existing gallery."""
    path = settings.existing_path
    from parties.gallery.store.limits import QueryLimits

    return QueryLimits(path)


def _line(line: "Query", tag: bytes | None) -> dict[str, Any]:
    """Return a line of the log as a JSON object; "about" is None if the command names no person."""
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
