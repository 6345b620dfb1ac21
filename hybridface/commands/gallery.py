"""Commands for galleries: `enroll`, `identify`, `verify --id`, `rotate-key`; the modules beside this one have others.

Like `verify`, queries and enrolment in a private gallery start client, server and perhaps a dealer as MPI processes on
this machine. The gallery's file belongs to the server, the key's file to the client. The server enrols in a list alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridface.commands.gallery_answers import refuse
from hybridface.commands.gallery_file import export, list_people, remove
from hybridface.commands.gallery_limits import limits
from hybridface.commands.gallery_log import prune_log, queries, reset_limit
from hybridface.commands.gallery_new import make_gallery, make_key
from hybridface.commands.gallery_options import (
    IdOption,
    KindOption,
    PhotoSettings,
    SessionSettings,
    with_settings,
)
from hybridface.commands.gallery_people import check_names, rename
from hybridface.commands.import_people import import_people
from hybridface.commands.options import LimitsOption, RevealOption, ShardsOption, ThresholdOption
from hybridface.commands.places import check_photos
from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME, RunError
from hybridface.output.documents import enrolment_document, identification_document, verification_document
from parties.gallery.kind import GalleryKind
from protocols.errors import ParameterError
from protocols.link import Link
from protocols.matching.reveal import Reveal

if TYPE_CHECKING:
    from hybridface.galleries.tasks import GalleryTask
    from hybridface.processes.outcome import Outcome

__all__ = ["register", "verify_identity"]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in (
        ("create-key", make_key),
        ("create-gallery", make_gallery),
        ("enroll", enroll),
        ("identify", identify),
        ("list", list_people),
        ("remove", remove),
        ("rename", rename),
        ("check-names", check_names),
        ("import", import_people),
        ("export", export),
        ("rotate-key", rotate_key),
        ("queries", queries),
        ("prune-log", prune_log),
        ("reset-limit", reset_limit),
        ("limits", limits),
    ):
        app.command(name)(with_settings(command))


def enroll(
    settings: PhotoSettings,
    photos: Annotated[list[Path], typer.Argument(help="Photos of one person.")],
    identity: IdOption,
    kind: KindOption = None,
    replace: Annotated[
        int | None,
        typer.Option("--replace", min=1, help="Number of the photo that they replace; see list --photos."),
    ] = None,
) -> None:
    """Enrol a person; make the gallery, and a private gallery's key, if there is none.

    In a private gallery, the server cannot read the templates: they are noise without the client's key.

    In a list (--kind list), the server enrols its own photos in the clear: no key, no other process.
    """
    from hybridface.output.answers import photos_text, say
    from parties.gallery.store.identities import person_name

    check_photos(photos)
    identity = person_name(identity)
    people = [(identity, photo) for photo in photos]
    if settings.server:
        from hybridface.commands.gallery_remote import remote_gallery
        from hybridface.commands.gallery_runs import enroll_remotely

        with remote_gallery(settings) as gallery:
            answers = enroll_remotely(people, gallery, whole=True)
        refuse(answers)
    else:
        answers = _enroll_here(people, settings, settings.kind(kind, new=True), replace)
    document = enrolment_document(answers)
    say(document, f"enrolled {photos_text(len(answers))} of {identity!r}", settings.as_json)


def _enroll_here(
    people: list[tuple[str, Path]], settings: PhotoSettings, kind: GalleryKind, replace: int | None
) -> list[dict[str, Any]]:
    """Enrol photos of one person in a gallery of this machine; return an answer for each photo."""
    from hybridface.commands.gallery_runs import enroll_photos, expect_photo, replace_photo

    identity = people[0][0]
    if replace:
        expect_photo(identity, replace, settings)
    answers = enroll_photos(people, settings, kind, whole=True)
    refuse(answers)
    if replace:
        replace_photo(identity, replace, settings)
    return answers


def _ask(task: "GalleryTask", settings: PhotoSettings, reveal: Reveal, **here: Any) -> tuple["Outcome", str]:
    """Do one query, on this machine or with a remote server; return the outcome and the network's name.

    Args:
        here: options of `run_queries` that a remote server decides itself.
    """
    if settings.server:
        from hybridface.commands.gallery_remote import remote_gallery

        with remote_gallery(settings) as gallery:
            return gallery.do([task], reveal=reveal), gallery.server.model.name
    kind = settings.kind()
    from hybridface.commands.gallery_runs import run_queries

    return run_queries([task], settings, kind, reveal=reveal, **here), settings.model


def verify_identity(
    photo: Path, identity: str, settings: PhotoSettings, *, reveal: Reveal, link: Link, threshold: float | None
) -> None:
    """Compare a photo with somebody in the gallery, print the decision, and exit: 0 same person, 1 different."""
    from hybridface.galleries.tasks import GalleryTask, Verb
    from hybridface.output.answers import say
    from hybridface.output.cost import decision_text
    from parties.gallery.store.identities import asked_name

    identity = asked_name(identity)
    task = GalleryTask(Verb.VERIFY, identity, str(photo))
    outcome, model = _ask(task, settings, reveal, link=link, threshold=threshold)
    answer = outcome.answers[-1]
    refuse([answer])
    match = answer["match"] if answer["match"] is not None else outcome.decision
    if match is None and not _stays_remote(settings, reveal):
        raise RunError("cannot report the decision: no party sent one")
    result = {"identity": identity, "model": model, "mode": "hybrid", "reveal": reveal.value}
    document = verification_document(result, match)
    say(document, decision_text(match) + _learner(reveal), settings.as_json)
    raise typer.Exit(EXIT_DIFFERENT if match is False else EXIT_SAME)


def identify(
    settings: PhotoSettings,
    photo: Annotated[Path, typer.Argument(help="A photo of the person to find.")],
    top: Annotated[int, typer.Option("--top", min=1, max=64, help="How many of the nearest people to name.")] = 1,
    reveal: RevealOption = Reveal.CLIENT,
    limits: LimitsOption = True,
    shards: ShardsOption = 1,
    threshold: ThresholdOption = None,
) -> None:
    """Find who in the gallery is nearest to a photo and below the threshold; never reveal a distance.

    Prints names, nearest first, or "unknown".

    Exit status: 0 somebody was found, 1 nobody was found, 2 error.
    """
    from hybridface.galleries.tasks import GalleryTask, Verb
    from hybridface.output.answers import names_text, say
    from hybridface.output.cost import decision_text

    check_photos([photo])
    task = GalleryTask(Verb.IDENTIFY, photo=str(photo), top=top)
    outcome, model = _ask(task, settings, reveal, limits=limits, shards=shards, threshold=threshold)
    answer = outcome.answers[-1]
    refuse([answer])
    if _stays_remote(settings, reveal):
        nothing = {"identities": None, "model": model, "reveal": reveal.value}
        say(nothing, decision_text(None) + _learner(reveal), settings.as_json)
        return
    identities = _found(outcome, answer)
    document = identification_document(identities, model, reveal.value)
    say(document, names_text(identities) + _learner(reveal), settings.as_json)
    raise typer.Exit(EXIT_SAME if any(name is not None for name in identities) else EXIT_DIFFERENT)


def rotate_key(
    settings: SessionSettings,
    new_key: Annotated[Path, typer.Argument(help="A new file for the new key.")],
) -> None:
    """Put a private gallery under a new key, without enrolling anybody again.

    After that, the old key is useless. A list has no key.
    """
    if settings.server:
        _rotate_remotely(settings, new_key)
        return
    from hybridface.galleries.kind import expect_model, kind_for_use

    if kind_for_use(settings.path) is GalleryKind.LIST:
        raise ParameterError(f"{settings.path.name}: expected a private gallery, found a list, which has no key")
    from hybridface.commands.gallery_runs import run_queries
    from hybridface.galleries.tasks import GalleryTask, Verb
    from hybridface.models.model import load_model
    from hybridface.output.answers import say
    from parties.gallery.key import create_key, read_key

    expect_model(settings.path, load_model(settings.model, weights=False))
    read_key(settings.key_path)  # check both first: a new file would block the next attempt
    create_key(new_key)
    task = GalleryTask(Verb.ROTATE, key=str(new_key))
    try:
        answers = run_queries([task], settings, GalleryKind.PRIVATE).answers
    except RunError as error:
        raise RunError(f"{error}; keep both key files, {settings.key_path} and {new_key}") from error
    if any("refused" in answer for answer in answers):
        new_key.unlink()  # nothing was changed, so nothing uses it
    refuse(answers)
    text = f"the gallery uses the key {new_key} now (generation {answers[-1].get('generation')})"
    say({"generation": answers[-1].get("generation")}, text, settings.as_json)


def _rotate_remotely(settings: SessionSettings, new_key: Path) -> None:
    """Put a remote server's private gallery under a new key."""
    from hybridface.commands.gallery_remote import remote_gallery
    from hybridface.galleries.tasks import GalleryTask, Verb
    from hybridface.output.answers import say
    from parties.gallery.key import create_key, read_key

    with remote_gallery(settings) as gallery:
        if gallery.key is None:
            raise ParameterError(f"{gallery.name}: expected a private gallery, got a list, which has no key")
        read_key(gallery.key)
        create_key(new_key)
        try:
            answers = gallery.do([GalleryTask(Verb.ROTATE, key=str(new_key))]).answers
        except RunError as error:
            raise RunError(f"{error}; keep both key files, {gallery.key} and {new_key}") from error
        if any("refused" in answer for answer in answers):
            new_key.unlink()  # nothing was changed, so nothing uses it
        refuse(answers)
        generation = answers[-1].get("generation")
        text = (
            f"the gallery uses the key {new_key} now (generation {generation}); keep it where commands look for it:"
            f" {gallery.key}, or pass --key"
        )
        say({"generation": generation}, text, settings.as_json)


def _stays_remote(settings: PhotoSettings, reveal: Reveal) -> bool:
    """Return whether only a remote server learns an outcome, and this command does not."""
    return bool(settings.server) and reveal is Reveal.SERVER


def _found(outcome: "Outcome", answer: dict[str, Any]) -> Sequence[str | None]:
    """Return the people that an identification has found, from the party that learned it."""
    identities = answer["identities"] if answer["match"] is not None else outcome.found
    if identities is None:
        raise RunError("cannot report the names that were found: no party sent them")
    return list(identities)


def _learner(reveal: Reveal) -> str:
    return " (only the server learned it)" if reveal is Reveal.SERVER else ""
