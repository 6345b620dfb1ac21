"""`hybridface ping`: is a server there, who is it, and what may this client do?"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridface.commands.client import IdentityFolderOption, identity_folder
from hybridface.commands.options import JsonOption
from hybridface.commands.places import say_warning

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ping"]


def ping(
    server: Annotated[str, typer.Option("--server", help="A server's name or address.")],
    identity: IdentityFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a server who it is, and what this client may do there; measure the round trip.

    Exit status: 0 the server answers, 2 it does not.
    """
    from hybridface.output.terminal import show
    from hybridface.remote.connection import reach

    show(reach(identity_folder(identity), server, say_warning), _table, as_json)


def _table(document: dict[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    lines = Table(box=None, show_header=False, title=Text(f"{document['server']} at {document['address']}"))

    def add(what: str, text: str) -> None:
        """Add a line; the server's names are no markup."""
        lines.add_row(what, Text(text))

    add("round trip", f"{document['round_trip_ms']:.1f} ms")
    add("version", document["version"])
    add("knows us as", document["client"])
    add("its key", document["identity"])
    add("its certificate", f"until {document['expires'][:10]}")
    add("encryption", document["encryption"])
    add("busy", "yes" if document["busy"] else "no")
    for model in document["models"]:
        use = "photos, galleries" if model["compares"] else "galleries"
        add("network", f"{model['name']} {model['digest'][:16]} ({model['state']}; {use})")
    for gallery in document["galleries"]:
        add("gallery", f"{gallery['name']} ({gallery['kind']}, {gallery['model']}): {', '.join(gallery['may'])}")
    return lines
