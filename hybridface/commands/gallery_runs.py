"""The work of gallery commands: done by ranks, or in this process if only the server takes part."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hybridface.commands.gallery_options import PhotoSettings, SessionSettings
from hybridface.commands.places import existing_prepared_path, say_warning, weights_cache
from hybridface.errors import ImageError, RunError
from hybridface.faces.inputs import load_chips
from hybridface.folders import temporary_folder
from hybridface.galleries.clear_embedding import ClearEmbedding
from hybridface.galleries.file import GalleryFile
from hybridface.galleries.kind import expect_model
from hybridface.galleries.tasks import GalleryTask, Verb, write_tasks
from hybridface.models.model import load_model
from hybridface.output.answers import shown
from hybridface.processes.portraits import write_chip
from hybridface.processes.runs import GalleryRun
from hybridface.processes.start import Outcome, start
from parties.gallery.errors import KeyFileError, StoreError, TracesLeftError
from parties.gallery.key import create_key, read_key
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import header_of
from parties.machine.durable import make_folder
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError
from protocols.link import NONE, Link
from protocols.matching.reveal import Reveal

if TYPE_CHECKING:
    from hybridface.commands.gallery_remote import RemoteGallery

__all__ = [
    "counting",
    "enroll_photos",
    "enroll_remotely",
    "expect_photo",
    "of_photos",
    "replace_photo",
    "run_queries",
    "with_chips",
]

Answer = dict[str, Any]
OnAnswer = Callable[[Answer], None]
_SHOWN = 60


def run_queries(
    tasks: Sequence[GalleryTask],
    settings: SessionSettings,
    kind: GalleryKind,
    *,
    reveal: Reveal = Reveal.CLIENT,
    limits: bool = True,
    shards: int = 1,
    link: Link = NONE,
    threshold: float | None = None,
    on_answer: OnAnswer | None = None,
) -> Outcome:
    """Start client, server and perhaps a dealer as ranks, and let them do tasks on an existing gallery.

    The server's rank opens the gallery and checks the whole file; this process reads only the header.

    Args:
        kind: the gallery's kind.
        link: the connection to simulate on this machine.
        threshold: the distance below which two faces count as the same person; None for the network's.
        on_answer: called with each answer as it comes.
    """
    if kind is GalleryKind.LIST and shards > 1:
        raise ParameterError(f"{settings.path.name}: expected no --shards, since a list is searched in one part")
    model = load_model(settings.model, weights=False).with_threshold(threshold)
    expect_model(settings.path, model)  # before anything starts
    key = None if kind is GalleryKind.LIST else settings.key_path
    if key and not key.exists():
        raise _no_key(settings)
    if key:
        read_key(key)
    with (
        temporary_folder() as folder,
        counting(len(tasks), settings) as advance,
    ):
        path = folder / "tasks.jsonl"
        write_tasks(path, with_chips(tasks, folder, settings, model.chip_size))

        def on_event(event: Answer) -> None:
            if event["event"] == "warning":
                say_warning(event["message"])
            if event["event"] == "answer":
                advance(str(event["identity"] or event["verb"]))
                if on_answer:
                    on_answer(event)

        run = GalleryRun(
            model=settings.model,
            timeout=settings.timeout,
            link=link,
            threshold=threshold,
            reveal=reveal,
            correlations=settings.correlations,
            cache=weights_cache(settings.cache),
            prepared=existing_prepared_path(settings.prepared),
            tasks=path,
            key=key,
            gallery=settings.path,
            limits=limits,
            shards=shards,
            **of_photos(settings),
        )
        return start(run, on_event)


def with_chips(tasks: Sequence[GalleryTask], folder: Path, settings: SessionSettings, size: int) -> list[GalleryTask]:
    """Return the tasks with their aligned crops, which are written to files before any session begins.

    The client reads photos that may turn out unusable, each when its turn comes.

    Args:
        size: the network's `chip_size`, in pixels.
    """
    if not isinstance(settings, PhotoSettings):
        return list(tasks)
    found = []
    for number, task in enumerate(tasks):
        if task.photo is None or task.optional or task.chip is not None:
            found.append(task)
            continue
        (chip,) = load_chips([Path(task.photo)], size, settings.aligned, settings.reading)
        found.append(replace(task, chip=str(write_chip(folder / f"{number}.png", chip))))
    return found


def of_photos(settings: SessionSettings) -> dict[str, Any]:
    """Return how the client reads photos, as a run's settings."""
    if isinstance(settings, PhotoSettings):
        return {"aligned": settings.aligned, "reading": settings.reading}
    return {}


def _no_key(settings: SessionSettings) -> ParameterError:
    path, key = settings.path, settings.key_path
    return ParameterError(f"expected the key of {path}, found no {key}; another key finds nobody")


def enroll_remotely(
    people: Sequence[tuple[str, Path]],
    gallery: "RemoteGallery",
    whole: bool,
    on_answer: OnAnswer | None = None,
) -> list[Answer]:
    """Enrol photos in a remote server's gallery, as `enroll_photos` does on this machine."""
    if gallery.kind is GalleryKind.LIST:
        raise ParameterError(f"{gallery.name}: expected a private gallery, got a list: only its owner enrols in it")
    tasks = [GalleryTask(Verb.ENROLL, name, str(photo), optional=not whole) for name, photo in people]
    gallery.expect_right(Verb.ENROLL)
    if gallery.make_key():
        say_warning(f"made a new key, {gallery.key}: keep a copy, nothing can be read without it")
    return gallery.do(tasks, on_answer=on_answer).answers


def enroll_photos(
    people: Sequence[tuple[str, Path]],
    settings: PhotoSettings,
    kind: GalleryKind,
    whole: bool,
    on_answer: OnAnswer | None = None,
) -> list[Answer]:
    """Enrol photos in a gallery of this kind; make the gallery if it does not exist; return an answer for each photo.

    Args:
        whole: the photos show one person, who is enrolled with all of them or none; a photo that cannot be used is an
            error. Otherwise, the answer of such a photo says why, under "unusable".
        on_answer: called with each answer as it comes.
    """
    if kind is GalleryKind.LIST:
        return _enroll_in_list(people, settings, whole, on_answer)
    tasks = [GalleryTask(Verb.ENROLL, name, str(photo), optional=not whole) for name, photo in people]
    with temporary_folder() as folder:
        tasks = with_chips(tasks, folder, settings, load_model(settings.model, weights=False).chip_size)
        _make_private(settings)
        return run_queries(tasks, settings, kind, on_answer=on_answer).answers


def _enroll_in_list(
    people: Sequence[tuple[str, Path]], settings: PhotoSettings, whole: bool, on_answer: OnAnswer | None
) -> list[Answer]:
    """Enrol in this process; with `whole`, enrol nobody before every photo has proved usable."""
    model, answers = load_model(settings.model), []
    embedded = _embedded(people, ClearEmbedding(model), settings, whole)
    file: GalleryFile | None = None
    with ExitStack() as opened, counting(len(people), settings) as advance:
        if settings.path.exists():  # refuse a file that cannot be used before computing anything
            file = opened.enter_context(GalleryFile(settings.path, model, GalleryKind.LIST))
        checked = [list(embedded)] if whole else ([one] for one in embedded)
        file = file or opened.enter_context(GalleryFile(settings.path, model, GalleryKind.LIST))
        for answer in itertools.chain.from_iterable(_stored(file, photos) for photos in checked):
            answers.append(answer)
            advance(answer["identity"])
            if on_answer:
                on_answer(answer)
    return answers


def expect_photo(identity: str, number: int, settings: SessionSettings) -> None:
    """Check that the photo to replace exists, before anything is enrolled.

    Raises:
        ParameterError: it does not exist.
    """
    with GalleryFile(settings.existing_path, load_model(settings.model, weights=False)) as file:
        file.expect_photos(identity, [number])


def replace_photo(identity: str, number: int, settings: SessionSettings) -> None:
    """Remove a photo after its replacements have been enrolled.

    Raises:
        RunError: the photo cannot be removed now, so that it stays enrolled beside its replacements.
    """
    try:
        with GalleryFile(settings.path, load_model(settings.model, weights=False)) as file:
            file.remove_photos(identity, [number])
    except TracesLeftError:
        raise
    except StoreError as error:
        raise RunError(
            f"the new photos are enrolled, but photo {number} is not removed: {error}; run hybridface remove --photo"
        ) from error


def _stored(file: GalleryFile, photos: Sequence[tuple[Answer, RingArray | None]]) -> list[Answer]:
    """Enrol the usable photos of one person, all or none; return an answer for each photo."""
    answers = [answer for answer, _ in photos]
    shares = [share for _, share in photos if share is not None]
    if not shares:
        return answers
    rows = iter(file.enroll_together(answers[0]["identity"], shares))
    return [answer if share is None else {**answer, "row": next(rows)} for answer, share in photos]


def _embedded(
    people: Sequence[tuple[str, Path]], embedding: ClearEmbedding, settings: PhotoSettings, whole: bool
) -> Iterator[tuple[Answer, RingArray | None]]:
    """Yield an answer for each photo, and its embedding, uint64 (d,), if it can be used."""
    for identity, photo in people:
        answer: Answer = {"verb": Verb.ENROLL.value, "identity": identity, "photo": str(photo)}
        try:
            yield answer, embedding(photo, settings.aligned, settings.reading)
        except ImageError as error:
            if whole:
                raise
            yield {**answer, "unusable": str(error)}, None


def _make_private(settings: SessionSettings) -> None:
    """Make a private gallery and its key if they are missing."""
    key = settings.key_path
    if not settings.path.exists():
        GalleryFile(settings.path, load_model(settings.model, weights=False), GalleryKind.PRIVATE).close()
    elif not key.exists() and header_of(settings.path).count:
        raise _no_key(settings)
    if not key.exists():
        make_folder(key.parent)
        try:
            create_key(key)
        except KeyFileError:
            if not key.exists():  # otherwise another process has made it meanwhile, and this one uses it
                raise
            return
        say_warning(f"made a new key, {key}: keep a copy, nothing can be read without it")


@contextmanager
def counting(total: int, settings: SessionSettings) -> Iterator[Callable[[str], None]]:
    """Show a bar that counts; give a function to call with a few words about each finished item."""
    hidden = settings.quiet or settings.as_json or not sys.stderr.isatty()
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        bar = progress.add_task("starting", total=total)
        yield lambda text: progress.update(bar, advance=1, description=shown(text[:_SHOWN]))
