"""Define the correlations that the online protocols use up, except a comparison's, and parse requests."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from protocols.arithmetic.fixed_point import RingArray
from protocols.channel import printable
from protocols.correlations.comparison_masks import BorrowJoin, ComparisonMask
from protocols.correlations.fixed_mask import FixedNorms, FixedProduct
from protocols.correlations.request import Field, FreeRequest, Request, Shape
from protocols.errors import ParameterError, ProtocolError

__all__ = [
    "ArithmeticTriple",
    "BinaryTriple",
    "SharedBit",
    "SquarePair",
    "TruncationMask",
    "WrapCount",
    "request_from_document",
]

_MAX_ELEMENTS = 1 << 28
_MAX_AXES = 8
_OPERATIONS = ("mul", "matmul", "conv1d", "conv2d")


@dataclass(frozen=True)
class BinaryTriple(FreeRequest):
    """c = a & b on words; the shapes of a and b broadcast."""

    kind: ClassVar[str] = "binary-triple"
    left: Shape
    right: Shape

    @property
    def uniform(self) -> tuple[Field, ...]:
        return Field(self.left, xor=True), Field(self.right, xor=True)

    @property
    def derived(self) -> tuple[Field, ...]:
        return (Field(np.broadcast_shapes(self.left, self.right), xor=True),)

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        a, b = self._values(first, second)
        return [a & b]


@dataclass(frozen=True)
class ArithmeticTriple(FreeRequest):
    """c = a * b for a bilinear operation of torch: mul, matmul, conv1d, conv2d.

    Args:
        options: the operation's keyword arguments, sorted; each value is an integer or a tuple of integers.
    """

    kind: ClassVar[str] = "arithmetic-triple"
    operation: str
    left: Shape
    right: Shape
    options: tuple[tuple[str, int | Shape], ...] = ()

    def __post_init__(self) -> None:
        if self.operation not in _OPERATIONS:
            raise ParameterError(f"expected one of {', '.join(_OPERATIONS)}, got {self.operation!r}")

    @property
    def uniform(self) -> tuple[Field, ...]:
        return Field(self.left), Field(self.right)

    @property
    def derived(self) -> tuple[Field, ...]:
        meta = [torch.empty(shape, dtype=torch.float32, device="meta") for shape in (self.left, self.right)]
        return (Field(tuple(getattr(torch, self.operation)(*meta, **dict(self.options)).shape)),)

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        a, b = (torch.from_numpy(value.view(np.int64)) for value in self._values(first, second))
        return [getattr(torch, self.operation)(a, b, **dict(self.options)).numpy().view(np.uint64)]


@dataclass(frozen=True)
class SquarePair(FreeRequest):
    """A random r, and r^2."""

    kind: ClassVar[str] = "square-pair"
    shape: Shape

    @property
    def uniform(self) -> tuple[Field, ...]:
        return (Field(self.shape),)

    @property
    def derived(self) -> tuple[Field, ...]:
        return (Field(self.shape),)

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        (r,) = self._values(first, second)
        return [r * r]


@dataclass(frozen=True)
class TruncationMask(FreeRequest):
    """A random r, its low 63 bits shifted right by `bits`, and its top bit (see `truncation`)."""

    kind: ClassVar[str] = "truncation-mask"
    shape: Shape
    bits: int

    def __post_init__(self) -> None:
        if not 0 < self.bits < 62:
            raise ParameterError(f"expected to drop 1 to 61 bits, got {self.bits}")

    @property
    def uniform(self) -> tuple[Field, ...]:
        return (Field(self.shape),)

    @property
    def derived(self) -> tuple[Field, ...]:
        return Field(self.shape), Field(self.shape)

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        (r,) = self._values(first, second)
        return [(r & np.uint64(2**63 - 1)) >> np.uint64(self.bits), r >> np.uint64(63)]


@dataclass(frozen=True)
class SharedBit(FreeRequest):
    """A random bit, shared by exclusive or (in the low bit of a word) and by addition."""

    kind: ClassVar[str] = "shared-bit"
    shape: Shape

    @property
    def uniform(self) -> tuple[Field, ...]:
        return (Field(self.shape, xor=True, bits=1),)

    @property
    def derived(self) -> tuple[Field, ...]:
        return (Field(self.shape),)

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        return self._values(first, second)


@dataclass(frozen=True)
class WrapCount(FreeRequest):
    """A random r and the number of wraps of the signed sum of its two shares (CrypTen's truncation by wraps)."""

    kind: ClassVar[str] = "wrap-count"
    shape: Shape

    @property
    def uniform(self) -> tuple[Field, ...]:
        return (Field(self.shape),)

    @property
    def derived(self) -> tuple[Field, ...]:
        return (Field(self.shape),)

    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        a, b = first[0].view(np.int64), second[0].view(np.int64)
        total = a + b
        overflow = ((a > 0) & (b > 0) & (total < 0)).astype(np.int64)
        underflow = ((a < 0) & (b < 0) & (total >= 0)).astype(np.int64)
        return [(overflow - underflow).view(np.uint64)]


_KINDS: dict[str, type[Request]] = {
    c.kind: c
    for c in (
        ComparisonMask,
        BorrowJoin,
        BinaryTriple,
        ArithmeticTriple,
        SquarePair,
        TruncationMask,
        SharedBit,
        WrapCount,
        FixedNorms,
        FixedProduct,
    )
}


def request_from_document(document: Any) -> Request:
    """Parse a request that a peer sent.

    Raises:
        ProtocolError: the document is no known correlation, or the correlation is too large.
    """
    try:
        fields = {name: _tuples(value) for name, value in document.items() if name != "kind"}
        kind = _KINDS[document["kind"]]
        request = kind(**fields)
        truths = {one.name for one in dataclasses.fields(kind) if one.type is bool}
        if not all(isinstance(value, bool) if name in truths else _is_plain(value) for name, value in fields.items()):
            raise TypeError("expected integers, tuples of them, and names")
        shapes = [field.shape for field in (*request.uniform, *request.derived)]
        if not all(_is_shape(shape) for shape in shapes):
            raise ValueError("expected sizes >= 0")
        sizes = [math.prod(shape) for shape in shapes]
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ProtocolError(f"expected a correlation request, got {printable(document)}") from error
    if sum(sizes) > _MAX_ELEMENTS:
        raise ProtocolError(f"expected a correlation of at most {_MAX_ELEMENTS} elements, got {sum(sizes)}")
    return request


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple) and len(value) <= _MAX_AXES and all(type(n) is int and 0 <= n < 2**31 for n in value)
    )


def _is_plain(value: Any) -> bool:
    """Return whether a field is an integer, a name, or a tuple of these."""
    return type(value) in (int, str) or (isinstance(value, tuple) and all(_is_plain(item) for item in value))


def _tuples(value: Any) -> Any:
    """Turn JSON's lists back into tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
