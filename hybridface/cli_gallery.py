"""Galleries on the command line: `enroll`, `identify`, `list`, `remove`, `rotate-key`, `import`, `export`.

Each starts client, server and dealer as MPI processes on this machine, like `verify`; the gallery's file is the
server's, the key's file the client's.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from hybridface.errors import ImageError
from hybridface.exit_status import EXIT_DIFFERENT, EXIT_ERROR, EXIT_SAME
from hybridface.gallery import index_folder
from hybridface.gallery_tasks import Task, Verb, write_tasks
from hybridface.models import load_model
from hybridface.options import (
    AlignedOption,
    CacheOption,
    GalleryOption,
    JsonOption,
    KeyOption,
    LimitsOption,
    ModelOption,
    QuietOption,
    ShardsOption,
    TimeoutOption,
    cache_options,
    show,
)
from hybridface.report import decision_text
from hybridface.run import run_gallery
from parties.gallery.key import create_key, read_key
from parties.gallery.records import Kind
from parties.gallery.store import GalleryStore
from protocols.errors import ParameterError

__all__ = ["register", "verify_identity"]

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_DEFAULT_MODEL = "dlib-resnet29"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in (
        ("enroll", enroll),
        ("identify", identify),
        ("list", list_people),
        ("remove", remove),
        ("rotate-key", rotate_key),
        ("import", import_people),
        ("export", export),
    ):
        app.command(name)(command)


def enroll(
    photos: Annotated[list[Path], typer.Argument(help="Photos of one person.")],
    identity: Annotated[str, typer.Option("--id", help="Who it is: any text up to 10,000 characters.")],
    gallery: GalleryOption = None,
    key: KeyOption = None,
    model: ModelOption = _DEFAULT_MODEL,
    aligned: AlignedOption = False,
    cache: CacheOption = "",
    timeout: TimeoutOption = 300.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Enrol a person: the server stores what is noise without the client's key. Makes key and gallery, if need be."""
    _check_photos(photos)
    tasks = [Task(Verb.ENROLL, identity, str(photo)) for photo in photos]
    answers = _run(tasks, gallery, key, model, aligned, cache, timeout, as_json, quiet, new=True)
    _say(answers, as_json, f"enrolled {len(answers)} photo{'s' * (len(answers) > 1)} of {identity!r}")


def verify_identity(
    photo: Path,
    identity: str,
    gallery: Path | None,
    key: Path | None,
    model: str,
    aligned: bool,
    cache: str,
    timeout: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare a photo with somebody in the gallery, print the decision, and exit: 0 same person, 1 different."""
    task = Task(Verb.VERIFY, identity, str(photo))
    answers = _run([task], gallery, key, model or _DEFAULT_MODEL, aligned, cache, timeout, as_json, quiet)
    match = answers[-1].get("match")
    _say(answers, as_json, decision_text(match))
    raise typer.Exit(EXIT_SAME if match else EXIT_DIFFERENT)


def identify(
    photo: Annotated[Path, typer.Argument(help="Of whom to find.")],
    top: Annotated[int, typer.Option("--top", min=1, max=64, help="How many of the nearest people to name.")] = 1,
    gallery: GalleryOption = None,
    key: KeyOption = None,
    model: ModelOption = _DEFAULT_MODEL,
    aligned: AlignedOption = False,
    cache: CacheOption = "",
    timeout: TimeoutOption = 300.0,
    limits: LimitsOption = True,
    shards: ShardsOption = 1,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find who is nearest and near enough, among everybody in the gallery; never a distance.

    Exit status: 0 somebody was found, 1 nobody, 2 error.
    """
    _check_photos([photo])
    task = Task(Verb.IDENTIFY, None, str(photo), top)
    answers = _run([task], gallery, key, model, aligned, cache, timeout, as_json, quiet, limits=limits, shards=shards)
    found = [name for name in answers[-1].get("identities", []) if name is not None]
    _say(answers, as_json, "\n".join(map(_shown, found)) or "unknown")
    raise typer.Exit(EXIT_SAME if found else EXIT_DIFFERENT)


def list_people(
    gallery: GalleryOption = None,
    key: KeyOption = None,
    model: ModelOption = _DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Say who is enrolled, and how many photos of each."""
    with _store(gallery, model) as store:
        people = store.identities()

    def table(document: dict[str, Any]) -> Table:
        lines = Table("identity", "photos", box=None, title=f"{len(people)} enrolled")
        for name, photos in document["enrolled"].items():
            lines.add_row(Text(_shown(name)), str(photos))
        return lines

    show({"enrolled": people}, table, as_json)


def remove(
    identities: Annotated[list[str], typer.Argument(help="Who is to be removed, with all photos.")],
    gallery: GalleryOption = None,
    model: ModelOption = _DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Remove people; nothing of them is left in the file. Exit status: 0 all were there, 1 some were not."""
    with _store(gallery, model) as store:
        known = store.identities()
        count = store.remove_many([name for name in identities if name in known])
        if count:
            shutil.rmtree(index_folder(store.path), ignore_errors=True)  # what was opened of them goes too
    missing = [name for name in identities if name not in known]
    text = f"removed {count} photos" + "".join(f"\nnot enrolled: {name!r}" for name in missing)
    if as_json:
        sys.stdout.write(json.dumps({"removed": count, "not enrolled": missing}) + "\n")
    else:
        sys.stdout.write(text + "\n")
    raise typer.Exit(EXIT_DIFFERENT if missing else EXIT_SAME)


def rotate_key(
    new_key: Annotated[Path, typer.Argument(help="A new file for the new key.")],
    gallery: GalleryOption = None,
    key: KeyOption = None,
    model: ModelOption = _DEFAULT_MODEL,
    cache: CacheOption = "",
    timeout: TimeoutOption = 300.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put the gallery under a new key, without enrolling anybody again; then the old key opens nothing any more."""
    _store(gallery, model).close()
    read_key(_key_path(key))  # both before a file is made that would lie in the way of the next try
    create_key(new_key)
    task = Task(Verb.ROTATE, key=str(new_key))
    answers = _run([task], gallery, key, model, False, cache, timeout, as_json, quiet)
    _say(answers, as_json, f"the gallery is under {new_key} now (generation {answers[-1].get('generation')})")


def import_people(
    source: Annotated[Path, typer.Argument(help="A folder, NAME/PHOTO.jpg or NAME.jpg; or a file of `export`.")],
    gallery: GalleryOption = None,
    key: KeyOption = None,
    model: ModelOption = _DEFAULT_MODEL,
    aligned: AlignedOption = False,
    cache: CacheOption = "",
    timeout: TimeoutOption = 300.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Enrol a whole folder; photos that cannot be used are listed. Exit status: 0 all were enrolled, 1 some not."""
    if source.is_file():
        with _store(gallery, model, new=True) as store:
            count = store.import_(source)
        sys.stdout.write(json.dumps({"enrolled": count}) + "\n" if as_json else f"imported {count} photos\n")
        return
    tasks = [Task(Verb.ENROLL, name, str(path), optional=True) for name, path in _people(source)]
    if not tasks:
        raise ImageError(f"{source}: expected photos, found none")
    answers = _run(tasks, gallery, key, model, aligned, cache, timeout, as_json, quiet, new=True)
    failed = [answer for answer in answers if "unusable" in answer or "refused" in answer]
    lines = [f"enrolled {len(answers) - len(failed)} of {len(answers)} photos"]
    lines += [f"not enrolled: {answer['photo']}: {answer.get('unusable') or answer['refused']}" for answer in failed]
    if as_json:
        sys.stdout.write(json.dumps({"answers": answers}) + "\n")
    else:
        sys.stdout.write("\n".join(lines) + "\n")
    raise typer.Exit(EXIT_DIFFERENT if failed else EXIT_SAME)


def export(
    output: Annotated[Path, typer.Argument(help="A new file.")],
    gallery: GalleryOption = None,
    model: ModelOption = _DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Write the gallery as it is at rest to a file, for another server: noise, without the client's key."""
    with _store(gallery, model) as store:
        count = store.export(output)
    sys.stdout.write(json.dumps({"exported": count}) + "\n" if as_json else f"exported {count} photos to {output}\n")


def _people(folder: Path) -> list[tuple[str, Path]]:
    """Return whose photos lie in a folder: NAME/PHOTO.jpg, or NAME.jpg."""
    if not folder.is_dir():
        raise ImageError(f"{folder}: expected a folder of photos, or an exported file")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    return [(path.stem if path.parent == folder else path.relative_to(folder).parts[0], path) for path in found]


def _shown(name: str) -> str:
    """Return a name as it may be written to a terminal."""
    return name if name.isprintable() else repr(name)


def _check_photos(photos: Sequence[Path]) -> None:
    for photo in photos:
        if not photo.is_file():
            raise ImageError(f"{photo}: expected a photo, found no such file")


def _gallery_path(gallery: Path | None) -> Path:
    base = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return gallery or base / "hybridface" / "gallery.db"


def _key_path(key: Path | None) -> Path:
    base = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return key or base / "hybridface" / "gallery.key"


def _store(gallery: Path | None, model: str, new: bool = False) -> GalleryStore:
    path = _gallery_path(gallery)
    if not path.exists() and not new:
        raise ParameterError(f"expected a gallery, found no {path}: enrol somebody first")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    graph = load_model(model, weights=False).graph
    return GalleryStore(path, graph.digest(), graph.output_shape[0], Kind.PRIVATE)


def _run(
    tasks: Sequence[Task],
    gallery: Path | None,
    key: Path | None,
    model: str,
    aligned: bool,
    cache: str,
    timeout: float,
    as_json: bool,
    quiet: bool,
    new: bool = False,
    limits: bool = True,
    shards: int = 1,
) -> list[dict[str, Any]]:
    """Have the ranks do the tasks; return the answers."""
    _store(gallery, model, new).close()  # refuses another model's gallery before anything starts
    gallery, key = _gallery_path(gallery), _key_path(key)
    if new and not key.exists():
        with _store(gallery, model) as store:
            if store.count:
                raise ParameterError(f"expected the key of {gallery}, found no {key}: with a new one nobody is found")
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_key(key)
        sys.stderr.write(f"hybridface: made a new key, {key}: keep a copy, nothing can be read without it\n")
    read_key(key)
    hidden = quiet or as_json or not sys.stderr.isatty()
    with (
        tempfile.TemporaryDirectory(prefix="hybridface-") as folder,
        Progress(console=Console(stderr=True), transient=True, disable=hidden) as progress,
    ):
        path = Path(folder) / "tasks.jsonl"
        write_tasks(path, tasks)
        bar = progress.add_task("starting", total=len(tasks))

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "answer":
                progress.update(bar, advance=1, description=str(event["verb"]))

        outcome = run_gallery(
            path,
            key,
            gallery,
            ["--aligned"] if aligned else [],
            ["--model", model],
            [*cache_options(cache), *([] if limits else ["--no-limits"])],
            timeout,
            on_event,
            shards,
        )
    return outcome.answers


def _say(answers: Sequence[dict[str, Any]], as_json: bool, text: str) -> None:
    """Print the outcome; a refusal is an error."""
    if as_json:
        sys.stdout.write(json.dumps(answers[0] if len(answers) == 1 else {"answers": list(answers)}) + "\n")
    refused = [answer["refused"] for answer in answers if "refused" in answer]
    if refused:
        sys.stderr.write(f"hybridface: {refused[0]}\n")
        raise typer.Exit(EXIT_ERROR)
    if not as_json:
        sys.stdout.write(text + "\n")
