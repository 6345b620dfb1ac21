"""The result of a folder import, or of its dry run, as one JSON object and in words."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridface.errors import escaped
from hybridface.galleries.folder_photos import Kind, Unused
from hybridface.galleries.import_content import Photo
from hybridface.output.answers import photos_text, shown
from hybridface.output.documents import enrolment_document

__all__ = ["import_document", "import_text", "plan_document", "plan_text", "why_not"]

Answer = dict[str, Any]
_SHOWN = 60


def why_not(answer: Answer) -> str | None:
    """Return why a photo was not enrolled; None if it was."""
    reason = answer.get("unusable") or answer.get("refused")
    return None if reason is None else str(reason).removeprefix(f"{Path(answer['photo']).name}: ")


def import_document(
    answers: Sequence[Answer], earlier: int, unused: Sequence[Unused], notes: Sequence[str]
) -> dict[str, Any]:
    """Return what an import has done: the enrolled photos, the other photos with the reasons, and all other files.

    Args:
        answers: for the photos that it tried to enrol.
        earlier: number of photos that were enrolled before.
        unused: all other files.
        notes: other remarks for the user.
    """
    failed = [{"photo": answer["photo"], "reason": reason} for answer in answers if (reason := why_not(answer))]
    done = enrolment_document([answer for answer in answers if not why_not(answer)])
    return {**done, "not_enrolled": failed, "earlier": earlier, "unused": _unused(unused), "notes": [*notes]}


def import_text(document: dict[str, Any]) -> str:
    """Return an import's document in words: a line for each photo that is not enrolled and each file not used."""
    failed, earlier = document["not_enrolled"], document["earlier"]
    faults = sum(one["kind"] == Kind.FAULT.value for one in document["unused"])
    enrolled = len(document["enrolled"]) + earlier
    total = enrolled + len(failed) + faults
    lines = [f"enrolled {enrolled} of {photos_text(total)}{_before(earlier)}"]
    lines += [f"not enrolled: {shown(one['photo'])}: {escaped(one['reason'])}" for one in failed]
    return "\n".join(lines + _unused_lines(document))


def plan_document(
    missing: Sequence[Photo], done: Sequence[Photo], unused: Sequence[Unused], notes: Sequence[str]
) -> dict[str, Any]:
    """Return what an import would do: for each person, how many photos are new, and how many are enrolled already."""
    new, before = (Counter(photo.identity for photo in photos) for photos in (missing, done))
    people = [{"identity": name, "new": new[name], "earlier": before[name]} for name in sorted(new | before)]
    return {"dry_run": True, "people": people, "unused": _unused(unused), "notes": [*notes]}


def plan_text(document: dict[str, Any]) -> str:
    """Return the document of a dry run in words: a line for each person, and for each file that would not be used."""
    new, earlier = (sum(person[key] for person in document["people"]) for key in ("new", "earlier"))
    count = len(document["people"])
    people = f"{count} {'person' if count == 1 else 'people'}"
    lines = [f"would enrol {photos_text(new)} of {people}{_before(earlier, ' more enrolled')}"]
    lines += [
        f"{shown(one['identity'][:_SHOWN])}: {photos_text(one['new'])}{_before(one['earlier'], ' more enrolled')}"
        for one in document["people"]
    ]
    return "\n".join(lines + _unused_lines(document))


def _before(earlier: int, more: str = " of them") -> str:
    return f" ({earlier}{more} before)" if earlier else ""


def _unused(unused: Sequence[Unused]) -> list[dict[str, str]]:
    return [{"file": str(one.path), "kind": one.kind.value, "reason": one.reason} for one in unused]


def _title(kind: str) -> str:
    return "not enrolled" if kind == Kind.FAULT.value else "not used"


def _unused_lines(document: dict[str, Any]) -> list[str]:
    """Return a line for each unused file, and one line for all system files together."""
    lines = [
        f"{_title(one['kind'])}: {shown(one['file'])}: {escaped(one['reason'])}"
        for one in document["unused"]
        if one["kind"] != Kind.SYSTEM.value
    ]
    system = [one["file"] for one in document["unused"] if one["kind"] == Kind.SYSTEM.value]
    if system:
        lines.append(f"not used: {len(system)} system or hidden files and folders, such as {shown(system[0])}")
    return lines + [f"note: {note}" for note in document["notes"]]
