"""Names of a server's list: the client opens the one it looked up and no other; the server's view is uniform."""

from typing import Any

import numpy as np
import pytest
from helpers import assert_uniform_bytes, pool_is_empty, record

from parties.local import run_locally
from protocols.errors import ParameterError, ProtocolError
from protocols.identification.names import look_up, lookup_requests, open_name, seal_names
from protocols.mpc import CLIENT

NAMES = ["Ann", "", "two words", "Ünïcødé 名前", "x" * 127, "zero\0byte\0"]


def keys_of(indices: list[int | None]) -> tuple[Any, list[Any], list[bytes]]:
    sealed, keys = seal_names(NAMES)
    frames: list[bytes] = []

    def client(party: Any) -> Any:
        sent = record(party.channel)
        found = []
        for index in indices:
            party.correlations.prepare(lookup_requests(len(NAMES)))
            found.append(look_up(party, len(NAMES), indices=[index])[0])
        assert pool_is_empty(party)
        frames.extend(sent)
        return found

    def server(party: Any) -> Any:
        results = []
        for _ in indices:
            party.correlations.prepare(lookup_requests(len(NAMES)))
            results.append(look_up(party, len(NAMES), keys=keys))
        return results

    found, nothing = run_locally(client, server)
    assert nothing == [None] * len(indices)
    return sealed, found, frames


def test_a_lookup_opens_its_name_and_no_other() -> None:
    sealed, found, _ = keys_of([*range(len(NAMES)), None])
    for index, key in enumerate(found[:-1]):
        assert open_name(sealed, index, key) == NAMES[index]
        with pytest.raises(ProtocolError, match="sealed name of index"):
            open_name(sealed, (index + 1) % len(NAMES), key)
    assert not found[-1].any()
    assert sealed.shape == (6, 128 + 16)


def test_several_lookups_at_once() -> None:
    sealed, keys = seal_names(NAMES)

    def side(party: Any) -> Any:
        party.correlations.prepare(lookup_requests(len(NAMES), 3))
        mine = {"indices": [4, None, 1]} if party.rank == CLIENT else {"keys": keys}
        return look_up(party, len(NAMES), 3, **mine), pool_is_empty(party)

    (found, emptied), _ = run_locally(side, side)
    assert emptied
    assert np.array_equal(found, [keys[4], [0, 0], keys[1]])
    assert open_name(sealed, 4, found[0]) == NAMES[4]


def test_the_server_cannot_tell_lookups_apart() -> None:
    _, _, frames = keys_of([2] * 120 + [None] * 120)
    words = [
        np.frombuffer(frame[-8 * (len(frame) // 8 - 8) :], dtype=np.uint64) for frame in frames if len(frame) > 150
    ]
    assert_uniform_bytes(np.concatenate(words))


def test_too_long_a_name() -> None:
    with pytest.raises(ParameterError, match="at most 65535 bytes"):
        seal_names(["x" * 65536])
