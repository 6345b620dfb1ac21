"""Prepared runs on disk: what is written comes back once, whole, and to whom it belongs."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.prepared import store as prepared
from parties.prepared.store import MAX_DAYS, MAX_KEPT, PreparedStore, binding_of
from protocols.errors import ParameterError

PEER, NUMBER, BINDING = "0" * 32, "1" * 32, binding_of("something")
SERVER = "5" * 32


def arrays() -> dict[str, list[Any]]:
    return {"layer conv": [np.arange(6, dtype=np.uint64).reshape(2, 3)], "correlations 0": [np.zeros(0, np.uint64)] * 2}


def kept(folder: Path, number: str = NUMBER, binding: str = BINDING, age: float = 0.0) -> PreparedStore:
    store = PreparedStore(folder)
    store.make_room(PEER, binding)
    store.write(PEER, number, binding, arrays())
    store.publish(PEER, number)
    os.utime(folder / PEER / f"{number}.ready", (0, time.time() - age))
    return store


def test_what_is_kept_comes_back_once(tmp_path: Path) -> None:
    store = kept(tmp_path)
    assert store.ready(PEER, BINDING) == [NUMBER]
    found = store.take(PEER, NUMBER, BINDING)
    assert found is not None
    assert found.keys() == arrays().keys()
    for name, values in arrays().items():
        assert all((a == b).all() and a.shape == b.shape for a, b in zip(found[name], values, strict=True))
    assert store.take(PEER, NUMBER, BINDING) is None
    assert not list((tmp_path / PEER).iterdir())


def test_only_what_is_published_can_be_used(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path)
    store.write(PEER, NUMBER, BINDING, arrays())
    assert store.ready(PEER, BINDING) == []
    assert store.take(PEER, NUMBER, BINDING) is None
    (part,) = (tmp_path / PEER).iterdir()
    store.clean()
    assert part.exists(), "somebody may be writing it"
    os.utime(part, (0, time.time() - 7200))
    store.clean()
    assert not part.parent.exists()


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    store = kept(tmp_path / "below" / "prepared")
    store.identity()
    store.pairing(SERVER)
    paths = list((tmp_path / "below" / "prepared").rglob("*"))
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o600}
    folders = [tmp_path / "below" / "prepared", *(path for path in paths if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_damage_of_any_bit_is_noticed_and_the_run_is_gone(tmp_path: Path) -> None:
    kept(tmp_path)
    path = tmp_path / PEER / f"{NUMBER}.ready"
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert PreparedStore(tmp_path).take(PEER, NUMBER, BINDING) is None
        assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"noise", b"n" * 200])
def test_other_content_is_noticed(tmp_path: Path, content: bytes) -> None:
    store = kept(tmp_path)
    (tmp_path / PEER / f"{NUMBER}.ready").write_bytes(content)
    assert store.ready(PEER, BINDING) == []
    assert store.take(PEER, NUMBER, BINDING) is None


def test_a_run_of_something_else_is_not_taken(tmp_path: Path) -> None:
    store = kept(tmp_path)
    other = binding_of("something else")
    assert store.ready(PEER, other) == []
    assert store.take(PEER, NUMBER, other) is None


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    old = binding_of("another network")
    numbers = [f"{i:032x}" for i in range(MAX_KEPT)]
    for i, number in enumerate(numbers):
        store = kept(tmp_path, number, BINDING if i % 2 else old, age=1000 - i)
    kept(tmp_path, "f" * 32)
    assert store.ready(PEER, old) == numbers[2::2], "the oldest one of another network made room"
    assert store.ready(PEER, BINDING) == [*numbers[1::2], "f" * 32], "the oldest are used first"
    for i in range(1, MAX_KEPT // 2):
        kept(tmp_path, f"f{i:031x}")
    with pytest.raises(ParameterError, match="at most 100 prepared runs"):
        kept(tmp_path, "e" * 32)
    assert len(store.ready(PEER, BINDING)) == MAX_KEPT


def test_all_peers_share_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "MAX_BYTES", 4000)
    store = kept(tmp_path)
    with pytest.raises(ParameterError, match="expected at most 0 GiB of prepared runs"):
        for i in range(10):
            store.make_room(f"{i:032x}", BINDING)
            store.write(f"{i:032x}", NUMBER, BINDING, arrays())
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) < 6000


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    day = 86400.0
    kept(tmp_path, "1" * 32, age=(MAX_DAYS + 1) * day)
    store = kept(tmp_path, "2" * 32, age=(MAX_DAYS - 1) * day)
    pairing = store.pairing(SERVER)
    os.utime(tmp_path / SERVER / "pairing", (0, 0))
    store.clean()
    assert store.ready(PEER, BINDING) == ["2" * 32]
    assert store.pairing(SERVER) == pairing, "that stays"


OTHERS = [
    "Pictures/wedding.jpg",
    "identity.part",
    f"{NUMBER}.part",
    f"{PEER}/wedding.jpg",
    f"{PEER}/wedding.used",
    f"{PEER}/{NUMBER}",
    f"{PEER}/{NUMBER}.jpg",
    f"{PEER}/{NUMBER}.ready.part",
    f"{PEER}/pairing.old.part",
    f"{PEER}/{NUMBER}.ready/wedding.jpg",
    f"{PEER}/{NUMBER}.used/{NUMBER}.used",
    f"notes/{NUMBER}.ready",
]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_ours_stays(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"theirs")
    left = tmp_path / ("2" * 32) / f"{NUMBER}.used"
    left.parent.mkdir()
    left.touch()
    for one in (path, path.parent):
        os.utime(one, (0, 0))
    store = PreparedStore(tmp_path)
    store.clean()
    assert path.read_bytes() == b"theirs"
    assert not left.parent.exists(), "what is ours goes all the same"
    assert store.ready(PEER, "") == []


@pytest.mark.parametrize("name", [f"{NUMBER}.used", f"{NUMBER}.part", f"pairing.{'a' * 16}.part"])
def test_what_crashes_left_goes(tmp_path: Path, name: str) -> None:
    (tmp_path / PEER).mkdir()
    (tmp_path / PEER / name).touch()
    os.utime(tmp_path / PEER / name, (0, 0))
    PreparedStore(tmp_path).clean()
    assert not list(tmp_path.iterdir())


def test_folders_under_names_of_ours_count_for_nothing(tmp_path: Path) -> None:
    for number in (f"{i:032x}" for i in range(MAX_KEPT + 1)):
        (tmp_path / PEER / f"{number}.ready").mkdir(parents=True)
    store = PreparedStore(tmp_path)
    store.make_room(PEER, BINDING)
    assert store.take(PEER, "0" * 32, BINDING) is None


@pytest.mark.parametrize("method", ["listdir", "rmdir", "unlink", "open"])
def test_a_folder_that_cannot_be_cleaned_is_left_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    kept(tmp_path, age=MAX_DAYS * 2 * 86400.0)
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        patch.setattr(os, method, fail)
        PreparedStore(tmp_path).clean()
    PreparedStore(tmp_path).clean()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", ["", "../" + "0" * 29, "A" * 32, "0" * 31, "0" * 33])
def test_numbers_that_are_none_touch_no_file(tmp_path: Path, number: str) -> None:
    store = PreparedStore(tmp_path)
    calls = [lambda: store.take(PEER, number, BINDING), lambda: store.ready(number, BINDING)]
    calls += [lambda: store.pairing(number), lambda: store.write(number, NUMBER, BINDING, arrays())]
    for call in calls:
        with pytest.raises(ParameterError, match="32 hexadecimal digits"):
            call()
    assert not list(tmp_path.iterdir())


def test_an_identity_and_a_pairing_for_each_server_are_drawn_once(tmp_path: Path) -> None:
    stores = [PreparedStore(tmp_path), PreparedStore(tmp_path)]
    drawn = [
        {store.identity() for store in stores},
        *({store.pairing(number * 32) for store in stores} for number in "12"),
    ]
    assert [len(numbers) for numbers in drawn] == [1, 1, 1]
    assert len(set.union(*drawn)) == 3
    assert not list(tmp_path.rglob("*.part"))
    (tmp_path / "identity").write_text("nonsense")
    with pytest.raises(ParameterError, match=r"identity: expected 32 hexadecimal digits, got 'nonsense'"):
        stores[0].identity()


@pytest.mark.parametrize("cleaned", [False, True])
def test_processes_that_share_a_folder(tmp_path: Path, cleaned: bool) -> None:
    """Each run is had by one of them, however their steps interleave, and none of them fails."""
    had: list[str] = []

    def work(own: int) -> None:
        store = PreparedStore(tmp_path)
        for i in range(40):
            number = f"{own:016x}{i:016x}"
            if cleaned:
                store.clean()
                assert len(store.pairing(f"{own:032x}")) == 32
            store.make_room(PEER, BINDING)
            store.write(PEER, number, BINDING, arrays())
            store.publish(PEER, number)
            for other in store.ready(PEER, BINDING)[:2]:
                if store.take(PEER, other, BINDING) is not None:
                    had.append(other)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(had) == len(set(had)) > 100


def test_a_run_that_is_being_taken_is_not_cleaned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_CLEAN_SECONDS", 0.0)
    store, read = kept(tmp_path), prepared._read

    def clean_meanwhile(path: Path, binding: str) -> Any:
        PreparedStore(tmp_path).clean()
        return read(path, binding)

    monkeypatch.setattr(prepared, "_read", clean_meanwhile)
    assert store.take(PEER, NUMBER, BINDING) is not None


@pytest.mark.parametrize("name", [f"{NUMBER}.ready", "pairing"])
def test_a_pipe_under_a_files_name_is_not_waited_for(tmp_path: Path, name: str) -> None:
    store = PreparedStore(tmp_path)
    (tmp_path / PEER).mkdir()
    os.mkfifo(tmp_path / PEER / name)
    assert store.ready(PEER, BINDING) == []
    assert store.take(PEER, NUMBER, BINDING) is None
    if name == "pairing":
        with pytest.raises(OSError, match="expected a plain file"):
            store.pairing(PEER)
