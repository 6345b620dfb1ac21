"""Train a student: AdamW on a cosine schedule, a running average of the weights, and checkpoints.

A step depends only on the state and on (seed, step). So a run that stops and resumes ends exactly where an
uninterrupted run ends.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridface.errors import ModelError
from hybridface.train.losses import Losses, distillation
from hybridface.train.student import PatchStudent
from parties.machine.arrays import digested, read_arrays
from parties.machine.durable import replaced
from parties.machine.plain_files import read_plain

__all__ = ["Examples", "Schedule", "Trainer"]

_AVERAGE, _WARM_UP, _CLIP = 0.998, 100, 1.0
_MAX_BYTES = 4 << 30  # of a checkpoint

OnStep = Callable[[int, int, Losses], None]


@dataclass(frozen=True)
class Examples:
    """The examples that a student learns from.

    Args:
        coefficients: bfloat16 tensor (n, P, components).
        targets: float32 tensor (n, d); each row has a length of about 1.
    """

    coefficients: Any
    targets: Any


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a student learns.

    Args:
        steps: the number of steps, each of one batch.
        batch: the number of examples in a step, drawn with replacement.
        rate: the learning rate after a warm-up; it falls to 0 along a cosine.
        decay: the weight decay of the maps.
        seed: the seed of the draws.
    """

    steps: int
    batch: int = 256
    rate: float = 1e-3
    decay: float = 0.05
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.rate * min(1.0, (step + 1) / _WARM_UP) * (1 + math.cos(math.pi * step / self.steps)) / 2


class Trainer:
    """Trains a student. Holds the student, the average of its weights, the optimiser and the number of steps done.

    Args:
        student: a student on the CPU; the trainer changes it in place.
        average: another student of the same shape; the trainer overwrites it with the student's weights.
        schedule: how long and how fast to train.
        device: torch's device.
    """

    def __init__(self, student: PatchStudent, average: PatchStudent, schedule: Schedule, device: str = "cpu") -> None:
        self.student, self.average = student.to(device), average.to(device).eval()
        self.average.load_state_dict(student.state_dict())
        self.schedule, self.step, self._device = schedule, 0, device
        self._optimizer = torch.optim.AdamW(student.groups(schedule.decay), lr=schedule.rate, betas=(0.9, 0.99))

    def run(self, examples: Examples, until: int | None = None, on_step: OnStep | None = None) -> None:
        """Train up to the schedule's end, or up to the step `until` if that is earlier.

        Args:
            on_step: called after each step with the number of steps done, the number of all steps, and the losses.
        """
        last = self.schedule.steps if until is None else min(until, self.schedule.steps)
        self.student.train()
        while self.step < last:
            losses = self._train_step(examples)
            self.step += 1
            self._follow()
            if on_step:
                on_step(self.step, self.schedule.steps, losses)

    def save(self, path: Path, fingerprint: str) -> None:
        """Write a checkpoint with everything that `resume` needs. Never leave half a file under that name.

        Args:
            fingerprint: the fingerprint of the options; `resume` must be called with the same one.
        """
        arrays: dict[str, Any] = {"step": np.array(self.step), "fingerprint": np.array(fingerprint)}
        for prefix, values in self._state().items():
            arrays |= {f"{prefix}/{name}": value.detach().cpu().numpy() for name, value in values.items()}
        with replaced(path) as file:
            np.savez(file, **digested(arrays))  # type: ignore[arg-type]

    def resume(self, path: Path, fingerprint: str) -> None:
        """Continue from a checkpoint.

        Raises:
            ModelError: the checkpoint cannot be read, or was written with other options.
        """
        try:
            arrays = read_arrays(read_plain(path, _MAX_BYTES))
            if str(arrays["fingerprint"]) != fingerprint:
                raise ModelError(f"cannot resume from {path}: it was written with other options or photos")
            self.step = int(arrays["step"])
            if self.step:
                self._optimizer_state()  # create the state, so that it can be filled below
            with torch.no_grad():
                for prefix, values in self._state().items():
                    for name, value in values.items():
                        value.copy_(torch.from_numpy(arrays[f"{prefix}/{name}"]))
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise ModelError(f"cannot resume from {path}: {error}") from error

    def _train_step(self, examples: Examples) -> Losses:
        random = np.random.default_rng([self.schedule.seed, self.step])
        rows = torch.from_numpy(random.integers(0, len(examples.targets), self.schedule.batch))
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(self.step)
        inputs = examples.coefficients[rows].to(self._device).float()
        embeddings, before_squares = self.student(inputs)
        losses = distillation(embeddings, before_squares, examples.targets[rows].to(self._device))
        self._optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), _CLIP)
        self._optimizer.step()
        return Losses(**{name: value.detach() for name, value in vars(losses).items()})

    def _follow(self) -> None:
        """Move the average towards the student's weights, faster during the first steps."""
        keep = min(_AVERAGE, self.step / (self.step + 20))
        with torch.no_grad():
            pairs = zip(self.average.state_dict().values(), self.student.state_dict().values(), strict=True)
            for mean, value in pairs:
                if value.dtype.is_floating_point:
                    mean.lerp_(value, 1 - keep)
                else:
                    mean.copy_(value)

    def _state(self) -> dict[str, dict[str, Any]]:
        """Return every tensor that a step reads, by name."""
        return {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer_state() if self.step else {},
        }

    def _optimizer_state(self) -> dict[str, Any]:
        """Return AdamW's moments and step counts. Create them if no step has been done yet."""
        tensors: dict[str, Any] = {}
        for number, parameter in enumerate(p for group in self._optimizer.param_groups for p in group["params"]):
            state = self._optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            tensors |= {f"{number}/{name}": value for name, value in state.items()}
        return tensors
