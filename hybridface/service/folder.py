"""Make a server's folder, and keep the files of its clients.

    DIR/server.toml, key.pem, certificate.pem      the settings and the identity
    DIR/clients/NAME.toml                          a client: its key, and what it may do
    DIR/prepared/                                  prepared runs

A change of a client holds from the server's next reload (SIGHUP) or start, for new connections.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hybridface.errors import ConfigurationError
from hybridface.models import DEFAULT_MODEL
from hybridface.service.address import Address
from hybridface.service.configuration import CLIENTS, SETTINGS, ClientSettings, read_clients, read_configuration
from hybridface.service.settings_file import check_label, quoted
from parties.machine.durable import created, make_folder, sync_folder, write_durably

__all__ = ["PREPARED", "allow_client", "create_server_folder", "deny_client"]

PREPARED = "prepared"
_SETTINGS = """\
# The settings of a hybridface server. `hybridface server check` reads them and says what is wrong.
# A line that begins with # shows a default or an example.

name = {name}    # what clients see; with a CA, the host name of the certificate
listen = {listen}    # where clients connect
operations = "127.0.0.1:7462"    # /healthz, /readyz and /metrics; keep it away from the outside
# max_sessions = 4        # sessions at once
# drain_seconds = 60      # after SIGTERM, how long open sessions may go on
# idle_seconds = 3600     # a session without a command ends
# timeout_seconds = 120   # how long a peer may be silent in the middle of a command
# log_level = "info"      # debug, info, warning or error
# client_ca = "clients-ca.pem"    # a CA that signs the certificates of clients

[models.{model}]    # a network that this server offers; one table for each
# weights = "file"        # other weights than those that are delivered
# threshold = 0.6         # another threshold than the network's own
# modes = ["hybrid"]      # hybrid, pure-he

# [galleries.staff]       # a gallery that this server offers; `hybridface create-gallery` makes the file
# file = "staff.gallery"
# model = {quoted_model}
"""


def create_server_folder(folder: Path, name: str, listen: Address) -> Path:
    """Make a server's folder with commented settings; return the file of the settings. The identity is made apart.

    Args:
        name: of the server, usually its host name.
        listen: where it listens.

    Raises:
        ConfigurationError: there are settings already.
        OSError: a file cannot be written.
    """
    path = folder / SETTINGS
    written = _SETTINGS.format(
        name=quoted(name), listen=quoted(str(listen)), model=DEFAULT_MODEL, quoted_model=quoted(DEFAULT_MODEL)
    )
    for one in (folder, folder / CLIENTS, folder / PREPARED):
        make_folder(one)
    try:
        with created(path) as file:
            file.write(written.encode())
    except FileExistsError as error:
        raise ConfigurationError(f"cannot make {path}: there is one already; choose another folder") from error
    return path


def allow_client(
    folder: Path, name: str, peer: str, models: Sequence[str], galleries: Mapping[str, Sequence[str]]
) -> ClientSettings:
    """Write what a client may do, in place of what it might before.

    Args:
        folder: of the server.
        name: of the client, under which the server logs it.
        peer: its fingerprint, or "subject:CN" for one with a certificate from the server's CA.
        models: the networks with which it may compare two photos.
        galleries: what it may do with each gallery.

    Raises:
        ConfigurationError: an argument does not fit the server's settings, or the name is of another client.
    """
    configuration = read_configuration(folder)
    check_label(name, "client")
    known = configuration.clients.get(name)
    if known is not None and known.peer != peer:
        raise ConfigurationError(f"cannot allow {name}: that is {known.peer} already; deny it first, or choose a name")
    path = _file_of(folder, name)
    before = path.read_bytes() if known is not None else None
    write_durably(path, _client_text(peer, models, galleries).encode())
    try:
        clients = read_clients(
            folder, configuration.models, configuration.galleries, configuration.client_ca is not None
        )
    except ConfigurationError:
        if before is None:
            path.unlink()
        else:
            write_durably(path, before)
        raise
    return clients[name]


def deny_client(folder: Path, name: str) -> None:
    """Remove a client, which has no rights once the server has reloaded. An open session goes on until it ends.

    Raises:
        ConfigurationError: there is no such client.
    """
    path = _file_of(folder, check_label(name, "client"))
    try:
        path.unlink()
    except FileNotFoundError:
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.toml"))) or "nobody"
        raise ConfigurationError(f"cannot deny {name}: there is no such client; allowed are {known}") from None
    sync_folder(path.parent)


def _file_of(folder: Path, name: str) -> Path:
    return folder / CLIENTS / f"{name}.toml"


def _client_text(peer: str, models: Sequence[str], galleries: Mapping[str, Sequence[str]]) -> str:
    subject = peer.removeprefix("subject:")
    who = f"fingerprint = {quoted(peer)}" if subject == peer else f"subject = {quoted(subject)}"
    lines = [who, f"models = {_list(models)}"]
    if galleries:
        lines += ["", "[galleries]", *(f"{quoted(name)} = {_list(may)}" for name, may in galleries.items())]
    return "\n".join(lines) + "\n"


def _list(words: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, words))}]"
