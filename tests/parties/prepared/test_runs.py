"""Prepared runs between sessions: used once, by the two that made them, whatever is lost, damaged, or refused."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from hybridface.models.model import Model
from parties.prepared import store as prepared
from parties.prepared.shape import RunShape
from parties.prepared.store import PreparedStore
from parties.session.correlations import Correlations
from protocols.channel import Channel
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.network.graph import LinearWeights
from support.prepared_runs import expected, runs, session
from support.tiny_network import Chip

PEER, NUMBER = "0" * 32, "1" * 32


@pytest.fixture
def pair(model: Model, chips: Chip) -> Any:
    """One photo twice: the same person, unless the two parties compute with masks that are out of step."""
    return np.stack([model.normalise(chip) for chip in (chips[0], chips[0])])


@pytest.mark.slow
@pytest.mark.parametrize("correlations", [Correlations.OT, Correlations.DEALER])
def test_a_later_session_uses_what_was_kept(
    tmp_path: Path, model: Model, pair: Any, correlations: Correlations
) -> None:
    with session(tmp_path, model, correlations) as client:
        client.save_prepared(2, 1)
        client.save_prepared(2, 1)
        assert client.pool_status(2, 1).ready == 0, "what is kept is not used in this session too"
    with session(tmp_path, model, correlations) as client:
        for was_prepared in (True, True, False):
            result = client.verify_pair(pair)
            assert (result.was_prepared, result.match) == (was_prepared, expected(model, pair))
            layers = [stage.stage for stage in result.cost.stages if stage.phase == "offline"]
            assert ("correlations" in layers) is not was_prepared
    assert not runs(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["kept", "adopted"])
@pytest.mark.parametrize("decision", [None, 0, 1, 2, "true", [], {}])
def test_a_server_that_says_neither_yes_nor_no(
    tmp_path: Path, model: Model, pair: Any, what: str, decision: object
) -> None:
    """The two would go on with different runs, and answer wrongly."""
    with session(tmp_path, model, Correlations.DEALER) as client:
        client.save_prepared(2, 1)
    send = Channel.send_document

    def changed(channel: Channel, label: str, document: dict[str, Any]) -> None:
        send(channel, label, document | {what: decision} if label == what else document)

    with (
        mock.patch.object(Channel, "send_document", changed),
        pytest.raises(ProtocolError, match=f"expected {what} to be true or false, got"),
        session(tmp_path, model, Correlations.DEALER) as client,
    ):
        client.save_prepared(2, 1) if what == "kept" else client.verify_pair(pair)


@pytest.mark.slow
@pytest.mark.parametrize("correlations", [Correlations.OT, Correlations.DEALER])
def test_nothing_is_kept_twice_nor_kept_and_used(tmp_path: Path, model: Model, correlations: Correlations) -> None:
    """Of either side: the two sides' shares of a bit that is zero are the same."""
    written: list[tuple[str, np.ndarray]] = []

    def noting(store: PreparedStore, peer: str, number: str, binding: str, arrays: Any) -> None:
        side = str(store._folder)
        written.extend((side, array) for values in arrays.values() for array in values if array.size > 8)
        write(store, peer, number, binding, arrays)

    write = PreparedStore.write
    with session(tmp_path, model, correlations) as client, mock.patch.object(PreparedStore, "write", noting):
        for _ in range(2):
            client.save_prepared(2, 1)
        assert not any(client.endpoint.source._pool.values()), "correlations that were kept are still in memory"
        layers = client.endpoint.network._linear_layers.values()
        assert not any(queue for layer in layers for queue in layer._pool.values()), "masks are still in memory"
    contents = [(side, array.tobytes()) for side, array in written]
    assert len(contents) > 40
    assert len(contents) == len(set(contents))


def test_the_server_is_ready_before_the_client(tmp_path: Path, model: Model) -> None:
    """A client's file without the server's is only forgotten; a run that a failed session has used must not be kept."""
    published: list[str] = []

    def noting(store: PreparedStore, peer: str, number: str) -> None:
        published.append(store._folder.name)
        publish(store, peer, number)

    publish = PreparedStore.publish
    with session(tmp_path, model) as client, mock.patch.object(PreparedStore, "publish", noting):
        client.save_prepared(2, 1)
    assert published == ["server", "client"]


@pytest.mark.slow
def test_runs_of_other_kinds_stay(tmp_path: Path, model: Model, pair: Any) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(2, 1)
        client.save_prepared(1, 1)
    with session(tmp_path, model) as client:
        template = client.enroll("someone", pair[:1])
        assert client.verify(pair[1:], template).was_prepared is True
        assert client.verify(pair[1:], template).was_prepared is False
    with session(tmp_path, model) as client:
        assert client.verify_pair(pair).was_prepared is True


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["client", "server"])
def test_what_one_side_has_lost_the_other_forgets(tmp_path: Path, model: Model, pair: Any, lost: str) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(2, 1)
        client.save_prepared(2, 1)
    runs(tmp_path, lost)[0].unlink()
    with session(tmp_path, model) as client:
        assert client.verify_pair(pair).was_prepared is True
        assert client.verify_pair(pair).was_prepared is False
    assert not runs(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["client", "server"])
def test_a_damaged_run_is_dropped_by_both(tmp_path: Path, model: Model, pair: Any, damaged: str) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(2, 1)
    (path,) = runs(tmp_path, damaged)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with session(tmp_path, model) as client:
        results = [client.verify_pair(pair) for _ in range(9)]  # masks out of step give the right bit half the time
    assert not any(result.was_prepared for result in results)
    assert {result.match for result in results} == {expected(model, pair)}
    assert not runs(tmp_path)


@pytest.mark.slow
def test_other_weights_do_not_use_it(tmp_path: Path, model: Model, pair: Any) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(2, 1)
    changed = {name: LinearWeights(w.weight + 1e-3, w.bias) for name, w in (model.weights or {}).items()}
    with session(tmp_path, model, weights=changed) as client:
        assert client.verify_pair(pair).was_prepared is False


@pytest.mark.slow
@pytest.mark.parametrize("other", ["elsewhere", None])
def test_another_server_has_not_got_it_and_it_stays(tmp_path: Path, model: Model, pair: Any, other: str | None) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(2, 1)
    with session(tmp_path, model, server=other) as client:
        assert client.verify_pair(pair).was_prepared is False
        if other:
            client.save_prepared(2, 1)
            pairings = {path.parent.name for path in runs(tmp_path, "server") + runs(tmp_path, other)}
            assert len(pairings) == 2, "two servers cannot tell that it is the same client"
    with session(tmp_path, model) as client:
        assert client.verify_pair(pair).was_prepared is True


# What cannot be kept, or taken up


def test_nowhere_to_keep_it(tmp_path: Path, model: Model, pair: Any) -> None:
    with session(tmp_path, model, server=None) as client:
        with pytest.raises(ParameterError, match="expected a server with a folder for prepared runs, but it has none"):
            client.save_prepared(2, 1)
        assert client.verify_pair(pair).match == expected(model, pair), "the session goes on"
    assert not runs(tmp_path)


def test_a_client_without_room_says_so_before_anything_is_made(
    tmp_path: Path, model: Model, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MAX_KEPT", 0)
    with session(tmp_path, model) as client:
        with pytest.raises(ParameterError, match="expected to keep at most 0 prepared runs, got one more"):
            client.save_prepared(2, 1)
        assert client.verify_pair(pair).match == expected(model, pair)
    assert not runs(tmp_path)


def failing(method: str, side: str, error: Exception) -> Any:
    """Return a patch of the store by which one side's method raises an error."""
    work = getattr(PreparedStore, method)

    def call(store: PreparedStore, *arguments: Any) -> Any:
        if store._folder.name == side:
            raise error
        return work(store, *arguments)

    return mock.patch.object(PreparedStore, method, call)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "error", "reason"),
    [
        ("make_room", ParameterError("expected less"), "but it does not: expected less"),
        ("make_room", OSError(13, "/srv/disk may not be read"), "but it does not: it could not write them"),
        ("write", TimeoutError("/srv/disk is locked"), "but it does not: it could not write them"),
        ("write", OSError(28, "/srv/disk is full"), "but it does not: it could not write them"),
        ("publish", OSError(5, "/srv/disk is bad"), "but it does not: it could not write them"),
    ],
)
def test_a_server_that_does_not_keep_it(
    tmp_path: Path, model: Model, pair: Any, method: str, error: Exception, reason: str
) -> None:
    with session(tmp_path, model) as client:
        with failing(method, "server", error), pytest.raises(ProtocolError, match=reason):
            client.save_prepared(2, 1)
        assert client.verify_pair(pair).match == expected(model, pair), "both have dropped the run"
    assert not runs(tmp_path)


UNUSABLE = [OSError(5, "/srv/disk is bad"), TimeoutError("expected the lock within 60 s")]


@pytest.mark.slow
@pytest.mark.parametrize("error", UNUSABLE, ids=["disk", "lock"])
@pytest.mark.parametrize(
    ("method", "side"),
    [("identity", "server"), ("pairing", "client"), *((m, s) for m in ("ready", "take") for s in ("client", "server"))],
)
def test_a_folder_that_cannot_be_used_ends_no_session(
    tmp_path: Path, model: Model, pair: Any, method: str, side: str, error: OSError
) -> None:
    with session(tmp_path, model, Correlations.DEALER) as client:
        client.save_prepared(2, 1)
    with failing(method, side, error), session(tmp_path, model, Correlations.DEALER) as client:
        for _ in range(3):
            result = client.verify_pair(pair)
            assert (result.was_prepared, result.match) == (False, expected(model, pair))
    with session(tmp_path, model, Correlations.DEALER) as client:
        results = [client.verify_pair(pair) for _ in range(9)]  # masks out of step give the right bit half the time
    assert {result.match for result in results} == {expected(model, pair)}
    stays = method in ("identity", "pairing", "ready")  # nobody was told that a run has gone
    assert [result.was_prepared for result in results] == [stays] + 8 * [False]


@pytest.mark.slow
@pytest.mark.parametrize("side", ["client", "server"])
def test_what_cannot_be_forgotten_stays_unused(tmp_path: Path, model: Model, pair: Any, side: str) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(2, 1)
        client.save_prepared(2, 1)
    runs(tmp_path, "server" if side == "client" else "client")[0].unlink()
    with failing("discard", side, UNUSABLE[0]), session(tmp_path, model) as client:
        assert [client.verify_pair(pair).was_prepared for _ in range(2)] == [True, False]
    assert len(runs(tmp_path)) == 1
    with session(tmp_path, model) as client:
        assert client.verify_pair(pair).was_prepared is False
    assert not runs(tmp_path)


def test_a_server_whose_folder_is_a_file_keeps_nothing(tmp_path: Path, model: Model, pair: Any) -> None:
    (tmp_path / "server").write_bytes(b"")
    with session(tmp_path, model) as client:
        with pytest.raises(ParameterError, match="expected a server with a folder for prepared runs, but it has none"):
            client.save_prepared(2, 1)
        assert client.verify_pair(pair).match == expected(model, pair)


@pytest.mark.parametrize("method", ["make_room", "pairing"])
def test_a_client_whose_folder_cannot_be_used_says_so_before_anything_is_made(
    tmp_path: Path, model: Model, pair: Any, method: str
) -> None:
    with session(tmp_path, model) as client:
        refusal = pytest.raises(ParameterError, match="cannot keep a prepared run: the disk is bad")
        with failing(method, "client", OSError(5, "the disk is bad")), refusal:
            client.save_prepared(2, 1)
        assert client.verify_pair(pair).match == expected(model, pair)
    assert not runs(tmp_path)


def test_a_server_that_takes_up_a_run_alone_ends_the_session(tmp_path: Path, model: Model, pair: Any) -> None:
    """It would go on with masks that the client has not got."""
    with session(tmp_path, model, Correlations.DEALER) as client:
        client.save_prepared(2, 1)
    (path,) = runs(tmp_path, "client")
    path.write_bytes(path.read_bytes()[:-1])
    send = Channel.send_document

    def changed(channel: Channel, label: str, document: dict[str, Any]) -> None:
        send(channel, label, {"adopted": True} if label == "adopted" else document)

    with (
        mock.patch.object(Channel, "send_document", changed),
        pytest.raises(ProtocolError, match="expected the server not to load a run that the client does not have"),
        session(tmp_path, model, Correlations.DEALER) as client,
    ):
        client.verify_pair(pair)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["write", "publish"])
def test_a_client_that_cannot_write_ends_the_session(tmp_path: Path, model: Model, pair: Any, method: str) -> None:
    """The server has taken the run out of memory by then or not: nobody may go on and compute with wrong masks."""
    with session(tmp_path, model) as client:
        refusal = pytest.raises(ParameterError, match="cannot keep a prepared run: disk full")
        with failing(method, "client", OSError(28, "disk full")), refusal:
            client.save_prepared(2, 1)
        assert not [path for path in (tmp_path / "client").glob("*/*") if path.name != "pairing"], "a part is left"
        with pytest.raises(ProtocolError, match="this one has failed"):
            client.verify_pair(pair)
    with session(tmp_path, model) as client:
        assert client.verify_pair(pair).was_prepared is False


def test_a_run_of_other_shapes_ends_the_session(tmp_path: Path, model: Model, pair: Any) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(2, 1)
    with session(tmp_path, model) as client:
        take = PreparedStore.take

        def cut(store: PreparedStore, *arguments: str) -> Any:
            found = take(store, *arguments) or {}
            return {name: values[:1] for name, values in found.items()} if store._folder.name == "client" else found

        with mock.patch.object(PreparedStore, "take", cut), pytest.raises(ParameterError):
            client.verify_pair(pair)
        with pytest.raises(ProtocolError, match="this one has failed"):
            client.verify_pair(pair)


@pytest.mark.slow
def test_runs_are_taken_up_as_far_as_there_is_room(tmp_path: Path, model: Model, pair: Any) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(2, 1)
    with session(tmp_path, model) as client:
        client.prepare(16, 16)
        client.prepare(16, 16)
        with pytest.raises(ParameterError, match="at most 32 prepared images"):
            client.verify_pair(pair)
        assert len(runs(tmp_path)) == 2, "it is not taken up in vain"


COMMANDS: dict[str, tuple[dict[str, Any], str]] = {
    "keep": ({"operation": "keep", "number": NUMBER}, "expected a preparation of .* before its run, got none"),
    "number": ({"operation": "adopt", "number": "../x", "usable": True}, "expected "),
    "pairing": ({"operation": "kept runs", "numbers": [], "pairing": "../x"}, "expected "),
    "kind": (
        {"operation": "kept runs", "numbers": [], "images": 99},
        "expected images to be a whole number",
    ),
    "nothing": ({"operation": "keep"}, "expected "),
    "usable": ({"operation": "adopt", "number": NUMBER, "usable": 1}, "expected "),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_of_a_hostile_client(tmp_path: Path, model: Model, name: str) -> None:
    command, error = COMMANDS[name]
    with pytest.raises(PeerLostError, match=error), session(tmp_path, model) as client:
        client.endpoint.channel.send_document("command", {"images": 2, "decisions": 1, "pairing": PEER, **command})
        client.endpoint.channel.receive_document("kept")
    assert not runs(tmp_path)


@pytest.mark.slow
def test_a_client_that_takes_up_too_much(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(tmp_path, model) as client:
        client.save_prepared(1, 0)
    with pytest.raises(PeerLostError, match="expected at most 32 prepared images"), session(tmp_path, model) as client:
        client.prepare(16, 16)
        client.prepare(16, 16)
        saved_runs = client.endpoint.saved
        assert saved_runs is not None
        assert saved_runs.knows(RunShape(1, 0))
        saved_runs.restore(RunShape(1, 0))


def test_a_client_that_asks_a_server_without_a_folder(tmp_path: Path, model: Model) -> None:
    command = {"operation": "kept runs", "numbers": [], "images": 2, "decisions": 1, "pairing": PEER}
    with (
        pytest.raises(PeerLostError, match="expected no command about prepared runs"),
        session(tmp_path, model, server=None) as client,
    ):
        client.endpoint.channel.send_document("command", command)
        client.endpoint.channel.receive_document("kept runs")


@pytest.mark.parametrize("identity", ["../x", 5, ""])
def test_a_server_with_an_identity_that_is_none(
    tmp_path: Path, model: Model, identity: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreparedStore, "identity", lambda store: identity)
    with (
        pytest.raises(ProtocolError, match="expected identity to be 16 bytes in hexadecimal, or null"),
        session(tmp_path, model) as client,
    ):
        client.save_prepared(2, 1)
    assert not runs(tmp_path)
