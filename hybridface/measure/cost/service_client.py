"""A client of `bench service`, in a process of its own: `python -m hybridface.measure.cost.service_client ...`."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybridface.errors import RunError
from hybridface.folders import temporary_folder
from hybridface.processes.portraits import write_chip
from hybridface.processes.runs import HybridRun
from hybridface.remote.start import RemoteServer
from parties.gallery.errors import QueryRefusedError

__all__ = ["as_arguments", "main", "small_sessions"]

_TINY_SIZE = 16
_TRIES = 60


def as_arguments(server: str, identity: Path, model: str, repeat: int, chips: Sequence[Path]) -> list[str]:
    """Return the arguments of a client that compares two aligned crops in one session."""
    return [server, str(identity), model, str(repeat), *map(str, chips)]


def main(arguments: list[str]) -> int:
    """Run the client; print what it measured as JSON."""
    if len(arguments) == 2:
        return small_sessions(arguments[0], Path(arguments[1]), 1)
    name, identity, model, repeat, *chips = arguments
    run = HybridRun(model=model, photos=tuple(map(Path, chips)), aligned=True, enrolled=True, repeat=int(repeat))
    with RemoteServer(name, Path(identity), _ignore, model=model) as server:
        assert server.model.name == model  # noqa: S101 (loaded before the clock runs)
        began = time.time()
        results = server.start(run).results
        ended = time.time()
    online = [one["cost"]["online"]["elapsed_seconds"] for one in results]
    sys.stdout.write(json.dumps({"began": began, "ended": ended, "online": online}) + "\n")
    return 0


def small_sessions(name: str, identity: Path, count: int) -> int:
    """Run sessions with the tiny network, one after another; return how many failed."""
    failures = 0
    with temporary_folder() as folder:
        chips = np.random.default_rng(1).integers(0, 256, (2, _TINY_SIZE, _TINY_SIZE, 3), dtype=np.uint8)
        photos = tuple(write_chip(folder / f"{number}.png", chip) for number, chip in enumerate(chips))
        run = HybridRun(model="tiny-test", photos=photos, aligned=True)
        for _ in range(count):
            failures += not _done(name, identity, run)
    return failures


def _done(name: str, identity: Path, run: HybridRun) -> bool:
    """Return whether a session succeeds; ask again while the server is busy."""
    for _ in range(_TRIES):
        try:
            with RemoteServer(name, identity, _ignore, model=run.model) as server:
                return len(server.start(run).results) == 1
        except QueryRefusedError:
            time.sleep(0.5)
        except RunError:
            return False
    return False


def _ignore(text: str) -> None:
    """Say nothing: the first use of a network is expected here."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
