"""What one rank is to do: the options of `hybridface party`."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hybridface.models.model import Model
from hybridface.modes import Mode
from parties.prepared.pool import RunShape
from parties.prepared.store import PreparedStore
from parties.session.correlations import Correlations
from protocols.link import NONE, Link
from protocols.matching.distance import Reveal

__all__ = ["PartyOptions", "Purpose"]


class Purpose(StrEnum):
    """What a prepared run is for."""

    PAIR = "pair"
    """Two photos."""

    TEMPLATE = "template"
    """A photo against an enrolled template."""

    PHOTO = "photo"
    """A photo alone: what an enrolment takes, and a query to a gallery."""

    @property
    def shape(self) -> RunShape:
        """Of the run."""
        return {Purpose.PAIR: RunShape(2, 1), Purpose.TEMPLATE: RunShape(1, 1), Purpose.PHOTO: RunShape(1, 0)}[self]


@dataclass(frozen=True)
class PartyOptions:
    """What a rank is to do.

    Args:
        model: for the server with weights, for the client without.
        photos: the client's two photos.
        aligned: they are aligned chips.
        enrolled: enrol the second photo first, and verify the first against that template.
        repeat: verify so many times.
        reveal: who learns the decision; the same on both sides.
        events: write JSON lines to standard output, for the command that started the ranks.
        timeout: seconds to wait for a peer.
        link: to simulate; the same for all ranks.
        batch: verify so many copies of the photo at once against the template (only with `enrolled`).
        pool: verifications that the client keeps prepared in the background.
        pause: seconds between verifications.
        cache: where server and workers keep encoded weights; None to encode them anew.
        mode: how it is computed; the same for all ranks.
        max_answers: scores that a session gives in pure-HE mode; the same on both sides.
        tasks: the client's, for a gallery (see `gallery_tasks`); instead of photos.
        key: the client's key file for a private gallery; none for a list.
        gallery: the server's store.
        client_name: whom the server's limits count.
        limits: whether the server limits queries.
        correlations: who makes them; the same for all ranks.
        prepared: folder of the party's prepared runs; None for none.
        keep: runs to prepare and keep there, instead of verifying.
        keep_for: what they are for.
    """

    model: Callable[[], Model]
    photos: tuple[Path, ...] = ()
    aligned: bool = False
    enrolled: bool = False
    repeat: int = 1
    reveal: Reveal = Reveal.CLIENT
    events: bool = False
    timeout: float = 300.0
    link: Link = NONE
    batch: int = 1
    pool: int = 0
    pause: float = 0.0
    cache: Path | None = None
    mode: Mode = Mode.HYBRID
    max_answers: int = 50
    tasks: Path | None = None
    key: Path | None = None
    gallery: Path | None = None
    client_name: str = "client"
    limits: bool = True
    correlations: Correlations = Correlations.OT
    prepared: Path | None = None
    keep: int = 0
    keep_for: Purpose = Purpose.PAIR

    @property
    def store(self) -> PreparedStore | None:
        """The party's prepared runs."""
        return None if self.prepared is None else PreparedStore(self.prepared)
