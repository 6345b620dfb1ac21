"""Prepared runs on disk: used once, by the two that made them, whatever is lost, damaged, or killed when."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Chip, plaintext

from hybridface.hybrid_terms import hybrid_terms
from hybridface.local_parties import LocalLinks
from hybridface.models import Model
from parties import prepared
from parties.client import ClientSession
from parties.correlations import Correlations
from parties.local import PartyThread
from parties.prepared import MAX_KEPT, PreparedStore, binding_of
from parties.server import ServerSession
from protocols.errors import ParameterError, ProtocolError
from protocols.graph import LinearWeights

PAIRING, NUMBER, BINDING = "0" * 32, "1" * 32, binding_of("something")


def arrays() -> dict[str, list[Any]]:
    return {"layer conv": [np.arange(6, dtype=np.uint64).reshape(2, 3)], "correlations 0": [np.zeros(0, np.uint64)] * 2}


def kept(folder: Path, number: str = NUMBER) -> PreparedStore:
    store = PreparedStore(folder)
    store.write(PAIRING, number, BINDING, arrays())
    store.publish(PAIRING, number)
    return store


def test_what_is_kept_comes_back_once(tmp_path: Path) -> None:
    store = kept(tmp_path)
    assert store.ready(PAIRING, BINDING) == [NUMBER]
    found = store.take(PAIRING, NUMBER, BINDING)
    assert found is not None
    assert found.keys() == arrays().keys()
    for name, values in arrays().items():
        assert all((a == b).all() and a.shape == b.shape for a, b in zip(found[name], values, strict=True))
    assert store.take(PAIRING, NUMBER, BINDING) is None
    assert not list((tmp_path / PAIRING).iterdir())


def test_only_what_is_published_can_be_used(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path)
    store.write(PAIRING, NUMBER, BINDING, arrays())
    assert store.ready(PAIRING, BINDING) == []
    assert store.take(PAIRING, NUMBER, BINDING) is None
    (part,) = (tmp_path / PAIRING).iterdir()
    assert part.stat().st_mode & 0o777 == 0o600
    store.clean(PAIRING)
    assert part.exists(), "somebody may be writing it"
    os.utime(part, (0, time.time() - 7200))
    store.clean(PAIRING)
    assert not part.exists()


@pytest.mark.parametrize("damage", [b"", b"noise", "cut", "flip"])
def test_damage_is_noticed_and_the_run_is_gone(tmp_path: Path, damage: Any) -> None:
    store = kept(tmp_path)
    path = tmp_path / PAIRING / f"{NUMBER}.ready"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-40])
    elif damage == "flip":
        content[content.index(np.arange(6, dtype=np.uint64).tobytes()) + 3] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(damage)
    assert store.take(PAIRING, NUMBER, BINDING) is None
    assert not path.exists()


def test_a_run_of_something_else_is_not_taken(tmp_path: Path) -> None:
    store = kept(tmp_path)
    other = binding_of("something else")
    assert store.ready(PAIRING, other) == []
    assert store.take(PAIRING, NUMBER, other) is None


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path)
    for i in range(MAX_KEPT):
        kept(tmp_path, f"{i:032x}")
    with pytest.raises(ParameterError, match="at most 100 prepared runs"):
        store.write(PAIRING, "f" * 32, BINDING, arrays())
    store.write(PAIRING, "f" * 32, binding_of("another network"), arrays())
    assert store.ready(PAIRING, BINDING) == [], "those of the old network make room"


@pytest.mark.parametrize("number", ["", "../" + "0" * 29, "A" * 32, "0" * 31, "0" * 33])
def test_numbers_that_are_none_touch_no_file(tmp_path: Path, number: str) -> None:
    store = PreparedStore(tmp_path)
    for call in (lambda: store.take(PAIRING, number, BINDING), lambda: store.ready(number, BINDING)):
        with pytest.raises(ParameterError, match="32 hexadecimal digits"):
            call()


def test_the_pairing_is_drawn_once(tmp_path: Path) -> None:
    assert PreparedStore(tmp_path).own_pairing() == PreparedStore(tmp_path).own_pairing()
    assert PreparedStore(tmp_path / "other").own_pairing() != PreparedStore(tmp_path).own_pairing()


@contextmanager
def session(
    folder: Path, model: Model, correlations: Correlations = Correlations.OT, server: Path | None = None, **changes: Any
) -> Iterator[ClientSession]:
    terms = hybrid_terms(model, correlations=correlations)
    links = LocalLinks.make(correlations)
    weights = changes.get("weights", model.weights)
    stores = PreparedStore(folder / "client"), PreparedStore(server or folder / "server")

    def serve() -> None:
        ServerSession(links.to_client, links.of_server, terms, weights, prepared=stores[1]).serve()

    threads = [PartyThread("server", serve, links.server_ends), *links.others]
    for thread in threads:
        thread.start()
    with ClientSession(links.to_server, links.of_client, terms, prepared=stores[0]) as client:
        yield client
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def pair(model: Model, chips: Chip) -> Any:
    return np.stack([model.normalise(chip) for chip in chips[:2]])


def expected(model: Model, chips: Chip) -> bool:
    first, second = plaintext(model, chips[:2])
    return bool(np.linalg.norm(first - second) < model.threshold)


@pytest.mark.parametrize("correlations", [Correlations.OT, Correlations.DEALER])
def test_a_later_session_uses_what_was_kept(
    tmp_path: Path, model: Model, chips: Chip, pair: Any, correlations: Correlations
) -> None:
    with session(tmp_path, model, correlations) as client:
        client.keep(2, 1)
        client.keep(2, 1)
        assert client.pool_status(2, 1).ready == 0, "what is kept is not used in this session too"
    with session(tmp_path, model, correlations) as client:
        for was_prepared in (True, True, False):
            result = client.verify_pair(pair)
            assert (result.was_prepared, result.match) == (was_prepared, expected(model, chips))
            layers = [stage.stage for stage in result.cost.stages if stage.phase == "offline"]
            assert ("correlations" in layers) is not was_prepared
    assert not list(tmp_path.glob("*/*/*"))


def test_runs_of_other_kinds_stay(tmp_path: Path, model: Model, pair: Any) -> None:
    with session(tmp_path, model) as client:
        client.keep(2, 1)
        client.keep(1, 1)
    with session(tmp_path, model) as client:
        template = client.enroll("someone", pair[:1])
        assert client.verify(pair[1:], template).was_prepared is True
        assert client.verify(pair[1:], template).was_prepared is False
    with session(tmp_path, model) as client:
        assert client.verify_pair(pair).was_prepared is True


@pytest.mark.parametrize("lost", ["client", "server"])
def test_what_one_side_has_lost_the_other_forgets(tmp_path: Path, model: Model, pair: Any, lost: str) -> None:
    with session(tmp_path, model) as client:
        client.keep(2, 1)
        client.keep(2, 1)
    ready = sorted(tmp_path.glob(f"{lost}/*/*.ready"))
    ready[0].unlink()
    with session(tmp_path, model) as client:
        assert client.verify_pair(pair).was_prepared is True
        assert client.verify_pair(pair).was_prepared is False
    assert not list(tmp_path.glob("*/*/*"))


@pytest.mark.parametrize("damaged", ["client", "server"])
def test_a_damaged_run_is_dropped_by_both(tmp_path: Path, model: Model, chips: Chip, pair: Any, damaged: str) -> None:
    with session(tmp_path, model) as client:
        client.keep(2, 1)
    (path,) = tmp_path.glob(f"{damaged}/*/*.ready")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with session(tmp_path, model) as client:
        result = client.verify_pair(pair)
        assert (result.was_prepared, result.match) == (False, expected(model, chips))
    assert not list(tmp_path.glob("*/*/*"))


def test_other_weights_do_not_use_it(tmp_path: Path, model: Model, pair: Any) -> None:
    with session(tmp_path, model) as client:
        client.keep(2, 1)
    changed = {name: LinearWeights(w.weight + 1e-3, w.bias) for name, w in (model.weights or {}).items()}
    with session(tmp_path, model, weights=changed) as client:
        assert client.verify_pair(pair).was_prepared is False


def test_another_server_has_not_got_it(tmp_path: Path, model: Model, pair: Any) -> None:
    with session(tmp_path, model) as client:
        client.keep(2, 1)
    with session(tmp_path, model, server=tmp_path / "elsewhere") as client:
        assert client.verify_pair(pair).was_prepared is False


def test_nowhere_to_keep_it(tmp_path: Path, model: Model) -> None:
    terms = hybrid_terms(model)
    links = LocalLinks.make(Correlations.OT)
    server = PartyThread(
        "server",
        lambda: ServerSession(links.to_client, None, terms, model.weights or {}).serve(),
        links.server_ends,
    )
    server.start()
    with (
        pytest.raises(ProtocolError, match="expected the server to keep a prepared run: it has no folder"),
        ClientSession(links.to_server, None, terms, prepared=PreparedStore(tmp_path)) as client,
    ):
        client.keep(2, 1)
    server.join(30)
    assert not list(tmp_path.glob("*/*"))


def in_a_process(work: Callable[[], None]) -> int:
    """Run some work in a process of its own; return how it ended."""
    process = os.fork()
    if not process:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def scenario(folder: Path, model: Model, what: str, kill_at: int) -> None:
    """Keep two runs, or use two; kill this process before a step on files, and note every run that is read."""
    steps = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1
            return function(*arguments, **options)

        return call

    def noted(path: Path, binding: str) -> Any:
        with (folder / "journal").open("a") as journal:
            journal.write(f"{path.parent.parent.name} {path.stem}\n")
        return read(path, binding)

    read = prepared._read
    prepared._read = counted(noted)
    for name in ("rename", "link", "fsync"):
        setattr(os, name, counted(getattr(os, name)))
    Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
    with session(folder, model, Correlations.DEALER) as client:
        for _ in range(2):
            if what == "keep":
                client.keep(2, 1)
            else:
                client.verify_pair(np.zeros((2, 3, 16, 16)))


@pytest.mark.parametrize("what", ["keep", "use"])
def test_a_kill_at_any_step_never_brings_a_run_back(tmp_path: Path, model: Model, what: str) -> None:
    """Kill before every step on files, then use what is left, and look that nobody has read one run twice."""
    status, step = -signal.SIGKILL, 0
    while status:
        folder = tmp_path / str(step)
        folder.mkdir()
        if what == "use":
            assert in_a_process(partial(scenario, folder, model, "keep", -1)) == 0
        status = in_a_process(partial(scenario, folder, model, what, step))
        assert status in (0, -signal.SIGKILL)
        assert in_a_process(partial(scenario, folder, model, "use", -1)) == 0
        journal = folder / "journal"
        read = journal.read_text().splitlines() if journal.exists() else []
        assert len(read) == len(set(read)), f"step {step}: {read}"
        left = [path for path in folder.glob("*/*/*") if path.suffix != ".part"]
        assert not left, f"step {step}: {left}"
        shutil.rmtree(folder)
        step += 1
    assert step > 10
