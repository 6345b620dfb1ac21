"""Private linear layers: convolution and fully connected, on shares, with the server's private weights.

Client: its share u0 of x, the secret key. Server: its share u1 (none, if x is the client's alone), the weights w and
bias, the public key. Output: additive shares of conv(x, w) + bias. The parties do all homomorphic work before the input
exists (DELPHI, USENIX Security 2020, section 4):

offline  The client draws r uniform in Z_2^64 and sends Enc(r). The server multiplies by its weight polynomials, adds up
         the products and fresh encryptions of zero, and converts the sums to shares modulo Q of conv(r, w): b for the
         client, M for the server.
online   The client sends d = u0 - r: one message, 8 bytes an element. The server has v = u1 + d, so over the integers
         x = r + v - 2^64. It computes M + conv(v - 2^64, w) modulo Q in the clear. Each party shifts its share.

The server sees ring-LWE ciphertexts and d, which is uniform since r is used once. The client sees b, which is uniform
(see `conversion`). Both know the layer's shape.

Fixed point: x has 16 fractional bits, w has `weight_bits`, and the ciphertext has s guard bits. The shift by
s + weight_bits returns to 16 fractional bits. Against the exact product of the rounded numbers, the error is one last
bit (truncation) plus ring-LWE noise. The noise has a standard deviation of about 3.2 2^-s sqrt(sum w^2) last bits, with
the sum over the weights of a polynomial. It is well under one for the convolutions of usual networks.

Failure: (|x| + 1) / 2^64 per input and |m| / Q per output, where m is x w at full scale.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import FRACTION_BITS, RingArray, encode, random_ring
from protocols.channel import Channel
from protocols.encryption.ckks import CkksContext, ClientKeys, PublicKey, check_residues
from protocols.errors import ParameterError, ProtocolError
from protocols.linear.conversion import (
    CiphertextsToSharesClient,
    CiphertextsToSharesServer,
    MaskedCiphertexts,
    SharesToCiphertextsClient,
    Upload,
    server_share,
)
from protocols.linear.packing import ConvPlan, ConvShape
from protocols.linear.plain_convolution import Integers, Reals, plain_convolution, quantise
from protocols.linear.planner import plan_convolution

__all__ = [
    "MaskedProducts",
    "PrivateConvolutionClient",
    "PrivateConvolutionServer",
    "encode_weights",
    "fully_connected_shape",
]

_PRODUCTS_AT_ONCE = 1 << 7
"""Products that `encode_weights` works on at once, so that they stay in cache."""

_MAX_EXTRA_BITS = 12
"""Most extra fractional bits of an output. They count as guard bits too, so the noise keeps its size in last bits; |m|
grows by as many bits."""

Multiply = Callable[[Upload], Callable[[], MaskedCiphertexts]]
"""Takes the client's encryptions of r; returns a function that gives the masked encryptions of conv(r, w).

The layer calls each such function once, in the order of the uploads. Until then the work may be done elsewhere."""


def fully_connected_shape(features_in: int, features_out: int) -> ConvShape:
    """Return the shape of a fully connected layer: a convolution of one pixel."""
    return ConvShape(features_in, 1, 1, features_out)


class PrivateConvolutionClient:
    """The client's side of a private convolution.

    Args:
        label: names the layer in messages and errors; the same on both sides.
        shape: the convolution, or a plan for it.
        extra_bits: fractional bits of the output beyond 16, the same on both sides; at most 12.
    """

    def __init__(self, label: str, shape: ConvShape | ConvPlan, keys: ClientKeys, extra_bits: int = 0) -> None:
        self.label = label
        self.plan = _plan(shape, keys.context.degree)
        self._shift = keys.context.parameters.guard_bits + keys.context.parameters.weight_bits
        self._upload = SharesToCiphertextsClient(keys, _checked(extra_bits))
        self._download = CiphertextsToSharesClient(keys)
        self._begun: deque[RingArray] = deque()
        self._pool: dict[int, deque[tuple[RingArray, RingArray]]] = {}

    def prepare(self, channel: Channel, batch: int = 1) -> None:
        """Do the offline phase of one run on `batch` images, together with the server."""
        self.begin(channel, batch)
        self.finish(channel, batch)

    def begin(self, channel: Channel, batch: int = 1) -> None:
        """Do the first half of `prepare`: send an encryption of a fresh r. Other layers may begin before `finish`."""
        shape = self.plan.shape
        r = random_ring((batch, shape.channels, shape.height, shape.width))
        self._upload.run(channel, f"{self.label}/upload", self.plan.pack_inputs(r))
        self._begun.append(r)

    def finish(self, channel: Channel, batch: int = 1) -> None:
        """Do the second half of `prepare`: receive the masked conv(r, w), and keep the share of it."""
        r = self._begun.popleft()
        if len(r) != batch:
            raise ParameterError(f"expected to finish the batch of {len(r)} that was begun, got {batch}")
        indices = self.plan.output_indices
        shape = (r.shape[0] * self.plan.tile_count, self.plan.groups_out, len(indices))
        opened = self._download.run(channel, f"{self.label}/download", shape, self._shift, indices)
        self._pool.setdefault(r.shape[0], deque()).append((r, self.plan.unpack_outputs(opened)))

    def unload(self, batch: int) -> list[RingArray]:
        """Remove and return one prepared run, so that the caller can keep it: r, and the share of conv(r, w)."""
        return list(self._pool[batch].popleft())

    def load(self, batch: int, arrays: Sequence[RingArray]) -> None:
        """Take back one prepared run, as `unload` returned it.

        Raises:
            ParameterError: the arrays are not those of this layer.
        """
        shape = self.plan.shape
        inputs = batch, shape.channels, shape.height, shape.width
        outputs = batch, shape.channels_out, shape.height_out, shape.width_out
        _check_kept(self.label, arrays, [inputs, outputs])
        self._pool.setdefault(batch, deque()).append((arrays[0], arrays[1]))

    def run(self, channel: Channel, share: RingArray) -> RingArray:
        """Return the client's share of the output. Do the offline phase first if there is no prepared run.

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


def encode_weights(context: CkksContext, plan: ConvPlan, weight: Reals | Integers) -> RingArray:
    """Return the weight polynomials of a layer in NTT form, in the order of `plan.blocks()`.

    Args:
        weight: (M, C / groups, kh, kw), |w| < 2^(52 - weight_bits), or integers: see `quantise`.

    Returns:
        Residues (2, N / block, products, block): see `CrtModulus.in_blocks`.
    """
    modulus, bits = context.modulus, context.parameters.weight_bits
    products = len(plan.blocks())
    polynomials, start = np.empty(modulus.blocks_shape(products, context.degree), dtype=np.uint64), 0
    for part, channels in _parts(plan):
        packed = modulus.in_blocks(context.encode(part.pack_weights(quantise(weight[channels], bits))))
        polynomials[:, :, start : start + packed.shape[2]] = packed
        start += packed.shape[2]
    return polynomials


def _parts(plan: ConvPlan) -> Iterator[tuple[ConvPlan, slice]]:
    """Cut a layer by its output channels, so that each part is small. A layer with channel groups stays whole."""
    shape = plan.shape
    step = max(1, _PRODUCTS_AT_ONCE // plan.groups_in) * plan.block_out if shape.groups == 1 else shape.channels_out
    for start in range(0, shape.channels_out, step):
        channels = slice(start, min(start + step, shape.channels_out))
        yield replace(plan, shape=replace(shape, channels_out=channels.stop - start)), channels


class MaskedProducts:
    """The homomorphic part of the server's offline work: for all output channels, or for those of one worker.

    Args:
        plan: the layer's.
        public_key: the client's.
        polynomials: returns the result of `encode_weights`. Each run calls it, so the result may be mapped from a file.
        on_stage: called when a stage of a run begins: "unpack", "multiply-accumulate", "mask", and "end" at its end.
    """

    def __init__(
        self,
        plan: ConvPlan,
        public_key: PublicKey,
        polynomials: Callable[[], RingArray],
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self._on_stage = on_stage
        self._plan, self._context, self._polynomials = plan, public_key.context, polynomials
        self._download = CiphertextsToSharesServer(public_key)
        blocks = np.array(plan.blocks(), dtype=np.int64).reshape(-1, 2)
        self._groups_in = blocks[:, 1].copy()
        self._bounds = np.searchsorted(blocks[:, 0], np.arange(plan.groups_out + 1))

    def begin(self, upload: Upload) -> Callable[[], MaskedCiphertexts]:
        """Return a function that does all of `run` when it is called. This method is a `Multiply`."""
        return lambda: self.run(upload)

    def run(self, upload: Upload, groups_out: slice | None = None) -> MaskedCiphertexts:
        """Multiply by the weights, accumulate, rerandomise and mask.

        Args:
            upload: the client's encryptions.
            groups_out: the output ciphertexts to compute; all if left out.

        Raises:
            ProtocolError: the upload does not hold residues.
        """
        self._on_stage("unpack")
        inputs = upload.ciphertexts(self._context)
        self._on_stage("multiply-accumulate")
        groups_in, items, *polynomial = inputs.shape
        flat = inputs.reshape(groups_in, 2 * items, *polynomial[1:])
        first, last, _ = (groups_out or slice(None)).indices(self._plan.groups_out)
        bounds = self._bounds[first : last + 1]
        totals = self._context.modulus.multiply_accumulate(self._polynomials(), self._groups_in, bounds, flat)
        totals = totals.reshape(len(totals), items, *polynomial)
        self._on_stage("mask")
        masked = self._download.mask(totals, self._plan.output_indices)
        self._on_stage("end")
        return masked


class PrivateConvolutionServer:
    """The server's side of a private convolution.

    Args:
        label, shape: the same as the client's.
        weight: (M, C / groups, kh, kw), |w| < 2^(52 - weight_bits), or integers: see `quantise`.
        bias: (M,), or None.
        multiply: does the homomorphic part elsewhere. By default it is done here, with weights that are encoded now.
        extra_bits: the same as the client's.
    """

    def __init__(
        self,
        label: str,
        shape: ConvShape | ConvPlan,
        public_key: PublicKey,
        weight: Reals | Integers,
        bias: NDArray[np.float64] | None = None,
        multiply: Multiply | None = None,
        extra_bits: int = 0,
    ) -> None:
        context = public_key.context
        parameters = context.parameters
        self.label = label
        self.plan = _plan(shape, context.degree)
        self._shift = parameters.guard_bits + parameters.weight_bits
        self._context = context
        self._bias = None if bias is None else encode(bias, FRACTION_BITS + extra_bits)
        integers = quantise(weight, parameters.weight_bits)
        self._plain = plain_convolution(
            self.plan.shape, integers, context.modulus, parameters.guard_bits + _checked(extra_bits)
        )
        if multiply is None:
            polynomials = encode_weights(context, self.plan, integers)
            multiply = MaskedProducts(self.plan, public_key, lambda: polynomials).begin
        self._multiply = multiply
        self._download = CiphertextsToSharesServer(public_key)
        self._begun: deque[Callable[[], MaskedCiphertexts]] = deque()
        self._pool: dict[int, deque[RingArray]] = {}

    def prepare(self, channel: Channel, batch: int = 1) -> None:
        """Do the offline phase of one run on `batch` images, together with the client."""
        self.begin(channel, batch)
        self.finish(channel, batch)

    def begin(self, channel: Channel, batch: int = 1) -> None:
        """Do the first half of `prepare`: receive the client's encryptions. Other layers may begin before `finish`."""
        items, groups = batch * self.plan.tile_count, self.plan.groups_in
        upload = Upload.receive(channel, f"{self.label}/upload", items, groups, self._context.degree)
        self._begun.append(self._multiply(upload))

    def finish(self, channel: Channel, batch: int = 1) -> None:
        """Do the second half of `prepare`: send the masked conv(r, w), and keep the mask."""
        mask = self._download.send(channel, f"{self.label}/download", self._begun.popleft()())
        planes = [self.plan.unpack_outputs(mask[:, :, prime].swapaxes(0, 1)) for prime in range(2)]
        residues = np.stack([plane.reshape(*plane.shape[:2], -1) for plane in planes], axis=2)
        self._pool.setdefault(batch, deque()).append(residues)

    def unload(self, batch: int) -> list[RingArray]:
        """Remove and return one prepared run, so that the caller can keep it: the mask, modulo Q."""
        return [self._pool[batch].popleft()]

    def load(self, batch: int, arrays: Sequence[RingArray]) -> None:
        """Take back one prepared run, as `unload` returned it.

        Raises:
            ParameterError: the arrays are not those of this layer.
        """
        shape = self.plan.shape
        _check_kept(self.label, arrays, [(batch, shape.channels_out, 2, shape.height_out * shape.width_out)])
        try:
            mask = check_residues(arrays[0], self._context.modulus, self.label)
        except ProtocolError as error:
            raise ParameterError(str(error)) from error
        self._pool.setdefault(batch, deque()).append(mask)

    def run(self, channel: Channel, share: RingArray | None, batch: int = 1) -> RingArray:
        """Return the server's share of the output. Do the offline phase first if there is no prepared run.

        Args:
            share: uint64 (B, C, H, W). None if only the client has the input; `batch` is then the number of images.

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


def _check_kept(label: str, arrays: Sequence[RingArray], shapes: Sequence[tuple[int, ...]]) -> None:
    if [array.shape for array in arrays] != list(shapes) or any(array.dtype != np.uint64 for array in arrays):
        raise ParameterError(f"{label}: expected uint64 {shapes}, got {[array.shape for array in arrays]}")


def _checked(extra_bits: int) -> int:
    if not 0 <= extra_bits <= _MAX_EXTRA_BITS:
        raise ParameterError(f"expected at most {_MAX_EXTRA_BITS} fractional bits more than 16, got {extra_bits}")
    return extra_bits


def _check_images(plan: ConvPlan, images: RingArray) -> None:
    expected = (plan.shape.channels, plan.shape.height, plan.shape.width)
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ParameterError(f"expected images (B, {', '.join(map(str, expected))}), got {images.shape}")


def _plan(shape: ConvShape | ConvPlan, degree: int) -> ConvPlan:
    return shape if isinstance(shape, ConvPlan) else plan_convolution(shape, degree)
