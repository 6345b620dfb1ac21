"""Public parameters of pure-HE mode: CKKS with slots, and its levels.

Q = q0 q1 ... q_L, with one more special prime for key switching. A fresh ciphertext has all primes q0 .. q_L. Every
rescaling divides by the last prime and drops it ("uses a level"). q0 is never dropped: the answer lives modulo q0.

Security rests on ring-LWE with a ternary secret and noise of standard deviation 3.2. The degree and the bits of all
primes, including the special prime, must give 128 bits of security (`seal_context`: at most 214 bits for N = 8192, 430
for 16384, 868 for 32768). There is no bootstrapping, so the number of levels bounds the depth.

The primes that affine maps drop, except for the join, are a little narrower than the others. This costs no measurable
precision. The diagonals are encoded at a smaller scale, but a map's result has the same scale, and the same rounding
error, as with a wider prime. The join adds up the most products, with the smallest weights, so it keeps all bits.
"""

from dataclasses import dataclass

import tenseal.sealapi as seal

from protocols.encryption.seal_context import MOST_BITS, seal_context
from protocols.errors import ParameterError

__all__ = ["PureHeContext", "PureHeParameters"]

_BEST_SCALE_BITS, _ANSWER_BITS, _SPECIAL_BITS, _SAVED_BITS = 44, 16, 60, 2


@dataclass(frozen=True)
class PureHeParameters:
    """Public parameters of the encryption.

    Args:
        degree: N, a power of two; a ciphertext has N/2 slots.
        levels: L, how many rescalings a fresh ciphertext allows; a network of k squares needs 2 k + 2.
        scale_bits: bits of a slot's scale, and of each prime that rescaling drops after a square or the join.
        first_bits: bits of q0; first_bits - scale_bits is the room for the answer's magnitude, at least 4.
        special_bits: bits of the special prime; the more bits, the less noise key switching adds.
        flood_bits: the server blurs the answer by threshold^2 2^-flood_bits, to hide the computation's own noise.
        saved_bits: rescaling after other affine maps drops primes of scale_bits - saved_bits bits.
    """

    degree: int = 16384
    levels: int = 8
    scale_bits: int = 40
    first_bits: int = 56
    special_bits: int = 60
    flood_bits: int = 16
    saved_bits: int = _SAVED_BITS

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 30 or not 20 <= self.scale_bits <= self.first_bits - 4:
            raise ParameterError(f"expected 1 to 30 levels and a scale of 20 bits to first_bits - 4, got {self}")
        if not 1 <= self.flood_bits <= 40:
            raise ParameterError(f"expected 1 to 40 flood bits, got {self.flood_bits}")
        if not 0 <= self.saved_bits <= 4:
            raise ParameterError(f"expected 0 to 4 saved bits, got {self.saved_bits}")

    @property
    def prime_bits(self) -> list[int]:
        """Bits of q0, ..., q_L and the special prime. The join drops q2; before it, affine maps drop q4, q6, ..."""
        levels = range(1, self.levels + 1)
        dropped = [self.scale_bits - self.saved_bits * (level > 2 and level % 2 == 0) for level in levels]
        return [self.first_bits, *dropped, self.special_bits]

    @classmethod
    def for_squares(cls, squares: int) -> "PureHeParameters":
        """Return parameters with the levels that a network of `squares` squares needs, and the scale that fits them.

        Raises:
            ParameterError: too many squares for 128 bits of security.
        """
        levels = 2 * squares + 2
        degree = 16384 if squares <= 4 else 32768
        total = MOST_BITS[degree] - _SPECIAL_BITS - _ANSWER_BITS + _SAVED_BITS * squares
        scale = min(_BEST_SCALE_BITS, total // (levels + 1))
        return cls(degree, levels, scale, scale + _ANSWER_BITS, _SPECIAL_BITS)


class PureHeContext:
    """Parameters that SEAL accepts.

    Raises:
        ParameterError: the parameters do not give 128 bits of security, or SEAL does not accept them.
    """

    def __init__(self, parameters: PureHeParameters | None = None) -> None:
        self.parameters = parameters or PureHeParameters()
        self.seal, self.primes = seal_context(self.parameters)
        """q0, ..., q_L and the special prime."""
        self._parms_ids = self._chain()

    @property
    def degree(self) -> int:
        """N."""
        return self.parameters.degree

    @property
    def slots(self) -> int:
        """N / 2, the numbers in a ciphertext."""
        return self.degree // 2

    @property
    def fresh(self) -> int:
        """L + 1, the primes of a fresh ciphertext."""
        return self.parameters.levels + 1

    def data_primes(self, count: int) -> tuple[int, ...]:
        """Return q0, ..., the primes of a ciphertext that has `count` left."""
        return self.primes[:count]

    def parms_id(self, count: int) -> list[int]:
        """Return SEAL's name of the level with `count` primes left, 1 <= count <= L + 1."""
        return self._parms_ids[count]

    def _chain(self) -> dict[int, list[int]]:
        """Return SEAL's names of its levels, by the number of primes left; an encoded number walks down the levels."""
        plain, evaluator = seal.Plaintext(), seal.Evaluator(self.seal)
        scale = 2.0**self.parameters.scale_bits
        seal.CKKSEncoder(self.seal).encode([1.0], self.seal.first_parms_id(), scale, plain)
        names = {self.fresh: list(plain.parms_id())}
        for count in range(self.fresh - 1, 0, -1):
            evaluator.mod_switch_to_next_inplace(plain)
            names[count] = list(plain.parms_id())
        return names
