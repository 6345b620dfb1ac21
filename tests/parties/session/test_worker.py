"""Server workers: together they return what the server alone would, refuse other jobs, and hold no secret key."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal
from numpy.typing import NDArray

import hybridface as hf
from hybridface.models.model import Model
from parties.local import PartyThread
from parties.prepared.shape import MAX_BATCH
from parties.session.client import ClientSession
from parties.session.correlations import Correlations
from parties.session.server import ServerSession
from parties.session.terms import Terms, agree, plans_digest, plans_document
from parties.session.worker import Worker, WorkerPool
from parties.transport.queues import local_channels
from protocols.arithmetic.fixed_point import RingArray, random_ring
from protocols.arithmetic.residues import SHORT_BYTES
from protocols.channel import Channel
from protocols.correlations import Dealer
from protocols.encryption.ckks import CkksContext, ClientKeys, PublicKey
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.linear.conversion import MaskedCiphertexts, SharesToCiphertextsClient, Upload
from protocols.linear.convolution import MaskedProducts, encode_weights
from protocols.linear.packing import ConvPlan
from protocols.network.graph import layer_weights
from protocols.network.private import plan_network
from support.reach import reachable

GUARD_SECONDS = 30.0


@pytest.fixture(scope="module")
def model() -> Model:
    return hf.load_model("tiny-test")


@pytest.fixture(scope="module")
def plans(model: Model) -> dict[str, ConvPlan]:
    """Plans of one output channel a ciphertext where that fits, so that there is something to share out."""
    return {n: ConvPlan(p.shape, p.block_in, 1, p.tile, p.degree) for n, p in plan_network(model.graph).items()}


@pytest.fixture(scope="module")
def terms(model: Model) -> Terms:
    return Terms(model.graph, model.threshold, correlations=Correlations.DEALER)


class Workers:
    """Workers as threads, and the server's ends of their channels."""

    def __init__(self, count: int, terms: Terms, model: Model, timeout: float = GUARD_SECONDS) -> None:
        pairs = [local_channels("server", f"worker {i}", timeout) for i in range(count)]
        self.ends = [mine for mine, _ in pairs]
        self.workers: list[Worker] = []

        def work(channel: Channel) -> None:
            worker = Worker(channel, terms, model.weights or {}, None)
            self.workers.append(worker)
            worker.serve()

        self.threads = [PartyThread("worker", lambda c=theirs: work(c), (theirs,)) for _, theirs in pairs]
        for thread in self.threads:
            thread.start()

    def errors(self) -> list[BaseException | None]:
        for thread in self.threads:
            thread.join(GUARD_SECONDS)
            assert not thread.is_alive()
        return [thread.error for thread in self.threads]


@pytest.fixture
def start(terms: Terms, model: Model) -> Iterator[Callable[..., Workers]]:
    started: list[Workers] = []

    def begin(count: int, **changes: Any) -> Workers:
        started.append(Workers(count, **{"terms": terms, "model": model, **changes}))
        return started[-1]

    yield begin
    for workers in started:
        for end in workers.ends:
            end.close()
        workers.errors()


def upload(keys: ClientKeys, plan: ConvPlan, batch: int) -> Upload:
    """Return encryptions of random polynomials, as the server receives them."""
    values = random_ring((batch * plan.tile_count, plan.groups_in, plan.degree))
    client, server = local_channels("client", "server")
    SharesToCiphertextsClient(keys).run(client, "x", values)
    return Upload.receive(server, "x", batch * plan.tile_count, plan.groups_in, plan.degree)


def decrypted(keys: ClientKeys, plan: ConvPlan, masked: MaskedCiphertexts) -> NDArray[np.int64]:
    """Return conv(r, w) modulo Q to within what the wire drops: the top bits of what the client opens and the mask."""
    modulus, indices = keys.context.modulus, plan.output_indices
    shape = masked.c1.shape[:2]
    product = keys.multiply_by_secret(modulus.from_short_wire(masked.c1, "c1").reshape(-1, 2, plan.degree))
    product = product.reshape(*shape, 2, plan.degree)[..., indices]
    opened = modulus.add(modulus.from_short_wire(masked.c0, "c0"), product)
    total = modulus.add(opened, masked.mask)
    return modulus.shift_right(total, 20).view(np.int64)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.parametrize("shares", [False, True], ids=["workers alone", "server too"])
def test_workers_return_what_the_server_alone_would(
    model: Model, terms: Terms, plans: dict[str, ConvPlan], start: Callable[..., Workers], count: int, shares: bool
) -> None:
    keys = ClientKeys(CkksContext())
    workers = start(count)
    key = PublicKey(CkksContext(), keys.public_key())
    encoded = {
        name: encode_weights(key.context, plan, layer_weights(model.weights or {}, name, plan.shape)[0])
        for name, plan in plans.items()
    }
    own = {name: MaskedProducts(plan, key, lambda n=name: encoded[n]) for name, plan in plans.items()}  # type: ignore[misc]
    pool = WorkerPool(workers.ends, terms, plans, key)
    if shares:
        pool.share(own)
    assert min(plan.groups_out for plan in plans.values()) == 8 < 9, "a layer has fewer groups than there are workers"
    for name, plan in plans.items():
        sent = upload(keys, plan, 2)
        alone = own[name].run(sent)
        together = pool.multiply(name)(sent)()
        assert together.c1.shape == alone.c1.shape
        assert together.c0.shape == alone.c0.shape
        assert not np.array_equal(together.mask, alone.mask), "masks are fresh"
        difference = decrypted(keys, plan, together) - decrypted(keys, plan, alone)
        assert np.abs(difference).max() <= 2, "in units of 2^20: four bits below the last bit of a layer's output"
    pool.end()
    assert workers.errors() == [None] * count


def test_uploads_are_answered_in_their_order_though_more_are_under_way(
    model: Model,
    terms: Terms,
    plans: dict[str, ConvPlan],
    start: Callable[..., Workers],
    keys: ClientKeys,
    public_key: PublicKey,
) -> None:
    """Shared out at once, collected later, each with the numbers of its own upload."""
    workers = start(2)
    pool = WorkerPool(workers.ends, terms, plans, public_key)
    sent = [(name, upload(keys, plans[name], 1)) for name in ("conv", "fc", "conv")]
    collect = [pool.multiply(name)(received) for name, received in sent]
    for (name, received), answer in zip(sent, collect, strict=True):
        plan = plans[name]
        polynomials = encode_weights(public_key.context, plan, layer_weights(model.weights or {}, name, plan.shape)[0])
        alone = MaskedProducts(plan, public_key, lambda held=polynomials: held).run(received)  # type: ignore[misc]
        assert np.abs(decrypted(keys, plan, answer()) - decrypted(keys, plan, alone)).max() <= 2


def test_a_worker_tells_its_stages(
    model: Model, terms: Terms, plans: dict[str, ConvPlan], keys: ClientKeys, public_key: PublicKey
) -> None:
    server, mine = local_channels("server", "worker 0", GUARD_SECONDS)
    stages: list[str] = []

    def work() -> None:
        Worker(mine, terms, model.weights or {}, None, on_stage=stages.append).serve()

    thread = PartyThread("worker", work, (mine,))
    thread.start()
    pool = WorkerPool([server], terms, plans, public_key)
    assert not stages
    pool.multiply("fc")(upload(keys, plans["fc"], 1))()
    pool.end()
    thread.join(GUARD_SECONDS)
    assert stages == ["unpack", "multiply-accumulate", "mask", "end"]


def session_with(workers: Workers, model: Model, terms: Terms) -> tuple[ClientSession, list[ServerSession], Any]:
    to_server, to_client = local_channels("client", "server", GUARD_SECONDS)
    client_dealer, dealer_client = local_channels("client", "dealer", GUARD_SECONDS)
    server_dealer, dealer_server = local_channels("server", "dealer", GUARD_SECONDS)
    servers: list[ServerSession] = []

    def serve() -> None:
        servers.append(ServerSession(to_client, server_dealer, terms, model.weights or {}, workers=workers.ends))
        servers[0].serve()

    threads = [
        PartyThread("server", serve, (to_client, server_dealer)),
        PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server)),
    ]
    for thread in threads:
        thread.start()
    return ClientSession(to_server, client_dealer, terms), servers, threads


@pytest.fixture(scope="module")
def images(model: Model) -> NDArray[np.float64]:
    chips = np.random.default_rng(9).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    return np.stack([model.normalise(chip) for chip in chips])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_a_session_with_workers(
    model: Model, terms: Terms, start: Callable[..., Workers], images: NDArray[np.float64], count: int
) -> None:
    workers = start(count)
    session, servers, threads = session_with(workers, model, terms)
    with session:
        template = session.enroll("a", images[:1])
        assert session.verify(images[:1], template).match is True
        total = template.share + servers[0].template_share("a")
    for thread in threads:
        thread.join(GUARD_SECONDS)
        assert thread.error is None
    assert workers.errors() == [None] * count
    with hf.local_session(model) as alone:
        reference = alone.client.enroll("a", images[:1]).share + alone.server.template_share("a")
    assert np.abs((total - reference).view(np.int64)).max() <= 8, "in last bits"


def test_no_worker_holds_a_secret_key_or_a_template(
    model: Model, terms: Terms, start: Callable[..., Workers], images: NDArray[np.float64]
) -> None:
    workers = start(1)
    session, servers, _ = session_with(workers, model, terms)
    with session:
        template = session.enroll("a", images[:1])
        session.verify(images[:1], template)
        held = list(reachable(*workers.workers))
        share = servers[0].template_share("a")
        arrays = {value.tobytes() for value in held if isinstance(value, np.ndarray)}
    secret = ClientKeys | seal.SecretKey | seal.Decryptor | seal.KeyGenerator | ClientSession | ServerSession
    assert not [value for value in held if isinstance(value, secret)]
    assert not arrays & {template.share.tobytes(), share.tobytes()}
    assert [value for value in held if isinstance(value, PublicKey)], "the walk sees what is there"


# What a worker refuses


def lead(end: Channel, terms: Terms, plans: dict[str, ConvPlan], public: PublicKey) -> None:
    """Open a worker as the server does."""
    WorkerPool([end], terms, plans, public)


GOOD = {"layer": "conv", "items": 1, "first": 0, "last": 1}
JOBS: list[dict[str, Any]] = [
    {},
    {"layer": "nobody", "items": 1, "first": 0, "last": 1},
    {"layer": ["conv"], "items": 1, "first": 0, "last": 1},
    {**GOOD, "items": 0},
    {**GOOD, "items": -1},
    {**GOOD, "items": 10**12},
    {**GOOD, "items": 1.0},
    {**GOOD, "items": "1"},
    {**GOOD, "first": -1},
    {**GOOD, "first": 1, "last": 1},
    {**GOOD, "first": 2, "last": 1},
    {**GOOD, "last": 9},
    {**GOOD, "last": 10**6},
    {**GOOD, "last": None},
    {"layer": "conv\n\x1b[2J" + "x" * 5000, "items": 1, "first": 0, "last": 1},
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job)[:50])
def test_jobs_that_a_worker_refuses(
    terms: Terms, plans: dict[str, ConvPlan], public_key: PublicKey, start: Any, job: dict[str, Any]
) -> None:
    workers = start(1)
    lead(workers.ends[0], terms, plans, public_key)
    assert plans["conv"].groups_out == 8
    if not job:
        job = {"layer": 5}
    workers.ends[0].send_document("job", job)
    with pytest.raises(PeerLostError, match=r"^worker 0 ended: expected "):
        workers.ends[0].receive("c1", np.uint8, (1,))
    (error,) = workers.errors()
    assert isinstance(error, ProtocolError)
    assert str(error).isprintable()
    assert len(str(error)) < 500


def test_a_worker_takes_a_whole_batch_and_no_more(
    terms: Terms, plans: dict[str, ConvPlan], keys: ClientKeys, public_key: PublicKey, start: Callable[..., Workers]
) -> None:
    plan = plans["fc"]
    workers = start(1)
    pool = WorkerPool(workers.ends, terms, plans, public_key)
    sent = upload(keys, plan, MAX_BATCH)
    assert pool.multiply("fc")(sent)().c1.shape[:2] == (plan.groups_out, MAX_BATCH * plan.tile_count)
    more = dataclasses.replace(sent, c0=np.concatenate([sent.c0, sent.c0[:, :1]], axis=1))
    with pytest.raises(PeerLostError, match="expected "):
        pool.multiply("fc")(more)()


def test_an_upload_that_is_no_residues(
    terms: Terms, plans: dict[str, ConvPlan], keys: ClientKeys, public_key: PublicKey, start: Callable[..., Workers]
) -> None:
    workers = start(2)
    pool = WorkerPool(workers.ends, terms, plans, public_key)
    sent = upload(keys, plans["conv"], 1)
    with pytest.raises(PeerLostError, match=r"^worker 0 ended: "):
        pool.multiply("conv")(dataclasses.replace(sent, c0=np.full_like(sent.c0, 255)))()
    assert isinstance(workers.threads[0].error, ProtocolError)


@pytest.mark.parametrize(("plane", "place"), [(0, 0), (1, -1)])
def test_a_mask_of_a_hostile_worker_that_is_no_residues(
    terms: Terms, plans: dict[str, ConvPlan], keys: ClientKeys, public_key: PublicKey, plane: int, place: int
) -> None:
    """A worker that answers in the right shapes, with one residue that is its prime instead of below it."""
    server, worker = local_channels("server", "worker 0", GUARD_SECONDS)
    worker.send_document("terms", terms.document())
    worker.send_document("plans taken", {"digest": plans_digest(plans).hex()})
    worker.send("ready", np.ones(1, dtype=np.uint8))
    pool = WorkerPool([server], terms, plans, public_key)
    plan, primes = plans["fc"], public_key.context.modulus.primes
    collect = pool.multiply("fc")(upload(keys, plan, 1))
    count = len(plan.output_indices)
    mask = np.tile((primes - np.uint64(1))[:, None], (plan.groups_out, 1, 1, count))

    def answer(mask: RingArray) -> None:
        worker.send("c1", np.zeros((plan.groups_out, 1, SHORT_BYTES * plan.degree), dtype=np.uint8))
        worker.send("c0", np.zeros((plan.groups_out, 1, SHORT_BYTES * count), dtype=np.uint8))
        worker.send("mask", mask)

    answer(mask)
    assert np.array_equal(collect().mask, mask), "the largest residues there are"
    again = pool.multiply("fc")(upload(keys, plan, 1))
    mask[place, 0, plane, place] += np.uint64(1)
    answer(mask)
    with pytest.raises(ProtocolError, match=r"^mask from worker 0: expected residues below "):
        again()


@pytest.mark.parametrize("changed", ["threshold", "graph"])
def test_a_worker_with_other_terms(
    model: Model, terms: Terms, plans: dict[str, ConvPlan], public_key: PublicKey, start: Any, changed: str
) -> None:
    graph = hf.load_model("dlib-resnet29", weights=False).graph
    other = dataclasses.replace(terms, **({"threshold": 0.25} if changed == "threshold" else {"graph": graph}))
    workers = start(1, terms=other)
    with pytest.raises(ProtocolError, match=r"^the peers disagree on (threshold|model): .*, the worker 0 has "):
        lead(workers.ends[0], terms, plans, public_key)
    (error,) = workers.errors()
    assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("document", [{}, {"conv": [1, 1, 1, 1]}, {"layers": 1}], ids=str)
def test_a_worker_refuses_plans_that_do_not_fit(
    terms: Terms, start: Callable[..., Workers], document: dict[str, Any]
) -> None:
    workers = start(1)
    agree(workers.ends[0], terms)
    workers.ends[0].send_document("plans", document)
    (error,) = workers.errors()
    assert isinstance(error, ProtocolError)


def test_a_worker_without_weights_tells_the_server_that_it_ends(
    model: Model, terms: Terms, plans: dict[str, ConvPlan], public_key: PublicKey
) -> None:
    server, worker = local_channels("server", "worker 0", GUARD_SECONDS)
    thread = PartyThread("worker", lambda: Worker(worker, terms, {}, Path("/dev/null/none")), (worker,))
    thread.start()
    with pytest.raises(PeerLostError, match="^worker 0 ended: it could not go on"):
        lead(server, terms, plans, public_key)
    thread.join(GUARD_SECONDS)
    assert isinstance(thread.error, ParameterError)


@pytest.mark.parametrize("count", [1, 3])
def test_a_worker_that_dies_ends_the_session(
    model: Model, terms: Terms, start: Callable[..., Workers], images: NDArray[np.float64], count: int
) -> None:
    workers = start(count)
    session, servers, threads = session_with(workers, model, terms)
    template = session.enroll("a", images[:1])
    servers[0].endpoint._workers._own = None  # so that even the smallest layer goes to a worker

    def die(*arguments: Any) -> None:
        raise OSError("/srv: a bad disk")

    for worker in workers.workers:
        worker._multiply = die  # type: ignore[method-assign]
    with pytest.raises(PeerLostError, match=r"^server ended: worker 0 ended: it could not go on"):
        session.verify(images[:1], template)
    threads[0].join(GUARD_SECONDS)
    assert isinstance(threads[0].error, PeerLostError)


def test_a_worker_that_is_silent_is_given_up(terms: Terms, plans: dict[str, ConvPlan], public_key: PublicKey) -> None:
    server, worker = local_channels("server", "worker 0", 0.2)
    worker.send_document("terms", terms.document())
    with pytest.raises(PeerLostError, match=r"^expected a message from worker 0 within 0.2 s"):
        lead(server, terms, plans, public_key)
    agree(worker, terms)
    assert worker.receive_document("plans").fields == plans_document(plans)
