"""Commands about names in galleries: `rename` and `check-names`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridface.commands.effects import expect_effect
from hybridface.commands.gallery_options import OF_SESSIONS, SessionSettings
from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME
from hybridface.output.answers import say, shown
from parties.gallery.errors import QueryRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parties.gallery.store.identities import OddName

__all__ = ["check_names", "rename"]

_SHOWN = 40


def rename(
    settings: SessionSettings,
    old: Annotated[str, typer.Argument(help="The person's name in the gallery.")],
    new: Annotated[str, typer.Argument(help="A name that nobody has.")],
) -> None:
    """Give somebody another name, without enrolling again.

    A private gallery needs the client's key for this, because what the server stores depends on the name. The command
    never merges two people.
    """
    from parties.gallery.store.identities import asked_name, person_name

    new = person_name(new)
    if settings.server:
        old, refused = asked_name(old), _rename_remotely(settings, asked_name(old), new)
    else:
        settings.kind(alone=True)
        from hybridface.commands.renaming import people_of, rename_people

        old = asked_name(old, people_of(settings))
        refused = rename_people([(old, new)], settings)
    if refused:
        raise QueryRefusedError(refused[old].removeprefix("the server refuses: "))
    say({"identity": old, "name": new}, f"{old[:_SHOWN]!r} is {new[:_SHOWN]!r} now", settings.as_json)


def _rename_remotely(settings: SessionSettings, old: str, new: str) -> dict[str, str]:
    """Rename a person in a remote server's gallery; return the reason, by the old name, if that is refused."""
    from hybridface.commands.gallery_remote import answers_of
    from hybridface.galleries.tasks import GalleryTask, Verb

    answers = answers_of(settings, [GalleryTask(Verb.RENAME, old, name=new)])
    refused = [str(one["refused"]) for one in answers if "refused" in one]
    return {old: refused[0]} if refused else {}


def check_names(
    settings: SessionSettings,
    fix: Annotated[
        bool, typer.Option("--fix", help="Rename where the new name is clear; a private gallery needs its key.")
    ] = False,
) -> None:
    """List names that do not have the form of new names; a gallery of an older version may hold such names.

    Two names that become the same in that form may belong to one person or to two. Only you know, so they stay.

    Exit status: 0 all names have the form, 1 some do not, 2 error.
    """
    if settings.context:
        expect_effect(settings.context, ("server",), "for check-names: only the gallery's owner checks them all")
    settings.kind(alone=True)
    if settings.context and not fix:
        expect_effect(settings.context, (*OF_SESSIONS, "key"), "without --fix")
    from hybridface.commands.renaming import people_of, rename_people
    from parties.gallery.store.identities import odd_names

    odd = odd_names(people_of(settings))
    clear = [(one.name, one.becomes) for one in odd if one.becomes]
    refused = rename_people(clear, settings) if fix and clear else {}
    done = {name: becomes for name, becomes in clear if name not in refused} if fix else {}
    left = [one for one in odd if one.name not in done]
    renamed = [{"identity": name, "name": becomes} for name, becomes in done.items()]
    document = {"renamed": renamed, "odd": [_line(one, refused) for one in left]}
    say(document, _text(document, len(odd)), settings.as_json)
    raise typer.Exit(EXIT_DIFFERENT if left else EXIT_SAME)


def _line(one: "OddName", refused: dict[str, str]) -> dict[str, Any]:
    return {"name": one.name, "becomes": one.becomes, "reason": refused.get(one.name, one.reason)}


def _text(document: dict[str, Any], count: int) -> str:
    if not count:
        return "all names have the form of new names"
    lines: Sequence[str] = [
        *(f"{one['identity'][:_SHOWN]!a} is {one['name'][:_SHOWN]!r} now" for one in document["renamed"]),
        *(f"{one['name'][:_SHOWN]!a}: {one['reason']}; {_advice(one)}" for one in document["odd"]),
    ]
    return "\n".join(lines)


def _advice(one: dict[str, Any]) -> str:
    if one["becomes"]:
        return f"--fix makes it {shown(one['becomes'][:_SHOWN])}"
    return "rename gives it another name"
