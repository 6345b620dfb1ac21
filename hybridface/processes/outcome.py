"""The outcome of a run: everything that its ranks have reported."""

from dataclasses import dataclass, field

from hybridface.output.terminal import Event

__all__ = ["Outcome"]


@dataclass
class Outcome:
    """What the ranks of a run have reported.

    Args:
        results: the client's results in order, as JSON objects.
        decision: the decision, if it was revealed to the server. For a gallery: whether the query found anybody, or
            confirmed the claimed identity.
        memory: peak bytes of each role (for workers, the largest peak).
        resident: resident bytes of client and server after every operation.
        answers: the answers of a gallery's client, one per task.
        setup: cost of the session's keys, as a stage's cost; in hybrid mode only for a session that enrols.
        found: the people that an identification has found, if that was revealed to the server; None for each person
            above the threshold.
        kept: cost of preparing each run that was kept.
    """

    results: list[Event] = field(default_factory=list)
    decision: bool | None = None
    memory: dict[str, int] = field(default_factory=dict)
    resident: dict[str, list[int]] = field(default_factory=dict)
    answers: list[Event] = field(default_factory=list)
    setup: Event | None = None
    found: tuple[str | None, ...] | None = None
    kept: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take what an event reports."""
        said = {key: value for key, value in event.items() if key != "event"}
        match event["event"]:
            case "result":
                self.results.append(said)
            case "answer":
                self.answers.append(said)
            case "kept":
                self.kept.append(said)
            case "setup":
                self.setup = said
            case "decision":
                self.decision = bool(event["match"])
            case "identified":
                self.found = tuple(event["identities"])
                self.decision = any(name is not None for name in self.found)
            case "memory":
                role, peak = event["role"], int(event["peak_bytes"])
                self.memory[role] = max(peak, self.memory.get(role, 0))
            case "resident":
                self.resident.setdefault(event["role"], []).append(int(event["bytes"]))

    @property
    def match(self) -> bool | None:
        """The decision, from the party that learned it."""
        match = self.results[-1]["match"] if self.results else None
        return self.decision if match is None else bool(match)
