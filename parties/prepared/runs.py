"""Keep prepared runs on both sides of a session, and load them in a later session.

- The server sends its identity. The client sends the numbers of the runs that it keeps for this server. Each side drops
  the runs that the other side does not have.
- A server without a folder says so. The client then asks nothing more about kept runs.
- A folder that cannot be used does not end a session: the session goes on as if nothing were kept. Only a caller who
  asks to keep a run gets the reason.
- Each step is one command. Either both sides take a run out of memory (or into it), or the session has failed. Masks
  that are out of step would give a wrong answer.

`store` explains why nothing is used twice.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from parties.prepared.shape import RunShape
from parties.prepared.store import MAX_KEPT, PreparedStore, binding_of
from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import Channel, printable
from protocols.correlations import CorrelationSource, Request
from protocols.document import boolean, hexadecimal, list_of, optional, text
from protocols.errors import ParameterError, ProtocolError
from protocols.network.private import NetworkClient, NetworkServer

__all__ = ["PreparedRunsClient", "PreparedRunsServer", "RunsInMemory"]

_CORRELATIONS = "correlations"
_FORMAT = 2
"""The format of kept runs. Runs of another format are not read."""

_NUMBER, _MAX_REASON = hexadecimal(16), 1000

Asking = Callable[[dict[str, Any]], AbstractContextManager[None]]
"""Sends a command and runs the block. If the block fails, the session is marked as failed."""


@dataclass(frozen=True)
class RunsInMemory:
    """One side's prepared runs, in memory.

    Args:
        network: the network, which holds what its linear layers have prepared.
        source: the source, which holds the correlations.
        requests: returns the correlations that a run of a shape uses up.
        described: everything that all prepared runs depend on, as JSON values.
    """

    network: NetworkClient | NetworkServer
    source: CorrelationSource
    requests: Callable[[RunShape], list[Request]]
    described: tuple[Any, ...]

    def binding(self, shape: RunShape) -> str:
        """Return the digest of everything that a prepared run of a shape depends on."""
        requests = [request.document() for request in self.requests(shape)]
        return binding_of(_FORMAT, *self.described, shape.images, shape.decisions, requests)

    def unload(self, shape: RunShape) -> dict[str, list[RingArray]]:
        """Take one run out of memory."""
        arrays = {f"layer {name}": parts for name, parts in self.network.unload(shape.images).items()}
        for i, request in enumerate(self.requests(shape)):
            arrays[f"{_CORRELATIONS} {i}"] = self.source.take(request)
        return arrays

    def load(self, shape: RunShape, arrays: dict[str, list[RingArray]]) -> None:
        """Put one run into memory.

        Raises:
            ParameterError: the arrays are not those of such a run.
        """
        layers = {name.removeprefix("layer "): parts for name, parts in arrays.items() if name.startswith("layer ")}
        requests = self.requests(shape)
        names = [f"{_CORRELATIONS} {i}" for i in range(len(requests))]
        if any(name not in arrays for name in names):
            raise ParameterError(f"expected {len(requests)} kept correlations, got others")
        self.network.load(layers, shape.images)
        for request, name in zip(requests, names, strict=True):
            self.source.put(request, arrays[name])


class PreparedRunsClient:
    """The client's side. The session calls its methods within requests, one at a time.

    Args:
        store: the client's folder.
        prepared: the client's runs in memory.
        channel: the channel to the server.
        asking: see `Asking`.
    """

    def __init__(self, store: PreparedStore, prepared: RunsInMemory, channel: Channel, asking: Asking) -> None:
        self._store, self._prepared = store, prepared
        self._channel, self._asking = channel, asking
        self._asked, self._server, self._pairing = False, "", ""
        self._known: dict[RunShape, list[str]] = {}
        store.clean()

    def check_room(self, shape: RunShape) -> None:
        """Check that a run can be kept, and make room for it.

        Raises:
            ParameterError: the client has no room, its folder cannot be used, or the server keeps no runs.
        """
        server = self._server_identity()
        if not server:
            raise ParameterError("expected a server with a folder for prepared runs, but it has none")
        with _telling():
            self._store.make_room(server, self._prepared.binding(shape))
            self._paired()

    def save(self, shape: RunShape) -> str | None:
        """Keep a prepared run. The caller has called `check_room`, and has taken the run out of its count.

        Returns:
            None if both sides keep the run. Otherwise the server's reason; both sides have then dropped the run.

        Raises:
            ParameterError: the client cannot write the run. The session has failed.
        """
        server, number = self._server_identity(), secrets.token_hex(16)
        with self._asking(self._command("keep", shape, number=number)), self._discarding(server, number):
            arrays = self._prepared.unload(shape)
            self._store.write(server, number, self._prepared.binding(shape), arrays)
            with self._channel.receive_document("kept") as answer:
                kept, reason = answer.take("kept", boolean), answer.take("reason", optional(text(_MAX_REASON)))
            if kept:
                self._store.publish(server, number)
                return None
            self._store.discard(server, number)
        return printable(reason or "it does not say why", 200)

    @contextmanager
    def _discarding(self, server: str, number: str) -> Iterator[None]:
        """Remove the client's file of a run that could not be kept. The server's file is then useless too."""
        try:
            with _telling():
                yield
        except BaseException:
            with suppress(OSError):
                self._store.discard(server, number)
            raise

    def knows(self, shape: RunShape) -> bool:
        """Return whether there may be a kept run of a shape. In the first call, both sides compare what they have."""
        if not self._server_identity():
            return False
        if shape not in self._known:
            self._known[shape] = self._compare(shape)
        return bool(self._known[shape])

    def restore(self, shape: RunShape) -> bool:
        """Load one kept run on both sides. Return False if one side cannot load it."""
        number = self._known[shape].pop(0)
        try:
            arrays = self._store.take(self._server, number, self._prepared.binding(shape))
        except OSError:  # do not use what was read: a crash might bring the file back
            arrays = None
        with self._asking(self._command("adopt", shape, number=number, usable=arrays is not None)):
            with self._channel.receive_document("adopted") as answer:
                adopted = answer.take("adopted", boolean)  # no other value counts as no, else one side goes on alone
            if adopted and arrays is None:
                raise ProtocolError("expected the server not to load a run that the client does not have, but it did")
            if adopted and arrays is not None:
                self._prepared.load(shape, arrays)
        return adopted

    def _compare(self, shape: RunShape) -> list[str]:
        try:
            own = self._store.ready(self._server, self._prepared.binding(shape))[:MAX_KEPT]
            self._paired()
        except OSError:
            return []
        asking = self._asking(self._command("kept runs", shape, numbers=own))
        with asking, self._channel.receive_document("kept runs") as answer:
            numbers = answer.take("numbers", optional(list_of(_NUMBER, MAX_KEPT)))
        if numbers is None:  # the server cannot read its folder now
            return []
        theirs = [number.hex() for number in numbers]
        for number in set(own) - set(theirs):
            with suppress(OSError):
                self._store.discard(self._server, number)
        return [number for number in own if number in theirs]

    def _server_identity(self) -> str:
        """Return the server's identity, or an empty text if it keeps no runs. Ask the server only once."""
        if not self._asked:
            asking = self._asking({"operation": "kept server"})
            with asking, self._channel.receive_document("kept server") as answer:
                identity = answer.take("identity", optional(_NUMBER))
            self._asked, self._server = True, identity.hex() if identity else ""
        return self._server

    def _command(self, operation: str, shape: RunShape, **fields: Any) -> dict[str, Any]:
        pair = {"images": shape.images, "decisions": shape.decisions, "pairing": self._paired()}
        return {"operation": operation, **pair, **fields}

    def _paired(self) -> str:
        """Return the number by which the server knows this client. Read it from the folder only once."""
        self._pairing = self._pairing or self._store.pairing(self._server)
        return self._pairing


class PreparedRunsServer:
    """The server's side.

    Args:
        store: the server's folder; None to keep nothing.
        prepared: the server's runs in memory.
        channel: the channel to the client.
    """

    def __init__(self, store: PreparedStore | None, prepared: RunsInMemory, channel: Channel) -> None:
        self._folder, self._prepared, self._channel = store, prepared, channel
        if store:
            store.clean()

    @property
    def _store(self) -> PreparedStore:
        if self._folder is None:
            raise ProtocolError(
                "expected no command about prepared runs, since the server has told the client that it keeps none"
            )
        return self._folder

    def introduce(self) -> None:
        """Send the client the server's identity, or null if there is no folder, or it cannot be used."""
        try:
            identity = self._folder.identity() if self._folder else None
        except OSError:
            self._folder = identity = None
        self._channel.send_document("kept server", {"identity": identity})

    def save(self, shape: RunShape, pairing: str, number: str) -> None:
        """Keep a prepared run, or drop it and tell the client why. The caller has taken the run out of its count."""
        store, binding = self._store, self._prepared.binding(shape)
        arrays = self._prepared.unload(shape)
        reason = None
        try:
            store.make_room(pairing, binding)
            store.write(pairing, number, binding, arrays)
            store.publish(pairing, number)
        except ParameterError as error:  # its text names no file
            reason = str(error)
        except OSError:
            with suppress(OSError):
                store.discard(pairing, number)
            reason = "it could not write them"
        self._channel.send_document("kept", {"kept": reason is None, "reason": reason})

    def compare(self, shape: RunShape, pairing: str, numbers: list[str]) -> None:
        """Tell the client which runs both sides have, and drop the others; None if the folder cannot be read now."""
        store = self._store
        try:
            own = store.ready(pairing, self._prepared.binding(shape))
        except OSError:
            self._channel.send_document("kept runs", {"numbers": None})
            return
        for number in set(own) - set(numbers):
            with suppress(OSError):
                store.discard(pairing, number)
        self._channel.send_document("kept runs", {"numbers": [number for number in own if number in numbers]})

    def restore(self, shape: RunShape, pairing: str, number: str, usable: bool) -> bool:
        """Load one kept run, if the client can load it too. Return whether both do."""
        store = self._store
        try:
            arrays = store.take(pairing, number, self._prepared.binding(shape))
        except OSError:  # do not use what was read: a crash might bring the file back
            arrays = None
        adopted = usable and arrays is not None
        if arrays is not None and adopted:
            self._prepared.load(shape, arrays)
        self._channel.send_document("adopted", {"adopted": adopted})
        return adopted


@contextmanager
def _telling() -> Iterator[None]:
    """Turn a system error into one that says why a run cannot be kept, and in which file."""
    try:
        yield
    except OSError as error:
        where = f" as {error.filename}" if error.filename else ""
        raise ParameterError(f"cannot keep a prepared run{where}: {error.strerror or error}") from error
