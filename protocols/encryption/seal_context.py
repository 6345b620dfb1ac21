"""SEAL's contexts, through TenSEAL: it checks that parameters of ring-LWE give 128 bits of security.

The bound is the HomomorphicEncryption.org standard's, on degree and total bits of the modulus, for a ternary secret.
"""

from collections.abc import Sequence
from typing import Protocol

import tenseal.sealapi as seal

from protocols.errors import ParameterError

__all__ = ["LatticeParameters", "seal_context"]


class LatticeParameters(Protocol):
    """The part of an encryption's parameters that its security rests on."""

    @property
    def degree(self) -> int:
        """N, a power of two."""

    @property
    def prime_bits(self) -> Sequence[int]:
        """Bits of every prime of the modulus, SEAL's special prime last."""


def seal_context(parameters: LatticeParameters) -> tuple[seal.SEALContext, tuple[int, ...]]:
    """Return SEAL's context for CKKS, and the primes that SEAL chose, the special one last.

    Raises:
        ParameterError: SEAL does not accept the parameters at 128-bit security.
    """
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
