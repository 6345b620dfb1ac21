"""What each party of a session holds and sends: no weight, no secret key, no share or byte twice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal

import hybridface as hf
from hybridface.local.session import LocalSession
from hybridface.models.model import Model
from parties.session.client import ClientSession, Template
from parties.session.server import ServerSession
from protocols.arithmetic.fixed_point import decode
from protocols.correlations import Dealer, DealerClient, DealerServer
from protocols.encryption.ckks import ClientKeys, PublicKey
from protocols.linear.convolution import PrivateConvolutionServer
from protocols.network.emulator import Emulator
from protocols.network.graph import LinearWeights
from protocols.network.private import NetworkClient, NetworkServer
from support.frames import record
from support.reach import reachable
from support.sessions import Ends, terms_of
from support.statistics import assert_uniform_bytes
from support.tiny_network import Chip, pair_of, plaintext


def weight_arrays(model: Model) -> set[bytes]:
    return {np.asarray(w.weight).tobytes() for w in (model.weights or {}).values()}


def test_the_client_holds_no_weight_and_the_server_no_secret_key(model: Model, chips: Chip) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        session.verify(chips[1], template)
        client, server = list(reachable(session.client)), list(reachable(session.server))
    weights = weight_arrays(model)
    held = {value.tobytes() for value in client if isinstance(value, np.ndarray)}
    assert not held & weights
    assert not [v for v in client if isinstance(v, LinearWeights | NetworkServer | PrivateConvolutionServer)]
    assert not [v for v in client if isinstance(v, ServerSession | DealerServer | Dealer | LocalSession | Model)]
    secret = ClientKeys | seal.SecretKey | seal.Decryptor | seal.KeyGenerator
    assert not [value for value in server if isinstance(value, secret)]
    assert not [v for v in server if isinstance(v, ClientSession | NetworkClient | DealerClient | Template | Dealer)]
    assert not [v for v in server if v is template.share]
    # that the walk sees what is there:
    assert [value for value in client if isinstance(value, ClientKeys)]
    assert [value for value in server if isinstance(value, PublicKey)]
    assert [value for value in server if isinstance(value, NetworkServer)]


@pytest.mark.slow
def test_template_shares_are_uniform_and_add_up(model: Model, chips: Chip) -> None:
    times = 16
    clients, servers = [], []
    with hf.local_session(model) as session:
        for i in range(times):
            clients.append(session.enroll(chips[0], f"t{i}").share)
            servers.append(session.server.template_share(f"t{i}"))
    first, second = np.concatenate(clients), np.concatenate(servers)
    assert first.shape == second.shape == (times, 8)
    assert_uniform_bytes(first)
    assert_uniform_bytes(second)
    assert len(np.unique(first)) == len(np.unique(second)) == first.size, "a share came twice"
    emulated = Emulator(model.graph, model.weights or {}).run(model.normalise(chips[0])[None])
    assert np.abs((first + second).view(np.int64) - emulated).max() <= 8, "in last bits"
    assert np.abs(decode(first + second) - plaintext(model, chips[:1])).max() < 1e-3


def test_equal_inputs_send_different_bytes(model: Model, chips: Chip, start: Callable[..., Ends]) -> None:
    small = 64  # commands, sizes and single numbers may well be equal
    frames: list[bytes] = []
    for _ in range(2):
        ends = start(terms_of(model), model.weights)
        sent = [record(ends.server), record(ends.at_server)]
        with ClientSession(ends.server, ends.dealer, terms_of(model)) as session:
            for _ in range(2):
                session.verify_pair(pair_of(model, chips))
        assert ends.server_error() is None
        frames += [frame for frame in sent[0] + sent[1] if len(frame) > small and b'{"' not in frame]
    assert len(frames) > 4 * 40
    assert len(set(frames)) == len(frames)


def test_a_photos_name_does_not_reach_the_server(model: Model, tmp_path: Path) -> None:
    session = LocalSession(model)
    with pytest.raises(hf.ImageError, match="Jane Doe"), session:
        session.verify(tmp_path / "Jane Doe.jpg", tmp_path / "John Doe.jpg", aligned=True)
    errors = [str(thread.error) for thread in session._threads]
    assert errors
    assert not any("Doe" in error for error in errors)
