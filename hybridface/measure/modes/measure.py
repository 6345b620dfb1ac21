"""Measure every way over every link, pass after pass, so that a busy minute of the machine affects all of them.

In this module, a *round* is such a pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybridface.measure.modes.samples import Session, Setup, over_network
from hybridface.measure.modes.sessions import start_session
from hybridface.measure.modes.ways import WAYS, Way
from hybridface.measure.peers import PeerTask, make_task
from hybridface.models.model import load_model
from protocols.errors import HybridFaceError, ParameterError
from protocols.link import NONE, Link

__all__ = ["MEASURED", "Measurement", "OnStep", "Settings", "measure_modes"]

OnStep = Callable[[str, int, int], None]
"""Called before each step with its name, the number of steps done, and the number of steps planned."""

COMPUTED, MEASURED, FAILED = "computed", "measured", "failed"


@dataclass(frozen=True)
class Settings:
    """The settings of a measurement.

    Args:
        photos: the photo to verify, and the photo that is enrolled; each with one face.
        links: the links over which to measure.
        rounds: how often every way is started.
        verifications: the number of verifications after each start and enrolment.
        timeout: seconds that a process waits for another.

    Raises:
        ParameterError: there is no link, a link is given twice, or there is no round or no verification.
    """

    photos: tuple[Path, Path]
    links: tuple[Link, ...]
    rounds: int = 3
    verifications: int = 3
    timeout: float = 300.0

    def __post_init__(self) -> None:
        names = [link.name for link in self.links]
        if not names or len(set(names)) < len(names):
            raise ParameterError(f"expected links, each once, got {', '.join(names) or 'none'}")
        if min(self.rounds, self.verifications) < 1:
            raise ParameterError(f"expected at least 1 round and verification, got {self.rounds}, {self.verifications}")


@dataclass
class Measurement:
    """The measurements of one way over one link.

    Args:
        status: "measured"; "computed", from a measurement without a link; or "failed".
        sessions: one session for each round.
        setups: the cost of the keys, by round; empty if there are no keys.
        reason: why the way failed, on one line; None if it did not.
    """

    way: Way
    link: Link
    status: str = MEASURED
    sessions: list[Session] = field(default_factory=list)
    setups: list[Setup] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True)
class _Step:
    """One start of a way over a link, and the measurements that use its session."""

    way: Way
    link: Link
    results: tuple[Measurement, ...]

    @property
    def name(self) -> str:
        over = "" if self.link is NONE else f" over {self.link.name}"
        return self.way.name + over


def measure_modes(settings: Settings, on_step: OnStep | None = None, ways: Sequence[Way] = WAYS) -> list[Measurement]:
    """Measure all ways. A way that fails over a link is not tried again over it, and says why; the others go on.

    Raises:
        ImageError: a photo is unreadable, or does not show exactly one face.
    """
    tasks = {name: make_task(load_model(name), settings.photos) for name in sorted({way.model for way in ways})}
    measurements = [Measurement(way, link) for link in settings.links for way in ways]
    plan = _plan(settings, measurements)
    for index, step in enumerate(plan):
        if on_step:
            on_step(step.name, index, len(plan))
        if all(result.status != FAILED for result in step.results):
            _run(step, tasks[step.way.model], settings)
    return measurements


def _plan(settings: Settings, measurements: Sequence[Measurement]) -> list[_Step]:
    """Return the steps of all rounds. A way that cannot simulate links starts once per round, for all links."""
    steps = []
    for _ in range(settings.rounds):
        seen: set[Way] = set()
        for measurement in measurements:
            way, link = measurement.way, measurement.link
            if way.simulated:
                steps.append(_Step(way, link, (measurement,)))
            elif way not in seen:
                seen.add(way)
                results = tuple(other for other in measurements if other.way == way)
                steps.append(_Step(way, NONE, results))
    return steps


def _run(step: _Step, task: PeerTask, settings: Settings) -> None:
    try:
        session = start_session(step.way, task, settings.verifications, step.link, settings.timeout)
    except HybridFaceError as error:
        for result in step.results:
            result.status, result.reason = FAILED, str(error)
        return
    for result in step.results:
        computed = result.link.shapes and not step.way.simulated
        result.status = COMPUTED if computed else MEASURED
        result.sessions.append(over_network(session, result.link) if computed else session)
        result.setups += [] if session.setup is None else [session.setup]
