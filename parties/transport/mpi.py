"""Open channels between MPI ranks, and find out the role of each rank.

A waiting rank must not spin. MPI libraries busy-wait, so that one idle rank takes a core from the ranks that work. Here
every wait tests a non-blocking request. For the first 0.2 ms it only yields between two tests, since a working peer on
this machine answers sooner. Then it sleeps between tests, at first briefly, later up to a millisecond. Every wait has a
deadline.

Only byte strings travel (`MPI.BYTE`). mpi4py's lowercase calls, which pickle, are not used.

When a rank joins, it announces its role, the roles that it requires, and the network that it simulates. All ranks must
agree on the last two. To simulate a network other than "none", all ranks must run on one machine.
"""

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parties.transport.mpi_library import MPI, abort_world, end_mpi, forget_shared_memory, start_mpi
from parties.transport.roles import SHARD_ROLES, Role
from parties.transport.shaping import machine_id, shaped
from protocols.channel import Channel, Transport, printable
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.link import MAX_NAME_BYTES, NONE, Link

__all__ = ["DEFAULT_TIMEOUT", "World", "is_first_rank", "join", "leave"]

DEFAULT_TIMEOUT = 300.0
"""Seconds that a rank waits for a peer's message before it gives up. The longest start-up takes less."""

_ENTRY = struct.Struct(f"16s32s{MAX_NAME_BYTES}s8s")
"""What a rank announces: its role, the roles it requires, the network it simulates, and its machine if it does so."""

_TAG = 7
_SPIN_SECONDS = 200e-6
_FAILURE_SECONDS = 3.0
_LONGEST_SLEEP = 1e-3


def _wait(done: Callable[[], Any], timeout: float, what: str) -> Any:
    """Call `done`, with growing sleeps, until it returns something true. Raise `PeerLostError` at the deadline."""
    start = time.monotonic()
    while not (result := done()):
        elapsed = time.monotonic() - start
        if elapsed > timeout:
            raise PeerLostError(f"expected {what} within {timeout:g} s, got none")
        time.sleep(0 if elapsed < _SPIN_SECONDS else min(elapsed / 4, _LONGEST_SLEEP))
    return result


@dataclass(frozen=True)
class MpiTransport:
    """One end of a channel to another rank.

    Args:
        communicator: the ranks' communicator.
        rank: the peer's rank.
        peer: the peer's name, for error messages.
        timeout: seconds to wait for the peer.
    """

    communicator: MPI.Comm
    rank: int
    peer: str
    timeout: float
    _pending: list[MPI.Request] = field(default_factory=list)
    _taking: list[tuple[MPI.Request, memoryview]] = field(default_factory=list)

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        """Start to send one message. Wait until the peer has taken it only if a `timeout` is given.

        Two ranks that waited for each other to take a message would wait forever. The protocol bounds the data that are
        under way: it sends at most 16 MB ahead (or one layer).
        """
        self._start(payload)
        if timeout is not None:
            self._flush(timeout)

    def receive(self, max_bytes: int, timeout: float | None = None) -> bytes | memoryview:
        """Receive one message. Check its size before reading it."""
        status = MPI.Status()
        message = _wait(
            lambda: self.communicator.Improbe(self.rank, _TAG, status),
            self.timeout if timeout is None else timeout,
            f"a message from {self.peer}",
        )
        size = status.Get_count(MPI.BYTE)
        if size > max_bytes:
            raise ProtocolError(f"expected at most {max_bytes} bytes from {self.peer}, got {size}")
        buffer = np.empty(size, dtype=np.uint8).data
        request = message.Irecv([buffer, MPI.BYTE])
        self._taking.append((request, buffer))  # after a timeout MPI may still write into it
        _wait(request.Test, self.timeout, f"the rest of a message from {self.peer}")
        self._taking.pop()
        return buffer

    def exchange(self, payload: bytes, max_bytes: int) -> bytes | memoryview:
        """Send and receive at once."""
        self._start(payload)
        return self.receive(max_bytes)

    def close(self) -> None:
        """Wait until the peer has taken all messages."""
        self._flush(self.timeout)

    def _start(self, payload: bytes) -> None:
        """Start to send. The request keeps the payload alive until the sending is complete."""
        self._pending[:] = [request for request in self._pending if not request.Test()]
        self._pending.append(self.communicator.Isend([payload, MPI.BYTE], self.rank, _TAG))

    def _flush(self, timeout: float) -> None:
        what = f"{self.peer} to take a message"
        _wait(lambda: all(request.Test() for request in self._pending), timeout, what)
        self._pending.clear()


@dataclass(frozen=True)
class World:
    """The ranks of one computation, and this one's place among them.

    Args:
        communicator: a duplicate of MPI's world that returns errors instead of ending the process.
        roles: the role of every rank.
        timeout: the timeout of every channel, in seconds.
        link: the network that every channel between organisations simulates.
    """

    communicator: MPI.Comm
    roles: tuple[Role, ...]
    timeout: float
    link: Link = NONE
    _opened: list[Channel] = field(default_factory=list)

    def channel(self, role: Role) -> Channel:
        """Return a channel to the client, the server or the dealer."""
        return self._between(self.roles.index(role), role.value)

    def workers(self) -> list[Channel]:
        """Return a channel to every worker. It stays within the server's organisation, so it simulates no link."""
        ranks = [rank for rank, role in enumerate(self.roles) if role is Role.WORKER]
        return [self._within(rank, f"{Role.WORKER.value} {index}") for index, rank in enumerate(ranks)]

    def server_of_worker(self) -> Channel:
        """Return a worker's channel to its server, like those of `workers`."""
        return self._within(self.roles.index(Role.SERVER), Role.SERVER.value)

    def shards_of(self, role: Role) -> list[Channel]:
        """Return the channels of the client or the server to its own ranks of further shards."""
        ranks = [rank for rank, other in enumerate(self.roles) if other in SHARD_ROLES and other.party is role]
        return [self._within(rank, f"{self.roles[rank].value} {number}") for number, rank in enumerate(ranks)]

    def channels_of_shard(self) -> dict[Role, Channel]:
        """Return the channels of a shard's rank by role: to its party's main rank, and to the shard's other ranks."""
        own = self.roles[self.communicator.Get_rank()]
        number = [rank for rank, role in enumerate(self.roles) if role is own].index(self.communicator.Get_rank())
        channels = {}
        for role in SHARD_ROLES:
            if role is not own and role in self.roles:
                rank, name = (
                    [r for r, other in enumerate(self.roles) if other is role][number],
                    f"{role.value} {number}",
                )
                channels[role] = self._between(rank, name)
        if own.party is not Role.DEALER:
            channels[own.party] = self._within(self.roles.index(own.party), own.party.value)
        return channels

    def _within(self, rank: int, name: str) -> Channel:
        """Return a channel to a rank of the same organisation: no link is simulated."""
        return self._open(MpiTransport(self.communicator, rank, name, self.timeout), name)

    def _between(self, rank: int, name: str) -> Channel:
        """Return a channel to a rank of another organisation, over the link."""
        transport = MpiTransport(self.communicator, rank, name, self.timeout)
        return self._open(shaped(transport, self.link, name, self.timeout), name)

    def _open(self, transport: Transport, name: str) -> Channel:
        channel = Channel(transport, name)
        self._opened.append(channel)
        return channel

    def close(self) -> None:
        """Wait until the peers have taken all messages."""
        for channel in self._opened:
            channel.close()

    def fail(self, reason: str, status: int) -> None:
        """Tell the peers why this rank ends, wait for their error reports, and end all ranks with an exit status.

        A busy peer may not read the message. This rank waits for such peers for three seconds at most.
        """
        for channel in self._opened:
            channel.send_error(reason)
        deadline = time.monotonic() + _FAILURE_SECONDS
        for channel in self._opened:
            channel.await_failure(deadline - time.monotonic())
        abort_world(status)


def is_first_rank() -> bool:
    """Return whether this is MPI's rank 0, which reports an error that all ranks have in common."""
    return bool(MPI.COMM_WORLD.Get_rank() == 0)


def join(
    role: Role,
    timeout: float = DEFAULT_TIMEOUT,
    link: Link = NONE,
    required: Sequence[Role] = (Role.CLIENT, Role.SERVER, Role.DEALER),
) -> World:
    """Join MPI's world as `role`, and learn the role of every rank.

    Args:
        timeout: seconds that this rank waits for another.
        link: the network to simulate. Any link but "none" needs all ranks on one machine.
        required: the roles that must have exactly one rank each. All ranks must require the same ones.

    Raises:
        ParameterError: a required role does not have exactly one rank, a rank has a role that is not allowed, or a
            shard is incomplete; or the ranks require different roles, or simulate different networks, or simulate a
            network from several machines.
        PeerLostError: a rank did not answer in time.
    """
    start_mpi(timeout)
    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)
    communicator, request = MPI.COMM_WORLD.Idup()
    _wait(request.Test, timeout, "every rank to join")
    machine = machine_id() if link.shapes else b""
    own = _ENTRY.pack(role.value.encode(), ", ".join(required).encode(), link.name.encode(), machine)
    everybody = bytearray(_ENTRY.size * communicator.Get_size())
    request = communicator.Iallgather([own, MPI.BYTE], [everybody, MPI.BYTE])
    _wait(request.Test, timeout, "every rank's role")
    forget_shared_memory()
    entries = list(_ENTRY.iter_unpack(everybody))
    names, counted_on, links = ([_text(entry[i]) for entry in entries] for i in range(3))
    _check_same("--mode and --correlations", names, counted_on)
    _check_roles(names, required)
    _check_same("--link", names, links)
    if len({entry[3] for entry in entries}) > 1:
        raise ParameterError(
            f"expected all ranks on one machine to simulate {link.name}, got several; between machines use none"
        )
    return World(communicator, tuple(Role(name) for name in names), timeout, link)


def leave(timeout: float) -> None:
    """Leave MPI's world together with the others.

    Raises:
        PeerLostError: a rank does not leave in time.
    """
    _wait(MPI.COMM_WORLD.Ibarrier().Test, timeout, "every rank to end")
    end_mpi(timeout)


def _check_same(option: str, names: Sequence[str], told: Sequence[str]) -> None:
    if len(set(told)) > 1:
        got = "; ".join(f"{name}: {other}" for name, other in zip(names, told, strict=True))
        raise ParameterError(f"expected the same {option} for all ranks, got {got}")


def _check_roles(names: Sequence[str], required: Sequence[Role]) -> None:
    got = f"got {len(names)} ranks ({', '.join(names)}); start them with mpiexec, see launch/"
    if sorted(name for name in names if name not in (Role.WORKER, *SHARD_ROLES)) != sorted(required):
        useless = Role.DEALER in names and Role.DEALER not in required
        hint = "; a dealer takes part only with --correlations dealer" if useless else ""
        raise ParameterError(f"expected {', '.join(required)} and perhaps workers, {got}{hint}")
    of_shards = [role for role, party in SHARD_ROLES.items() if party in required]
    if len({names.count(role) for role in of_shards}) > 1 or any(
        role in names for role in SHARD_ROLES if role not in of_shards
    ):
        raise ParameterError(f"expected the same number of ranks for each of {', '.join(of_shards)}, {got}")


def _text(padded: bytes) -> str:
    return printable(padded.rstrip(b"\0").decode(errors="replace"))
