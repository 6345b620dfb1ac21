"""Check that a patch network's values fit the ciphertexts at every level of pure-HE mode.

The check compares the largest magnitudes that were measured in the clear with the room of each level:

- A ciphertext with c primes left holds numbers modulo Q_c, the product of the first c primes. A value v at scale 2^s
  wraps around if |v| 2^s reaches Q_c / 2, and nobody notices.
- Rescaling follows every product. It drops a prime, and divides both the scale and the modulus by it. After it, the
  scale is 2^scale_bits. The check counts the room at this point.
- The squared difference of two embeddings has the least room, because only q0 is left: 2^(first_bits - scale_bits - 1).
"""

import math
from dataclasses import dataclass

from hybridface.errors import ModelError
from hybridface.models.patchnet import Ranges
from protocols.pure_he import PureHeParameters

__all__ = ["MARGIN_BITS", "LevelBudget", "check_budget"]

MARGIN_BITS = 4.0
"""The least headroom. Unusual photos have larger values than those seen; a difference of two may be 4 times larger."""

_SMALLEST = 2.0**-20


@dataclass(frozen=True)
class LevelBudget:
    """The room of one product.

    Args:
        name: "affine 1", "square 1", ..., "join", "distance".
        primes: the number of primes that the ciphertext has left when the product is computed.
        magnitude: the largest value seen.
        room_bits: the base-2 logarithm of the magnitude at which values wrap around.
        headroom_bits: the bits of room that the largest value seen leaves unused.
    """

    name: str
    primes: int
    magnitude: float
    room_bits: float
    headroom_bits: float


def check_budget(ranges: Ranges, parameters: PureHeParameters | None = None) -> tuple[LevelBudget, ...]:
    """Return the headroom of every product in an embedding, and of the distance.

    Args:
        ranges: the largest magnitudes over photos, in the clear.
        parameters: the encryption parameters; by default those for the network's number of squares.

    Raises:
        ModelError: a headroom is below `MARGIN_BITS`, or the parameters are for another number of squares.
        ParameterError: there are too many squares.
    """
    squares = len(ranges.before_squares)
    parameters = parameters or PureHeParameters.for_squares(squares)
    if parameters.levels != 2 * squares + 2:
        raise ModelError(f"expected parameters with {2 * squares + 2} levels for {squares} squares, got {parameters}")
    primes, levels = parameters.levels + 1, []
    for number, largest in enumerate(ranges.before_squares, 1):
        levels.append(_level(f"affine {number}", primes, largest, parameters))
        levels.append(_level(f"square {number}", primes - 1, largest**2, parameters))
        primes -= 2
    levels.append(_level("join", primes, ranges.element, parameters))
    levels.append(_level("distance", primes - 1, ranges.difference**2, parameters))
    least = min(levels, key=lambda level: level.headroom_bits)
    if not least.headroom_bits >= MARGIN_BITS:  # this also refuses NaN
        raise ModelError(
            f"expected {MARGIN_BITS:g} bits of headroom at every level, got {least.headroom_bits:.1f} at "
            f"{least.name}: values up to {least.magnitude:.3g}, room for 2^{least.room_bits:g}"
        )
    return tuple(levels)


def _level(name: str, primes: int, magnitude: float, parameters: PureHeParameters) -> LevelBudget:
    room = sum(parameters.prime_bits[: primes - 1]) - parameters.scale_bits - 1
    used = math.log2(max(magnitude, _SMALLEST)) if math.isfinite(magnitude) else math.inf
    return LevelBudget(name, primes, magnitude, room, room - used)
