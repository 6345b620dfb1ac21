"""Run the real protocol on some pairs, in this process: enrol one photo, and verify the other against it.

This process holds both parties. So it can add the two shares of an enrolled template and compare the sum with the
emulator; no message of the protocol does that. From the scores of a pure-HE session, it keeps only the relative error.
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
"""The number of pairs in one session, which is the number of scores that a pure-HE session gives."""

Chip = NDArray[np.uint8]


class FaceSession(Protocol):
    """The part of a session that this module uses, in either mode."""

    def enroll(self, photo: Chip, name: str | None = None, aligned: bool = False) -> Any:
        """Enrol an aligned crop with the server, and return what names its template."""

    def verify(self, first: Chip, second: Any, aligned: bool = False) -> Any:
        """Verify an aligned crop against a template. Return `match`, and in pure-HE mode `squared_distance`."""


OpenSession = Callable[[Model, Mode], AbstractContextManager[FaceSession]]


@dataclass(frozen=True)
class SessionPair:
    """A pair, and its results by the reference: the emulator in hybrid mode, the network in float64 in pure-HE mode.

    Args:
        chips: the aligned crops of the first photo, which is enrolled, and of the second.
        embedding: (d,) the first photo's embedding by the reference.
        squared_distance: the squared distance of both photos by the reference.
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
        on_result: called after each pair with its place and a row. The row has `match`, whether the protocol decides
            that the pair shows one person, and `error`. In hybrid mode, the error is the largest difference of an
            element of the enrolled embedding. In pure-HE mode, it is the relative error of the squared distance, to
            two digits.
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
        return float(f"{error:.1e}")  # keep no more: a decryption's last digits reveal something about the key
    if isinstance(session, LocalSession):
        opened = decode(template.share + session.server.template_share(template.name))[0]
        return float(np.abs(opened - pair.embedding).max())
    return float("nan")
