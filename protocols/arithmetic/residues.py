"""Arithmetic modulo Q = p0 p1: coefficients of ciphertexts, as residues modulo the two primes.

Residues become two-limb integers (hi 2^64 + lo) for two purposes only: to shift them back into Z_2^64, the ring of the
shares (`fixed_point`), and to send them. All arithmetic is exact. The loops are in `kernels`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic import kernels
from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.errors import ParameterError, ProtocolError

__all__ = [
    "DROPPED_BITS",
    "RESIDUE_BYTES",
    "SHORT_BYTES",
    "CrtModulus",
]


RESIDUE_BYTES = 6
"""Bytes of a residue on the wire. They suffice because primes are below 2^48."""

DROPPED_BITS, SHORT_BYTES = 13, 10
"""An integer below Q < 2^93 without its 13 low bits takes ten bytes."""


@dataclass(frozen=True)
class CrtModulus:
    """The ring Z_Q, Q = p0 p1, as residues of shape (..., 2, n): axis -2 runs over the two primes.

    Args:
        p0, p1: distinct primes with 2^40 < p1 < p0 < 2^48 (so that six bytes hold a residue), and p0 p1 < 2^93.
    """

    p0: int
    p1: int

    def __post_init__(self) -> None:
        if not 2**40 < self.p1 < self.p0 < 2**48 or self.p0 * self.p1 >= 2**93:
            raise ParameterError(
                f"CrtModulus takes primes 2^40 < p1 < p0 < 2^48 with a product below 2^93, got {self.p0} and {self.p1}"
            )

    @cached_property
    def primes(self) -> RingArray:
        """The primes, shape (2,)."""
        return np.array([self.p0, self.p1], dtype=np.uint64)

    def add(self, a: RingArray, b: RingArray) -> RingArray:
        """Add residues whose shapes broadcast to (..., 2, n)."""
        return self._binary(kernels.add, a, b)

    def subtract(self, a: RingArray, b: RingArray) -> RingArray:
        """Subtract residues whose shapes broadcast to (..., 2, n)."""
        return self._binary(kernels.subtract, a, b)

    def negate(self, a: RingArray) -> RingArray:
        """Return Q - a for residues a of shape (..., 2, n)."""
        return self.subtract(np.zeros((2, 1), dtype=np.uint64), a)

    def multiply(self, a: RingArray, b: RingArray) -> RingArray:
        """Multiply residues a (..., 2, n) by b element by element; b has the shape of a, or (2, n) for all of a."""
        a = np.ascontiguousarray(a)
        if b.shape not in (a.shape, a.shape[-2:]):
            raise ParameterError(f"expected residues of shape {a.shape} or {a.shape[-2:]}, got {b.shape}")
        out = np.empty_like(a)
        kernels.multiply(_planes(a), _planes(b), self.primes, _planes(out))
        return out

    def in_blocks(self, polynomials: RingArray) -> RingArray:
        """Arrange weight polynomials (any, 2, n) in the order in which `multiply_accumulate` reads them.

        Returns:
            Residues (2, n / block, any, block), contiguous. block is 512, or n if n is no multiple of 512.
        """
        _, blocks, count, block = self.blocks_shape(
            polynomials.size // (2 * polynomials.shape[-1]), polynomials.shape[-1]
        )
        return np.ascontiguousarray(polynomials.reshape(count, 2, blocks, block).transpose(1, 2, 0, 3))

    def blocks_shape(self, count: int, n: int) -> tuple[int, int, int, int]:
        """Return the shape of the result of `in_blocks` for `count` polynomials of n coefficients."""
        block = kernels.BLOCK if n % kernels.BLOCK == 0 else n
        return 2, n // block, count, block

    def multiply_accumulate(
        self, weights: RingArray, groups: NDArray[np.int64], bounds: NDArray[np.int64], inputs: RingArray
    ) -> RingArray:
        """Return sums over k of weights[k] inputs[groups[k]], element by element, without intermediate reduction.

        Args:
            weights: residues of polynomials (any, 2, n), as `in_blocks` arranges them.
            groups: (any,), each in [0, inputs.shape[0]).
            bounds: (sums + 1,), ascending. Sum g runs over bounds[g] <= k < bounds[g + 1]: at most 2^14 terms.
            inputs: residues (any, count, 2, n).

        Returns:
            Residues (sums, count, 2, n).
        """
        for array in (weights, inputs):
            _check_type(array, np.uint64)
        n = weights.shape[1] * weights.shape[3]
        if weights.shape[0] != 2 or groups.shape != weights.shape[2:3] or inputs.shape[2:] != (2, n):
            raise ParameterError(f"expected matching weights and inputs, got {weights.shape} and {inputs.shape}")
        if np.any((groups < 0) | (groups >= len(inputs))) or bounds[0] < 0 or bounds[-1] > len(groups):
            raise ParameterError(f"expected groups below {len(inputs)} and bounds up to {len(groups)}")
        if np.any((np.diff(bounds) < 0) | (np.diff(bounds) > kernels.MAX_TERMS)):
            raise ParameterError(f"expected ascending bounds at most {kernels.MAX_TERMS} apart")
        out = np.empty((len(bounds) - 1, *inputs.shape[1:]), dtype=np.uint64)
        kernels.multiply_accumulate(weights, groups, bounds, np.ascontiguousarray(inputs), self.primes, out)
        return out

    def add_multiplied(self, a: RingArray, b: RingArray, key: RingArray) -> None:
        """Add b[i] key[q] to a[i, q], in place: a (count, parts, 2, n), b (count, 2, n), key (parts, 2, n)."""
        if a.shape != (len(b), len(key), *b.shape[1:]) or key.shape[1:] != b.shape[1:] or not a.flags.c_contiguous:
            raise ParameterError(
                f"expected shapes (c, q, 2, n), (c, 2, n), (q, 2, n), got {a.shape}, {b.shape}, {key.shape}"
            )
        kernels.add_multiplied(a, b, key, self.primes)

    def add_small(self, a: RingArray, values: NDArray[np.int64]) -> None:
        """Add signed integers (count, n) of magnitude below 2^40 to residues a (count, 2, n), contiguous, in place."""
        _check_type(a, np.uint64)
        _check_type(values, np.int64)
        if a.shape != (len(values), 2, *values.shape[1:]) or not a.flags.c_contiguous:
            raise ParameterError(f"expected residues {(len(values), 2, *values.shape[1:])}, got {a.shape}")
        kernels.add_small(a, values, self.primes)

    def lift(self, values: RingArray, scale_bits: int, offset: int = 0) -> RingArray:
        """Map the integers (v + offset) 2^scale_bits, 0 <= v < 2^64, to residues of shape (..., 2, n).

        The shares-to-ciphertext conversion lifts the client's share with offset 0, and the server's with offset -2^64.
        """
        _check_type(values, np.uint64)
        out = np.empty((*values.shape[:-1], 2, values.shape[-1]), dtype=np.uint64)
        offsets = np.array([offset % self.p0, offset % self.p1], dtype=np.uint64)
        flat = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
        kernels.lift(flat, self.primes, self._powers_of_two(scale_bits), offsets, _planes(out))
        return out

    def lift_signed(self, values: NDArray[np.int64], scale_bits: int = 0) -> RingArray:
        """Map the signed integers v 2^scale_bits to residues of shape (..., 2, n)."""
        _check_type(values, np.int64)
        out = np.empty((*values.shape[:-1], 2, values.shape[-1]), dtype=np.uint64)
        flat = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
        kernels.lift_signed(flat, self.primes, self._powers_of_two(scale_bits), _planes(out))
        return out

    def shift_right(self, residues: RingArray, bits: int) -> RingArray:
        """Compose residues (..., 2, n) to the integer v in [0, Q); return floor(v / 2^bits) mod 2^64, (..., n).

        v = r0 + p0 k with k = (r1 - r0) / p0 mod p1, in two 64-bit limbs; 0 < bits < 64.
        """
        if not 0 < bits < 64:
            raise ParameterError(f"shift_right takes 0 < bits < 64, got {bits}")
        residues = np.ascontiguousarray(residues)
        out = np.empty((*residues.shape[:-2], residues.shape[-1]), dtype=np.uint64)
        flat = out.reshape(-1, out.shape[-1])
        kernels.shift_right(_planes(residues), self.primes, self._inverse_of_p0, np.uint64(bits), flat)
        return out

    def to_wire(self, residues: RingArray) -> NDArray[np.uint8]:
        """Pack residues (..., 2, n) into six bytes each: uint8 (..., 2, n, 6). 4 must divide n."""
        _check_fours(residues.shape[-1])
        out = np.empty((*residues.shape, RESIDUE_BYTES), dtype=np.uint8)
        flat = _planes(np.ascontiguousarray(residues)).reshape(-1)
        kernels.to_wire(flat, out.reshape(-1).view(np.uint64))
        return out

    def from_wire(self, wire: NDArray[np.uint8], what: str, out: RingArray | None = None) -> RingArray:
        """Unpack residues that `to_wire` packed.

        Args:
            what: names the message in errors.
            out: residues (count, 2, n) to write to, any strides; a new array of the wire's shape if left out.

        Raises:
            ProtocolError: a residue is not below its prime.
        """
        _check_width(wire, RESIDUE_BYTES)
        _check_fours(wire.shape[-2])
        if out is None:
            out = np.empty(wire.shape[:-1], dtype=np.uint64)
        planes = _planes(out)
        fits = planes.size * RESIDUE_BYTES == wire.size and planes.shape[-1] == wire.shape[-2]
        if not fits or (planes.size and not np.shares_memory(planes, out)):
            raise ParameterError(f"expected room for {wire.shape}, got {out.shape}")
        if not kernels.from_wire(_words(wire), self.primes, planes):
            raise ProtocolError(f"{what}: expected residues below {self.p0} and {self.p1}, got a larger one")
        return out

    def to_short_wire(self, residues: RingArray) -> NDArray[np.uint8]:
        """Compose residues (..., 2, n) to integers in [0, Q), and drop their 13 low bits: uint8 (..., 10 n).

        The low words of the n integers come first, eight bytes each. Their high words follow, two bytes each.
        """
        residues = np.ascontiguousarray(residues)
        n = residues.shape[-1]
        out = np.empty((*residues.shape[:-2], SHORT_BYTES * n), dtype=np.uint8)
        low, high = _short_words(out.reshape(-1, SHORT_BYTES * n))
        planes = _planes(residues)
        low_words, high_words = np.empty((len(planes), n), dtype=np.uint64), np.empty((len(planes), n), dtype=np.uint16)
        kernels.to_short_wire(planes, self.primes, self._inverse_of_p0, DROPPED_BITS, low_words, high_words)
        low[:], high[:] = low_words.view(np.uint8), high_words.view(np.uint8)
        return out

    def from_short_wire(self, wire: NDArray[np.uint8], what: str) -> RingArray:
        """Unpack integers that `to_short_wire` packed, with zeros as their 13 low bits: residues (..., 2, n).

        Args:
            what: names the message in errors.

        Raises:
            ProtocolError: an integer is not below Q.
        """
        if wire.dtype != np.uint8 or wire.ndim < 1 or wire.shape[-1] % SHORT_BYTES:
            raise ParameterError(f"expected bytes of shape (..., 10 n), got {wire.dtype} {wire.shape}")
        n = wire.shape[-1] // SHORT_BYTES
        out = np.empty((*wire.shape[:-1], 2, n), dtype=np.uint64)
        low, high = _short_words(np.ascontiguousarray(wire).reshape(-1, wire.shape[-1]))
        words = np.ascontiguousarray(low).view(np.uint64), np.ascontiguousarray(high).view(np.uint16)
        shifts = self._powers_of_two(DROPPED_BITS), self._powers_of_two(DROPPED_BITS + 64)
        bound = (self.p0 * self.p1 - 1) >> DROPPED_BITS
        limits = np.uint64(bound >> 64), np.uint64(bound % 2**64)
        if not kernels.from_short_wire(*words, self.primes, *shifts, *limits, _planes(out)):
            raise ProtocolError(f"{what}: expected integers below Q = {self.p0} {self.p1}, got a larger one")
        return out

    @cached_property
    def _inverse_of_p0(self) -> np.uint64:
        return np.uint64(pow(self.p0, -1, self.p1))

    def _binary(self, kernel: Callable[..., None], a: RingArray, b: RingArray) -> RingArray:
        a, b = (np.ascontiguousarray(x) for x in np.broadcast_arrays(a, b))
        out = np.empty_like(a)
        kernel(_planes(a), _planes(b), self.primes, _planes(out))
        return out

    def _powers_of_two(self, bits: int) -> RingArray:
        return np.array([pow(2, bits, self.p0), pow(2, bits, self.p1)], dtype=np.uint64)

    def random(self, shape: tuple[int, ...]) -> RingArray:
        """Draw elements uniform over Z_Q, as residues of shape (*shape[:-1], 2, shape[-1]).

        Uniform residues modulo both primes are uniform over Z_Q (Chinese remainder theorem). Each residue is the low
        bits of a random word, drawn again until it is below the prime. Reducing the word instead would be biased.
        """
        count = int(np.prod(shape))
        planes = [_random_below(p, count).reshape(shape) for p in (self.p0, self.p1)]
        return np.stack(planes, axis=-2)


def _random_below(bound: int, count: int) -> RingArray:
    """Draw `count` uniform integers in [0, bound) by rejection sampling; bound < 2^48."""
    mask = np.uint64((1 << (bound - 1).bit_length()) - 1)
    kept: list[RingArray] = []
    missing = count
    while missing:
        draws = random_words(missing + missing // 64 + 16) & mask
        kept.append(draws[draws < bound][:missing])
        missing -= len(kept[-1])
    return np.concatenate(kept)


def _words(wire: NDArray[np.uint8]) -> RingArray:
    """View bytes as words; copy them if their address is not a multiple of eight."""
    flat = np.ascontiguousarray(wire).reshape(-1)
    return (flat if flat.ctypes.data % 8 == 0 else flat.copy()).view(np.uint64)


def _short_words(wire: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Split rows of 10 n bytes into the bytes of n low words and of n high words."""
    n = wire.shape[-1] // SHORT_BYTES
    return wire[:, : 8 * n], wire[:, 8 * n :]


def _check_type(array: NDArray[Any], dtype: Any) -> None:
    """Refuse another dtype: the compiled loops would turn signed and unsigned numbers together into floats."""
    if array.dtype != dtype:
        raise ParameterError(f"expected {np.dtype(dtype)}, got {array.dtype}")


def _check_fours(n: int) -> None:
    if n % 4:
        raise ParameterError(f"expected a multiple of four residues in a row, got {n}")


def _check_width(wire: NDArray[np.uint8], width: int) -> None:
    if wire.dtype != np.uint8 or wire.ndim < 2 or wire.shape[-1] != width:
        raise ParameterError(f"expected bytes of shape (..., n, {width}), got {wire.dtype} {wire.shape}")


def _planes(residues: RingArray) -> RingArray:
    """View contiguous residues (..., 2, n) as (count, 2, n); the compiled loops check no bounds."""
    if residues.dtype != np.uint64 or residues.ndim < 2 or residues.shape[-2] != 2:
        raise ParameterError(f"expected uint64 residues (..., 2, n), got {residues.dtype} {residues.shape}")
    return residues.reshape(-1, *residues.shape[-2:])
