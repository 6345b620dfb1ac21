"""The results of gallery tasks in words: for the command line, and for ranks that no command listens to."""

import sys
from collections.abc import Sequence
from typing import Any

from hybridface.errors import escaped
from hybridface.galleries.tasks import Verb
from hybridface.output.cost import decision_text
from hybridface.output.documents import print_json

__all__ = ["answer_text", "names_text", "photos_text", "say", "shown"]


def shown(name: str) -> str:
    """Return a name in a form that is safe to write to a terminal."""
    return name if name.isprintable() else repr(name)


def photos_text(count: int) -> str:
    """Return a number of photos in words."""
    return f"{count} photo{'' if count == 1 else 's'}"


def names_text(identities: Sequence[str | None]) -> str:
    """Return the people that an identification has found, one per line, or "unknown"."""
    return "\n".join(shown(name) for name in identities if name is not None) or "unknown"


def answer_text(answer: dict[str, Any]) -> str:
    """Return the result of one task in words, as far as the client knows it."""
    match answer:
        case {"refused": str(reason)}:
            return escaped(reason)
        case {"unusable": str(reason)}:
            return f"not enrolled: {escaped(reason)}"
        case {"verb": Verb.VERIFY.value, "match": match}:
            return decision_text(match)
        case {"verb": Verb.IDENTIFY.value, "match": None}:
            return decision_text(None)
        case {"verb": Verb.IDENTIFY.value, "identities": [*identities]}:
            return names_text(identities)
        case {"enrolled": dict(enrolled)}:
            return "\n".join(f"{shown(name)}: {photos}" for name, photos in enrolled.items()) or "nobody is enrolled"
        case {"removed": int(count)}:
            return f"removed {photos_text(count)} of {answer['identity']!r}"
        case {"renamed": str(name)}:
            return f"{answer['identity']!r} is {name!r} now"
        case {"generation": int(generation)}:
            return f"the gallery uses the new key now (generation {generation})"
        case _:
            return f"enrolled a photo of {answer.get('identity')!r}"


def say(document: dict[str, Any], text: str, as_json: bool) -> None:
    """Print the result of a command: as one JSON object, or in words."""
    if as_json:
        print_json(document)
    else:
        sys.stdout.write("\n".join(map(escaped, text.split("\n"))) + "\n")
