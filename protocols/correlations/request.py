"""Describe correlations: shares of random values that satisfy a relation.

A correlation has two kinds of fields. Both parties draw their shares of the *uniform* fields. The *derived* fields are
functions of the uniform ones. The client draws its share of these too, and the server's share is the difference. So a
dealer that shares a seed with each party sends only one correction, of the derived fields, to the server.

Fields are arrays in Z_2^64. They are shared by addition, or by exclusive or (bit planes: bit j of word w of a plane
belongs to element 64 w + j).
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from protocols.arithmetic.fixed_point import RingArray

__all__ = ["Field", "FreeRequest", "Request", "Shape"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Field:
    """One shared array: its shape, and whether it is shared by exclusive or (else by addition mod 2^64).

    Args:
        bits: 64, or 1 for exclusive-or shares of single bits.
    """

    shape: Shape
    xor: bool = False
    bits: int = 64

    def combine(self, first: RingArray, second: RingArray) -> RingArray:
        """Return the value of two shares."""
        return np.asarray(first ^ second if self.xor else first + second)

    def complement(self, value: RingArray, first: RingArray, out: RingArray | None = None) -> RingArray:
        """Return the second share of a value, or write it to `out`."""
        return (np.bitwise_xor if self.xor else np.subtract)(value, first, out=out)


@dataclass(frozen=True)
class Request(ABC):
    """A correlation's type and size. A dealer learns nothing else about it."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def uniform(self) -> tuple[Field, ...]:
        """The fields whose shares both parties draw."""

    @property
    @abstractmethod
    def derived(self) -> tuple[Field, ...]:
        """The fields that follow from the uniform ones."""

    def document(self) -> dict[str, Any]:
        """Return the request as a JSON object."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    def _values(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        return [f.combine(a, b) for f, a, b in zip(self.uniform, first, second, strict=True)]


@dataclass(frozen=True)
class FreeRequest(Request):
    """A correlation whose derived fields follow from the uniform ones alone."""

    @abstractmethod
    def derive(self, first: Sequence[RingArray], second: Sequence[RingArray]) -> list[RingArray]:
        """Return the values of the derived fields from both parties' shares of the uniform ones."""
