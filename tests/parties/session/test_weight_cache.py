"""Encoded weights in a file: exactly what is encoded, complete and undamaged or not used, the owner's alone."""

import contextlib
import gc
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hybridface as hf
from hybridface.folders import cache_directory
from hybridface.models.model import Model
from parties.machine.durable import PART
from parties.session import weight_cache
from parties.session.weight_cache import EncodedWeights, layer_polynomials
from protocols.encryption.ckks import CkksContext, CkksParameters
from protocols.errors import ParameterError
from protocols.linear.convolution import encode_weights
from protocols.linear.packing import ConvPlan
from protocols.linear.planner import CostModel
from protocols.network.graph import LinearWeights, Weights, layer_weights
from protocols.network.private import plan_network

HEADER_BYTES = 1 << 16


@pytest.fixture(scope="module")
def model() -> Model:
    return hf.load_model("tiny-test")


@pytest.fixture(scope="module")
def weights(model: Model) -> Weights:
    assert model.weights is not None
    return model.weights


@pytest.fixture(scope="module")
def plans(model: Model) -> dict[str, ConvPlan]:
    return plan_network(model.graph)


@pytest.fixture(scope="module")
def ring_context() -> CkksContext:
    return CkksContext()


Load = Callable[..., EncodedWeights]


@pytest.fixture
def load(tmp_path: Path, ring_context: CkksContext, plans: dict[str, ConvPlan], weights: Weights) -> Load:
    """Open the tiny network's file in a temporary folder; `encoded` lists the layers that were encoded for it."""

    def begin(encoded: list[str] | None = None, **changes: Any) -> EncodedWeights:
        given = {"directory": tmp_path, "context": ring_context, "plans": plans, "weights": weights, **changes}
        return EncodedWeights.load(**given, on_layer=None if encoded is None else encoded.append)

    return begin


def expected(context: CkksContext, plans: dict[str, ConvPlan], weights: Weights) -> dict[str, Any]:
    return {name: encode_weights(context, p, layer_weights(weights, name, p.shape)[0]) for name, p in plans.items()}


def same(opened: EncodedWeights, reference: dict[str, Any]) -> bool:
    return all(np.array_equal(opened.polynomials(name), value) for name, value in reference.items())


def test_the_file_holds_what_is_encoded(
    load: Load, ring_context: CkksContext, plans: dict[str, ConvPlan], weights: Weights, tmp_path: Path
) -> None:
    reference = expected(ring_context, plans, weights)
    encoded: list[str] = []
    first = load(encoded)
    assert encoded == list(plans)
    assert same(first, reference)
    again: list[str] = []
    second = load(again)
    assert again == [], "encoded again"
    assert same(second, reference)
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]
    layer = second.polynomials(next(iter(plans)))
    assert layer.dtype == np.uint64
    with pytest.raises(ValueError, match="read-only"):
        layer[0, 0, 0] = 1


def test_only_the_owner_may_read_the_file(load: Load, tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        path = load(directory=tmp_path / "a" / "b").path
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_another_users_file_is_not_used(load: Load) -> None:
    path = load().path
    os.chown(path, 12345, -1)
    with pytest.raises(ParameterError, match="a file of this user"):
        EncodedWeights(path, path.stem)
    encoded: list[str] = []
    assert load(encoded).path.stat().st_uid == os.geteuid()
    assert encoded


def flip(position: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def change_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def run(data: bytes) -> bytes:
        magic, _, rest = data[:HEADER_BYTES].partition(b"\n")
        header = json.loads(rest.rstrip(b"\0"))
        changed = change(header)
        text = magic + b"\n" + json.dumps(header if changed is None else changed).encode()
        return text + bytes(HEADER_BYTES - len(text)) + data[HEADER_BYTES:]

    return run


def swap_two(header: dict[str, Any]) -> None:
    layers = header["layers"]
    first, second = [name for name in layers if layers[name][1] == layers["block_conv1"][1]][:2]
    layers[first], layers[second] = layers[second], layers[first]


def move_one(header: dict[str, Any]) -> None:
    header["layers"]["conv"][0] += weight_cache._ALIGNMENT


def forget_one(header: dict[str, Any]) -> None:
    del header["layers"]["conv"]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "first byte of a layer": flip(HEADER_BYTES),
    "last byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "the magic": flip(0),
    "another version": lambda data: data.replace(b" 3\n", b" 1\n", 1),
    "the digest": lambda data: data.replace(b'"digest": "', b'"digest": "0', 1),
    "the header's filling": flip(HEADER_BYTES - 1),
    "a layer's place": change_header(move_one),
    "two layers' places": change_header(swap_two),
    "a layer left out": change_header(forget_one),
    "an endless place": change_header(lambda h: {**h, "layers": {"conv": [float("inf"), [1]]}}),
    "no layers": change_header(lambda h: {"digest": h["digest"]}),
    "a list": change_header(lambda h: [1, 2]),
    "a deep list": lambda data: data[:21] + b"[" * (HEADER_BYTES - 21) + data[HEADER_BYTES:],
    "truncated content": lambda data: data[:-1],
    "truncated header": lambda data: data[:100],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "garbage": lambda data: np.random.default_rng(0).bytes(1 << 17),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_not_opened_but_encoded_again(
    load: Load, name: str, ring_context: CkksContext, plans: dict[str, ConvPlan], weights: Weights
) -> None:
    path = load().path
    good = path.read_bytes()
    bad = DAMAGE[name](good)
    assert bad != good
    path.write_bytes(bad)
    with pytest.raises(ParameterError) as caught:
        EncodedWeights(path, path.stem)
    assert str(caught.value).isprintable()
    assert str(path.parent) not in str(caught.value), "the message may go to a peer"
    encoded: list[str] = []
    opened = load(encoded)
    assert encoded == list(plans)
    assert same(opened, expected(ring_context, plans, weights))
    assert path.read_bytes() == good


def test_a_file_under_another_key_is_refused(load: Load, tmp_path: Path) -> None:
    path = load().path
    other = tmp_path / f"{'0' * 64}.weights"
    shutil.copy(path, other)
    with pytest.raises(ParameterError, match="damaged"):
        EncodedWeights(other, other.stem)


def test_a_link_is_not_followed(load: Load, tmp_path: Path) -> None:
    path = load().path
    link = tmp_path / "link.weights"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        EncodedWeights(link, path.stem)


def test_a_pipe_under_the_name_is_not_waited_for(load: Load) -> None:
    path = load().path
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="expected a plain file"):
        EncodedWeights(path, path.stem)
    encoded: list[str] = []
    assert load(encoded).path.is_file()
    assert encoded


def test_what_crashes_left_goes_before_more_is_written(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are secret, and a disk that is full of them has no room for new ones."""
    left = [tmp_path / name for name in (f"{'0' * 64}.weights.0011{PART}", ".encoding-x7f_3k")]
    for path in left:
        path.write_bytes(b"secret weights")

    def fail(*arguments: Any) -> Any:
        assert not any(path.exists() for path in left)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weight_cache, "encode_weights", fail)
    with pytest.raises(OSError, match="No space left"):
        load()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["utime", "unlink"])
def test_a_file_on_a_read_only_disk_is_used(load: Load, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = load().path
    path.with_name(f"{path.name}.0011{PART}").touch()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, call, refuse)
    encoded: list[str] = []
    assert load(encoded).path == path
    assert encoded == []


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        EncodedWeights(tmp_path / "none", "none")


def test_other_weights_plans_or_parameters_have_another_file(
    load: Load, model: Model, plans: dict[str, ConvPlan], weights: Weights
) -> None:
    original = load().path
    one = dict(weights)
    array = np.array(one["fc"].weight, dtype=np.float64)
    array.flat[-1] = np.nextafter(array.flat[-1], 2)
    one["fc"] = LinearWeights(array, one["fc"].bias)
    dear = plan_network(model.graph, cost=CostModel(client_upload=1e3, server_upload=1e3))
    assert dear != plans
    paths = [
        load(weights=one).path,
        load(plans=dear).path,
        load(context=CkksContext(CkksParameters(weight_bits=17))).path,
    ]
    assert len({original, *paths}) == 4
    other_bias = {**weights, "fc": LinearWeights(weights["fc"].weight, None)}
    encoded: list[str] = []
    assert load(encoded, weights=other_bias).path == original, "the bias is not in the polynomials"
    assert encoded == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_nothing_is_left_behind_by_a_failure(
    load: Load, tmp_path: Path, plans: dict[str, ConvPlan], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    calls: list[list[str]] = []

    def fail(*arguments: Any) -> Any:
        calls.append([path.name for path in tmp_path.iterdir() if path.suffix != PART])
        if len(calls) == 2:
            raise error("in the middle")
        return encode_weights(*arguments)

    monkeypatch.setattr(weight_cache, "encode_weights", fail)
    with pytest.raises(error, match="in the middle"):
        load()
    assert calls == [[], []], "the file has its name only when it is whole"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_process_damages_while_it_is_made_is_refused(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = os.replace

    def spoil(source: Any, target: Any) -> None:
        move(source, target)
        Path(target).write_bytes(b"")

    monkeypatch.setattr(os, "replace", spoil)
    with pytest.raises(ParameterError):
        load()


@pytest.mark.slow
def test_a_mapped_layer_stays_while_the_file_is_replaced(
    load: Load, ring_context: CkksContext, plans: dict[str, ConvPlan], weights: Weights
) -> None:
    reference = expected(ring_context, plans, weights)
    opened = load()
    held = opened.polynomials("block_conv1")
    replacement = opened.path.with_name("other")
    replacement.write_bytes(bytes(HEADER_BYTES))
    os.replace(replacement, opened.path)
    assert np.array_equal(held, reference["block_conv1"])
    assert same(opened, reference), "layers are mapped from the file that was checked"
    opened.path.unlink()
    del opened
    gc.collect()
    assert np.array_equal(held, reference["block_conv1"]), "a layer outlives what it was mapped from"


@pytest.mark.slow
def test_a_forgotten_file_is_closed_and_layers_are_unmapped(load: Load) -> None:
    def maps(path: Path) -> int:
        return Path("/proc/self/maps").read_text().count(path.name)

    opened = load()
    path = opened.path
    before = len(os.listdir("/proc/self/fd"))
    layer = opened.polynomials("conv")
    assert maps(path) == 1
    del layer
    gc.collect()
    assert maps(path) == 0
    assert len(os.listdir("/proc/self/fd")) == before
    del opened
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.parametrize("directory", ["none", "under a file", "full"])
def test_without_a_folder_the_polynomials_are_in_memory(
    tmp_path: Path,
    ring_context: CkksContext,
    plans: dict[str, ConvPlan],
    weights: Weights,
    directory: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path: Path | None = None
    if directory == "under a file":
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "cache"
    elif directory == "full":
        path = tmp_path / "full"

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
    encoded: list[str] = []
    warned = pytest.warns(match=r"^the weights' cache cannot be used \(.+\): encoding the weights anew$")
    with warned if path else contextlib.nullcontext():
        source = layer_polynomials(path, ring_context, plans, weights, encoded.append)
    for name, value in expected(ring_context, plans, weights).items():
        assert np.array_equal(source(name)(), value)
    assert encoded[-len(plans) :] == list(plans)
    assert not list(tmp_path.glob("full/*"))


HOLD_LOCK = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process holds the folder's lock until its standard input is closed."""
    words = [sys.executable, "-c", HOLD_LOCK, str(directory)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_lock_that_is_never_free_is_given_up(
    load: Load,
    tmp_path: Path,
    ring_context: CkksContext,
    plans: dict[str, ConvPlan],
    weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("parties.machine.locks.LOCK_SECONDS", 0.1)
    with held_by_another_process(tmp_path):
        with pytest.raises(TimeoutError, match=r"^expected the lock of the weights' cache within 0\.1 s$"):
            load()
        with pytest.warns(match="the weights' cache cannot be used"):
            source = layer_polynomials(tmp_path, ring_context, plans, weights)
        for name, value in expected(ring_context, plans, weights).items():
            assert np.array_equal(source(name)(), value)
        assert list(tmp_path.iterdir()) == [], "written without the lock"
    encoded: list[str] = []
    load(encoded)
    assert encoded == list(plans), "a lock goes with its process"


@pytest.mark.slow
def test_a_lock_is_waited_for(load: Load, plans: dict[str, ConvPlan], tmp_path: Path) -> None:
    encoded: list[str] = []
    opened: list[EncodedWeights] = []
    with held_by_another_process(tmp_path) as holder:
        waiting = threading.Thread(target=lambda: opened.append(load(encoded)))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert encoded == []
        assert holder.stdin is not None
        holder.stdin.close()
        waiting.join(30.0)
        assert not waiting.is_alive()
    assert encoded == list(plans)
    assert opened[0].path.exists()


@pytest.mark.slow
def test_two_sessions_share_a_file(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = np.random.default_rng(5).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with hf.local_session(model, cache=tmp_path) as session:
        assert session.verify(chip, chip).match is True
    (path,) = tmp_path.iterdir()

    def encode(*arguments: Any) -> Any:
        raise AssertionError("encoded again")

    monkeypatch.setattr(weight_cache, "encode_weights", encode)
    with hf.local_session(model, cache=tmp_path) as session:
        assert session.verify(chip, chip).match is True
    assert list(tmp_path.iterdir()) == [path]


def test_where_caches_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_directory() == Path("/x/hybridface")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/nobody")
    assert cache_directory() == Path("/home/nobody/.cache/hybridface")


def test_every_layer_has_its_place(load: Load, model: Model) -> None:
    opened = load()
    assert list(opened._layers) == list(model.graph.linear_layers())
    ends = [offset + 8 * int(np.prod(shape)) for offset, shape in opened._layers.values()]
    starts = [offset for offset, _ in opened._layers.values()]
    assert all(start % weight_cache._ALIGNMENT == 0 for start in starts)
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_the_four_files_used_last_are_kept(load: Load, tmp_path: Path) -> None:
    """Used, not made: opening a file again makes it the newest; other files are let be; who has one open keeps it."""
    mine = load()
    others = [tmp_path / f"{i}.weights" for i in range(4)]
    for age, file in enumerate(others):
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    (tmp_path / "calibration.json").touch()
    os.utime(tmp_path / "calibration.json", (1, 1))
    os.utime(mine.path, (10, 10))
    again = load()
    assert again.path == mine.path
    assert {file.name for file in tmp_path.iterdir()} == {
        *(mine.path.name, "0.weights", "1.weights", "2.weights"),
        "calibration.json",
    }
    os.utime(mine.path, (10, 10))
    others[3].touch()
    weight_cache._forget_old(tmp_path)
    assert sorted(file.name for file in tmp_path.glob("*.weights")) == [f"{i}.weights" for i in range(4)]
    assert mine.polynomials("conv").any()
    encoded: list[str] = []
    load(encoded)
    assert encoded


def test_forgetting_goes_on_where_another_process_forgets_too(tmp_path: Path) -> None:
    for i in range(7):
        (tmp_path / f"{i}.weights").touch()
        os.utime(tmp_path / f"{i}.weights", (100 + i, 100 + i))
    (tmp_path / "gone.weights").symlink_to(tmp_path / "nothing")  # is listed, and is not there
    weight_cache._forget_old(tmp_path)
    assert sorted(file.name for file in tmp_path.glob("[0-9].weights")) == [f"{i}.weights" for i in range(3, 7)]
