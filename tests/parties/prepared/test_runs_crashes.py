"""Prepared runs when parties die: before any step on files, nothing is used twice, and no answer is wrong."""

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from hybridface.models.model import Model
from parties.prepared import store as prepared
from parties.session.correlations import Correlations
from protocols.errors import PeerLostError
from support.helpers import Chip
from support.prepared_runs import expected, runs, session


@pytest.fixture
def pair(model: Model, chips: Chip) -> Any:
    """One photo twice: the same person, unless the two parties compute with masks that are out of step."""
    return np.stack([model.normalise(chip) for chip in (chips[0], chips[0])])


STEPS = ((os, "rename"), (os, "link"), (os, "fsync"), (os, "open"), (Path, "unlink"), (Path, "mkdir"))
"""What changes the folders, or what of them is on the disk; and `_read`, which is noted."""


@contextmanager
def counting(folder: Path, before: Callable[[], None]) -> Iterator[None]:
    """Call something before every step on files, and note in a journal every run that is read."""

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            before()
            return function(*arguments, **options)

        return call

    def noted(path: Path, binding: str) -> Any:
        with (folder / "journal").open("a") as journal:
            journal.write(f"{path.parent.parent.name} {path.stem}\n")
        return read(path, binding)

    read = prepared._read
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(prepared, "_read", counted(noted)))
        for place, name in STEPS:
            stack.enter_context(mock.patch.object(place, name, counted(getattr(place, name))))
        yield


def use(folder: Path, model: Model, what: str, pair: Any, match: bool) -> None:
    """Keep two runs, or use two."""
    with session(folder, model, Correlations.DEALER) as client:
        for _ in range(2):
            if what == "keep":
                client.save_prepared(2, 1)
            else:
                assert client.verify_pair(pair).match == match


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


def killed(step: int, *arguments: Any) -> None:
    """Work until a step of either party, and kill this process before it."""
    left = itertools.count(step, -1)

    def before() -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with counting(arguments[0], before):
        use(*arguments)


def check_once(folder: Path, step: int) -> None:
    """Look that nobody has read one run twice, and that nothing is left."""
    journal = folder / "journal"
    read = journal.read_text().splitlines() if journal.exists() else []
    assert len(read) == len(set(read)), f"step {step}: {read}"
    left = [path for path in runs(folder) if path.suffix != ".part"]
    assert not left, f"step {step}: {left}"


@pytest.mark.parametrize("what", ["keep", "use"])
def test_a_kill_at_any_step_never_brings_a_run_back(tmp_path: Path, model: Model, pair: Any, what: str) -> None:
    """Kill both parties before every step on files, then use what is left."""
    status, step, match = -signal.SIGKILL, 0, expected(model, pair)  # here: torch's threads do not outlive a fork
    while status:
        folder = tmp_path / str(step)
        folder.mkdir()
        if what == "use":
            use(folder, model, "keep", pair, match)
        status = in_a_process(partial(killed, step, folder, model, what, pair, match))
        assert status in (0, -signal.SIGKILL)
        killed(-1, folder, model, "use", pair, match)
        check_once(folder, step)
        shutil.rmtree(folder)
        step += 1
    assert step > 10


class Crash(BaseException):
    """A party is gone: it does not even do what lies in its `finally`."""


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("what", ["keep", "use"])
def test_a_crash_of_one_party_at_any_step(tmp_path: Path, model: Model, pair: Any, side: str, what: str) -> None:
    """Stop one party alone before each of its steps on files; what is left is used once, and gives right answers."""
    crashed, step, match = True, 0, expected(model, pair)
    while crashed:
        folder = tmp_path / str(step)
        folder.mkdir()
        if what == "use":
            use(folder, model, "keep", pair, match)
        left, crashed = step, False

        def before() -> None:
            nonlocal left, crashed
            if (threading.current_thread() is threading.main_thread()) == (side == "client"):
                left -= 1
                if left < 0:
                    crashed = True
                    raise Crash

        with counting(folder, before), suppress(Crash, PeerLostError):
            use(folder, model, what, pair, match)
        with counting(folder, lambda: None):
            use(folder, model, "use", pair, match)
        check_once(folder, step)
        step += 1
    assert step > 4
