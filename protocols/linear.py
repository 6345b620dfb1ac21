"""Private linear layers: convolution and fully connected, on shares, with the server's private weights.

Client: its share of x (or x itself, for the network's input), the secret key. Server: its share, the weights w and
bias, the public key. Output: additive shares of conv(x, w) + bias. The shares become ciphertexts on the server, which
multiplies them by weight polynomials and accumulates into fresh encryptions of zero; ciphertexts become shares again.
Neither party sees more than the two conversions show it (see `conversion`): the server ring-LWE ciphertexts, the
client uniform numbers. Both know the layer's shape. Depth one, no evaluation keys.

Fixed point: x has 16 fractional bits, w has `weight_bits`, the ciphertext s guard bits; the shift by s + weight_bits
returns to 16. Error against the exact product of the rounded numbers: one last bit (truncation) plus ring-LWE noise,
of deviation about 3.2 2^-s sqrt(sum w^2) last bits over all weights of a polynomial: well under one for the
convolutions of usual networks. Failure: (|x| + 1) / 2^64 per input and |m| / Q per output.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
)
from protocols.errors import ParameterError
from protocols.packing import ConvPlan, ConvShape
from protocols.planner import plan_convolution
from protocols.ring import RingArray, encode

__all__ = ["PrivateConvolutionClient", "PrivateConvolutionServer", "fully_connected_shape", "quantise"]


def fully_connected_shape(features_in: int, features_out: int) -> ConvShape:
    """Return the shape of a fully connected layer: a convolution of one pixel."""
    return ConvShape(features_in, 1, 1, features_out)


def quantise(weight: NDArray[np.float64], weight_bits: int) -> NDArray[np.int64]:
    """Round weights to `weight_bits` fractional bits."""
    return np.rint(np.asarray(weight, dtype=np.float64) * 2.0**weight_bits).astype(np.int64)


@dataclass(frozen=True)
class _Batch:
    """What a batch of images needs of a plan."""

    plan: ConvPlan
    size: int

    @property
    def items(self) -> int:
        return self.size * self.plan.tile_count

    @property
    def shape_in(self) -> tuple[int, int]:
        return self.items, self.plan.groups_in

    @property
    def shape_out(self) -> tuple[int, int]:
        return self.items, self.plan.groups_out


class PrivateConvolutionClient:
    """The client's side of a private convolution.

    Args:
        label: names the layer in messages and errors; the same on both sides.
        shape: the convolution, or a plan for it.
        private_input: the client holds the input in the clear, and the server no share of it.
    """

    def __init__(self, label: str, shape: ConvShape | ConvPlan, keys: ClientKeys, private_input: bool = False) -> None:
        self.label = label
        self.plan = _plan(shape, keys.context.degree)
        self._shift = keys.context.parameters.guard_bits + keys.context.parameters.weight_bits
        self._private_input = private_input
        self._upload = SharesToCiphertextsClient(keys)
        self._download = CiphertextsToSharesClient(keys)

    def prepare(self, batch: int = 1) -> None:
        """Make, offline, all that one run on `batch` images uses up."""
        self._upload.prepare(int(np.prod(_Batch(self.plan, batch).shape_in)))

    def run(self, channel: Channel, share: RingArray) -> RingArray:
        """Return the client's share of the output.

        Args:
            share: uint64 (B, C, H, W) at 16 fractional bits: a share, or the input itself if `private_input`.

        Returns:
            uint64 (B, M, height_out, width_out) at 16 fractional bits.
        """
        batch = _Batch(self.plan, share.shape[0])
        polynomials = self.plan.pack_inputs(share)
        if self._private_input:
            self._upload.run_private(channel, f"{self.label}/upload", polynomials.view(np.int64))
        else:
            self._upload.run(channel, f"{self.label}/upload", polynomials)
        indices = self.plan.output_indices
        shape = (*batch.shape_out, len(indices))
        opened = self._download.run(channel, f"{self.label}/download", shape, self._shift, indices)
        return self.plan.unpack_outputs(opened)


class PrivateConvolutionServer:
    """The server's side of a private convolution.

    Args:
        label, shape, private_input: as the client's.
        weight: (M, C / groups, kh, kw), |w| < 2^(62 - weight_bits).
        bias: (M,), or None.
    """

    def __init__(
        self,
        label: str,
        shape: ConvShape | ConvPlan,
        public_key: PublicKey,
        weight: NDArray[np.float64],
        bias: NDArray[np.float64] | None = None,
        private_input: bool = False,
    ) -> None:
        context = public_key.context
        self.label = label
        self.plan = _plan(shape, context.degree)
        self._shift = context.parameters.guard_bits + context.parameters.weight_bits
        self._private_input = private_input
        self._context = context
        self._bias = None if bias is None else encode(bias)
        packed = self.plan.pack_weights(quantise(weight, context.parameters.weight_bits))
        plaintexts = context.encode_plaintexts(np.stack(list(packed.values()))) if packed else []
        self._weights: list[list[tuple[int, seal.Plaintext]]] = [[] for _ in range(self.plan.groups_out)]
        for (group_out, group_in), plaintext in zip(packed, plaintexts, strict=True):
            self._weights[group_out].append((group_in, plaintext))
        self._upload = SharesToCiphertextsServer(context)
        self._download = CiphertextsToSharesServer(public_key)

    def prepare(self, batch: int = 1) -> None:
        """Make, offline, all that one run on `batch` images uses up."""
        self._download.prepare(_Batch(self.plan, batch).shape_out, len(self.plan.output_indices))

    def run(self, channel: Channel, share: RingArray | None, batch_size: int = 1) -> RingArray:
        """Return the server's share of the output.

        Args:
            share: uint64 (B, C, H, W); None if `private_input`, with `batch_size` images then.

        Returns:
            uint64 (B, M, height_out, width_out) at 16 fractional bits.
        """
        if (share is None) != self._private_input:
            raise ParameterError(
                f"{self.label}: expected {'no share' if self._private_input else 'a share'} of the input"
            )
        batch = _Batch(self.plan, batch_size if share is None else share.shape[0])
        polynomials = None if share is None else self.plan.pack_inputs(share)
        inputs = self._upload.run(channel, f"{self.label}/upload", batch.shape_in, polynomials, self.plan.occupied)
        sizes = [part.stop - part.start for part in container_slices(batch.items)]
        outputs = [self._accumulate(inputs, weights, sizes) for weights in self._weights]
        masked = self._download.run(channel, f"{self.label}/download", outputs, self.plan.output_indices, self._shift)
        result = self.plan.unpack_outputs(masked)
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


def _plan(shape: ConvShape | ConvPlan, degree: int) -> ConvPlan:
    return shape if isinstance(shape, ConvPlan) else plan_convolution(shape, degree)
