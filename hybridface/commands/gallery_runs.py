"""How commands about galleries get their work done: by ranks, or in this process, if only the server takes part."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hybridface.commands.gallery_options import PhotoSettings, SessionSettings
from hybridface.commands.places import cache_options, existing_prepared_path
from hybridface.errors import ImageError
from hybridface.galleries.clear_embedding import ClearEmbedding
from hybridface.galleries.file import GalleryFile, kind_for_use
from hybridface.galleries.tasks import GalleryTask, Verb, write_tasks
from hybridface.models.model import load_model
from hybridface.output.answers import shown
from hybridface.processes.start import Outcome, run_gallery
from parties.gallery.key import create_key, read_key
from parties.gallery.store.records import GalleryKind
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError
from protocols.matching.distance import Reveal

__all__ = ["enroll_photos", "kind_of_gallery", "run_queries"]

Answer = dict[str, Any]
OnAnswer = Callable[[Answer], None]
_SHOWN = 60


def kind_of_gallery(settings: SessionSettings, wanted: GalleryKind | None = None, new: bool = False) -> GalleryKind:
    """Return the gallery's kind, as `kind_for_use`; refuse a key for a list.

    Raises:
        ParameterError: it is another kind, or is not there, or a list is to have a key.
    """
    kind = kind_for_use(settings.path, wanted, new)
    if kind is GalleryKind.LIST and settings.key:
        raise ParameterError(f"{settings.path.name}: expected no --key, since a list has none")
    return kind


def run_queries(
    tasks: Sequence[GalleryTask],
    settings: SessionSettings,
    reveal: Reveal = Reveal.CLIENT,
    limits: bool = True,
    shards: int = 1,
    on_answer: OnAnswer | None = None,
) -> Outcome:
    """Have client and server, and perhaps a dealer, as ranks, do tasks about a gallery that is there.

    Args:
        on_answer: called with each answer as it comes.
    """
    kind = kind_of_gallery(settings)
    if kind is GalleryKind.LIST and shards > 1:
        raise ParameterError(f"{settings.path.name}: expected no --shards, since a list is searched in one part")
    with GalleryFile(settings.path, load_model(settings.model, weights=False), kind):
        pass  # refuses before anything starts
    key = None if kind is GalleryKind.LIST else settings.key_path
    if key and not key.exists():
        raise _no_key(settings)
    if key:
        read_key(key)
    server_options = [*cache_options(settings.cache), *([] if limits else ["--no-limits"])]
    with (
        tempfile.TemporaryDirectory(prefix="hybridface-") as folder,
        _counting(len(tasks), settings) as advance,
    ):
        path = Path(folder) / "tasks.jsonl"
        write_tasks(path, tasks)

        def on_event(event: Answer) -> None:
            if event["event"] == "answer":
                advance(str(event["identity"] or event["verb"]))
                if on_answer:
                    on_answer(event)

        return run_gallery(
            path,
            key,
            settings.path,
            ["--aligned"] if isinstance(settings, PhotoSettings) and settings.aligned else [],
            ["--model", settings.model, "--reveal", reveal.value],
            server_options,
            settings.timeout,
            on_event,
            shards,
            settings.correlations,
            existing_prepared_path(settings.prepared),
        )


def _no_key(settings: SessionSettings) -> ParameterError:
    path, key = settings.path, settings.key_path
    return ParameterError(f"expected the key of {path}, found no {key}: with another one nobody is found")


def enroll_photos(
    people: Sequence[tuple[str, Path]],
    settings: PhotoSettings,
    kind: GalleryKind,
    whole: bool,
    on_answer: OnAnswer | None = None,
) -> list[Answer]:
    """Enrol photos in a gallery of this kind, which is made if need be; return an answer for each.

    Args:
        whole: a photo that cannot be used is an error; else its answer says why, under "unusable".
        on_answer: called with each answer as it comes.
    """
    if kind is GalleryKind.LIST:
        return _enroll_in_list(people, settings, whole, on_answer)
    _make_private(settings)
    tasks = [GalleryTask(Verb.ENROLL, name, str(photo), optional=not whole) for name, photo in people]
    return run_queries(tasks, settings, on_answer=on_answer).answers


def _enroll_in_list(
    people: Sequence[tuple[str, Path]], settings: PhotoSettings, whole: bool, on_answer: OnAnswer | None
) -> list[Answer]:
    """Enrol in this process; if all are wanted, nobody before every photo is known to be usable."""
    model = load_model(settings.model)
    if settings.path.exists():
        with GalleryFile(settings.path, model, GalleryKind.LIST):
            pass  # what cannot be used is refused before anything is computed
    embedded = _embedded(people, ClearEmbedding(model), settings.aligned, whole)
    answers = []
    with _counting(len(people), settings) as advance:
        checked = list(embedded) if whole else embedded
        with GalleryFile(settings.path, model, GalleryKind.LIST) as file:
            for answer, share in checked:
                if share is not None:
                    file.enroll(answer["identity"], share)
                answers.append(answer)
                advance(answer["identity"])
                if on_answer:
                    on_answer(answer)
    return answers


def _embedded(
    people: Sequence[tuple[str, Path]], embedding: ClearEmbedding, aligned: bool, whole: bool
) -> Iterator[tuple[Answer, RingArray | None]]:
    """Yield an answer for each photo, and its embedding, uint64 (d,), if it can be used."""
    for identity, photo in people:
        answer: Answer = {"verb": Verb.ENROLL.value, "identity": identity, "photo": str(photo)}
        try:
            yield answer, embedding(photo, aligned)
        except ImageError as error:
            if whole:
                raise
            yield {**answer, "unusable": str(error)}, None


def _make_private(settings: SessionSettings) -> None:
    """Make a private gallery and its key, where they are missing."""
    key = settings.key_path
    with GalleryFile(settings.path, load_model(settings.model, weights=False), GalleryKind.PRIVATE) as file:
        if not key.exists() and file.store.count:
            raise _no_key(settings)
    if not key.exists():
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_key(key)
        sys.stderr.write(f"hybridface: made a new key, {key}: keep a copy, nothing can be read without it\n")


@contextmanager
def _counting(total: int, settings: SessionSettings) -> Iterator[Callable[[str], None]]:
    """Show a bar that counts; gives what is called with a word on each that is done."""
    hidden = settings.quiet or settings.as_json or not sys.stderr.isatty()
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        bar = progress.add_task("starting", total=total)
        yield lambda text: progress.update(bar, advance=1, description=shown(text[:_SHOWN]))
