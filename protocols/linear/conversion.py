"""Conversions between additive shares in Z_2^64 and ciphertexts over Z_Q.

**Shares to ciphertexts.** Client: share u0, secret key. Server: share u1, public key. Output: the server holds an
encryption of x 2^s for every shared x.

The client sends Enc(u0 2^s), and the server adds (u1 - 2^64) 2^s. No wrap modulo 2^64 remains, because over the
integers x = u0 + u1 - 2^64. This fails with probability (|x| + 1) / 2^64: u0 is uniform, and in all other cases exactly
one wrap occurs. The server sees fresh symmetric encryptions (ring-LWE). The client sees nothing.

**Ciphertexts to shares.** Client: secret key. Server: encryptions of integers m, public key. Output: additive shares of
m 2^-t.

1. The server adds a fresh public-key encryption of zero. Otherwise c1 would be a public linear function of its weights.
2. The server draws a mask M uniform over Z_Q, and subtracts it from every coefficient of c0 that it sends. It sends c1
   and only those coefficients.
3. The client decrypts b = m - M mod Q, which is uniform. With R = Q - M, over the integers m = b - R, except with
   probability |m| / Q.
4. Each party shifts its own term right by t, so truncation is free. The sum is off by at most one last bit, apart from
   the error below.

As a one-time pad on c0, M hides m, the weights and the noise together. Li-Micciancio (ePrint 2020/1533) and
circuit privacy ask for this; independent noise flooding is not a proof (ePrint 2025/395). The server sees nothing new.

**Bytes.** The client sends c0 in NTT form, and a seed instead of c1. The server sends integers below Q without their 13
low bits, ten bytes each. The dropped bits add to m an error below 2^13 from c0, and one of standard deviation 2^17.9
from c1. The latter is 2^13 / sqrt(3), the root mean square of the dropped bits, times the root of the secret's ~2,731
nonzero coefficients. With the last bit at 2^t = 2^24, the standard deviation is 1/68 of a last bit, and six standard
deviations are 1/11. With a much smaller t the error would show.

With |x| < 2^23 and |m| < 2^52, 10^6 values fail with probability below 2^-20 in all. Each mask and each encryption of
zero is drawn when it is used, and used once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import RingArray
from protocols.arithmetic.residues import RESIDUE_BYTES, SHORT_BYTES, CrtModulus
from protocols.channel import Channel
from protocols.encryption.ckks import SEED_BYTES, CkksContext, ClientKeys, PublicKey

__all__ = [
    "CiphertextsToSharesClient",
    "CiphertextsToSharesServer",
    "MaskedCiphertexts",
    "SharesToCiphertextsClient",
    "SharesToCiphertextsServer",
    "Upload",
    "server_share",
]

_SHARE_OFFSET = -(1 << 64)


class SharesToCiphertextsClient:
    """The client's side of shares to ciphertexts.

    Args:
        extra_bits: guard bits in addition to those of the parameters.
    """

    def __init__(self, keys: ClientKeys, extra_bits: int = 0) -> None:
        self._keys = keys
        self._guard_bits = keys.context.parameters.guard_bits + extra_bits

    def run(self, channel: Channel, label: str, share: RingArray) -> None:
        """Encrypt and send polynomials (items, groups, N): the client's share, or any own values in [0, 2^64)."""
        context = self._keys.context
        items, groups, degree = share.shape
        by_group = share.swapaxes(0, 1).reshape(-1, degree)
        seed, bodies = self._keys.encrypt(context.modulus.lift(by_group, self._guard_bits))
        channel.send(f"{label}/seed", np.frombuffer(seed, dtype=np.uint8))
        channel.send(label, context.modulus.to_wire(bodies).reshape(groups, items, 2, degree, RESIDUE_BYTES))


@dataclass(frozen=True)
class Upload:
    """The client's ciphertexts as it sends them, with a seed.

    Args:
        seed: uint8 (32,); it expands to all random components.
        c0: uint8 (groups, items, 2, N, 6), in NTT form.
        what: names the message in errors.
    """

    seed: NDArray[np.uint8]
    c0: NDArray[np.uint8]
    what: str

    @classmethod
    def receive(cls, channel: Channel, label: str, items: int, groups: int, degree: int) -> "Upload":
        """Receive the client's upload under a label, without checking the residues yet."""
        seed = channel.receive(f"{label}/seed", np.uint8, (SEED_BYTES,))
        wire = channel.receive(label, np.uint8, (groups, items, 2, degree, RESIDUE_BYTES))
        return cls(seed, wire, f"{label} from {channel.peer}")

    def ciphertexts(self, context: CkksContext) -> RingArray:
        """Return the ciphertexts: residues (groups, items, 2, 2, N) in NTT form.

        Raises:
            ProtocolError: a residue is not below its prime.
        """
        groups, items = self.c0.shape[:2]
        flat = np.empty((groups * items, 2, 2, context.degree), dtype=np.uint64)
        context.modulus.from_wire(self.c0.reshape(-1, *self.c0.shape[2:]), self.what, out=flat[:, 0])
        context.expand(self.seed.tobytes(), len(flat), out=flat[:, 1])
        return flat.reshape(groups, items, *flat.shape[1:])


class SharesToCiphertextsServer:
    """The server's side of shares to ciphertexts."""

    def __init__(self, context: CkksContext) -> None:
        self._context = context

    def run(self, channel: Channel, label: str, shape: tuple[int, int], share: RingArray | None) -> RingArray:
        """Receive the client's encryptions and add the server's share.

        Args:
            shape: (items, groups).
            share: the server's, polynomials (items, groups, N), or None to take the client's values as they are.

        Returns:
            Ciphertexts in NTT form, grouped for products: residues (groups, items, 2, 2, N).

        Raises:
            ProtocolError: the message does not hold residues, or has another shape.
        """
        context = self._context
        items, groups = shape
        upload = Upload.receive(channel, label, items, groups, context.degree)
        ciphertexts = upload.ciphertexts(context)
        if share is not None:
            by_group = share.swapaxes(0, 1).reshape(-1, context.degree)
            own = context.modulus.lift(by_group, context.parameters.guard_bits, _SHARE_OFFSET)
            bodies = ciphertexts[:, :, 0]
            bodies[:] = context.modulus.add(bodies, context.transform.forward(own).reshape(bodies.shape))
        return ciphertexts


@dataclass(frozen=True)
class MaskedCiphertexts:
    """The ciphertexts that the server sends in a conversion, and the mask that it keeps.

    Args:
        c1: uint8 (groups, items, 10 N), the random components.
        c0: uint8 (groups, items, 10 n), the masked coefficients that are needed.
        mask: residues (groups, items, 2, n), uniform. Only the server has it. The number that the client decrypts plus
            the mask is m mod Q, up to the dropped bits.
    """

    c1: NDArray[np.uint8]
    c0: NDArray[np.uint8]
    mask: RingArray


class CiphertextsToSharesServer:
    """The server's side of ciphertexts to shares."""

    def __init__(self, public_key: PublicKey) -> None:
        self._key = public_key
        self._context = public_key.context

    def mask(self, ciphertexts: RingArray, indices: NDArray[np.int64]) -> MaskedCiphertexts:
        """Rerandomise and mask ciphertexts.

        Args:
            ciphertexts: residues (groups, items, 2, 2, N) in NTT form, contiguous; overwritten.
            indices: the coefficients that are needed, (n,).
        """
        modulus, degree = self._context.modulus, self._context.degree
        fresh = self._key.rerandomise(ciphertexts.reshape(-1, 2, 2, degree)).reshape(ciphertexts.shape)
        mask = modulus.random((*ciphertexts.shape[:2], len(indices)))
        masked = modulus.subtract(fresh[:, :, 0][..., indices], mask)
        return MaskedCiphertexts(modulus.to_short_wire(fresh[:, :, 1]), modulus.to_short_wire(masked), mask)

    def send(self, channel: Channel, label: str, masked: MaskedCiphertexts) -> RingArray:
        """Send masked ciphertexts, and return the mask: the server's share modulo Q."""
        channel.send(label, masked.c1)
        channel.send(f"{label}/c0", masked.c0)
        return masked.mask

    def run(
        self, channel: Channel, label: str, ciphertexts: RingArray, indices: NDArray[np.int64], shift: int
    ) -> RingArray:
        """Mask the ciphertexts, send them, and return the server's share of m / 2^shift, (items, groups, n).

        Args:
            ciphertexts, indices: as for `mask`.
            shift: t, bits to drop.
        """
        mask = self.send(channel, label, self.mask(ciphertexts, indices))
        return server_share(self._context.modulus, mask, shift).swapaxes(0, 1)


class CiphertextsToSharesClient:
    """The client's side of ciphertexts to shares."""

    def __init__(self, keys: ClientKeys) -> None:
        self._keys = keys

    def run(
        self, channel: Channel, label: str, shape: tuple[int, int, int], shift: int, indices: NDArray[np.int64]
    ) -> RingArray:
        """Receive masked ciphertexts and return the client's share.

        Args:
            shape: (items, groups, len(indices)).
            shift: t, the same as the server's.
            indices: the same as the server's.

        Returns:
            The client's share, of shape `shape`: floor((m - M mod Q) / 2^t) mod 2^64, uniform.

        Raises:
            ProtocolError: the message does not hold integers below Q, or has another shape.
        """
        items, groups, count = shape
        modulus, degree = self._keys.context.modulus, self._keys.context.degree
        what = f"{label} from {channel.peer}"
        c1 = channel.receive(label, np.uint8, (groups, items, SHORT_BYTES * degree))
        c0 = channel.receive(f"{label}/c0", np.uint8, (groups, items, SHORT_BYTES * count))
        randoms = modulus.from_short_wire(c1, what).reshape(-1, 2, degree)
        product = self._keys.multiply_by_secret(randoms).reshape(groups, items, 2, degree)
        opened = modulus.add(modulus.from_short_wire(c0, what), product[..., indices])
        return modulus.shift_right(opened, shift).swapaxes(0, 1)


def server_share(modulus: CrtModulus, residues: RingArray, shift: int) -> RingArray:
    """Shift the server's share modulo Q, residues M (..., 2, n), right; return its share modulo 2^64, (..., n).

    The client has b = m - M mod Q, and m = b - (Q - M) over the integers, except with probability |m| / Q.
    """
    return np.uint64(0) - modulus.shift_right(modulus.negate(residues), shift)
