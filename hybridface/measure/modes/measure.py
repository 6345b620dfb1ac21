"""The measurement: every way, over every network, round after round, so that a busy minute of the machine hits all."""

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
"""Called before each step with what it is, the number of steps done, and of all that are planned."""

COMPUTED, MEASURED, FAILED = "computed", "measured", "failed"


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Args:
        photos: the photo, and the one that is enrolled; each with one face.
        links: over which.
        rounds: how often every way is started.
        verifications: of each start, after an enrolment.
        timeout: seconds that a process waits for another.

    Raises:
        ParameterError: no network, or one of them twice; no round or verification.
    """

    photos: tuple[Path, Path]
    links: tuple[Link, ...]
    rounds: int = 3
    verifications: int = 3
    timeout: float = 300.0

    def __post_init__(self) -> None:
        names = [link.name for link in self.links]
        if not names or len(set(names)) < len(names):
            raise ParameterError(f"expected networks, each once, got {', '.join(names) or 'none at all'}")
        if min(self.rounds, self.verifications) < 1:
            raise ParameterError(f"expected at least 1 round and verification, got {self.rounds}, {self.verifications}")


@dataclass
class Measurement:
    """What was measured of one way over one network.

    Args:
        status: "measured"; "computed" from a measurement without a network; "failed".
        sessions: one for each round.
        setups: by round; none where there are no keys.
        reason: why it failed, on one line.
    """

    way: Way
    link: Link
    status: str = MEASURED
    sessions: list[Session] = field(default_factory=list)
    setups: list[Setup] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True)
class _Step:
    """One start of a way, and the networks that it is for."""

    way: Way
    link: Link
    results: tuple[Measurement, ...]

    @property
    def name(self) -> str:
        over = "" if self.link is NONE else f" over {self.link.name}"
        return self.way.name + over


def measure_modes(settings: Settings, on_step: OnStep | None = None, ways: Sequence[Way] = WAYS) -> list[Measurement]:
    """Measure all ways. What fails is not tried again, and says why; the others go on.

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
    """Return the steps of all rounds. A way that cannot simulate networks is started once a round, for all of them."""
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
