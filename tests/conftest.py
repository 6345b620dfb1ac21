"""Keys, made once: a client's, and the server's public key; SEAL with the same secret; tiny sessions; a command line.

Caches and data go to temporary folders, also those of the processes that tests start: the user's are never touched.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hybridface as hf
from hybridface.commands import main as cli
from hybridface.models.model import Model
from launch.mpiexec import ONE_THREAD
from parties.local import PartyThread
from parties.session.server import ServerSession
from parties.session.terms import Terms
from parties.transport.queues import local_channels
from protocols import CkksContext, ClientKeys, PublicKey
from protocols.channel import Channel
from protocols.correlations import Dealer
from support.paths import ROOT
from support.ranks import Done, ranks_in_threads
from support.seal_reference import SealReference
from support.sessions import GUARD_SECONDS, Ends
from support.tiny_network import Chip, save_chips

os.environ.update(ONE_THREAD)  # for the processes that tests start, and for xdist's workers
torch.set_num_threads(1)  # as a rank has it: two test processes' threads on two cores wait for each other


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for the galleries and keys of a command line."""
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Aligned random chips for the tiny network: "a" and "same" match, "a" and "different" do not."""
    return save_chips(tmp_path_factory.mktemp("photos"), seed=3)


@pytest.fixture(scope="session")
def keys_with_reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClientKeys, SealReference]:
    """The client's keys, and SEAL with the same secret."""
    keys = ClientKeys(CkksContext())
    return keys, SealReference(keys.context, tmp_path_factory.mktemp("seal"), keys)


@pytest.fixture(scope="session")
def keys(keys_with_reference: tuple[ClientKeys, SealReference]) -> ClientKeys:
    """The client's keys."""
    return keys_with_reference[0]


@pytest.fixture(scope="session")
def reference(keys_with_reference: tuple[ClientKeys, SealReference]) -> SealReference:
    """SEAL itself, with the secret of `keys`."""
    return keys_with_reference[1]


@pytest.fixture(scope="session")
def public_key(keys: ClientKeys) -> PublicKey:
    """The server's public key."""
    return PublicKey(CkksContext(), keys.public_key())


@pytest.fixture(scope="session")
def context(public_key: PublicKey) -> CkksContext:
    """The server's context."""
    return public_key.context


@pytest.fixture(scope="module")
def model() -> Model:
    """The tiny network."""
    return hf.load_model("tiny-test")


@pytest.fixture(scope="module")
def chips() -> Chip:
    """Random chips for the tiny network."""
    return np.random.default_rng(1).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def start() -> Iterator[Callable[..., Ends]]:
    """Start a server and a dealer as threads; returns the client's ends of the channels."""
    started: list[tuple[PartyThread, tuple[Channel, ...]]] = []

    def begin(terms: Terms, weights: Any, timeout: float = 2 * GUARD_SECONDS) -> Ends:
        to_server, to_client = local_channels("client", "server", timeout)
        client_dealer, dealer_client = local_channels("client", "dealer", timeout)
        server_dealer, dealer_server = local_channels("server", "dealer", timeout)
        opened: Future[ServerSession] = Future()

        def serve() -> None:
            opened.set_result(ServerSession(to_client, server_dealer, terms, weights))
            opened.result().serve()

        server = PartyThread("server", serve, (to_client, server_dealer))
        dealer = PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server))
        for thread in (server, dealer):
            thread.start()
            started.append((thread, (to_server, client_dealer)))
        return Ends(to_server, client_dealer, to_client, server, opened)

    yield begin
    for thread, channels in started:
        for channel in channels:
            channel.close()
        thread.join(GUARD_SECONDS)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command line in this process, and the ranks that it starts in threads: see `support.ranks`."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    def main(*arguments: object) -> Done:
        status: Any = 0
        with ranks_in_threads():
            try:
                cli.main([str(argument) for argument in arguments])
            except SystemExit as end:
                status = end.code
        out, errors = capfd.readouterr()
        return int(status or 0), out, errors

    return main
