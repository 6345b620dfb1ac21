"""Sessions that keep prepared runs, or use them, to be recorded: both parties in one process, each with its folder."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from hybridface.models.model import Model, load_model
from parties.prepared import store
from parties.session.correlations import Correlations
from support.crashes.record import mark
from support.prepared_runs import session

__all__ = ["main", "photo_twice", "use"]


def photo_twice(model: Model) -> Any:
    """One photo twice: the same person, unless the two parties compute with masks that are out of step."""
    chip = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return np.stack([model.normalise(chip)] * 2)


def use(folder: Path, model: Model, what: str, pair: Any, match: bool) -> None:
    """Keep two runs, or use two."""
    with session(folder, model, Correlations.DEALER) as client:
        for _ in range(2):
            if what == "keep":
                client.save_prepared(2, 1)
            else:
                assert client.verify_pair(pair).match == match


def main(folder: Path, what: str) -> None:
    """Keep two runs, or use two, and mark every run that is read."""
    read = store._read

    def marked(path: Path, binding: str) -> Any:
        mark(f"read {path.relative_to(folder).with_suffix('')}")
        return read(path, binding)

    model = load_model("tiny-test")
    with mock.patch.object(store, "_read", marked):
        use(folder, model, what, photo_twice(model), True)
    mark("done")
