"""What the ranks of a run have said, collected."""

from dataclasses import dataclass, field

from hybridface.output.terminal import Event

__all__ = ["Outcome"]


@dataclass
class Outcome:
    """What the ranks said.

    Args:
        results: the client's, in order, as JSON objects.
        decision: what was revealed to the server, if anything: of a gallery, whether it found anybody, or the claimed
            identity.
        memory: peak bytes of each role (of workers, the largest).
        resident: bytes of client and server after every operation.
        answers: of a gallery's client, one a task.
        setup: what the session's keys cost, as a stage's cost; in hybrid mode only of a session that enrols.
        found: whom an identification has found, if that was revealed to the server; Nones for those above the
            threshold.
        kept: what preparing each run cost that was kept.
    """

    results: list[Event] = field(default_factory=list)
    decision: bool | None = None
    memory: dict[str, int] = field(default_factory=dict)
    resident: dict[str, list[int]] = field(default_factory=dict)
    answers: list[Event] = field(default_factory=list)
    setup: Event | None = None
    found: tuple[str | None, ...] | None = None
    kept: list[Event] = field(default_factory=list)

    @property
    def match(self) -> bool | None:
        """The decision, by whoever learned it."""
        match = self.results[-1]["match"] if self.results else None
        return self.decision if match is None else bool(match)
