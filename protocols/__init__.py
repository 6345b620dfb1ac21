"""Run two-party protocols on arrays between a client (rank 0) and a server (rank 1), over a `Channel`.

The packages, each built on the one before it:

- `arithmetic` (fixed point, residues), `encryption` (keys, ciphertexts), `linear` (conversions between ciphertexts and
  shares, private layers).
- `transfers`, `correlations`, `shares` (CrypTen on our channel, comparison), `matching`.

`network` puts them together. `pure_he` stands apart: it computes a whole network under encryption, without shares. No
package knows faces, files or processes. Every linear protocol has a client class and a server class, with `prepare`
(offline) and `run`. Protocols on shares are functions that both parties call.
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from protocols.arithmetic.fixed_point import FRACTION_BITS, decode, encode, random_ring, share
    from protocols.channel import CLIENT, SERVER, Channel, ChannelStatistics
    from protocols.correlations import CorrelationSource, Dealer, DealerClient, DealerServer
    from protocols.encryption.ckks import CkksContext, CkksParameters, ClientKeys, PublicKey
    from protocols.errors import HybridFaceError, ParameterError, PeerLostError, ProtocolError
    from protocols.linear.conversion import (
        CiphertextsToSharesClient,
        CiphertextsToSharesServer,
        SharesToCiphertextsClient,
        SharesToCiphertextsServer,
    )
    from protocols.linear.convolution import PrivateConvolutionClient, PrivateConvolutionServer, fully_connected_shape
    from protocols.linear.packing import ConvPlan, ConvShape
    from protocols.linear.planner import CostModel, plan_convolution
    from protocols.matching.distance import matching_requests, reveal_match, squared_distance
    from protocols.matching.reveal import Reveal
    from protocols.network.emulator import Emulator
    from protocols.network.graph import Graph, LinearWeights
    from protocols.network.private import NetworkClient, NetworkServer
    from protocols.shares.comparison import (
        is_nonnegative,
        max_pool,
        max_pool_requests,
        maximum,
        relu,
        relu_requests,
        sign_requests,
    )
    from protocols.shares.party import MpcParty
    from protocols.shares.truncation import truncate, truncation_requests

__all__ = [
    "CLIENT",
    "FRACTION_BITS",
    "SERVER",
    "Channel",
    "ChannelStatistics",
    "CiphertextsToSharesClient",
    "CiphertextsToSharesServer",
    "CkksContext",
    "CkksParameters",
    "ClientKeys",
    "ConvPlan",
    "ConvShape",
    "CorrelationSource",
    "CostModel",
    "Dealer",
    "DealerClient",
    "DealerServer",
    "Emulator",
    "Graph",
    "HybridFaceError",
    "LinearWeights",
    "MpcParty",
    "NetworkClient",
    "NetworkServer",
    "ParameterError",
    "PeerLostError",
    "PrivateConvolutionClient",
    "PrivateConvolutionServer",
    "ProtocolError",
    "PublicKey",
    "Reveal",
    "SharesToCiphertextsClient",
    "SharesToCiphertextsServer",
    "decode",
    "encode",
    "fully_connected_shape",
    "is_nonnegative",
    "matching_requests",
    "max_pool",
    "max_pool_requests",
    "maximum",
    "plan_convolution",
    "random_ring",
    "relu",
    "relu_requests",
    "reveal_match",
    "share",
    "sign_requests",
    "squared_distance",
    "truncate",
    "truncation_requests",
]

__getattr__ = hand_on(
    __name__,
    {
        "protocols.arithmetic.fixed_point": ["FRACTION_BITS", "decode", "encode", "random_ring", "share"],
        "protocols.channel": ["CLIENT", "SERVER", "Channel", "ChannelStatistics"],
        "protocols.correlations": ["CorrelationSource", "Dealer", "DealerClient", "DealerServer"],
        "protocols.encryption.ckks": ["CkksContext", "CkksParameters", "ClientKeys", "PublicKey"],
        "protocols.errors": ["HybridFaceError", "ParameterError", "PeerLostError", "ProtocolError"],
        "protocols.linear.conversion": [
            "CiphertextsToSharesClient",
            "CiphertextsToSharesServer",
            "SharesToCiphertextsClient",
            "SharesToCiphertextsServer",
        ],
        "protocols.linear.convolution": [
            "PrivateConvolutionClient",
            "PrivateConvolutionServer",
            "fully_connected_shape",
        ],
        "protocols.linear.packing": ["ConvPlan", "ConvShape"],
        "protocols.linear.planner": ["CostModel", "plan_convolution"],
        "protocols.matching.reveal": ["Reveal"],
        "protocols.matching.distance": ["matching_requests", "reveal_match", "squared_distance"],
        "protocols.network.emulator": ["Emulator"],
        "protocols.network.graph": ["Graph", "LinearWeights"],
        "protocols.network.private": ["NetworkClient", "NetworkServer"],
        "protocols.shares.comparison": [
            "is_nonnegative",
            "max_pool",
            "max_pool_requests",
            "maximum",
            "relu",
            "relu_requests",
            "sign_requests",
        ],
        "protocols.shares.party": ["MpcParty"],
        "protocols.shares.truncation": ["truncate", "truncation_requests"],
    },
)
