"""Keep the servers that a client knows: `servers/NAME.toml` in the client's folder.

    address = "match.example.org:7461"
    fingerprint = "ed25519-..."        # or: ca = "/path/of/ca.pem"
    [models]
    dlib-resnet29 = "digest"           # the network as this client first saw it there

A network's digest is *pinned* when the client first uses it. If the server then offers another network under that
name, the client refuses it until its operator accepts the change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from hybridface.errors import ConfigurationError
from hybridface.service.address import Address, parse_address
from hybridface.service.settings_file import check_label, converted, quoted, read_settings
from parties.machine.durable import make_folder, sync_folder, write_durably
from parties.transport.identity import check_fingerprint
from parties.transport.tls import Trust
from protocols.document import hexadecimal, text
from protocols.errors import ParameterError

__all__ = ["KnownServer", "add_server", "forget_server", "known_server", "known_servers", "pin", "unpin"]

_SERVERS = "servers"
_MOST_SERVERS = 1000
_DIGEST = hexadecimal(32)
_ADDRESS = converted(text(300), parse_address)
_FINGERPRINT = converted(text(200), check_fingerprint)


@dataclass(frozen=True)
class KnownServer:
    """A server that a client knows.

    Args:
        name: by which the client's operator calls it.
        address: where it listens.
        trust: its fingerprint, or the CA that signs its certificate.
        pins: the digests of its networks by name, 64 hexadecimal digits each.
    """

    name: str
    address: Address
    trust: Trust
    pins: Mapping[str, str]


def add_server(
    folder: Path, address: Address, *, fingerprint: str | None = None, ca: Path | None = None, name: str | None = None
) -> KnownServer:
    """Write a server that the client trusts from now on.

    Args:
        folder: of the client.
        address: of the server.
        fingerprint, ca: its key, or a file with the CA that signs its certificate: one of them.
        name: by which to call it; its host if left out.

    Raises:
        ConfigurationError: the name or the address is of another server already.
        ParameterError: an argument is wrong.
    """
    if (fingerprint is None) == (ca is None):
        raise ParameterError("expected the server's fingerprint, or the file of a CA (--ca), and not both")
    if ca is not None and not ca.is_file():
        raise ParameterError(f"expected a file with a CA's certificates, found no {ca}")
    pinned = () if fingerprint is None else (check_fingerprint(fingerprint),)
    name = check_label(name or address.host.strip(":").replace(":", "-").replace("%", "-"), "server")
    added = KnownServer(name, address, Trust(pinned, ca.resolve() if ca else None), MappingProxyType({}))
    for known in known_servers(folder):
        if known.name == added.name or known.address == added.address:
            if replace(known, pins=added.pins) == added:
                return known
            raise ConfigurationError(
                f"cannot add {name} ({address}): there is {known.name} ({known.address}) already;"
                f" if its key has changed, ask its operator why, and then `hybridface client forget {known.name}`"
            )
    make_folder(folder / _SERVERS)
    _write(folder, added)
    return added


def known_servers(folder: Path) -> list[KnownServer]:
    """Return all servers that a client knows, by name.

    Raises:
        ConfigurationError: a file is wrong.
    """
    paths = sorted((folder / _SERVERS).glob("*.toml"))
    if len(paths) > _MOST_SERVERS:
        raise ConfigurationError(f"{folder / _SERVERS}: expected at most {_MOST_SERVERS} servers, got {len(paths)}")
    return [_read(path) for path in paths]


def known_server(folder: Path, called: str) -> KnownServer:
    """Return a server by its name or its address.

    Args:
        folder: of the client.
        called: the name, or HOST[:PORT].

    Raises:
        ConfigurationError: the client does not know it; the message lists those that it knows.
    """
    servers = known_servers(folder)
    for server in servers:
        if server.name == called:
            return server
    try:
        address = parse_address(called)
    except ParameterError:
        address = None
    for server in servers:
        if server.address == address:
            return server
    known = ", ".join(f"{server.name} ({server.address})" for server in servers) or "none yet"
    raise ConfigurationError(
        f"expected a known server, got {called[:80]!r}; known are: {known}."
        " Add one with `hybridface client add HOST FINGERPRINT`"
    )


def forget_server(folder: Path, name: str) -> None:
    """Remove a server, with its pinned networks.

    Raises:
        ConfigurationError: the client does not know it.
    """
    _file_of(folder, known_server(folder, name).name).unlink(missing_ok=True)
    sync_folder(folder / _SERVERS)


def pin(folder: Path, server: str, model: str, digest: str) -> KnownServer:
    """Write the digest of a server's network, in place of an earlier one; return the server.

    Args:
        folder: of the client.
        server: its name.
        model: the network's name.
        digest: of the network, 64 hexadecimal digits.

    Raises:
        ConfigurationError: the client does not know the server, or the name is none of a network.
        ParameterError: the digest is none.
    """
    try:
        _DIGEST.read(digest)
    except ValueError as error:
        raise ParameterError(f"expected a digest, {error}, got {digest[:80]!r}") from None
    known = known_server(folder, server)
    pinned = replace(known, pins=MappingProxyType({**known.pins, check_label(model, "network"): digest}))
    _write(folder, pinned)
    return pinned


def unpin(folder: Path, server: str, model: str) -> KnownServer:
    """Remove the digest of a server's network, so that the next session pins what the server then offers.

    Raises:
        ConfigurationError: the client does not know the server, or no such network is pinned.
    """
    known = known_server(folder, server)
    if model not in known.pins:
        pinned = ", ".join(known.pins) or "none"
        raise ConfigurationError(f"expected a pinned network of {known.name} ({pinned}), got {model[:80]!r}")
    left = {name: digest for name, digest in known.pins.items() if name != model}
    changed = replace(known, pins=MappingProxyType(left))
    _write(folder, changed)
    return changed


def _read(path: Path) -> KnownServer:
    name = check_label(path.stem, f"server, as {path} has")
    with read_settings(path) as settings:
        address = settings.take("address", _ADDRESS)
        fingerprint = settings.take("fingerprint", _FINGERPRINT, None)
        ca = settings.take("ca", text(4096, 1), None)
        if (fingerprint is None) == (ca is None):
            raise settings.error("expected either a fingerprint or a ca")
        with settings.table("models") as models:
            pins = {model: models.take(model, _DIGEST).hex() for model in list(models.values)}
    trust = Trust((fingerprint,) if fingerprint else (), path.parent / ca if ca else None)
    return KnownServer(name, address, trust, MappingProxyType(pins))


def _write(folder: Path, server: KnownServer) -> None:
    trust = server.trust
    lines = [f"address = {quoted(str(server.address))}"]
    lines += [f"fingerprint = {quoted(one)}" for one in trust.fingerprints]
    lines += [f"ca = {quoted(str(trust.ca))}"] if trust.ca else []
    if server.pins:
        lines += ["", "[models]", *(f"{quoted(name)} = {quoted(digest)}" for name, digest in server.pins.items())]
    write_durably(_file_of(folder, server.name), ("\n".join(lines) + "\n").encode())


def _file_of(folder: Path, name: str) -> Path:
    return folder / _SERVERS / f"{name}.toml"
