"""SEAL contexts, made through TenSEAL, for ring-LWE parameters that give 128 bits of security.

For each degree N, `MOST_BITS` bounds the bits of all primes together, including the prime for key switching. SEAL
itself checks the table of the HomomorphicEncryption.org standard (2018). That table allows some bits more: 109, 218,
438 and 881 for N = 4096, 8192, 16384 and 32768.
"""

from collections.abc import Sequence
from typing import Protocol

import tenseal.sealapi as seal

from protocols.errors import ParameterError

__all__ = ["MOST_BITS", "LatticeParameters", "seal_context"]

MOST_BITS = {1024: 26, 2048: 53, 4096: 106, 8192: 214, 16384: 430, 32768: 868}
"""Most bits of the modulus, by degree.

They give 128 bits of security against classical attacks, for a ternary secret and noise of standard deviation 3.19.
Source: Bossuat et al., Security Guidelines for Implementing Homomorphic Encryption, ePrint 2024/463.
"""


class LatticeParameters(Protocol):
    """The part of an encryption's parameters that its security rests on."""

    @property
    def degree(self) -> int:
        """N, a power of two."""

    @property
    def prime_bits(self) -> Sequence[int]:
        """Bits of every prime of the modulus. The prime for key switching, if there is one, comes last."""


def seal_context(parameters: LatticeParameters) -> tuple[seal.SEALContext, tuple[int, ...]]:
    """Return SEAL's context for CKKS, and the primes that SEAL chose, in the order of `prime_bits`.

    Raises:
        ParameterError: the parameters do not give 128 bits of security, or SEAL does not accept them.
    """
    total, most = sum(parameters.prime_bits), MOST_BITS.get(parameters.degree)
    if most is None:
        raise ParameterError(f"cannot use {parameters}: expected a degree among {list(MOST_BITS)}")
    if total > most:
        raise ParameterError(
            f"cannot use {parameters} at 128 bits of security: expected at most {most} bits of modulus for degree "
            f"{parameters.degree} (ePrint 2024/463), got {total}"
        )
    encryption = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    try:
        encryption.set_poly_modulus_degree(parameters.degree)
        encryption.set_coeff_modulus(seal.CoeffModulus.Create(parameters.degree, list(parameters.prime_bits)))
    except (ValueError, RuntimeError) as error:
        raise ParameterError(f"SEAL refuses {parameters}: {error}") from error
    context = seal.SEALContext(encryption, True, seal.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        raise ParameterError(f"SEAL refuses {parameters} at 128 bits: {context.parameters_error_message()}")
    return context, tuple(int(modulus.value()) for modulus in encryption.coeff_modulus())
