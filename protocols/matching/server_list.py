"""Compute the distances of one shared probe to the server's list, by one private fully connected layer.

The layer has weights 2 t_j and bias -|t_j|^2, so it puts out y_j = 2 t_j q - |t_j|^2. The squared distance is
|q|^2 - y_j. All homomorphic work is done in the offline phase, before the probe exists. The packing puts one input
scalar into a ciphertext, and 4096 templates into a product.

What each learns: the client learns the length of the list, and nothing else about it. The server learns nothing about
the probe. See `convolution`.

Precision: templates and probe have 16 fractional bits, and y keeps 28. So ring-LWE's noise and truncation add errors
far below those of rounding to 16 bits. Failure: probability |m| / Q for each template, where m is y at full scale;
about 2^-38.
"""

import numpy as np
from numpy.typing import NDArray

from protocols.arithmetic.fixed_point import FRACTION_BITS, RingArray
from protocols.channel import Channel
from protocols.correlations import Request, SquarePair
from protocols.encryption.ckks import ClientKeys, PublicKey
from protocols.errors import ParameterError
from protocols.linear.convolution import PrivateConvolutionClient, PrivateConvolutionServer, fully_connected_shape
from protocols.shares.party import MpcParty, arithmetic, to_ring
from protocols.shares.truncation import truncate, truncation_requests

__all__ = ["LARGEST", "LIST_FRACTION_BITS", "ListTemplates", "ServerListClient", "ServerListServer", "list_requests"]

LIST_FRACTION_BITS = 28
"""Fractional bits of the distances."""

ListTemplates = NDArray[np.int32]
"""(n, d), at 16 fractional bits."""

LARGEST = 1 << (4 + FRACTION_BITS)
"""Bound of the numbers in templates: their magnitudes are below 16, here at 16 fractional bits."""

_EXTRA_BITS = LIST_FRACTION_BITS - FRACTION_BITS
_DROPPED_BITS = 2 * FRACTION_BITS - LIST_FRACTION_BITS
_LABEL = "list"


def list_requests(dimension: int) -> list[Request]:
    """Return the correlations that one query uses up."""
    return [SquarePair((dimension,)), *truncation_requests((1,), _DROPPED_BITS)]


class ServerListClient:
    """The client's side.

    Args:
        count: n, the length of the list. dimension: d.
    """

    def __init__(self, keys: ClientKeys, count: int, dimension: int) -> None:
        shape = fully_connected_shape(dimension, count)
        self._layer = PrivateConvolutionClient(_LABEL, shape, keys, _EXTRA_BITS)

    def prepare(self, channel: Channel) -> None:
        """Do the offline work of one query."""
        self._layer.prepare(channel)

    def distances(self, party: MpcParty, probe: RingArray) -> RingArray:
        """Return the client's shares of the squared distances, uint64 (n,), at 28 fractional bits.

        Args:
            probe: uint64 (d,), share at 16 fractional bits.
        """
        return _distances(party, probe, self._layer.run(party.channel, probe.reshape(1, -1, 1, 1)))


class ServerListServer:
    """The server's side.

    Args:
        templates: int32 (n, d), the list, at 16 fractional bits.

    Raises:
        ParameterError: the templates have another shape or type, or a number of magnitude 16 or more.
    """

    def __init__(self, public_key: PublicKey, templates: ListTemplates) -> None:
        if templates.ndim != 2 or not len(templates) or templates.dtype != np.int32:
            raise ParameterError(f"expected templates int32 (n, d), got {templates.dtype} {templates.shape}")
        if max(-int(templates.min()), int(templates.max())) >= LARGEST:
            raise ParameterError(f"expected numbers below {LARGEST >> FRACTION_BITS}, got a larger one")
        count, dimension = templates.shape
        weight_bits = public_key.context.parameters.weight_bits
        norms = np.einsum("ij,ij->i", templates, templates, dtype=np.int64)
        self._layer = PrivateConvolutionServer(
            _LABEL,
            fully_connected_shape(dimension, count),
            public_key,
            (templates << (weight_bits + 1 - FRACTION_BITS)).reshape(count, dimension, 1, 1),
            np.asarray(-norms * 2.0 ** (-2 * FRACTION_BITS), dtype=np.float64),
            extra_bits=_EXTRA_BITS,
        )

    def prepare(self, channel: Channel) -> None:
        """Do the offline work of one query."""
        self._layer.prepare(channel)

    def distances(self, party: MpcParty, probe: RingArray) -> RingArray:
        """Return the server's shares, as `ServerListClient.distances`."""
        return _distances(party, probe, self._layer.run(party.channel, probe.reshape(1, -1, 1, 1)))


def _distances(party: MpcParty, probe: RingArray, output: RingArray) -> RingArray:
    norm = to_ring(arithmetic(probe).square().share).sum(keepdims=True, dtype=np.uint64)
    return truncate(party, norm, _DROPPED_BITS) - output.reshape(-1)
