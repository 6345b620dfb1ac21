"""Private linear layers: convolution and fully connected, on shares, with the server's private weights.

Client: its share u0 of x, the secret key. Server: its share u1 (none, if x is the client's alone), the weights w and
bias, the public key. Output: additive shares of conv(x, w) + bias. All homomorphic work is done before the input
exists (DELPHI, USENIX Security 2020, section 4):

offline  The client draws r uniform in Z_2^64 and sends Enc(r). The server multiplies by its weight polynomials,
         accumulates into fresh encryptions of zero, and converts the result to shares modulo Q of conv(r, w): b for
         the client, M for the server.
online   The client sends d = u0 - r: one message, 8 bytes an element. The server has v = u1 + d, x = r + v - 2^64 over
         the integers, and computes M + conv(v - 2^64, w) modulo Q in the clear. Both shift their share.

What each sees: the server ring-LWE ciphertexts and d, uniform since r is used once; the client b, uniform (see
`conversion`). Both know the layer's shape.

Fixed point: x has 16 fractional bits, w has `weight_bits`, the ciphertext s guard bits; the shift by s + weight_bits
returns to 16. Error against the exact product of the rounded numbers: one last bit (truncation) plus ring-LWE noise,
of deviation about 3.2 2^-s sqrt(sum w^2) last bits over the weights of a polynomial: well under one for the
convolutions of usual networks. Failure: (|x| + 1) / 2^64 per input and |m| / Q per output, m = x w at full scale.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from protocols.channel import Channel
from protocols.ckks import ClientKeys, PublicKey
from protocols.conversion import (
    CiphertextsToSharesClient,
    CiphertextsToSharesServer,
    SharesToCiphertextsClient,
    SharesToCiphertextsServer,
    container_slices,
    server_share,
)
from protocols.errors import ParameterError
from protocols.packing import ConvPlan, ConvShape
from protocols.plain_convolution import PlainConvolution, quantise
from protocols.planner import plan_convolution
from protocols.ring import RingArray, encode, random_ring

__all__ = ["PrivateConvolutionClient", "PrivateConvolutionServer", "fully_connected_shape"]


def fully_connected_shape(features_in: int, features_out: int) -> ConvShape:
    """Return the shape of a fully connected layer: a convolution of one pixel."""
    return ConvShape(features_in, 1, 1, features_out)


class PrivateConvolutionClient:
    """The client's side of a private convolution.

    Args:
        label: names the layer in messages and errors; the same on both sides.
        shape: the convolution, or a plan for it.
    """

    def __init__(self, label: str, shape: ConvShape | ConvPlan, keys: ClientKeys) -> None:
        self.label = label
        self.plan = _plan(shape, keys.context.degree)
        self._shift = keys.context.parameters.guard_bits + keys.context.parameters.weight_bits
        self._upload = SharesToCiphertextsClient(keys)
        self._download = CiphertextsToSharesClient(keys)
        self._offered: deque[RingArray] = deque()
        self._pool: dict[int, deque[tuple[RingArray, RingArray]]] = {}

    def prepare(self, channel: Channel, batch: int = 1) -> None:
        """Make, offline and with the server, all that one run on `batch` images uses up."""
        self.offer(channel, batch)
        self.accept(channel)

    def offer(self, channel: Channel, batch: int = 1) -> None:
        """The first half of `prepare`: send the encryption of a fresh r. Other layers may offer before this accepts."""
        shape = self.plan.shape
        r = random_ring((batch, shape.channels, shape.height, shape.width))
        self._upload.run(channel, f"{self.label}/upload", self.plan.pack_inputs(r))
        self._offered.append(r)

    def accept(self, channel: Channel) -> None:
        """The second half: receive the masked conv(r, w), and keep the share it gives."""
        r = self._offered.popleft()
        indices = self.plan.output_indices
        shape = (r.shape[0] * self.plan.tile_count, self.plan.groups_out, len(indices))
        opened = self._download.run(channel, f"{self.label}/download", shape, self._shift, indices)
        self._pool.setdefault(r.shape[0], deque()).append((r, self.plan.unpack_outputs(opened)))

    def run(self, channel: Channel, share: RingArray) -> RingArray:
        """Return the client's share of the output. Prepares now, with the server, if nothing is prepared.

        Args:
            share: uint64 (B, C, H, W) at 16 fractional bits: a share, or the input itself if the server has none.

        Returns:
            uint64 (B, M, height_out, width_out) at 16 fractional bits.
        """
        _check_images(self.plan, share)
        batch = share.shape[0]
        if not self._pool.get(batch):
            self.prepare(channel, batch)
        r, output = self._pool[batch].popleft()
        channel.send(self.label, share - r)
        return output


class PrivateConvolutionServer:
    """The server's side of a private convolution.

    Args:
        label, shape: as the client's.
        weight: (M, C / groups, kh, kw), |w| < 2^(52 - weight_bits).
        bias: (M,), or None.
    """

    def __init__(
        self,
        label: str,
        shape: ConvShape | ConvPlan,
        public_key: PublicKey,
        weight: NDArray[np.float64],
        bias: NDArray[np.float64] | None = None,
    ) -> None:
        context = public_key.context
        parameters = context.parameters
        self.label = label
        self.plan = _plan(shape, context.degree)
        self._shift = parameters.guard_bits + parameters.weight_bits
        self._context = context
        self._bias = None if bias is None else encode(bias)
        integers = quantise(weight, parameters.weight_bits)
        self._plain = PlainConvolution(self.plan.shape, integers, context.modulus, parameters.guard_bits)
        packed = self.plan.pack_weights(integers)
        plaintexts = context.encode_plaintexts(list(packed.values()))
        self._weights: list[list[tuple[int, seal.Plaintext]]] = [[] for _ in range(self.plan.groups_out)]
        for (group_out, group_in), plaintext in zip(packed, plaintexts, strict=True):
            self._weights[group_out].append((group_in, plaintext))
        self._upload = SharesToCiphertextsServer(context)
        self._download = CiphertextsToSharesServer(public_key)
        self._pool: dict[int, deque[RingArray]] = {}

    def prepare(self, channel: Channel, batch: int = 1) -> None:
        """Make, offline and with the client, all that one run on `batch` images uses up."""
        items = batch * self.plan.tile_count
        inputs = self._upload.run(channel, f"{self.label}/upload", (items, self.plan.groups_in), None)
        sizes = [part.stop - part.start for part in container_slices(items)]
        outputs = [self._accumulate(inputs, weights, sizes) for weights in self._weights]
        mask = self._download.mask(channel, f"{self.label}/download", outputs, self.plan.output_indices)
        planes = [self.plan.unpack_outputs(mask[:, :, prime]) for prime in range(2)]
        residues = np.stack([plane.reshape(*plane.shape[:2], -1) for plane in planes], axis=2)
        self._pool.setdefault(batch, deque()).append(residues)

    def run(self, channel: Channel, share: RingArray | None, batch: int = 1) -> RingArray:
        """Return the server's share of the output. Prepares now, with the client, if nothing is prepared.

        Args:
            share: uint64 (B, C, H, W); None if the input is the client's alone, with `batch` images then.

        Returns:
            uint64 (B, M, height_out, width_out) at 16 fractional bits.
        """
        if share is not None:
            _check_images(self.plan, share)
            batch = share.shape[0]
        if not self._pool.get(batch):
            self.prepare(channel, batch)
        mask = self._pool[batch].popleft()
        shape = self.plan.shape
        value = channel.receive(self.label, np.uint64, (batch, shape.channels, shape.height, shape.width))
        if share is not None:
            value = value + share
        total = self._context.modulus.add(mask, self._plain.multiply(value))
        result = server_share(self._context.modulus, total, self._shift)
        result = result.reshape(*result.shape[:2], shape.height_out, shape.width_out)
        return result if self._bias is None else result + self._bias[:, None, None]

    def _accumulate(
        self,
        inputs: Sequence[Sequence[seal.Ciphertext]],
        weights: Sequence[tuple[int, seal.Plaintext]],
        sizes: Sequence[int],
    ) -> list[seal.Ciphertext]:
        """Return sum_g inputs[g] w[g] + fresh encryptions of zero, per container."""
        evaluator = self._context.evaluator
        product = seal.Ciphertext()
        results = []
        for container, size in enumerate(sizes):
            total = self._download.encryption_of_zero(size)
            for group, plaintext in weights:
                evaluator.multiply_plain(inputs[group][container], plaintext, product)
                evaluator.add_inplace(total, product)
            results.append(total)
        return results


def _check_images(plan: ConvPlan, images: RingArray) -> None:
    expected = (plan.shape.channels, plan.shape.height, plan.shape.width)
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ParameterError(f"expected images (B, {', '.join(map(str, expected))}), got {images.shape}")


def _plan(shape: ConvShape | ConvPlan, degree: int) -> ConvPlan:
    return shape if isinstance(shape, ConvPlan) else plan_convolution(shape, degree)
