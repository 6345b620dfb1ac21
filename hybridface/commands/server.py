"""`hybridface server`: make a server's folder, say which clients may do what, renew the certificate, check it all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from hybridface.commands.identity_options import (
    DAYS,
    DaysOption,
    RequestOption,
    expect_no_key,
    identity_document,
    usual_name,
)
from hybridface.commands.options import CONTEXT, JsonOption
from hybridface.commands.places import say_warning
from hybridface.output.answers import say, shown
from hybridface.output.terminal import show
from protocols.errors import ParameterError

__all__ = ["server"]

_SOON_DAYS = 30
_COLUMNS = 200
"""Room for whole fingerprints in a pipe."""

server = typer.Typer(
    no_args_is_help=True, context_settings=CONTEXT, help="Set up a server for clients on other machines."
)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The server's folder.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The client's name, under which it is logged.")]


@server.command("init")
def init(
    folder: FolderArgument,
    name: Annotated[
        str, typer.Option("--name", help="The server's host name.", show_default="this machine's name")
    ] = "",
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where clients connect.")
    ] = "0.0.0.0:7461",
    request: RequestOption = False,
    days: DaysOption = DAYS,
    as_json: JsonOption = False,
) -> None:
    """Make a server's folder: commented settings, a key that only you can read, and its certificate.

    Prints the fingerprint. Clients need it to trust this server.
    """
    from hybridface.service.address import parse_address
    from hybridface.service.folder import create_server_folder
    from parties.transport.identity import check_name, create_identity, create_request

    name, address = check_name(name or usual_name()), parse_address(listen)
    expect_no_key(folder)
    settings = create_server_folder(folder, name, address)
    if request:
        asked = create_request(folder, name)
        text = (
            f"made {settings} and {asked}\nnext: send {asked.name} to your CA, put its answer into "
            f"{folder / 'certificate.pem'}, then hybridface server check {folder}"
        )
        say({"settings": str(settings), "request": str(asked)}, text, as_json)
        return
    own = create_identity(folder, name, days)
    text = (
        f"made {settings}\nfingerprint: {own.fingerprint}\n"
        f"next: give clients the fingerprint, ask for theirs, and hybridface server allow {folder} NAME FINGERPRINT"
    )
    say({"settings": str(settings), **identity_document(own)}, text, as_json)


@server.command("allow")
def allow(
    folder: FolderArgument,
    name: NameArgument,
    peer: Annotated[
        str,
        typer.Argument(
            metavar="FINGERPRINT", help="The client's fingerprint; subject:CN for one that a CA vouches for."
        ),
    ],
    models: Annotated[
        list[str] | None, typer.Option("--model", help="A network with which it may compare two photos; repeatable.")
    ] = None,
    galleries: Annotated[
        list[str] | None, typer.Option("--gallery", help="A gallery that it may use; repeatable, each with a --may.")
    ] = None,
    may: Annotated[
        list[str] | None,
        typer.Option("--may", metavar="WHAT,...", help="What it may do there: verify, identify, enroll, ..."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let a client in, and say what it may do; replaces what it might do before.

    A server that runs knows it from its next reload (SIGHUP) on.

    Without --model and --gallery, it may compare two photos with each of the server's networks.

    A gallery's --may is a list of: verify, identify, enroll, list, remove, rename, rotate.
    """
    rights = _rights(galleries or [], may or [])
    from hybridface.service.configuration import read_configuration
    from hybridface.service.folder import allow_client
    from parties.transport.identity import check_fingerprint

    if not peer.startswith("subject:"):
        peer = check_fingerprint(peer)
    if not models and not rights:
        models = list(read_configuration(folder).models)
    allowed = allow_client(folder, name, peer, models or [], rights)
    text = f"allowed {name}: {_rights_text(allowed.models, allowed.galleries)}"
    say(_client_document(allowed), text, as_json)


@server.command("deny")
def deny(folder: FolderArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Take all rights from a client.

    A server that runs knows it from its next reload (SIGHUP) on. Sessions that are open go on.
    """
    from hybridface.service.folder import deny_client

    deny_client(folder, name)
    say({"denied": name}, f"denied {name}", as_json)


@server.command("clients")
def clients(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Print the clients and what they may do."""
    from hybridface.service.configuration import read_configuration

    found = read_configuration(folder).clients
    show({"clients": [_client_document(one) for one in found.values()]}, _clients_table, as_json, _COLUMNS)


@server.command("renew")
def renew(folder: FolderArgument, days: DaysOption = DAYS, as_json: JsonOption = False) -> None:
    """Renew the server's certificate. The fingerprint stays, so clients notice nothing."""
    from parties.transport.identity import renew_certificate

    own = renew_certificate(folder, days)
    say(identity_document(own), f"renewed {own.certificate}, valid until {own.expires:%Y-%m-%d}", as_json)


@server.command("check")
def check(
    path: Annotated[Path, typer.Argument(metavar="DIR/server.toml", help="The settings, or the server's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Read settings, clients, identity and galleries as the server will; say what is wrong."""
    from hybridface.errors import ConfigurationError
    from hybridface.service.configuration import read_configuration
    from parties.transport.identity import read_identity
    from parties.transport.tls import Trust, server_context

    found = read_configuration(path)
    own = read_identity(found.folder)
    pinned = tuple(one.fingerprint for one in found.clients.values() if one.fingerprint)
    server_context(own, Trust(pinned, found.client_ca))
    document = identity_document(own)
    if document["expired"]:
        raise ConfigurationError(
            f"{own.certificate}: it has expired; renew it with `hybridface server renew {found.folder}`"
        )
    _warn_if_soon(own.expires, own.certificate)
    if found.galleries:
        from hybridface.galleries.kind import expect_model
        from hybridface.models.model import load_model

        for gallery in found.galleries.values():
            expect_model(gallery.file, load_model(gallery.model, weights=False))
    counts = {name: len(getattr(found, name)) for name in ("models", "galleries", "clients")}
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    text = (
        f"{path}: nothing is wrong ({said}; certificate until {own.expires:%Y-%m-%d})\nfingerprint: {own.fingerprint}"
    )
    say({**document, **counts}, text, as_json)


def _rights(galleries: Sequence[str], may: Sequence[str]) -> dict[str, list[str]]:
    """Return what a client may do with each gallery, from options that come in pairs."""
    if len(galleries) != len(may) or len(set(galleries)) != len(galleries):
        raise ParameterError(
            f"expected one --may for each --gallery, each gallery once, got {len(galleries)} --gallery"
            f" and {len(may)} --may"
        )
    return {gallery: [word.strip() for word in words.split(",")] for gallery, words in zip(galleries, may, strict=True)}


def _warn_if_soon(expires: Any, certificate: Path) -> None:
    from datetime import UTC, datetime, timedelta

    if expires - datetime.now(UTC) < timedelta(days=_SOON_DAYS):
        say_warning(f"{certificate} expires on {expires:%Y-%m-%d}: renew it soon")


def _client_document(client: Any) -> dict[str, Any]:
    rights = {name: list(may) for name, may in client.galleries.items()}
    return {"client": client.name, "peer": client.peer, "may_compare_with": list(client.models), "galleries": rights}


def _rights_text(models: Sequence[str], galleries: Any) -> str:
    said = [f"compare photos with {', '.join(models)}"] if models else []
    said += [f"{gallery}: {', '.join(may) or 'nothing'}" for gallery, may in galleries.items()]
    return "; ".join(said) or "nothing"


def _clients_table(document: dict[str, Any]) -> Table:
    table = Table("client", Column("may", overflow="fold"), Column("peer", overflow="fold"), box=None)
    for line in document["clients"]:
        may = _rights_text(line["may_compare_with"], line["galleries"])
        table.add_row(Text(line["client"]), Text(may), Text(shown(line["peer"])))
    return table
