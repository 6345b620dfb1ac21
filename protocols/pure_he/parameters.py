"""Public parameters of a computation that runs under encryption from end to end: CKKS with slots, and its levels.

Q = q0 q1 ... q_L, with one more special prime for key switching. A fresh ciphertext has all primes q0 .. q_L; every
rescaling divides by the last one and drops it ("uses a level"). q0 is never dropped: the answer lives modulo q0.

Security rests on ring-LWE with a ternary secret and noise of deviation 3.2; SEAL, which is asked through TenSEAL,
accepts degree and total bits at 128 bits only (the HomomorphicEncryption.org standard: 218 bits for N = 8192, 438 for
16384, 881 for 32768). Nothing is bootstrapped: the number of levels bounds the depth.
"""

from dataclasses import dataclass

import tenseal.sealapi as seal

from protocols.encryption.seal_context import seal_context
from protocols.errors import ParameterError

__all__ = ["PureHeContext", "PureHeParameters"]

_BEST_SCALE_BITS, _ANSWER_BITS, _SPECIAL_BITS = 44, 16, 60


@dataclass(frozen=True)
class PureHeParameters:
    """Public parameters of the encryption.

    Args:
        degree: N, a power of two; a ciphertext has N/2 slots.
        levels: L, how many rescalings a fresh ciphertext has before it; a network of k squares needs 2 k + 2.
        scale_bits: of a slot's value, and of each prime that rescaling drops.
        first_bits: of q0; first_bits - scale_bits is the room for the answer's magnitude, at least 4.
        special_bits: of the special prime; the more, the less noise key switching adds.
        flood_bits: the answer is blurred by threshold^2 2^-flood_bits, to cover the computation's own noise.
    """

    degree: int = 16384
    levels: int = 8
    scale_bits: int = 40
    first_bits: int = 56
    special_bits: int = 60
    flood_bits: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 30 or not 20 <= self.scale_bits <= self.first_bits - 4:
            raise ParameterError(f"expected 1 to 30 levels and a scale of 20 bits to first_bits - 4, got {self}")
        if not 1 <= self.flood_bits <= 40:
            raise ParameterError(f"expected 1 to 40 flood bits, got {self.flood_bits}")

    @property
    def prime_bits(self) -> list[int]:
        """Bits of q0, q1, ..., q_L and the special prime."""
        return [self.first_bits, *[self.scale_bits] * self.levels, self.special_bits]

    @classmethod
    def for_squares(cls, squares: int) -> "PureHeParameters":
        """Return parameters with the levels that a network of so many squares needs, and the scale that fits them.

        Raises:
            ParameterError: too many squares for 128 bits of security.
        """
        levels = 2 * squares + 2
        degree, total = (16384, 438) if squares <= 4 else (32768, 881)
        scale = min(_BEST_SCALE_BITS, (total - _SPECIAL_BITS - _ANSWER_BITS) // (levels + 1))
        return cls(degree, levels, scale, scale + _ANSWER_BITS, _SPECIAL_BITS)


class PureHeContext:
    """The parameters as SEAL accepts them.

    Raises:
        ParameterError: SEAL does not accept the parameters at 128-bit security.
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
        """Walk down SEAL's levels with an encoded number: their names by the primes that are left."""
        plain, evaluator = seal.Plaintext(), seal.Evaluator(self.seal)
        scale = 2.0**self.parameters.scale_bits
        seal.CKKSEncoder(self.seal).encode([1.0], self.seal.first_parms_id(), scale, plain)
        names = {self.fresh: list(plain.parms_id())}
        for count in range(self.fresh - 1, 0, -1):
            evaluator.mod_switch_to_next_inplace(plain)
            names[count] = list(plain.parms_id())
        return names
