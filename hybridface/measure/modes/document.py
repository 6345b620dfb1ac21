"""Return the measurements as one JSON object: all samples, their medians, the settings and the machine."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

from rich.table import Table

from hybridface.measure.modes.accuracy import KnownAccuracy
from hybridface.measure.modes.measure import Measurement, Settings
from hybridface.measure.modes.published import PUBLISHED
from hybridface.measure.modes.samples import Sample
from hybridface.measure.modes.ways import PRIVACY
from hybridface.measure.peers.report import machine
from parties.session.cost import OFFLINE, ONLINE
from protocols.link import Link

__all__ = ["FORMAT", "modes_document", "modes_table"]

FORMAT = 1
"""The version of the document's format."""

_TRAFFIC = ("bytes_up", "bytes_down", "dealer_bytes", "rounds")
_SYSTEM = "system"


def modes_document(
    measurements: Sequence[Measurement], settings: Settings, accuracy: Sequence[KnownAccuracy], command: str
) -> dict[str, Any]:
    """Return a JSON object with medians, minima, maxima and every single sample, in seconds and bytes.

    Args:
        command: the command line to show, without paths.
    """
    found = machine()
    document = {
        "format": FORMAT,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "machine": {key: value for key, value in found.items() if key != _SYSTEM},
        "photos": [photo.name for photo in settings.photos],
        "rounds": settings.rounds,
        "verifications": settings.verifications,
        "links": [_link(link) for link in settings.links],
        "measurements": [_measurement(measurement) for measurement in measurements],
        "privacy": {mode.value: asdict(text) for mode, text in PRIVACY.items()},
        "accuracy": [asdict(entry) for entry in accuracy],
        "published": [asdict(row) for row in PUBLISHED],
    }
    return dict(json.loads(json.dumps(document, allow_nan=False)))  # the object as a reader of the file will find it


def modes_table(document: dict[str, Any]) -> Table:
    """Return a result of `modes_document` as a table."""
    caption = "medians; MB = 10^6 bytes, all directions, online and offline together; ~ computed, not measured"
    table = Table(title=_title(document), caption=caption, box=None)
    for column in ("link", "mode", "online s", "offline s", "MB", "rounds", "opens"):
        table.add_column(column, justify="left" if column in ("link", "mode", "opens") else "right")
    for link in document["links"]:
        rows = [row for row in document["measurements"] if row["link"] == link["name"]]
        for index, row in enumerate(rows):
            table.add_row(link["name"] if index == 0 else "", f"{row['mode']}, {row['model']}", *_cells(row, document))
        table.add_section()
    return table


def _title(document: dict[str, Any]) -> str:
    each = f"{document['rounds']} x {document['verifications']} verifications"
    return f"One photo against an enrolled template, every mode, {each}"


def _cells(row: dict[str, Any], document: dict[str, Any]) -> list[str]:
    opens = document["privacy"][row["mode"]]["opens"]
    figures = row["figures"]
    if not figures:
        return ["", "", "", "", f"failed: {row['reason']}"]
    mark = "~" if row["status"] == "computed" else ""
    size = sum(figures[phase][key]["median"] for phase in (ONLINE, OFFLINE) for key in _TRAFFIC[:3])
    medians = [figures[phase]["seconds"]["median"] for phase in (ONLINE, OFFLINE)]
    seconds = [f"{mark}{value:.3g}" if value else "-" for value in medians]
    return [*seconds, f"{size / 1e6:.3g}", f"{figures[ONLINE]['rounds']['median']:g}", opens]


def _link(link: Link) -> dict[str, Any]:
    return {
        "name": link.name,
        "megabits_per_second": link.bits_per_second / 1e6 if link.shapes else None,
        "one_way_delay_ms": link.delay_seconds * 1e3,
    }


def _measurement(measurement: Measurement) -> dict[str, Any]:
    samples = [sample for session in measurement.sessions for sample in session.samples]
    roles = sorted({role for session in measurement.sessions for role in session.memory})
    memory = {role: max(s.memory.get(role, 0) for s in measurement.sessions) for role in roles}
    return {
        "mode": measurement.way.mode.value,
        "model": measurement.way.model,
        "link": measurement.link.name,
        "status": measurement.status,
        "reason": measurement.reason,
        "figures": {phase: _figures(samples, phase) for phase in (ONLINE, OFFLINE)} if samples else None,
        "stages": [stage for phase in (ONLINE, OFFLINE) for stage in _middle_stages(samples, phase)],
        "peak_bytes": memory,
        "setup": _setup(measurement),
        "samples": [asdict(sample) for sample in samples],
    }


def _figures(samples: Sequence[Sample], phase: str) -> dict[str, dict[str, float]]:
    def spread(value: Callable[[Sample], float]) -> dict[str, float]:
        values = [value(sample) for sample in samples]
        return {"median": median(values), "min": min(values), "max": max(values)}

    rows = {"seconds": spread(lambda sample: sample.seconds(phase))}
    for key in _TRAFFIC:
        rows[key] = spread(lambda sample, key=key: getattr(getattr(sample, phase), key))  # type: ignore[misc]
    return rows


def _middle_stages(samples: Sequence[Sample], phase: str) -> list[dict[str, Any]]:
    """Return the stages of a phase, in the proportions of the median sample, scaled to the median seconds.

    With an even number of samples, this is the lower of the two samples in the middle.
    """
    ordered = sorted(samples, key=lambda sample: sample.seconds(phase))
    if not ordered:
        return []
    middle = ordered[(len(ordered) - 1) // 2]
    own = middle.seconds(phase)
    scale = median(sample.seconds(phase) for sample in samples) / own if own > 0 else 1.0
    return [asdict(replace(s, seconds=s.seconds * scale)) for s in middle.stages if s.phase == phase]


def _setup(measurement: Measurement) -> dict[str, float] | None:
    """Return the medians of the work that a client and the server do once; None if there is none."""
    setups = measurement.setups
    if not setups:
        return None
    return {key: median(getattr(setup, key) for setup in setups) for key in ("seconds", "bytes_up", "bytes_down")}
