"""Measurements that nobody made, for tests of the report: every way over some networks, with numbers by a seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridface.measure.modes import Settings, modes_document
from hybridface.measure.modes.accuracy import KnownAccuracy
from hybridface.measure.modes.measure import Measurement
from hybridface.measure.modes.samples import Sample, Session, Setup, Stage, Traffic, WorkKind, summed
from hybridface.measure.modes.ways import WAYS
from protocols.link import LINKS, Link

KNOWN = (
    KnownAccuracy("plain", "dlib-resnet29", 4800, 0.9867, 0.0021),
    KnownAccuracy("emulated", "dlib-resnet29", 4800, 0.9866, 0.0021, 0),
    KnownAccuracy("plain", "patchnet", 1200, 0.889, 0.009),
    KnownAccuracy("pure-he", "patchnet", 50, None, None, 0),
)


def settings(links: Sequence[str] = tuple(LINKS), photos: tuple[str, str] = ("a.jpg", "b.jpg")) -> Settings:
    links = tuple(LINKS[name] for name in links)
    return Settings((Path(photos[0]), Path(photos[1])), links, rounds=2, verifications=2)


def measurements(chosen: Settings, seed: int = 0, scale: float = 1.0, bytes_scale: float = 1.0) -> list[Measurement]:
    """Return measurements of all ways; with a scale of zero nothing takes time, or nothing is sent."""
    random = np.random.default_rng(seed)
    return [_measurement(way, link, random, scale, bytes_scale) for link in chosen.links for way in WAYS]


def document(
    links: Sequence[str] = tuple(LINKS),
    known: Sequence[KnownAccuracy] = KNOWN,
    command: str = "hybridface",
    **how: Any,
) -> dict[str, Any]:
    """Return a document of measurements that nobody made."""
    chosen = settings(links)
    return modes_document(measurements(chosen, **how), chosen, known, command)


def _measurement(way: Any, link: Link, random: np.random.Generator, scale: float, bytes_scale: float) -> Measurement:
    def sample() -> Sample:
        stages = [
            Stage(phase, kind, scale * float(random.exponential(0.3)))
            for phase, kinds in (("online", list(WorkKind)), ("offline", list(WorkKind)[:2]))
            for kind in kinds
            if random.random() < 0.6
        ]
        sent = (bytes_scale * 10 ** random.uniform(1, 8, 6)).astype(int).tolist()
        rounds = int(random.integers(0, 300))
        return Sample(True, summed(stages), Traffic(*sent[:3], rounds), Traffic(*sent[3:], rounds))

    computed = link.shapes and not way.simulated
    sessions = [
        Session(
            (sample(), sample()), {"client": 2**28 + index, "server": 2**29}, Setup(scale, int(bytes_scale * 1e6), 25)
        )
        for index in range(2)
    ]
    setups = [session.setup for session in sessions if session.setup]
    return Measurement(way, link, "computed" if computed else "measured", sessions, setups)
