"""The training loop: losses go down, and a run that was interrupted ends exactly as one that was not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridface.errors import ModelError
from hybridface.train import loop, student
from support.paths import ROOT
from support.students import COMPONENTS, GRID, OUTPUTS, faces, trainer


def test_a_short_run_lowers_the_losses(examples: loop.Examples) -> None:
    seen: list[float] = []
    run = trainer(60)
    run.run(examples, on_step=lambda step, steps, parts: seen.append(float(parts.total)))
    assert len(seen) == run.step == 60
    assert np.mean(seen[-10:]) < 0.7 * np.mean(seen[:5])


def test_the_rate_rises_and_falls_along_a_cosine() -> None:
    schedule = loop.Schedule(1000, rate=0.5)
    assert schedule.rate_at(0) == pytest.approx(0.005)
    assert schedule.rate_at(49) == pytest.approx(0.25, rel=0.01)
    assert schedule.rate_at(500) == pytest.approx(0.25)
    assert schedule.rate_at(1000) == 0
    rates = [schedule.rate_at(step) for step in range(1001)]
    assert rates[:100] == sorted(rates[:100])
    assert rates[99:] == sorted(rates[99:], reverse=True)


def test_the_optimisers_rate_follows_the_schedule(examples: loop.Examples) -> None:
    run = trainer(5)
    rates: list[set[float]] = []
    run.run(examples, on_step=lambda *_: rates.append({group["lr"] for group in run._optimizer.param_groups}))
    assert rates == [{run.schedule.rate_at(step)} for step in range(5)]


def test_a_resumed_run_ends_exactly_as_an_uninterrupted_one(examples: loop.Examples, tmp_path: Path) -> None:
    through, first, second = trainer(12), trainer(12), trainer(12, seed=3)
    through.run(examples)
    first.run(examples, until=5)
    first.save(tmp_path / "checkpoint", "same")
    second.resume(tmp_path / "checkpoint", "same")
    assert second.step == 5
    second.run(examples)
    for attribute in ("student", "average"):
        expected, got = getattr(through, attribute).state_dict(), getattr(second, attribute).state_dict()
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_checkpoints_of_other_options_are_refused(examples: loop.Examples, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    trainer().save(path, "these")
    with pytest.raises(ModelError, match="written with other options"):
        trainer().resume(path, "those")
    path.write_text("no archive")
    with pytest.raises(ModelError, match="cannot resume from"):
        trainer().resume(path, "these")


def test_a_checkpoint_is_whole_or_the_one_before(
    examples: loop.Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = tmp_path / "checkpoint", trainer(12)
    run.save(path, "same")
    before = path.read_bytes()
    run.run(examples, until=3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parties.machine.durable.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run.save(path, "same")
    assert path.read_bytes() == before


KILLED = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
import test_loop
test_loop.run_and_save_every_step(Path({path!r}))
"""


def run_and_save_every_step(path: Path) -> loop.Trainer:
    """Go on from the checkpoint, if there is one, and save after every step."""
    fitted = student.fit_basis(faces(40), GRID, COMPONENTS)
    targets = torch.randn(40, OUTPUTS, generator=torch.Generator().manual_seed(1))
    run = trainer(25)
    if path.is_file():
        run.resume(path, "same")
    while run.step < 25:
        run.run(loop.Examples(fitted.coefficients(faces(40)), targets), run.step + 1)
        run.save(path, "same")
    return run


@pytest.mark.long
def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    source = KILLED.format(paths=[str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)], path=str(path))
    process = subprocess.Popen([sys.executable, "-c", source])
    while not path.is_file() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    killed = run_and_save_every_step(path).average.state_dict()
    through = run_and_save_every_step(tmp_path / "through").average.state_dict()
    assert all(torch.equal(killed[name], through[name]) for name in through)
