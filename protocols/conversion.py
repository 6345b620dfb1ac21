"""Conversions between additive shares in Z_2^64 and ciphertexts over Z_Q.

**Shares to ciphertexts.** Client: share u0, secret key. Server: share u1, public key. Output: the server holds an
encryption of x 2^s for every shared x. Over the integers x = u0 + u1 - 2^64, except with probability (|x| + 1) / 2^64
(u0 is uniform; exactly one wrap occurs otherwise), so the client sends Enc(u0 2^s) and the server adds (u1 - 2^64)
2^s: no wrap remains. The server sees fresh symmetric encryptions (ring-LWE); the client sees nothing.

**Ciphertexts to shares.** Server: encryptions of integers m. Output: additive shares of m 2^-t. The server adds a
fresh public-key encryption of zero (else c1 would be a public linear function of its weights), draws a mask M uniform
over Z_Q, subtracts M from every coefficient of c0 that is sent, and sends c1 and only those coefficients. The client
decrypts b = m - M mod Q, which is uniform: a one-time pad on c0 hides m, the weights and the noise together (what
Li-Micciancio, ePrint 2020/1533, and circuit privacy ask for; independent noise flooding is not a proof, ePrint
2025/395). With R = Q - M, over the integers m = b - R, except with probability |m| / Q. Each side shifts its own term
right by t, so truncation is free; the sum is off by at most one last bit. The server sees nothing new.

With |x| < 2^23 and |m| < 2^52, 10^6 values fail with probability below 2^-20 in all. Every mask and encryption of zero
is used once; `prepare` fills pools of them ahead of time, which are only ever popped.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from protocols.channel import Channel
from protocols.ckks import (
    MAX_POLYNOMIALS,
    SEED_BYTES,
    CkksContext,
    ClientKeys,
    PublicKey,
    SeededZero,
    check_residues,
    expand_seed,
)
from protocols.ring import CrtModulus, RingArray

__all__ = [
    "CiphertextsToSharesClient",
    "CiphertextsToSharesServer",
    "SharesToCiphertextsClient",
    "SharesToCiphertextsServer",
]

_SHARE_OFFSET = -(1 << 64)
_RESIDUE_BYTES = 6
CONTAINER = MAX_POLYNOMIALS // 2
"""Ciphertexts in one SEAL object: those that are multiplied by the same weights (tiles of one image, or a batch)."""


class SharesToCiphertextsClient:
    """The client's side of shares to ciphertexts."""

    def __init__(self, keys: ClientKeys) -> None:
        self._keys = keys
        self._zeros: deque[SeededZero] = deque()

    def prepare(self, count: int) -> None:
        """Make `count` encryptions of zero ahead of time."""
        self._zeros.extend(self._keys.encrypt_zeros(count))

    def run(self, channel: Channel, label: str, share: RingArray) -> None:
        """Send the client's share, or any values of its own in [0, 2^64): polynomials (items, groups, N)."""
        lifted = self._keys.context.modulus.lift(share, self._keys.context.parameters.guard_bits)

        items, groups = lifted.shape[:2]
        missing = items * groups - len(self._zeros)
        if missing > 0:
            self.prepare(missing)
        zeros = [self._zeros.popleft() for _ in range(items * groups)]
        bodies = np.stack([zero.c0 for zero in zeros]).reshape(lifted.shape)
        seeds = np.frombuffer(b"".join(zero.seed for zero in zeros), dtype=np.uint8)
        channel.send(f"{label}/seeds", seeds.reshape(items, groups, SEED_BYTES))
        channel.send(label, _to_wire(self._keys.context.modulus.add(bodies, lifted)))


class SharesToCiphertextsServer:
    """The server's side of shares to ciphertexts."""

    def __init__(self, context: CkksContext) -> None:
        self._context = context

    def run(
        self,
        channel: Channel,
        label: str,
        shape: tuple[int, int],
        share: RingArray | None,
    ) -> list[list[seal.Ciphertext]]:
        """Receive the client's encryptions and add the server's share.

        Args:
            shape: (items, groups).
            share: polynomials (items, groups, N), or None to take the client's values as they are.

        Returns:
            For every group its ciphertexts in NTT form, at most 8 items to a container: [group][container].

        Raises:
            ProtocolError: the message is not residues of the expected shape.
        """
        items, groups = shape
        modulus, degree = self._context.modulus, self._context.degree
        seeds = channel.receive(f"{label}/seeds", np.uint8, (items, groups, SEED_BYTES))
        wire = channel.receive(label, np.uint8, (items, groups, 2, degree, _RESIDUE_BYTES))
        residues = np.empty((items, groups, 2, 2, degree), dtype=np.uint64)
        residues[:, :, 0] = check_residues(_from_wire(wire), modulus, f"{label} from {channel.peer}")
        for index in np.ndindex(items, groups):
            residues[index][1] = expand_seed(seeds[index].tobytes(), modulus, degree)
        if share is not None:
            own = modulus.lift(share, self._context.parameters.guard_bits, _SHARE_OFFSET)
            residues[:, :, 0] = modulus.add(residues[:, :, 0], own)
        result = []
        for group in range(groups):
            containers = []
            for part in container_slices(items):
                ciphertext = self._context.load(residues[part, group].reshape(-1, 2, degree), ntt=False)
                self._context.evaluator.transform_to_ntt_inplace(ciphertext)
                containers.append(ciphertext)
            result.append(containers)
        return result


class CiphertextsToSharesServer:
    """The server's side of ciphertexts to shares."""

    def __init__(self, public_key: PublicKey) -> None:
        self._key = public_key
        self._context = public_key.context
        self._zeros: dict[int, deque[seal.Ciphertext]] = {}
        self._masks: dict[tuple[int, int, int], deque[RingArray]] = {}

    def prepare(self, shape: tuple[int, int], coefficients: int) -> None:
        """Make the encryptions of zero and the masks of one `run` of (items, groups) ciphertexts ahead of time."""
        items, groups = shape
        for part in container_slices(items):
            size = part.stop - part.start
            pool = self._zeros.setdefault(size, deque())
            pool.extend(self._key.encrypt_zeros(size) for _ in range(groups))
        mask_shape = (items, groups, coefficients)
        self._masks.setdefault(mask_shape, deque()).append(self._context.modulus.random(mask_shape))

    def encryption_of_zero(self, size: int) -> seal.Ciphertext:
        """Take a container of `size` fresh public-key encryptions of zero, to accumulate a result into."""
        pool = self._zeros.get(size)
        return pool.popleft() if pool else self._key.encrypt_zeros(size)

    def mask(
        self,
        channel: Channel,
        label: str,
        ciphertexts: Sequence[Sequence[seal.Ciphertext]],
        indices: NDArray[np.int64],
    ) -> RingArray:
        """Mask the ciphertexts, send them, and return the mask: the server's share modulo Q.

        Args:
            ciphertexts: [group][container] in NTT form, each *accumulated into* `encryption_of_zero`; consumed.
            indices: the coefficients that are needed.

        Returns:
            Residues (items, groups, 2, len(indices)), uniform: m = what the client opens + this, mod Q.
        """
        polynomials = np.stack([self._read(containers) for containers in ciphertexts], axis=1)  # items, groups, 2, 2, N
        mask = self._mask((polynomials.shape[0], polynomials.shape[1], len(indices)))
        modulus = self._context.modulus
        masked = modulus.subtract(polynomials[:, :, 0][..., indices], mask)
        channel.send(label, _to_wire(polynomials[:, :, 1]))
        channel.send(f"{label}/c0", _to_wire(masked))
        return mask

    def run(
        self,
        channel: Channel,
        label: str,
        ciphertexts: Sequence[Sequence[seal.Ciphertext]],
        indices: NDArray[np.int64],
        shift: int,
    ) -> RingArray:
        """Mask the ciphertexts, send them, and return the server's share of m / 2^shift, (items, groups, len(indices)).

        Args:
            ciphertexts, indices: as for `mask`.
            shift: t, bits to drop.
        """
        return server_share(self._context.modulus, self.mask(channel, label, ciphertexts, indices), shift)

    def _read(self, containers: Sequence[seal.Ciphertext]) -> RingArray:
        parts = []
        for ciphertext in containers:
            self._context.evaluator.transform_from_ntt_inplace(ciphertext)
            parts.append(self._context.read(ciphertext).reshape(-1, 2, 2, self._context.degree))
        return np.concatenate(parts)

    def _mask(self, shape: tuple[int, int, int]) -> RingArray:
        """Take a prepared mask, or draw one now."""
        pool = self._masks.get(shape)
        return pool.popleft() if pool else self._context.modulus.random(shape)


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
            shift: t, as the server's.
            indices: as the server's.

        Returns:
            The client's share, of that shape: floor((m - M mod Q) / 2^t) mod 2^64, uniform.
        """
        items, groups, count = shape
        modulus, degree = self._keys.context.modulus, self._keys.context.degree
        what = f"{label} from {channel.peer}"
        c1 = channel.receive(label, np.uint8, (items, groups, 2, degree, _RESIDUE_BYTES))
        c0 = channel.receive(f"{label}/c0", np.uint8, (items, groups, 2, count, _RESIDUE_BYTES))
        randoms = check_residues(_from_wire(c1), modulus, what)
        product = self._keys.multiply_by_secret(randoms.reshape(-1, 2, degree)).reshape(items, groups, 2, degree)
        opened = modulus.add(check_residues(_from_wire(c0), modulus, what), product[..., indices])
        return modulus.shift_right(opened, shift)


def server_share(modulus: CrtModulus, residues: RingArray, shift: int) -> RingArray:
    """Shift the server's share modulo Q, residues M (..., 2, n), to one modulo 2^64, (..., n).

    The client has b = m - M mod Q, and m = b - (Q - M) over the integers, except with probability |m| / Q.
    """
    negated = modulus.subtract(np.zeros_like(residues), residues)
    return np.uint64(0) - modulus.shift_right(negated, shift)


def container_slices(items: int) -> list[slice]:
    """Cut `items` into runs of at most 8."""
    return [slice(start, min(start + CONTAINER, items)) for start in range(0, items, CONTAINER)]


def _to_wire(residues: RingArray) -> NDArray[np.uint8]:
    """Drop the two upper bytes, zero in residues below 2^48: (...,) uint64 to (..., 6) uint8."""
    words = np.ascontiguousarray(residues)
    return np.ascontiguousarray(words.view(np.uint8).reshape(*words.shape, 8)[..., :_RESIDUE_BYTES])


def _from_wire(wire: NDArray[np.uint8]) -> RingArray:
    words = np.zeros((*wire.shape[:-1], 8), dtype=np.uint8)
    words[..., :_RESIDUE_BYTES] = wire
    return words.view(np.uint64)[..., 0]
