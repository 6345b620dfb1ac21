"""Keys of exact encryption: one party encrypts its numbers; the other multiplies them and hides its own numbers.

The first party encrypts under its secret key: c0 = e - c1 s + Q m / t. A public seed expands to c1 and is sent in its
place. The second party multiplies ciphertexts by polynomials B of its own and adds up the products. Its answer must
reveal nothing of B except the sum's message plus a number that the second party draws. So the second party

- adds an encryption of zero under the public key, (b u + e0, a u + e1). This makes c1 pseudorandom, whatever c1 was
  before (ring-LWE with the secret u);
- adds uniform numbers to the messages of the coefficients that it sends;
- adds uniform noise in [-2^b, 2^b) to these coefficients. Their other noise is e B, about 2^74 (root mean square, for B
  uniform modulo 2^64 and 128 products), against a width of 2^121. So a decrypted coefficient is within a statistical
  distance of 2^-47 from one that depends on the message alone. These distances add up over coefficients, and over
  questions about the same numbers: 2^-30 for 100,000 coefficients, 2^-20 for a thousand such questions.

The second party then divides by q0 q1 and drops the 13 low bits (`CrtModulus.to_short_wire`). Both steps are functions
of the result above, so they reveal nothing more. The noise is now at most

    2^27 (flooding) + N 2^13 (dropped bits of c1) + 2^13 (dropped bits of c0) + N + 1 (division) + 1 (e B) < 2^27.59.

Only noise of p0 p1 / 2^65 > 2^27.99 would turn a number into the next one, so decryption is exact.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.randomness import random_words
from protocols.encryption.bfv.context import BfvContext, Wide
from protocols.encryption.ckks import SEED_BYTES, centred_binomial, check_residues, expand_seed, ternary
from protocols.errors import ProtocolError

__all__ = ["BfvKeys", "BfvPublicKey", "Seeded"]


@dataclass(frozen=True)
class Seeded:
    """Ciphertexts, or a public key, as a party sends them.

    Args:
        seeds: uint8 (2, 32), one for each pair of primes; public. They expand to the random components.
        bodies: residues (count, 2, N) in NTT form, for each pair.
    """

    seeds: NDArray[np.uint8]
    bodies: Wide

    def components(self, context: BfvContext) -> Wide:
        """Return both components: residues (count, 2, 2, N) in NTT form, for each pair of primes."""
        first, second = (
            np.stack([body, expand_seed(seed.tobytes(), plane.modulus, context.degree, len(body))], axis=1)
            for body, seed, plane in zip(self.bodies, self.seeds, context.planes, strict=True)
        )
        return first, second


class BfvKeys:
    """A party's key pair. The secret key never leaves this object."""

    def __init__(self, context: BfvContext) -> None:
        self._context = context
        secret = ternary((1, context.degree))
        self._secret = [plane.transform.forward(plane.modulus.lift_signed(secret))[0] for plane in context.planes]
        self.public = self._hide(np.zeros((1, context.degree), dtype=np.uint64))

    def encrypt(self, numbers: RingArray) -> Seeded:
        """Encrypt polynomials with coefficients modulo 2^64, uint64 (count, N), afresh."""
        return self._hide(numbers)

    def decrypt(self, c0: RingArray, c1: RingArray, places: NDArray[np.int64]) -> RingArray:
        """Decrypt some coefficients of the messages, uint64 (count, n).

        Args:
            c0: these coefficients of c0, residues (count, 2, n) modulo p0 and p1, after `BfvContext.narrow`.
            c1: all of c1, residues (count, 2, N), likewise.
            places: (n,), the indices of these coefficients.
        """
        plane = self._context.planes[0]
        product = plane.modulus.multiply(plane.transform.forward(c1), self._secret[0])
        product = plane.transform.inverse(product, in_place=True)[:, :, places]
        return self._context.round(plane.modulus.add(c0, product))

    def _hide(self, numbers: RingArray) -> Seeded:
        """Return c0 = e - c1 s + Q m / t, and the seeds of c1."""
        noise = centred_binomial(numbers.shape)
        seeds, bodies = [], []
        for plane, message, secret in zip(
            self._context.planes, self._context.encode(numbers), self._secret, strict=True
        ):
            seed = secrets.token_bytes(SEED_BYTES)
            plane.modulus.add_small(message, noise)
            plane.transform.forward(message, in_place=True)
            random = expand_seed(seed, plane.modulus, self._context.degree, len(numbers))
            bodies.append(plane.modulus.subtract(message, plane.modulus.multiply(random, secret)))
            seeds.append(np.frombuffer(seed, dtype=np.uint8))
        return Seeded(np.stack(seeds), (bodies[0], bodies[1]))


class BfvPublicKey:
    """The other party's public key. It hides what this party did to the other party's ciphertexts.

    Args:
        key: as `BfvKeys.public`.

    Raises:
        ProtocolError: the key has another shape, or a residue is not below its prime.
    """

    def __init__(self, context: BfvContext, key: Seeded) -> None:
        for body, plane in zip(key.bodies, context.planes, strict=True):
            if body.shape != (1, 2, context.degree):
                raise ProtocolError(f"expected a public key of shape {(1, 2, context.degree)}, got {body.shape}")
            check_residues(body, plane.modulus, "a public key")
        self._context = context
        self._key = tuple(part[0] for part in key.components(context))

    def hide(self, ciphertexts: Wide, places: NDArray[np.int64], masks: RingArray) -> tuple[RingArray, RingArray]:
        """Hide ciphertexts as the module says; return some coefficients of c0, and all of c1.

        Args:
            ciphertexts: residues (count, 2, 2, N) in NTT form, contiguous; overwritten.
            places: (n,), the indices of the coefficients.
            masks: uint64 (count, n), uniform; added to the messages.

        Returns:
            Residues (count, 2, n) and (count, 2, N) modulo p0 and p1.
        """
        context, count = self._context, len(masks)
        small, noises = ternary((count, context.degree)), centred_binomial((2 * count, context.degree))
        flood = self._flood(masks.shape)
        bodies, randoms = [], []
        for plane, key, part, mask, noise in zip(
            context.planes, self._key, ciphertexts, context.encode(masks), flood, strict=True
        ):
            plane.modulus.add_multiplied(part, plane.transform.forward(plane.modulus.lift_signed(small)), key)
            flat = part.reshape(-1, 2, context.degree)
            plane.transform.inverse(flat, in_place=True)
            plane.modulus.add_small(flat, noises)
            bodies.append(plane.modulus.add(plane.modulus.add(part[:, 0][:, :, places], mask), noise))
            randoms.append(part[:, 1])
        return context.narrow((bodies[0], bodies[1])), context.narrow((randoms[0], randoms[1]))

    def _flood(self, shape: tuple[int, ...]) -> Wide:
        """Draw uniform noise in [-2^b, 2^b)."""
        high = random_words(int(np.prod(shape))).reshape(shape).view(np.int64)
        high = high >> (2 * 64 - 1 - self._context.parameters.flood_bits)
        return self._context.wide(high, random_words(int(np.prod(shape))).reshape(shape))
