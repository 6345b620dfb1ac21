"""Records that describe a computation between processes, one class for each kind of computation.

The command that starts a run makes its record: `verify`, for example, makes a `HybridRun`. It turns the record into the
ranks' command lines (`programs`). `hybridface party` makes the same record from its command line, and does what the
record says (`rank`).
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.modes import Mode
from parties.gallery.rights import Right
from parties.prepared.shape import RunShape
from parties.session.correlations import Correlations
from protocols.link import NONE, Link
from protocols.matching.reveal import Reveal

__all__ = ["GalleryRun", "HybridRun", "PreparationRun", "PureHeRun", "Purpose", "Run", "SharedRun"]


class Purpose(StrEnum):
    """What a prepared run is for."""

    PAIR = "pair"
    """Two photos."""

    TEMPLATE = "template"
    """A photo against an enrolled template."""

    PHOTO = "photo"
    """A photo alone: for an enrolment, or for a query to a gallery."""

    @property
    def shape(self) -> RunShape:
        """The shape of the run."""
        return {Purpose.PAIR: RunShape(2, 1), Purpose.TEMPLATE: RunShape(1, 1), Purpose.PHOTO: RunShape(1, 0)}[self]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings that all ranks get.

    Args:
        model: the network's name.
        weights: the server's weight file; None for the one that comes with the model.
        timeout: seconds that a rank waits for another.
        link: the connection to simulate on this machine.
        threshold: the distance below which two faces count as the same person; None for the network's. Client and
            server must have the same.
    """

    mode: ClassVar[Mode]

    model: str
    weights: Path | None = None
    timeout: float = 300.0
    link: Link = NONE
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class SharedRun(Run):
    """A run in hybrid mode, on shares.

    Args:
        reveal: who learns the decision.
        correlations: who makes the correlations.
        cache: folder where server and workers keep encoded weights; None to encode them anew.
        prepared: folder of prepared runs: a rank's own folder, or a command's folder with a part for each side; None
            for none.
    """

    mode = Mode.HYBRID

    reveal: Reveal = Reveal.CLIENT
    correlations: Correlations = Correlations.OT
    cache: Path | None = None
    prepared: Path | None = None


@dataclass(frozen=True, kw_only=True)
class HybridRun(SharedRun):
    """Verifications of photos.

    Args:
        photos: the client's two photos; empty in other ranks.
        aligned: whether the photos are aligned crops.
        reading: how to read photos that are not aligned crops.
        enrolled: enrol the second photo first, and verify the first against that template.
        repeat: number of verifications.
        batch: number of copies of the photo to verify at once against the template (only with `enrolled`).
        pool: verifications that the client keeps prepared in the background.
        pause: seconds between verifications.
        workers: ranks that multiply for the server.
    """

    photos: tuple[Path, ...] = ()
    aligned: bool = False
    reading: PhotoOptions = AS_GIVEN
    enrolled: bool = False
    repeat: int = 1
    batch: int = 1
    pool: int = 0
    pause: float = 0.0
    workers: int = 0


@dataclass(frozen=True, kw_only=True)
class PreparationRun(SharedRun):
    """Prepared runs to make and to keep in the folder for later.

    Args:
        count: number of prepared runs.
        purpose: what they are for.
    """

    count: int
    purpose: Purpose = Purpose.PAIR


@dataclass(frozen=True, kw_only=True)
class GalleryRun(SharedRun):
    """Tasks about a gallery.

    Args:
        tasks: the client's file of tasks (see `galleries.tasks`).
        key: the client's key file for a private gallery; None for a list.
        gallery: the server's file.
        new_gallery: whether the server makes the file if it does not exist.
        client_name: name under which the server's limits count the client's queries.
        limits: whether the server limits queries.
        may: what the server lets the client do; None for everything.
        aligned: whether the tasks' photos are aligned crops.
        reading: how to read photos that are not aligned crops.
        shards: number of shards of a private gallery.
    """

    tasks: Path | None = None
    key: Path | None = None
    gallery: Path | None = None
    new_gallery: bool = False
    client_name: str = "client"
    limits: bool = True
    may: frozenset[Right] | None = None
    aligned: bool = False
    reading: PhotoOptions = AS_GIVEN
    shards: int = 1


@dataclass(frozen=True, kw_only=True)
class PureHeRun(Run):
    """Verifications in pure-HE mode.

    Args:
        photos: the client's two photos; empty in other ranks.
        aligned: whether the photos are aligned crops.
        reading: how to read photos that are not aligned crops.
        repeat: number of verifications.
        pause: seconds between verifications.
        max_answers: number of scores that a session gives; the same on both sides.
    """

    mode = Mode.PURE_HE

    photos: tuple[Path, ...] = ()
    aligned: bool = False
    reading: PhotoOptions = AS_GIVEN
    repeat: int = 1
    pause: float = 0.0
    max_answers: int = 50
