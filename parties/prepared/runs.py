"""Runs that earlier sessions prepared, on both sides of a session: how they are kept, and how they are taken up again.

The server says who it is, and the client what it has for that server; both forget what the other has not. A server
without a folder says so, and then nothing is asked of it. See `store` for why nothing is used twice.

A folder that cannot be used ends no session: it goes on as if nothing were kept. Only who asks to keep a run hears why.

Each step is one command, and either both sides take a run out of memory (or into it) or the session has failed: masks
that are out of step would give a wrong answer.
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
"""Of what is kept; another one's is not read."""

_NUMBER, _MAX_REASON = hexadecimal(16), 1000

Asking = Callable[[dict[str, Any]], AbstractContextManager[None]]
"""Sends a command, and marks the session as failed if what follows in the block does."""


@dataclass(frozen=True)
class RunsInMemory:
    """One side's prepared runs, in memory.

    Args:
        network: with what its linear layers have prepared.
        source: with the correlations.
        requests: returns those that a run of a shape uses up.
        described: what all prepared runs depend on, as JSON values.
    """

    network: NetworkClient | NetworkServer
    source: CorrelationSource
    requests: Callable[[RunShape], list[Request]]
    described: tuple[Any, ...]

    def binding(self, shape: RunShape) -> str:
        """Return the digest of what a prepared run of a shape depends on."""
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
    """The client's side. Its methods are parts of the session's requests, one at a time.

    Args:
        store: its folder.
        prepared: its runs in memory.
        channel: to the server.
        asking: see `Asking`.
    """

    def __init__(self, store: PreparedStore, prepared: RunsInMemory, channel: Channel, asking: Asking) -> None:
        self._store, self._prepared = store, prepared
        self._channel, self._asking = channel, asking
        self._asked, self._server, self._pairing = False, "", ""
        self._known: dict[RunShape, list[str]] = {}
        store.clean()

    def check_room(self, shape: RunShape) -> None:
        """See that a run can be kept.

        Raises:
            ParameterError: there is no room here, the folder cannot be used, or the server keeps none.
        """
        server = self._server_identity()
        if not server:
            raise ParameterError("expected a server with a folder for prepared runs, it has none")
        with _telling():
            self._store.make_room(server, self._prepared.binding(shape))
            self._paired()

    def save(self, shape: RunShape) -> str | None:
        """Keep a prepared run; the caller has looked for room, and has taken the run out of its count.

        Returns:
            Why the server does not; both have then dropped it.

        Raises:
            ParameterError: it cannot be written here; the session has failed.
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
        """Leave nothing of a run that could not be kept: the server's file of it is of no use then either."""
        try:
            with _telling():
                yield
        except BaseException:
            with suppress(OSError):
                self._store.discard(server, number)
            raise

    def knows(self, shape: RunShape) -> bool:
        """Whether there may be a run of a shape; the first time, both sides compare what they have."""
        if not self._server_identity():
            return False
        if shape not in self._known:
            self._known[shape] = self._compare(shape)
        return bool(self._known[shape])

    def restore(self, shape: RunShape) -> bool:
        """Take up one run on both sides; False if one of them cannot."""
        number = self._known[shape].pop(0)
        try:
            arrays = self._store.take(self._server, number, self._prepared.binding(shape))
        except OSError:  # what was read is not used: a crash might bring the file back
            arrays = None
        with self._asking(self._command("adopt", shape, number=number, usable=arrays is not None)):
            with self._channel.receive_document("adopted") as answer:
                adopted = answer.take("adopted", boolean)  # who took anything else for no would go on alone
            if adopted and arrays is None:
                raise ProtocolError("expected the server not to take up a run that the client has not got, it did")
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
            theirs = [number.hex() for number in answer.take("numbers", list_of(_NUMBER, MAX_KEPT))]
        for number in set(own) - set(theirs):
            with suppress(OSError):
                self._store.discard(self._server, number)
        return [number for number in own if number in theirs]

    def _server_identity(self) -> str:
        """Return the server's identity, asked for once; nothing if it keeps no runs."""
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
        """Return the number by which the server knows this client, which the folder is asked for once."""
        self._pairing = self._pairing or self._store.pairing(self._server)
        return self._pairing


class PreparedRunsServer:
    """The server's side.

    Args:
        store: its folder; None to keep nothing.
        prepared: its runs in memory.
        channel: to the client.
    """

    def __init__(self, store: PreparedStore | None, prepared: RunsInMemory, channel: Channel) -> None:
        self._folder, self._prepared, self._channel = store, prepared, channel
        if store:
            store.clean()

    @property
    def _store(self) -> PreparedStore:
        if self._folder is None:
            raise ProtocolError(
                "expected no command about prepared runs from a client that was told that there are none"
            )
        return self._folder

    def introduce(self) -> None:
        """Tell the client who keeps its runs: nobody, if the folder cannot be used."""
        try:
            identity = self._folder.identity() if self._folder else None
        except OSError:
            self._folder = identity = None
        self._channel.send_document("kept server", {"identity": identity})

    def save(self, shape: RunShape, pairing: str, number: str) -> None:
        """Keep a prepared run, or drop it and say why; the caller has taken it out of its count."""
        store, binding = self._store, self._prepared.binding(shape)
        arrays = self._prepared.unload(shape)
        reason = None
        try:
            store.make_room(pairing, binding)
            store.write(pairing, number, binding, arrays)
            store.publish(pairing, number)
        except ParameterError as error:  # which names no file
            reason = str(error)
        except OSError:
            with suppress(OSError):
                store.discard(pairing, number)
            reason = "it could not write them"
        self._channel.send_document("kept", {"kept": reason is None, "reason": reason})

    def compare(self, shape: RunShape, pairing: str, numbers: list[str]) -> None:
        """Tell which runs both have; forget the others."""
        store, own = self._store, list[str]()
        with suppress(OSError):
            own = store.ready(pairing, self._prepared.binding(shape))
        for number in set(own) - set(numbers):
            with suppress(OSError):
                store.discard(pairing, number)
        self._channel.send_document("kept runs", {"numbers": [number for number in own if number in numbers]})

    def restore(self, shape: RunShape, pairing: str, number: str, usable: bool) -> bool:
        """Take up one run, if the client can; return whether both do."""
        store = self._store
        try:
            arrays = store.take(pairing, number, self._prepared.binding(shape))
        except OSError:  # what was read is not used: a crash might bring the file back
            arrays = None
        adopted = usable and arrays is not None
        if arrays is not None and adopted:
            self._prepared.load(shape, arrays)
        self._channel.send_document("adopted", {"adopted": adopted})
        return adopted


@contextmanager
def _telling() -> Iterator[None]:
    """Say why a run cannot be kept, and as which file."""
    try:
        yield
    except OSError as error:
        where = f" as {error.filename}" if error.filename else ""
        raise ParameterError(f"cannot keep a prepared run{where}: {error.strerror or error}") from error
