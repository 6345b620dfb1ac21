"""The real protocol on some pairs, in this process: one photo is enrolled, the other verified against it.

Both parties are here, so that an enrolled template's two shares can be added, to compare them with the emulator; no
message of the protocol does that. Of the scores that a pure-HE session gives, only the relative error is kept.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hybridface.local.session import LocalSession, local_session
from hybridface.models.model import Model
from hybridface.modes import Mode
from protocols.arithmetic.fixed_point import decode

__all__ = ["ANSWERS", "FaceSession", "OpenSession", "SessionPair", "open_session", "run_pairs"]

ANSWERS = 50
"""Scores that one pure-HE session gives; for more pairs, a new one is opened."""

Chip = NDArray[np.uint8]


class FaceSession(Protocol):
    """What this module needs of a session, in either mode."""

    def enroll(self, photo: Chip, name: str | None = None, aligned: bool = False) -> Any:
        """Leave a chip's template with the server; what is returned names it."""

    def verify(self, first: Chip, second: Any, aligned: bool = False) -> Any:
        """Compare a chip with a template: a result with `match`, and in pure-HE mode `squared_distance`."""


OpenSession = Callable[[Model, Mode], AbstractContextManager[FaceSession]]


@dataclass(frozen=True)
class SessionPair:
    """What a pair is compared by, and with.

    Args:
        chips: the first photo's, which is enrolled, and the second's.
        embedding: (d,) the first photo's, by the reference: the emulator, or for pure HE the network in float64.
        squared_distance: of both, by the reference.
    """

    chips: tuple[Chip, Chip]
    embedding: NDArray[np.float64]
    squared_distance: float


def open_session(model: Model, mode: Mode) -> AbstractContextManager[FaceSession]:
    """Return a session of a mode."""
    session: AbstractContextManager[FaceSession] = local_session(model, mode)
    return session


def run_pairs(
    pairs: Sequence[SessionPair], model: Model, mode: Mode, opener: OpenSession, on_result: Callable[[int, Any], None]
) -> None:
    """Run pairs through the protocol, in order.

    Args:
        on_result: called after each with its place and a row of `match`, whether the protocol says that it is one
            person, and `error`: in the hybrid the largest difference of an element of the enrolled embedding, in
            pure HE the relative error of the squared distance, to two digits.
    """
    for start in range(0, len(pairs), ANSWERS):
        with opener(model, mode) as session:
            for place in range(start, min(start + ANSWERS, len(pairs))):
                pair = pairs[place]
                template = session.enroll(pair.chips[0], aligned=True)
                result = session.verify(pair.chips[1], template, aligned=True)
                on_result(place, {"match": result.match, "error": _error(pair, session, template, result)})


def _error(pair: SessionPair, session: FaceSession, template: Any, result: Any) -> float:
    score = getattr(result, "squared_distance", None)
    if score is not None:
        error = abs(float(score) / pair.squared_distance - 1.0) if pair.squared_distance else abs(float(score))
        return float(f"{error:.1e}")  # not even on this disk: a decryption's last digits say something of the key
    if isinstance(session, LocalSession):
        opened = decode(template.share + session.server.template_share(template.name))[0]
        return float(np.abs(opened - pair.embedding).max())
    return float("nan")
