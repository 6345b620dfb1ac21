"""Distances to a list that the server knows: as precise as they say, and the nearest is the nearest in the clear."""

from typing import Any

import numpy as np
import pytest

from protocols.arithmetic.fixed_point import decode, encode, share
from protocols.encryption.ckks import CkksContext, ClientKeys, PublicKey
from protocols.errors import ParameterError
from protocols.linear.convolution import PrivateConvolutionClient, fully_connected_shape
from protocols.matching.server_list import (
    LIST_FRACTION_BITS,
    ServerListClient,
    ServerListServer,
    list_requests,
)
from support.shares import pool_is_empty, run_locally

CONTEXT = CkksContext()
DIMENSION = 128


def distances_of(templates: Any, probes: Any) -> Any:
    """Run a query for each probe, and return the distances (probes, n) in float64."""
    pairs = [share(encode(probe)) for probe in probes]

    def client(party: Any) -> Any:
        keys = ClientKeys(CONTEXT)
        party.channel.send("key", keys.public_key())
        return queries(party, ServerListClient(keys, len(templates), DIMENSION))

    def server(party: Any) -> Any:
        key = party.channel.receive("key", np.uint64, (2, 2, CONTEXT.degree))
        return queries(party, ServerListServer(PublicKey(CONTEXT, key), templates))

    def queries(party: Any, side: ServerListClient | ServerListServer) -> Any:
        party.correlations.prepare(list_requests(DIMENSION) * len(pairs))
        side.prepare(party.channel)  # one ahead of time; the others are made when they are needed
        results = [side.distances(party, pair[party.rank]) for pair in pairs]
        assert pool_is_empty(party)
        return np.stack(results)

    first, second = run_locally(client, server)
    return (first + second).view(np.int64) / 2.0**LIST_FRACTION_BITS


@pytest.mark.parametrize("count", [1, 300])
def test_distances(count: int) -> None:
    random = np.random.default_rng(count)
    templates = encode(random.normal(0, 1.4 / np.sqrt(DIMENSION), (count, DIMENSION)))
    reals = decode(templates)
    probes = np.stack([reals[0], reals[count // 2] + random.normal(0, 0.03, DIMENSION)])
    rounded = decode(encode(probes))
    found = distances_of(templates.view(np.int64).astype(np.int32), probes)
    expected = np.square(rounded[:, None] - reals).sum(axis=-1)
    assert np.abs(found - expected).max() < 1e-7
    assert found.argmin(axis=1).tolist() == [0, count // 2]


def test_what_is_refused() -> None:
    keys = ClientKeys(CONTEXT)
    key = PublicKey(CONTEXT, keys.public_key())
    for templates in (np.zeros((0, 4), np.int32), np.zeros(4, np.int32), np.zeros((2, 4))):
        with pytest.raises(ParameterError, match=r"templates int32 \(n, d\)"):
            ServerListServer(key, templates)
    with pytest.raises(ParameterError, match="numbers below 16"):
        ServerListServer(key, np.full((1, 4), -(16 << 16), np.int32))
    for bits in (-1, 13):
        with pytest.raises(ParameterError, match="at most 12 fractional bits more"):
            PrivateConvolutionClient("layer", fully_connected_shape(4, 4), keys, bits)
