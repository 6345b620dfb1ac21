"""Pools in sessions: prepared runs are used once, an empty pool says so, and the server bounds what it prepares."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hybridface as hf
from hybridface.models.model import Model
from parties.local import PartyThread
from parties.prepared.pool import PARTS, PoolStatus, layers_of_part
from parties.prepared.shape import RunShape
from parties.session.client import ClientSession
from parties.session.correlations import Correlations
from parties.session.progress import Progress
from parties.session.server import ServerSession
from parties.session.terms import Terms
from parties.transport.queues import local_channels
from protocols.channel import Channel
from protocols.correlations import Dealer
from protocols.errors import ParameterError, PeerLostError, ProtocolError

GUARD_SECONDS = 30.0
EMPTY = "the pool is empty, preparing now"


@pytest.fixture(scope="module")
def model() -> Model:
    return hf.load_model("tiny-test")


@pytest.fixture(scope="module")
def chips() -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def wait_until_full(session: Any) -> None:
    until(lambda: session.client.pool_status().ready == session.client.pool_status().capacity)


def masks(session: Any) -> list[int]:
    """Return how many batches of one image every layer of both parties holds masks for."""
    layers = [*session.client.endpoint.network._layers.values(), *session.server.endpoint.network._layers.values()]
    return [len(layer._pool.get(1, ())) for layer in layers]


@pytest.mark.slow
def test_verifications_use_what_the_background_prepared(model: Model, chips: NDArray[np.uint8]) -> None:
    steps: list[Progress] = []
    with hf.local_session(model, pool=2, on_progress=steps.append) as session:
        template = session.enroll(chips[0])
        for _ in range(3):
            wait_until_full(session)
            assert session.client.pool_status() == PoolStatus(2, 2, 0)
            assert session.client.pool_status(2, 1) == PoolStatus(0, 0, 0)
            assert min(masks(session)) == max(masks(session)) == 2
            steps.clear()
            result = session.verify(chips[0], template)
            assert (result.match, result.was_prepared) == (True, True)
            assert EMPTY not in [step.stage for step in steps]
    assert {thread.error for thread in session._threads} == {None}


@pytest.mark.slow
def test_an_empty_pool_says_so(model: Model, chips: NDArray[np.uint8]) -> None:
    steps: list[Progress] = []
    with hf.local_session(model, pool=1, on_progress=steps.append) as session:
        template = session.enroll(chips[0])
        wait_until_full(session)
        steps.clear()
        assert session.verify(chips[0], template).was_prepared is True
        assert EMPTY not in [step.stage for step in steps]
        assert session.verify(chips[0], template).was_prepared is False
        assert [step.stage for step in steps].count(EMPTY) == 1
        assert [step.phase for step in steps if step.stage == EMPTY] == ["offline"]


@pytest.mark.slow
def test_without_a_pool_only_a_prepared_run_was_prepared(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        session.prepare(1)
        assert session.client.pool_status() == PoolStatus(1, 0, 0)
        assert session.verify(chips[0], template).was_prepared is True
        assert session.verify(chips[0], template).was_prepared is False
        assert session.client.pool_status() == PoolStatus(0, 0, 0)


@pytest.mark.parametrize("pool", [-1, 17])
def test_a_pool_that_the_server_would_refuse_sends_nothing(model: Model, pool: int) -> None:
    terms = Terms(model.graph, model.threshold, correlations=Correlations.DEALER)
    to_server, _ = local_channels("client", "server")
    to_dealer, _ = local_channels("client", "dealer")
    with pytest.raises(ParameterError, match=r"^expected to keep at most 16 runs prepared"):
        ClientSession(to_server, to_dealer, terms, pool=pool)
    assert to_server.statistics.bytes_sent == 0


def test_a_refused_request_uses_nothing_up(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        session.prepare(1)
        image = model.normalise(chips[0])[None]
        refused = [image[:, :, 1:], image * 1e30, np.full_like(image, np.nan), image[:0]]
        for images in refused:
            with pytest.raises(ParameterError):
                session.client.verify(images, template)
        with pytest.raises(ParameterError, match="a template for each"):
            session.client.verify(image, [template, template])
        assert session.client.pool_status().ready == 1
        assert set(masks(session)) == {1}
        assert session.verify(chips[0], template).was_prepared is True
        assert set(masks(session)) == {0}


@pytest.mark.slow
def test_a_request_that_fails_amid_a_run_ends_session_and_pool(model: Model, chips: NDArray[np.uint8]) -> None:
    armed = False

    def fail(progress: Progress) -> None:
        if armed and progress.stage == "block_relu1":
            raise KeyError("in the middle")

    with hf.local_session(model, pool=2, on_progress=fail) as session:
        template = session.enroll(chips[0])
        wait_until_full(session)
        armed = True
        with pytest.raises(KeyError):
            session.verify(chips[0], template)
        armed = False
        sent = copy.copy(session.client.endpoint.channel.statistics)
        assert session.client.pool_status().ready == 1, "the run that failed gave its preparation back"
        for again in (lambda: session.verify(chips[0], template), lambda: session.prepare(1)):
            with pytest.raises(ProtocolError, match="this one has failed"):
                again()
        assert session.client.endpoint.channel.statistics == sent, "something was prepared or sent after the failure"
    errors = [thread.error for thread in session._threads]
    assert all(isinstance(error, PeerLostError) for error in errors)


@pytest.mark.slow
def test_the_end_of_a_session_waits_for_the_part_under_way(model: Model) -> None:
    """Whenever the block ends, amid a part or not, both peers end in peace."""
    for pause in (0.0, 0.01, 0.02, 0.03):
        with hf.local_session(model, pool=4) as session:
            time.sleep(pause)
        assert {thread.error for thread in session._threads} == {None}, pause


def test_an_end_amid_a_part_is_no_failure(model: Model) -> None:
    with hf.local_session(model, pool=4) as session:
        until(lambda: session.client.endpoint.running)
    assert {thread.error for thread in session._threads} == {None}


@pytest.mark.parametrize("request_again", ["verify", "prepare", "nothing"])
def test_an_error_of_the_background_comes_with_the_next_request(
    model: Model, chips: NDArray[np.uint8], request_again: str
) -> None:
    with hf.local_session(model, pool=1, correlations="dealer") as session:
        template = session.enroll(chips[0])
        wait_until_full(session)

        def fail(*arguments: Any) -> None:
            raise OSError("a bad disk")

        layer = next(iter(session.server.endpoint.network._layers.values()))
        layer._multiply = fail
        session.verify(chips[0], template)  # takes the one that is prepared; the refill then fails
        refill = session.client.endpoint._refill
        assert refill is not None
        until(lambda: refill.error is not None)
        calls = {"verify": lambda: session.verify(chips[0], template), "prepare": lambda: session.prepare(1)}
        if request_again in calls:
            with pytest.raises(PeerLostError, match=r"^server ended: it could not go on"):
                calls[request_again]()
    assert isinstance(session._threads[0].error, OSError)
    assert isinstance(session._threads[1].error, PeerLostError), "the dealer was told"
    assert not refill._thread.is_alive()


# What the server refuses


class Attacker:
    """A client that has opened a session and then sends what it likes."""

    def __init__(self, model: Model) -> None:
        to_server, to_client = local_channels("client", "server", GUARD_SECONDS)
        client_dealer, dealer_client = local_channels("client", "dealer", GUARD_SECONDS)
        server_dealer, dealer_server = local_channels("server", "dealer", GUARD_SECONDS)
        terms = Terms(model.graph, model.threshold, correlations=Correlations.DEALER)
        self.sessions: list[ServerSession] = []

        def serve() -> None:
            self.sessions.append(ServerSession(to_client, server_dealer, terms, model.weights or {}))
            self.sessions[0].serve()

        self.threads = [
            PartyThread("server", serve, (to_client, server_dealer)),
            PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server)),
        ]
        for thread in self.threads:
            thread.start()
        self.channels: tuple[Channel, ...] = (to_server, client_dealer)
        self.client = ClientSession(to_server, client_dealer, terms)

    def send(self, **command: Any) -> None:
        """Send a command, whatever came before."""
        self.client.endpoint.running = False
        self.client.endpoint.command(command)

    def refusal(self) -> str:
        """Return why the server has ended."""
        self.threads[0].join(GUARD_SECONDS)
        error = self.threads[0].error
        assert isinstance(error, ProtocolError), error
        return str(error)

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        for thread in self.threads:
            thread.join(GUARD_SECONDS)


@pytest.fixture
def attacker(model: Model) -> Iterator[Attacker]:
    begun = Attacker(model)
    yield begun
    begun.close()


@pytest.mark.parametrize("part", [4, -1, 10**30, True, None])
def test_a_preparation_has_four_parts(attacker: Attacker, part: object) -> None:
    attacker.send(operation="prepare", images=1, decisions=1, part=part)
    assert "expected part to be a whole number of 0 to 3, got" in attacker.refusal()


@pytest.mark.parametrize("part", [1, 3])
def test_a_preparation_begins_with_part_0(attacker: Attacker, part: int) -> None:
    attacker.send(operation="prepare", images=1, decisions=1, part=part)
    assert f"expected part 0 of a run of 1 images and 1 decisions, got part {part} of " in attacker.refusal()


@pytest.mark.parametrize("part", [0, 1, 3])
def test_parts_come_in_order(attacker: Attacker, part: int) -> None:
    kind = RunShape(1, 1)
    for done in range(2):
        attacker.client.endpoint._prepare_part(kind, done)
    attacker.send(operation="prepare", images=1, decisions=1, part=part)
    assert "expected part 2 of " in attacker.refusal()


@pytest.mark.parametrize(("images", "decisions"), [(16, 16), (1, 0), (2, 1)])
def test_a_preparation_stays_of_one_kind(attacker: Attacker, images: int, decisions: int) -> None:
    """Else a client that is counted one image could make the server hold masks for sixteen, again and again."""
    attacker.client.endpoint._prepare_part(RunShape(1, 1), 0)
    attacker.send(operation="prepare", images=images, decisions=decisions, part=1)
    assert "expected part 1 of a run of 1 images and 1 decisions, got part 1 of " in attacker.refusal()


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [[(16, 16)] * 2 + [(1, 1)], [(1, 1), (16, 0), (16, 16)]], ids=str)
def test_prepared_images_are_bounded_whatever_their_kind(attacker: Attacker, kinds: list[tuple[int, int]]) -> None:
    for images, decisions in kinds[:-1]:
        attacker.client.prepare(images, decisions)
    assert sum(images for images, _ in kinds[:-1]) <= 32 < sum(images for images, _ in kinds)
    attacker.send(operation="prepare", images=kinds[-1][0], decisions=kinds[-1][1], part=0)
    assert "expected at most 32 prepared images" in attacker.refusal()


def test_a_run_makes_room_for_another_preparation(attacker: Attacker, model: Model, chips: NDArray[np.uint8]) -> None:
    attacker.client.prepare(16, 16)
    attacker.client.prepare(15, 15)
    attacker.client.prepare(1, 0)
    attacker.client.enroll("a", model.normalise(chips[0])[None])
    attacker.client.prepare(1, 0)
    attacker.client.end()
    attacker.threads[0].join(GUARD_SECONDS)
    assert attacker.threads[0].error is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        {"operation": "verify", "images": 2, "templates": None},
        {"operation": "verify", "images": 1, "templates": ["a"]},
        {"operation": "enroll", "images": 1, "template": "b"},
    ],
    ids=lambda command: f"{command['operation']} {command['images']}",
)
@pytest.mark.parametrize("parts", [0, 1, PARTS - 1, "another kind"])
def test_no_run_without_its_preparation(
    attacker: Attacker, model: Model, chips: NDArray[np.uint8], command: dict[str, Any], parts: Any
) -> None:
    attacker.client.enroll("a", model.normalise(chips[0])[None])
    kinds = {"enroll": RunShape(1, 0), "verify": RunShape(2, 1) if command["images"] == 2 else RunShape(1, 1)}
    if parts == "another kind":
        attacker.client.prepare(3, 3)
    for part in range(parts if isinstance(parts, int) else 0):
        attacker.client.endpoint._prepare_part(kinds[command["operation"]], part)
    attacker.send(**command)
    assert "before its run, got none" in attacker.refusal()


@pytest.mark.parametrize(
    "kind",
    [(0, 0), (17, 17), (17, 0), (3, 1), (3, 2), (1, 2), (2, -1), (-1, -1), (10**9, 10**9), ("1", 1), (1, None)],
    ids=str,
)
def test_preparations_of_no_kind(attacker: Attacker, kind: tuple[Any, Any]) -> None:
    attacker.send(operation="prepare", images=kind[0], decisions=kind[1], part=0)
    assert attacker.refusal().startswith("expected ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "templates"),
    [
        (17, ["a"] * 17),
        (0, []),
        (2, ["a"]),
        (1, ["a", "a"]),
        (3, None),
        (2, ["a", "nobody"]),
        (1, [None]),
        (1, [["a"]]),
    ],
    ids=str,
)
def test_verifications_that_the_server_refuses(
    attacker: Attacker, model: Model, chips: NDArray[np.uint8], images: int, templates: Any
) -> None:
    attacker.client.enroll("a", model.normalise(chips[0])[None])
    attacker.send(operation="verify", images=images, templates=templates)
    message = attacker.refusal()
    assert message.startswith("expected ")
    assert message.isprintable()
    assert len(message) < 500


def test_an_unknown_template_is_refused_before_the_run(
    attacker: Attacker, model: Model, chips: NDArray[np.uint8]
) -> None:
    """The server sends no message of a run, so the preparation of the others is not half used."""
    image = model.normalise(chips[0])[None]
    attacker.client.enroll("a", image)
    attacker.client.prepare(2, 2)
    attacker.send(operation="verify", images=2, templates=["a", "nobody"])
    assert "expected the name of an enrolled template, got another name" in attacker.refusal()
    assert attacker.sessions[0].endpoint.held[RunShape(2, 2)] == 1


def test_both_sides_part_the_layers_alike(model: Model) -> None:
    with hf.local_session(model) as session:
        names = session.client.endpoint._layer_names
        assert names == session.server.endpoint._layer_names
        assert [name for part in range(PARTS) for name in layers_of_part(names, part)] == names
        assert list(session.client.endpoint.network._layers) == names


def test_a_pool_over_a_slow_network(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model, pool=1, link="lan") as session:
        template = session.enroll(chips[0])
        wait_until_full(session)
        result = session.verify(chips[1], template)
    assert result.was_prepared is True
    assert {thread.error for thread in session._threads} == {None}


def test_an_interrupted_wait_for_a_turn_lets_the_session_end(
    model: Model, chips: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    with hf.local_session(model, pool=1) as session:
        condition = session.client.endpoint.turns._condition
        wait = condition.wait_for

        def interrupt(predicate: Callable[[], bool], timeout: float | None = None) -> bool:
            monkeypatch.setattr(condition, "wait_for", wait)
            raise KeyboardInterrupt

        wait_until_full(session)
        monkeypatch.setattr(condition, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.verify(chips[0], chips[1])
        assert session.verify(chips[0], chips[0]).match is True
    assert {thread.error for thread in session._threads} == {None}


def test_a_prepared_run_goes_on_amid_a_begun_preparation(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        session.prepare(1)
        with session.client.endpoint.turns.request():
            session.client.endpoint.pool.step(RunShape(1, 1))
        assert session.client.pool_status() == PoolStatus(1, 0, 1)
        assert session.verify(chips[0], template).matches == (True,)
        result = session.verify(chips[0], template)  # finishes what was begun
        assert (result.match, result.was_prepared) == (True, False)


@pytest.mark.slow
def test_the_client_knows_how_much_may_be_prepared(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0])
        session.prepare(16, 16)
        session.prepare(16, 16)
        with pytest.raises(ParameterError, match="at most 32 prepared images"):
            session.prepare(1)
        assert session.verify_batch(list(chips[:1]) * 16, template).matches == (True,) * 16


def test_what_is_wrong_with_a_template_is_said_before_anything_is_sent(model: Model, chips: NDArray[np.uint8]) -> None:
    with hf.local_session(model) as session:
        template = session.enroll(chips[0], "a")
        for name in ("a", "", "x" * 10_001):
            with pytest.raises(ParameterError, match="expected a new name"):
                session.client.enroll(name, np.zeros((1, 3, 16, 16)))
        with pytest.raises(ParameterError, match="expected templates of"):
            session.client.verify(np.zeros((1, 3, 16, 16)), replace(template, share=template.share[:, :3]))
        assert session.verify(chips[0], template).match is True
