"""The work of `hybridface import`: put a whole folder of photos, or an exported file, into a gallery."""

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridface.commands.gallery_options import PhotoSettings
from hybridface.commands.gallery_runs import enroll_photos
from hybridface.errors import ImageError
from hybridface.galleries.file import GalleryFile
from hybridface.galleries.folder_photos import Kind
from hybridface.galleries.import_content import Photo, sort_out
from hybridface.galleries.import_journal import ImportJournal, forget_older_record, held
from hybridface.galleries.import_plan import IdentityRule, ImportPlan, plan_import
from hybridface.galleries.kind import expect_exported_model, expect_model, kind_for_import
from hybridface.models.model import load_model
from hybridface.output.answers import photos_text, say
from hybridface.output.imports import import_document, import_text, plan_document, plan_text, why_not
from parties.gallery.kind import GalleryKind
from parties.gallery.store.exchange import expect_whole
from parties.gallery.store.store import GalleryStore, header_of

__all__ = ["FolderSource", "Known", "import_file", "import_folder", "import_plan", "planned"]

Answer = dict[str, Any]
OnAnswer = Callable[[Answer], None]
Enroll = Callable[[Sequence[tuple[str, Path]], OnAnswer], None]
"""Enrols photos, given as people's names and paths, and calls a function with each answer as it comes."""

_SHOWN = 10


@dataclass(frozen=True)
class FolderSource:
    """A folder to import.

    Args:
        rule: where the names of the photos' people come from.
        names: a CSV file of the names, if the rule needs one.
        dry_run: say what the import would do, and do nothing.
    """

    folder: Path
    rule: IdentityRule = IdentityRule.FOLDER
    names: Path | None = None
    dry_run: bool = False


def import_file(settings: PhotoSettings, source: Path, kind: GalleryKind | None) -> None:
    """Read an exported file into a new gallery, and say so."""
    kind, model = kind_for_import(settings.path, source, kind), load_model(settings.model, weights=False)
    expect_exported_model(source, model)
    expect_whole(source)  # before a gallery is made
    with GalleryFile(settings.path, model, kind) as file:
        count = file.import_(source)
    say({"enrolled": count}, f"imported {photos_text(count)}", settings.as_json)


def import_folder(settings: PhotoSettings, source: FolderSource, kind: GalleryKind | None) -> bool:
    """Enrol a folder's photos, report the result, and return whether all are enrolled.

    Raises:
        RunError: another import into this gallery is running, and does not end in time; nothing is enrolled.
    """
    plan = planned(source)
    kind = settings.kind(kind, new=True)

    def enroll(photos: Sequence[tuple[str, Path]], on_answer: OnAnswer) -> None:
        enroll_photos(photos, settings, kind, whole=False, on_answer=on_answer)

    with nullcontext() if source.dry_run else _held(settings, kind):
        return import_plan(plan, _KnownHere(settings, kind, source.dry_run), enroll, source.dry_run, settings.as_json)


def planned(source: FolderSource) -> ImportPlan:
    """Return what is in a folder.

    Raises:
        ImageError: there are no photos.
    """
    plan = plan_import(source.folder, source.rule, source.names)
    if not plan.people and not any(one.kind is Kind.FAULT for one in plan.unused):
        raise ImageError(f"{source.folder}: expected photos, found none among {len(plan.unused)} files")
    return plan


def _held(settings: PhotoSettings, kind: GalleryKind) -> AbstractContextManager[None]:
    """Lock the record of a gallery's imports.

    The gallery determines which record is its own, so a missing gallery is made first.
    """
    if not settings.path.exists():
        GalleryFile(settings.path, load_model(settings.model, weights=False), kind).close()
    return held(_beside(settings, kind).parent, header_of(settings.path).scope)


def _beside(settings: PhotoSettings, kind: GalleryKind) -> Path:
    """Return the file beside which the record lies."""
    return settings.path if kind is GalleryKind.LIST else settings.key_path


def import_plan(plan: ImportPlan, known: "Known", enroll: Enroll, dry_run: bool, as_json: bool) -> bool:
    """Do the plan, or say what it would do; return whether all photos are enrolled, or would be.

    Args:
        known: what is known of the gallery.
        enroll: enrols photos.
    """
    content = sort_out(plan.people, known.journal)
    unused = [*plan.unused, *content.unused]
    notes = [*_alike(plan), *_added_to(content.missing, known.people)]
    if dry_run:
        document = plan_document(content.missing, content.done, unused, notes)
        say(document, plan_text(document), as_json)
        return not any(one.kind is Kind.FAULT for one in unused)
    answers = _enroll(content.missing, enroll, known)
    document = import_document(answers, len(content.done), unused, notes)
    say(document, import_text(document), as_json)
    return not any(one.kind is Kind.FAULT for one in unused) and not document["not_enrolled"]


class Known:
    """What is known of a gallery: who is in it, and which photos imports have enrolled.

    Args:
        people: who is in it.
        journal: of the photos; None if there is no gallery yet.
    """

    def __init__(self, people: set[str], journal: ImportJournal | None) -> None:
        self.people, self.journal = people, journal

    def note(self, photo: Photo, row: int) -> None:
        """Note that a photo is enrolled."""
        if self.journal:
            self.journal.add(photo.identity, row, photo.digest)


class _KnownHere(Known):
    """What is known of a gallery of this machine.

    Args:
        read_only: write nothing, so that photos that are enrolled from here on cannot be noted.
    """

    def __init__(self, settings: PhotoSettings, kind: GalleryKind, read_only: bool) -> None:
        beside = _beside(settings, kind)
        self._settings, self._folder, self._read_only = settings, beside.parent, read_only
        if not read_only:
            forget_older_record(beside, settings.path)
        super().__init__(set(), None)
        self.journal = self._opened() if settings.path.exists() else None

    def note(self, photo: Photo, row: int) -> None:
        """Note that a photo is enrolled; by now the gallery exists."""
        self.journal = self.journal or self._opened()
        super().note(photo, row)

    def _opened(self) -> ImportJournal:
        model = load_model(self._settings.model, weights=False)
        expect_model(self._settings.path, model)
        graph, (dimension,) = model.graph, model.graph.output_shape
        with GalleryStore(
            self._settings.path, graph.digest(), dimension, None, read_only=self._read_only, check=False
        ) as store:
            *_, entries = store.listing(0)
            scope = store.scope
        enrolled = {entry.row: entry.identity for entry in entries}
        self.people = set(enrolled.values())
        return ImportJournal(self._folder, scope, enrolled, self._read_only)


def _enroll(photos: Sequence[Photo], enroll: Enroll, known: Known) -> list[Answer]:
    """Enrol photos, and note each one; if the import breaks off, say how to continue."""
    answers: list[Answer] = []
    by_path = {str(photo.path): photo for photo in photos}

    def note(answer: Answer) -> None:
        answers.append(answer)
        if not why_not(answer):
            known.note(by_path[answer["photo"]], answer["row"])

    try:
        if photos:
            enroll([(one.identity, one.path) for one in photos], note)
    except BaseException:
        if answers:
            done = f"{len(answers)} of {photos_text(len(photos))}"
            sys.stderr.write(f"hybridface: stopped after {done}; run the same command again to continue\n")
        raise
    return answers


def _alike(plan: ImportPlan) -> list[str]:
    return [f"counted as different people, because case matters: {', '.join(map(repr, names))}" for names in plan.alike]


def _added_to(photos: Sequence[Photo], enrolled: Collection[str]) -> list[str]:
    """Name the people who are enrolled and get more photos: a folder of that name might be another person's."""
    names = sorted({photo.identity for photo in photos} & set(enrolled))
    more = f" and {len(names) - _SHOWN} others" if len(names) > _SHOWN else ""
    return [f"more photos of people who are enrolled: {', '.join(map(repr, names[:_SHOWN]))}{more}"] if names else []
