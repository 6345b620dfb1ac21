"""Run CrypTen on our channel: the party, its communicator, and the provider of its correlated randomness.

CrypTen's arithmetic and binary shared tensors run between two parties, client (rank 0) and server (rank 1). They use
one `Channel`, so bytes and rounds are counted in one place. Correlations come from a `CorrelationSource`. While a
thread has entered a party (`with party:`), CrypTen runs there as that party. Otherwise it works as without this module.

CrypTen's pseudorandom zero sharing hides nothing between two parties, since both know both seeds. Here it is literally
zero. Hiding rests on the correlations alone: the parties open nothing that correlations do not mask. The communicator
refuses methods that would pickle objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import CLIENT, Channel
from protocols.correlations import (
    ArithmeticTriple,
    BinaryTriple,
    CorrelationSource,
    Request,
    SharedBit,
    SquarePair,
    WrapCount,
)
from protocols.errors import ParameterError
from protocols.shares.crypten_import import ArithmeticSharedTensor, BinarySharedTensor, Communicator, TupleProvider
from protocols.shares.entered import Entered, Generators, enter, leave

__all__ = ["MpcParty", "arithmetic", "binary", "to_ring"]

_WORLD_SIZE = 2
_ReduceOp = torch.distributed.ReduceOp


class ChannelCommunicator(Communicator):  # type: ignore[misc]
    """CrypTen's communicator between two parties over a channel."""

    BYTES_PER_ELEMENT = 8

    def __init__(self, channel: Channel, rank: int) -> None:
        self._channel, self._rank = channel, rank

    def get_rank(self) -> int:
        return self._rank

    def get_world_size(self) -> int:
        return _WORLD_SIZE

    def all_reduce(self, value: Any, op: Any = _ReduceOp.SUM, async_op: bool = False, batched: bool = False) -> Any:
        """Open a tensor, or a list of them in one message, to both parties."""
        tensors = value if batched else [value]
        own = _flat(tensors)
        total = _split(_combine(own, self._channel.exchange("open", own), op), tensors)
        return total if batched else total[0]

    def reduce(
        self, value: Any, dst: int, op: Any = _ReduceOp.SUM, async_op: bool = False, batched: bool = False
    ) -> Any:
        """Open a tensor, or a list of them in one message, to one party; the other gets its own share back."""
        tensors = value if batched else [value]
        own = _flat(tensors)
        if self._rank != dst:
            self._channel.send("open to one", own)
            return value
        total = _split(_combine(own, self._channel.receive("open to one", np.int64, own.shape), op), tensors)
        return total if batched else total[0]

    def gather(self, tensor: torch.Tensor, dst: int, async_op: bool = False) -> list[torch.Tensor] | None:
        own = _flat([tensor])
        if self._rank != dst:
            self._channel.send("gather", own)
            return None
        other = _split(self._channel.receive("gather", np.int64, own.shape), [tensor])[0]
        return [tensor, other] if self._rank == CLIENT else [other, tensor]

    def all_gather(self, tensor: torch.Tensor, async_op: bool = False) -> list[torch.Tensor]:
        other = _split(self._channel.exchange("all gather", _flat([tensor])), [tensor])[0]
        return [tensor, other] if self._rank == CLIENT else [other, tensor]

    def broadcast(self, value: Any, src: int, async_op: bool = False, batched: bool = False) -> Any:
        tensors = value if batched else [value]
        own = _flat(tensors)
        if self._rank == src:
            self._channel.send("broadcast", own)
            return value
        came = _split(self._channel.receive("broadcast", np.int64, own.shape), tensors)
        return came if batched else came[0]

    def send(self, tensor: torch.Tensor, dst: int) -> None:
        self._channel.send("tensor", _flat([tensor]))

    def recv(self, tensor: torch.Tensor, src: int | None = None) -> torch.Tensor:
        return _split(self._channel.receive("tensor", np.int64, (tensor.numel(),)), [tensor])[0]

    def isend(self, tensor: torch.Tensor, dst: int) -> "_Completed":
        self.send(tensor, dst)
        return _Completed()

    def irecv(self, tensor: torch.Tensor, src: int | None = None) -> "_Completed":
        tensor.copy_(self.recv(tensor, src))
        return _Completed()

    def barrier(self) -> None:
        self._channel.exchange("barrier", np.zeros(1, dtype=np.int64))


class _Completed:
    """A request that is complete as soon as it is made."""

    def wait(self) -> None:
        return

    def is_completed(self) -> bool:
        return True


class CorrelationProvider(TupleProvider):  # type: ignore[misc]
    """CrypTen's provider interface over a `CorrelationSource`."""

    NAME = "hybridface"

    def __init__(self, source: CorrelationSource) -> None:
        super().__init__()
        self._source = source

    def generate_additive_triple(
        self, size0: Any, size1: Any, op: str, device: Any = None, *args: Any, **kwargs: Any
    ) -> tuple[Any, ...]:
        options = tuple(sorted((name, tuple(v) if isinstance(v, list) else v) for name, v in kwargs.items()))
        if args:
            raise ParameterError(f"expected only keyword options for {op}, got {args}")
        return self._arithmetic(ArithmeticTriple(op, tuple(size0), tuple(size1), options))

    def generate_binary_triple(self, size0: Any, size1: Any, device: Any = None) -> tuple[Any, ...]:
        shares = self._source.take(BinaryTriple(tuple(size0), tuple(size1)))
        return tuple(binary(share) for share in shares)

    def square(self, size: Any, device: Any = None) -> tuple[Any, ...]:
        return self._arithmetic(SquarePair(tuple(size)))

    def wrap_rng(self, size: Any, device: Any = None) -> tuple[Any, ...]:
        return self._arithmetic(WrapCount(tuple(size)))

    def B2A_rng(self, size: Any, device: Any = None) -> tuple[Any, ...]:  # noqa: N802 (CrypTen's name)
        bit, value = self._source.take(SharedBit(tuple(size)))
        return arithmetic(value), binary(bit)

    def _arithmetic(self, request: Request) -> tuple[Any, ...]:
        return tuple(arithmetic(share) for share in self._source.take(request))


@dataclass(frozen=True)
class MpcParty:
    """One of the two parties of a computation on shares.

    `with party:` makes CrypTen run as this party in the current thread.

    Args:
        rank: 0 the client, 1 the server.
        channel: to the other party.
        correlations: this party's end of the correlated randomness.
    """

    rank: int
    channel: Channel
    correlations: CorrelationSource

    def __enter__(self) -> "MpcParty":
        communicator = ChannelCommunicator(self.channel, self.rank)
        enter(Entered(communicator, CorrelationProvider(self.correlations), _generators()))
        return self

    def __exit__(self, *exception: object) -> None:
        leave()


def arithmetic(share: RingArray, precision: int = 0) -> Any:
    """Wrap a share as CrypTen's `ArithmeticSharedTensor`; `precision` fractional bits, 0 for raw ring elements."""
    return ArithmeticSharedTensor.from_shares(_tensor(share), precision=precision)


def binary(share: RingArray) -> Any:
    """Wrap exclusive-or shares of words as CrypTen's `BinarySharedTensor`."""
    return BinarySharedTensor.from_shares(_tensor(share), precision=0)


def to_ring(tensor: Any) -> RingArray:
    """Return a CrypTen tensor's share, or a plain tensor, as uint64."""
    value = tensor if isinstance(tensor, torch.Tensor) else tensor.share
    return value.contiguous().numpy().view(np.uint64)


def _tensor(share: RingArray) -> torch.Tensor:
    words = np.ascontiguousarray(share)
    return torch.from_numpy((words if words.flags.writeable else words.copy()).view(np.int64))


def _flat(tensors: Sequence[torch.Tensor]) -> Any:
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).numpy()


def _split(flat: Any, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    parts = torch.from_numpy(flat).split([tensor.numel() for tensor in like])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def _combine(own: Any, other: Any, op: Any) -> Any:
    if op == _ReduceOp.SUM:
        return own + other
    if op == _ReduceOp.BXOR:
        return own ^ other
    raise ParameterError(f"expected the reduction SUM or BXOR, got {op}")


def _generators() -> Generators:
    """Return generators with equal seeds for `prev` and `next`, so that the zero sharing is zero (see above)."""
    cpu = torch.device("cpu")
    seeds = {"prev": 0, "next": 0, "global": 0, "local": None}
    generators = {}
    for name, seed in seeds.items():
        generator = torch.Generator(device=cpu)
        generator.manual_seed(0) if seed is not None else generator.seed()
        generators[name] = {cpu: generator}
    return generators
