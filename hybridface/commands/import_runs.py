"""How `hybridface import` gets its work done: a whole folder of photos, or an exported file, into a gallery."""

import sys
from pathlib import Path
from typing import Any

from hybridface.commands.gallery_options import PhotoSettings
from hybridface.commands.gallery_runs import enroll_photos
from hybridface.errors import ImageError
from hybridface.galleries.file import GalleryFile
from hybridface.galleries.import_journal import ImportJournal
from hybridface.galleries.kind import kind_for_import
from hybridface.models.model import load_model
from hybridface.output.answers import photos_text, say
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import GalleryStore

__all__ = ["import_file", "import_folder"]

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

Answer = dict[str, Any]
Person = tuple[str, Path]


def import_file(settings: PhotoSettings, source: Path, kind: GalleryKind | None) -> None:
    """Read an exported file into a new gallery, and say so."""
    kind = kind_for_import(settings.path, source, kind)
    with GalleryFile(settings.path, load_model(settings.model, weights=False), kind) as file:
        count = file.import_(source)
    say({"enrolled": count}, f"imported {photos_text(count)}", settings.as_json)


def import_folder(settings: PhotoSettings, source: Path, kind: GalleryKind | None) -> bool:
    """Enrol a folder's photos, say what came of it, and return whether all are enrolled."""
    people = _people(source)
    kind = settings.kind(kind, new=True)
    beside = settings.path if kind is GalleryKind.LIST else settings.key_path
    journal = ImportJournal(beside, settings.path, _enrolled(settings))
    missing = [person for person in people if not journal.done(*person)]
    answers = _enroll(missing, settings, kind, journal)
    failed = [answer for answer in answers if _failed(answer)]
    if not failed:
        journal.end()
    _say(len(people), answers, failed, settings)
    return not failed


def _enroll(people: list[Person], settings: PhotoSettings, kind: GalleryKind, journal: ImportJournal) -> list[Answer]:
    """Enrol photos, and note each that is; if it comes to a bad end, say how to go on."""
    answers: list[Answer] = []

    def note(answer: Answer) -> None:
        answers.append(answer)
        if not _failed(answer):
            journal.add(answer["identity"], Path(answer["photo"]))

    try:
        if people:
            enroll_photos(people, settings, kind, whole=False, on_answer=note)
    except BaseException:
        if answers:
            done = f"{len(answers)} of {photos_text(len(people))}"
            sys.stderr.write(f"hybridface: stopped after {done}; the same command goes on from there\n")
        raise
    return answers


def _say(photos: int, answers: list[Answer], failed: list[Answer], settings: PhotoSettings) -> None:
    earlier = photos - len(answers)
    before = f" ({earlier} of them before)" if earlier else ""
    lines = [f"enrolled {photos - len(failed)} of {photos_text(photos)}{before}"]
    lines += [f"not enrolled: {answer['photo']}: {_reason(answer)}" for answer in failed]
    say({"answers": answers, "earlier": earlier}, "\n".join(lines), settings.as_json)


def _failed(answer: Answer) -> bool:
    return "unusable" in answer or "refused" in answer


def _reason(answer: Answer) -> str:
    """Return why a photo was not enrolled."""
    return str(answer.get("unusable") or answer["refused"]).removeprefix(f"{Path(answer['photo']).name}: ")


def _enrolled(settings: PhotoSettings) -> dict[str, int]:
    """Return who is in the gallery; nobody, if there is none yet. Whoever enrols looks at the whole file."""
    if not settings.path.exists():
        return {}
    graph = load_model(settings.model, weights=False).graph
    (dimension,) = graph.output_shape
    with GalleryStore(settings.path, graph.digest(), dimension, None, check=False) as store:
        return store.identities()


def _people(folder: Path) -> list[Person]:
    """Return whose photos lie in a folder: NAME/PHOTO.jpg, or NAME.jpg."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise ImageError(f"{folder}: expected photos, found none")
    return [(path.stem if path.parent == folder else path.relative_to(folder).parts[0], path) for path in found]
