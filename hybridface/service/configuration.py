"""Read the server's folder: `server.toml`, and a file for each client with its rights.

Everything is checked before the server starts: every key, and that every file is there that a key names. A relative
path is relative to the folder.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hybridface.errors import ConfigurationError
from hybridface.models import MODELS, PATCH_NETWORKS
from hybridface.modes import Mode
from hybridface.service.address import Address, parse_address
from hybridface.service.settings_file import Settings, check_label, converted, read_settings
from parties.transport.identity import check_fingerprint
from protocols.document import Kind, integer, list_of, number, text, word

__all__ = [
    "CLIENTS",
    "MAY",
    "SETTINGS",
    "ClientSettings",
    "GallerySettings",
    "ModelSettings",
    "ServiceConfiguration",
    "read_clients",
    "read_configuration",
]

SETTINGS, CLIENTS = "server.toml", "clients"
MAY = ("verify", "identify", "enroll", "list", "remove", "rename", "rotate")
"""What a client can be allowed to do with a gallery."""

_LOG_LEVELS = ("debug", "info", "warning", "error")
_MOST_CLIENTS = 10_000
_MOST = 1000
_DAY = 86_400
_MAY_KIND = list_of(word(*MAY), len(MAY))
_ADDRESS = converted(text(300), parse_address)
_FINGERPRINT = converted(text(200), check_fingerprint)


@dataclass(frozen=True)
class ModelSettings:
    """A network that the server offers.

    Args:
        name: of the network.
        weights: its file; None for the one that is delivered.
        threshold: the distance below which two faces count as the same person; None for the network's own.
        modes: in which clients may use it.
    """

    name: str
    weights: Path | None = None
    threshold: float | None = None
    modes: tuple[Mode, ...] = (Mode.HYBRID,)


@dataclass(frozen=True)
class GallerySettings:
    """A gallery that the server offers: its name for clients, its file, and its network."""

    name: str
    file: Path
    model: str


@dataclass(frozen=True)
class ClientSettings:
    """A client and its rights.

    Args:
        name: under which the server logs it.
        fingerprint: its identity key; None where a CA vouches for it.
        subject: the common name of its certificate from the CA; None where its key is pinned.
        models: the networks with which it may compare two photos.
        galleries: what it may do with each gallery (`MAY`).
    """

    name: str
    fingerprint: str | None = None
    subject: str | None = None
    models: tuple[str, ...] = ()
    galleries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def peer(self) -> str:
        """The client as `parties.transport.tls.peer_name` names it."""
        return self.fingerprint or f"subject:{self.subject}"


@dataclass(frozen=True)
class ServiceConfiguration:
    """All settings of a server; `server.toml` explains each."""

    folder: Path
    name: str
    listen: Address
    operations: Address | None = None
    max_sessions: int = 4
    drain_seconds: float = 60
    idle_seconds: float = 3600
    timeout_seconds: float = 120
    log_level: str = "info"
    client_ca: Path | None = None
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    galleries: Mapping[str, GallerySettings] = field(default_factory=dict)
    clients: Mapping[str, ClientSettings] = field(default_factory=dict)


def read_configuration(path: Path) -> ServiceConfiguration:
    """Return the configuration of a server.

    Args:
        path: of `server.toml`, or of the folder with it.

    Raises:
        ConfigurationError: a file is missing or cannot be read, a key is unknown, or a value is wrong.
    """
    path = path / SETTINGS if path.is_dir() else path
    with read_settings(path) as settings:
        models = {name: _model(name, table) for name, table in settings.tables("models")}
        if not models:
            raise settings.error(f"expected a table [models.NAME], with a name of {', '.join(MODELS)}")
        galleries = {name: _gallery(name, table, models) for name, table in settings.tables("galleries")}
        client_ca = settings.take("client_ca", _file(settings), None)
        return ServiceConfiguration(
            folder=path.parent,
            name=settings.take("name", text(64, 1)),
            listen=settings.take("listen", _ADDRESS, parse_address("0.0.0.0")),  # noqa: S104
            operations=settings.take("operations", _ADDRESS, None),
            max_sessions=settings.take("max_sessions", integer(1, _MOST), 4),
            drain_seconds=settings.take("drain_seconds", number(0, _DAY), 60),
            idle_seconds=settings.take("idle_seconds", number(1, _DAY), 3600),
            timeout_seconds=settings.take("timeout_seconds", number(1, _DAY), 120),
            log_level=settings.take("log_level", word(*_LOG_LEVELS), "info"),
            client_ca=client_ca,
            models=models,
            galleries=galleries,
            clients=read_clients(path.parent, models, galleries, client_ca is not None),
        )


def read_clients(
    folder: Path, models: Iterable[str], galleries: Iterable[str], with_ca: bool
) -> dict[str, ClientSettings]:
    """Return the clients of a server's folder by name, sorted.

    Args:
        models, galleries: the server's; a client has rights to no others.
        with_ca: whether the server trusts a CA, so that clients may be named by a subject.

    Raises:
        ConfigurationError: a client's file is wrong, or two clients are the same peer.
    """
    paths = sorted((folder / CLIENTS).glob("*.toml"))
    if len(paths) > _MOST_CLIENTS:
        raise ConfigurationError(f"{folder / CLIENTS}: expected at most {_MOST_CLIENTS} clients, got {len(paths)}")
    known = set(models), set(galleries)
    clients: dict[str, ClientSettings] = {}
    by_peer: dict[str, str] = {}
    for path in paths:
        client = _client(path, *known)
        if client.subject and not with_ca:
            raise ConfigurationError(f"{path}: a subject needs client_ca in {SETTINGS}; or give a fingerprint")
        if client.peer in by_peer:
            raise ConfigurationError(f"{path}: {client.peer} is the client {by_peer[client.peer]} already")
        clients[client.name], by_peer[client.peer] = client, client.name
    return clients


def _client(path: Path, models: set[str], galleries: set[str]) -> ClientSettings:
    name = check_label(path.stem, f"client, as {path} has")
    with read_settings(path) as settings:
        fingerprint = settings.take("fingerprint", _FINGERPRINT, None)
        subject = settings.take("subject", text(64, 1), None)
        if (fingerprint is None) == (subject is None):
            raise settings.error("expected either a fingerprint or a subject")
        allowed = settings.take("models", list_of(_one_of(models, "networks"), _MOST), [])
        rights: dict[str, tuple[str, ...]] = {}
        with settings.table("galleries") as table:
            for gallery in list(table.values):
                if gallery not in galleries:
                    raise table.error(f"expected one of the server's galleries ({_named(galleries)}), got {gallery!r}")
                may = table.take(gallery, _MAY_KIND)
                rights[gallery] = tuple(may)
    return ClientSettings(name, fingerprint, subject, tuple(allowed), rights)


def _model(name: str, settings: Settings) -> ModelSettings:
    if name not in MODELS:
        raise settings.error(f"expected a network named {' or '.join(MODELS)}, got [models.{name[:60]!r}]")
    with settings:
        weights = settings.take("weights", _file(settings), None)
        threshold = settings.take("threshold", number(1e-6, 1e6), None)
        modes = settings.take("modes", list_of(word(*Mode), len(Mode), 1), [Mode.HYBRID.value])
    if Mode.PURE_HE.value in modes and name not in PATCH_NETWORKS:
        raise settings.error(f"{name} cannot run in pure-he mode; only {', '.join(PATCH_NETWORKS)} can")
    return ModelSettings(name, weights, threshold, tuple(Mode(mode) for mode in dict.fromkeys(modes)))


def _gallery(name: str, settings: Settings, models: Mapping[str, ModelSettings]) -> GallerySettings:
    check_label(name, f"gallery, as {settings.path} must have")
    with settings:
        return GallerySettings(
            name, settings.take("file", _file(settings)), settings.take("model", _one_of(set(models), "networks"))
        )


def _one_of(names: set[str], what: str) -> Kind[str]:
    kind = word(*sorted(names))
    return Kind(f"one of the server's {what} ({_named(names)})", kind.read)


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "it has none"


def _file(settings: Settings) -> Kind[Path]:
    """Return the kind of names of files that exist, relative to the folder of the settings."""
    kind = text(1000, 1)

    def read(value: object) -> Path:
        path = settings.path.parent / Path(kind.read(value)).expanduser()
        if not path.is_file():
            raise ValueError("the name of a file that exists")
        return path

    return Kind("the name of a file", read)
