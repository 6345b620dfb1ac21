"""CrypTen on our channel: its functions run, it is untouched outside a party, and nothing is pickled."""

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from parties.transport.queues import local_channels
from protocols.channel import CLIENT, SERVER
from protocols.correlations import SquarePair
from protocols.errors import ParameterError, ProtocolError
from protocols.shares.crypten_import import crypten
from protocols.shares.party import MpcParty, arithmetic, binary, to_ring
from support.shares import on_shares, run_locally

X = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.125, -0.75]])
Y = torch.tensor([[1.5, 2.0, -0.25], [1.0, -4.0, 0.5]])


@pytest.fixture(autouse=True)
def configuration() -> Iterator[None]:
    """CrypTen's configuration is one for all threads, and two parties that override it at once leave it changed."""
    saved = {name: dict(section) for name, section in crypten.config.cfg.config.items()}
    yield
    for name, section in saved.items():
        crypten.config.cfg.config[name].update(section)


def compute(function: Callable[[Any, Any], Any]) -> torch.Tensor:
    """Let CrypTen compute on the client's X and the server's Y, and return what both open."""

    def side(party: MpcParty) -> torch.Tensor:
        x = crypten.cryptensor(X if party.rank == CLIENT else torch.zeros_like(X), src=CLIENT)
        y = crypten.cryptensor(Y if party.rank == SERVER else torch.zeros_like(Y), src=SERVER)
        return function(x, y).get_plain_text()

    first, second = run_locally(side, side)
    assert torch.equal(first, second)
    return first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "tolerance"),
    [
        (lambda x, y: x + y, 1e-4),
        (lambda x, y: x * y, 1e-3),
        (lambda x, y: x * 2.5 - 1, 1e-3),
        (lambda x, y: x.matmul(y.t()), 1e-3),
        (lambda x, y: x.relu(), 1e-4),
        (lambda x, y: x.square(), 1e-3),
        (lambda x, y: x.softmax(1), 2e-2),
        (lambda x, y: (x < y) * 1.0, 1e-4),
        (lambda x, y: x.max(), 1e-4),
        (lambda x, y: x.sum(0), 1e-4),
    ],
)
def test_crypten_computes_what_torch_does(function: Callable[[Any, Any], Any], tolerance: float) -> None:
    torch.testing.assert_close(compute(function).float(), function(X, Y).float(), rtol=0, atol=tolerance)


def test_argmax() -> None:
    assert compute(lambda x, y: x.argmax(dim=1)).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(("options"), [{"stride": 1, "padding": 1}, {"stride": 2, "padding": 0}])
def test_convolution(options: dict[str, int]) -> None:
    came = compute(lambda x, y: x.view(1, 1, 2, 3).conv2d(y.view(1, 1, 2, 3)[:, :, :1, :2], **options))
    expected = torch.nn.functional.conv2d(X.view(1, 1, 2, 3), Y.view(1, 1, 2, 3)[:, :, :1, :2], **options)
    torch.testing.assert_close(came, expected, rtol=0, atol=1e-3)


def test_raw_shares_multiply_exactly() -> None:
    a, b = (np.random.default_rng(i).integers(0, 2**64, 50, dtype=np.uint64) for i in range(2))
    first, second = on_shares(lambda party, x, y: to_ring(arithmetic(x) * arithmetic(y)), a, b)
    assert (first + second == a * b).all()
    first, second = on_shares(lambda party, x: to_ring(arithmetic(x).square()), a)
    assert (first + second == a * a).all()


def test_binary_shares_and_exactly() -> None:
    a, b = (np.random.default_rng(i).integers(0, 2**64, (2, 2, 9), dtype=np.uint64) for i in range(2))

    def side(party: MpcParty) -> Any:
        return to_ring(binary(a[party.rank]) & binary(b[party.rank]))

    first, second = run_locally(side, side)
    assert (first ^ second == (a[0] ^ a[1]) & (b[0] ^ b[1])).all()


def test_wrapping_keeps_the_share_as_it_is() -> None:
    shares = np.array([0, 2**63, 2**64 - 1], dtype=np.uint64)
    shares.flags.writeable = False
    for wrap in (arithmetic, binary):
        first, _ = on_shares(lambda party, wrap=wrap: to_ring(wrap(shares)))
        assert (first == shares).all()
        wrap(shares).share.add_(1)
        assert shares.tolist() == [0, 2**63, 2**64 - 1], "a share that may not be written is copied"


def test_the_communicators_operations() -> None:
    def side(party: MpcParty) -> Any:
        communicator = crypten.communicator.get()
        own = torch.tensor([[1, 2], [3, 4]]) * (party.rank + 1)
        other = 1 - party.rank
        results = [
            communicator.get_rank(),
            communicator.get_world_size(),
            communicator.all_reduce(own),
            communicator.all_reduce([own, own[0]], batched=True)[1],
            communicator.all_reduce(own, op=torch.distributed.ReduceOp.BXOR),
            communicator.reduce(own, dst=0),
            communicator.gather(own, dst=1),
            communicator.all_gather(own)[1],
            communicator.broadcast(own, src=1),
        ]
        communicator.barrier()
        if party.rank == CLIENT:
            communicator.isend(own, other).wait()
            return [*results, None]
        buffer = torch.zeros_like(own)
        assert communicator.irecv(buffer, other).is_completed()
        return [*results, buffer]

    base = torch.tensor([[1, 2], [3, 4]])
    first, second = run_locally(side, side)
    assert (first[:2], second[:2]) == ([0, 2], [1, 2])
    for result in (first, second):
        expected = [base * 3, base[0] * 3, base ^ (base * 2)]
        assert all(torch.equal(came, right) for came, right in zip(result[2:5], expected, strict=True))
        assert torch.equal(result[7], base * 2)
        assert torch.equal(result[8], base * 2)
    assert torch.equal(first[5], base * 3)
    assert torch.equal(second[5], base * 2)  # its own share back
    assert first[6] is None
    assert torch.equal(torch.stack(second[6]), torch.stack([base, base * 2]))
    assert torch.equal(second[9], base)


@pytest.mark.parametrize("name", ["broadcast_obj", "send_obj"])
def test_nothing_is_pickled(name: str) -> None:
    def side(party: MpcParty) -> None:
        before = copy.copy(party.channel.statistics)
        with pytest.raises(NotImplementedError):
            getattr(crypten.communicator.get(), name)({"weights": 1}, 0)
        with pytest.raises(NotImplementedError):
            crypten.communicator.get().recv_obj(0)
        assert party.channel.statistics == before

    run_locally(side, side)


def test_other_reductions_are_refused() -> None:
    def side(party: MpcParty) -> None:
        crypten.communicator.get().all_reduce(torch.ones(1, dtype=torch.int64), op=torch.distributed.ReduceOp.MAX)

    with pytest.raises(ParameterError, match="expected the reduction"):
        run_locally(side, side)


def test_positional_options_of_a_triple_are_refused() -> None:
    def side(party: MpcParty) -> None:
        crypten.mpc.get_default_provider().generate_additive_triple((1,), (1,), "mul", None, 1)

    with pytest.raises(ParameterError, match="only keyword options"):
        run_locally(side, side)


def test_outside_a_party_crypten_is_untouched() -> None:
    provider = crypten.mpc.get_default_provider()

    def side(party: MpcParty) -> None:
        assert crypten.communicator.is_initialized()
        assert crypten.mpc.get_default_provider() is not provider

    run_locally(side, side)
    assert not crypten.communicator.is_initialized()
    assert crypten.mpc.get_default_provider() is provider
    with pytest.raises(RuntimeError, match="not initialized"):
        crypten.communicator.get()


def test_a_party_is_of_one_thread_and_is_left_on_an_error() -> None:
    channel, _ = local_channels("server", "client", 1)
    party = MpcParty(CLIENT, channel, correlations=None)  # type: ignore[arg-type]
    seen = []

    def look() -> None:
        seen.append(crypten.communicator.is_initialized())

    with party:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        look()
    assert seen == [False, True]
    with pytest.raises(ZeroDivisionError), party:
        raise ZeroDivisionError
    assert not crypten.communicator.is_initialized()


def test_a_partys_own_randomness_has_no_known_seed() -> None:
    party = MpcParty(CLIENT, local_channels("a", "b", 1)[0], correlations=None)  # type: ignore[arg-type]
    draws = []
    for _ in range(2):
        with party:
            generator = crypten.generators["local"][torch.device("cpu")]
            draws.append(torch.randint(2**62, (4,), generator=generator))
    assert not (draws[0] == draws[1]).any()


def test_two_parties_in_one_thread_are_refused() -> None:
    first, second = (MpcParty(rank, local_channels("a", "b", 1)[0], None) for rank in (0, 1))  # type: ignore[arg-type]
    with first:
        with pytest.raises(ParameterError, match="expected one party per thread"), second:
            pass
        assert crypten.communicator.get().get_rank() == CLIENT
    with second:
        assert crypten.communicator.get().get_rank() == SERVER


def test_a_zero_sharing_is_zero_in_both_parties() -> None:
    def side(party: MpcParty) -> Any:
        return crypten.mpc.primitives.ArithmeticSharedTensor.PRZS((20,)).share

    for share in run_locally(side, side):
        assert not share.any()


@pytest.mark.timeout(40)
def test_parties_that_open_different_sizes_end_in_an_error() -> None:
    def side(party: MpcParty) -> Any:
        return arithmetic(np.zeros(3 + party.rank, dtype=np.uint64)).reveal()

    with pytest.raises(ProtocolError, match="expected int64"):
        run_locally(side, side)


def test_an_override_of_the_configuration_is_the_partys_own() -> None:
    """CrypTen's softmax, sigmoid and reciprocal override it while they run."""

    def client(party: MpcParty) -> None:
        with crypten.config.cfg.temp_override({"functions.exp_iterations": 3}):
            party.correlations.take(SquarePair((1,)))
            crypten.communicator.get().barrier()
            crypten.communicator.get().barrier()

    def server(party: MpcParty) -> int:
        party.correlations.take(SquarePair((1,)))
        crypten.communicator.get().barrier()
        iterations = crypten.config.cfg.functions.exp_iterations
        crypten.communicator.get().barrier()
        return iterations

    assert run_locally(client, server)[1] == crypten.config.cfg.functions.exp_iterations


def test_a_party_takes_its_configuration_along() -> None:
    """What an override leaves behind, in this thread, is gone with the party."""
    party = MpcParty(CLIENT, local_channels("a", "b", 1)[0], correlations=None)  # type: ignore[arg-type]
    with party, crypten.config.cfg.temp_override({"functions.exp_iterations": 3}):
        assert crypten.config.cfg.functions.exp_iterations == 3
    outside = crypten.config.cfg.config
    other = copy.deepcopy(outside)
    crypten.config.cfg.config = other
    try:
        assert crypten.config.cfg.config is other
    finally:
        crypten.config.cfg.config = outside


def attributes() -> list[Any]:
    """Return what CrypTen finds its party by."""
    communicator, mpc = crypten.communicator, crypten.mpc
    return [
        communicator.get,
        communicator.is_initialized,
        mpc.get_default_provider,
        crypten.generators,
        type(crypten.config.cfg),
    ]


def test_crypten_is_as_it_was_when_the_last_party_has_left() -> None:
    before = attributes()
    channel, _ = local_channels("server", "client", 1)
    party = MpcParty(CLIENT, channel, correlations=None)  # type: ignore[arg-type]

    def enter_and_leave() -> None:
        with party:
            pass

    with party:
        inside = attributes()
        assert all(ours is not theirs for ours, theirs in zip(inside, before, strict=True))
        thread = threading.Thread(target=enter_and_leave)
        thread.start()
        thread.join()
        assert attributes() == inside, "left while another is in"
    after = attributes()
    assert all(left is found for left, found in zip(after, before, strict=True))
