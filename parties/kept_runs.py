"""Runs that earlier sessions prepared, on both sides of a session: how they are kept, and how they are taken up again.

The client says what it has; both forget what the other has not. See `prepared` for why nothing is used twice.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parties.pool import Kind
from parties.prepared import PreparedStore, binding_of
from protocols.channel import Channel, printable
from protocols.correlations import CorrelationSource, Request
from protocols.errors import ParameterError, ProtocolError
from protocols.network import NetworkClient, NetworkServer
from protocols.ring import RingArray

__all__ = ["KeptRunsClient", "KeptRunsServer", "Prepared"]

_CORRELATIONS = "correlations"


@dataclass(frozen=True)
class Prepared:
    """One side's prepared runs, in memory.

    Args:
        network: with what its linear layers have prepared.
        source: with the correlations.
        requests: returns those that a run of a kind uses up.
        described: what all prepared runs depend on, as JSON values.
    """

    network: NetworkClient | NetworkServer
    source: CorrelationSource
    requests: Callable[[Kind], list[Request]]
    described: tuple[Any, ...]

    def binding(self, kind: Kind) -> str:
        """Return the digest of what a prepared run of a kind depends on."""
        return binding_of(*self.described, kind.images, kind.decisions)

    def hand_over(self, kind: Kind) -> dict[str, list[RingArray]]:
        """Take one run out of memory."""
        arrays = {f"layer {name}": parts for name, parts in self.network.hand_over(kind.images).items()}
        for i, request in enumerate(self.requests(kind)):
            arrays[f"{_CORRELATIONS} {i}"] = self.source.take(request)
        return arrays

    def take_over(self, kind: Kind, arrays: dict[str, list[RingArray]]) -> None:
        """Put one run into memory.

        Raises:
            ParameterError: the arrays are not those of such a run.
        """
        layers = {name.removeprefix("layer "): parts for name, parts in arrays.items() if name.startswith("layer ")}
        requests = self.requests(kind)
        names = [f"{_CORRELATIONS} {i}" for i in range(len(requests))]
        if any(name not in arrays for name in names):
            raise ParameterError(f"expected {len(requests)} kept correlations, got others")
        self.network.take_over(layers, kind.images)
        for request, name in zip(requests, names, strict=True):
            self.source.put(request, arrays[name])


class KeptRunsClient:
    """The client's side.

    Args:
        store: its folder. prepared: its runs in memory.
        ask: sends a command to the server, and returns the answer of a label.
    """

    def __init__(
        self, store: PreparedStore, prepared: Prepared, ask: Callable[[dict[str, Any], str], dict[str, Any]]
    ) -> None:
        self._store, self._prepared, self._send = store, prepared, ask
        self._pairing = store.own_pairing()
        self._known: dict[Kind, list[str]] = {}
        store.clean(self._pairing)

    def keep(self, kind: Kind) -> None:
        """Keep a prepared run; the caller has taken it out of its count.

        Raises:
            ProtocolError: the server does not keep it.
        """
        number = secrets.token_hex(16)
        arrays = self._prepared.hand_over(kind)
        self._store.write(self._pairing, number, self._prepared.binding(kind), arrays)
        answer = self._ask("keep", "kept", kind, number=number)
        if answer.get("kept") is not True:
            self._store.discard(self._pairing, number)
            raise ProtocolError(f"expected the server to keep a prepared run: {printable(answer.get('reason'), 200)}")
        self._store.publish(self._pairing, number)

    def knows(self, kind: Kind) -> bool:
        """Whether there may be a run of a kind; the first time, both sides compare what they have."""
        if kind not in self._known:
            self._known[kind] = self._compare(kind)
        return bool(self._known[kind])

    def adopt(self, kind: Kind) -> bool:
        """Take up one run on both sides; False if one of them cannot."""
        number = self._known[kind].pop(0)
        arrays = self._store.take(self._pairing, number, self._prepared.binding(kind))
        answer = self._ask("adopt", "adopted", kind, number=number, usable=arrays is not None)
        if arrays is None or answer.get("adopted") is not True:
            return False
        self._prepared.take_over(kind, arrays)
        return True

    def _compare(self, kind: Kind) -> list[str]:
        own = self._store.ready(self._pairing, self._prepared.binding(kind))
        theirs = self._ask("kept runs", "kept runs", kind, numbers=own).get("numbers")
        if not isinstance(theirs, list):
            raise ProtocolError(f"expected the numbers of kept runs, got {printable(theirs)}")
        for number in set(own) - {str(number) for number in theirs}:
            self._store.discard(self._pairing, number)
        return [number for number in own if number in theirs]

    def _ask(self, operation: str, answer: str, kind: Kind, **fields: Any) -> dict[str, Any]:
        pair = {"images": kind.images, "decisions": kind.decisions, "pairing": self._pairing}
        return self._send({"operation": operation, **pair, **fields}, answer)


class KeptRunsServer:
    """The server's side.

    Args:
        store: its folder; None to keep nothing.
        prepared: its runs in memory.
        channel: to the client.
    """

    def __init__(self, store: PreparedStore | None, prepared: Prepared, channel: Channel) -> None:
        self._store, self._prepared, self._channel = store, prepared, channel

    def keep(self, kind: Kind, pairing: str, number: str) -> None:
        """Keep a prepared run; the caller has taken it out of its count."""
        arrays = self._prepared.hand_over(kind)
        reason = None if self._store else "it has no folder for them"
        if self._store:
            try:
                self._store.write(pairing, number, self._prepared.binding(kind), arrays)
                self._store.publish(pairing, number)
            except ParameterError as error:
                reason = str(error)
        self._channel.send_document("kept", {"kept": reason is None, "reason": reason})

    def compare(self, kind: Kind, pairing: str, numbers: list[Any]) -> None:
        """Tell which runs both have; forget the others."""
        own = self._store.ready(pairing, self._prepared.binding(kind)) if self._store else []
        if self._store:
            self._store.clean(pairing)
            for number in set(own) - {str(number) for number in numbers}:
                self._store.discard(pairing, number)
        self._channel.send_document("kept runs", {"numbers": [number for number in own if number in numbers]})

    def adopt(self, kind: Kind, pairing: str, number: str, usable: bool) -> bool:
        """Take up one run, if the client can; return whether both do."""
        arrays = self._store.take(pairing, number, self._prepared.binding(kind)) if self._store else None
        adopted = usable and arrays is not None
        if arrays is not None and adopted:
            self._prepared.take_over(kind, arrays)
        self._channel.send_document("adopted", {"adopted": adopted})
        return adopted
