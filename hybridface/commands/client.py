"""`hybridface client`: make a client's identity, and keep the servers that it trusts."""

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
from hybridface.commands.options import CONTEXT, JsonOption, ModelOption
from hybridface.folders import configuration_directory
from hybridface.output.answers import say, shown
from hybridface.output.terminal import show

__all__ = ["IdentityFolderOption", "client", "identity_folder"]

_COLUMNS = 200
"""Room for whole fingerprints in a pipe."""

client = typer.Typer(
    no_args_is_help=True, context_settings=CONTEXT, help="Set up a client of servers on other machines."
)

IdentityFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        metavar="DIR",
        help="The client's folder: its key, its certificate, the servers that it knows.",
        show_default="~/.config/hybridface",
    ),
]
ServerArgument = Annotated[str, typer.Argument(metavar="SERVER", help="A known server: its name, or HOST[:PORT].")]


def identity_folder(folder: Path | None) -> Path:
    """Return the client's folder that `--identity` names, or the usual one."""
    return folder or configuration_directory()


@client.command("init")
def init(
    folder: IdentityFolderOption = None,
    name: Annotated[
        str, typer.Option("--name", help="The client's name in its certificate.", show_default="this machine's name")
    ] = "",
    request: RequestOption = False,
    days: DaysOption = DAYS,
    as_json: JsonOption = False,
) -> None:
    """Make a client's identity: a key that only you can read, and its certificate.

    Prints the fingerprint. A server's operator needs it to let this client in.
    """
    from parties.transport.identity import create_identity, create_request

    own = identity_folder(folder)
    expect_no_key(own)
    if request:
        asked = create_request(own, name or usual_name())
        text = f"made {asked}\nnext: send it to your CA, and put the CA's answer into {own / 'certificate.pem'}"
        say({"request": str(asked)}, text, as_json)
        return
    made = create_identity(own, name or usual_name(), days)
    text = (
        f"made {made.key} and {made.certificate}\nfingerprint: {made.fingerprint}\n"
        "next: send the server's operator the fingerprint, ask for theirs, then hybridface client add HOST FINGERPRINT"
    )
    say(identity_document(made), text, as_json)


@client.command("add")
def add(
    address: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Where the server listens.")],
    fingerprint: Annotated[
        str | None, typer.Argument(metavar="[FINGERPRINT]", help="The server's fingerprint, from its operator.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="A file with the CA that signs the server's certificate.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="By which to call it.", show_default="its host")
    ] = None,
    folder: IdentityFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a server, by its fingerprint or by a CA.

    Compare the fingerprint with what the server's operator has told you by another way than this network.
    """
    from hybridface.remote.known import add_server
    from hybridface.service.address import parse_address

    added = add_server(identity_folder(folder), parse_address(address), fingerprint=fingerprint, ca=ca, name=name)
    say(_server_document(added), f"added {added.name} ({added.address})", as_json)


@client.command("servers")
def servers(folder: IdentityFolderOption = None, as_json: JsonOption = False) -> None:
    """Print the servers that this client trusts."""
    from hybridface.remote.known import known_servers

    found = known_servers(identity_folder(folder))
    show({"servers": [_server_document(one) for one in found]}, _servers_table, as_json, _COLUMNS)


@client.command("forget")
def forget(server: ServerArgument, folder: IdentityFolderOption = None, as_json: JsonOption = False) -> None:
    """Trust a server no longer."""
    from hybridface.remote.known import forget_server, known_server

    name = known_server(identity_folder(folder), server).name
    forget_server(identity_folder(folder), name)
    say({"forgotten": name}, f"forgot {name}", as_json)


@client.command("trust")
def trust(
    server: ServerArgument,
    model: ModelOption,
    folder: IdentityFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept that a server has changed a network; ask its operator why before.

    The next session takes the network that the server then offers, and expects the same one from then on.
    """
    from hybridface.remote.known import unpin

    known = unpin(identity_folder(folder), server, model)
    text = f"the next session accepts the {model} that {known.name} then offers"
    say({"server": known.name, "accepted": model}, text, as_json)


@client.command("renew")
def renew(folder: IdentityFolderOption = None, days: DaysOption = DAYS, as_json: JsonOption = False) -> None:
    """Renew the client's certificate. The fingerprint stays, so servers notice nothing."""
    from parties.transport.identity import renew_certificate

    own = renew_certificate(identity_folder(folder), days)
    say(identity_document(own), f"renewed {own.certificate}, valid until {own.expires:%Y-%m-%d}", as_json)


def _server_document(server: Any) -> dict[str, Any]:
    fingerprints, ca = server.trust.fingerprints, server.trust.ca
    return {
        "server": server.name,
        "address": str(server.address),
        "fingerprint": fingerprints[0] if fingerprints else None,
        "ca": str(ca) if ca else None,
        "models": dict(server.pins),
    }


def _servers_table(document: dict[str, Any]) -> Table:
    table = Table("server", "address", "networks", Column("trusted by", overflow="fold"), box=None)
    for line in document["servers"]:
        trusted = line["fingerprint"] or f"CA {line['ca']}"
        cells = line["server"], line["address"], ", ".join(line["models"]) or "not used yet", shown(trusted)
        table.add_row(*map(Text, cells))
    return table
