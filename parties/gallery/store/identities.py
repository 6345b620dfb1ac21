"""Check the form of new names: names that look the same are the same, and every difference can be seen.

A new name is any Unicode text of 1 to 10,000 characters that follows these rules:

- **Normal form.** It is in NFC (Unicode Standard Annex 15). Keyboards and file systems differ in whether they write an
  accented letter as one character or as two.
- **Ends.** It neither begins nor ends with white space.
- **Visible characters.** It has no control or format characters, fillers, selectors, or spaces other than the plain
  and the ideographic one. Exceptions are the joiners of Persian and Indic spelling, where they change what is seen
  (RFC 5892, appendix A, simplified).
- **Case.** Case counts: Alice and alice are two people.

Galleries of older versions may hold other names. They keep them until somebody renames these people. A share of a
private gallery depends on the exact name, so nobody can rename without the client's key.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from parties.gallery.store.records import identity_bytes
from protocols.errors import ParameterError

__all__ = ["OddName", "asked_name", "new_name", "odd_names", "person_name"]

_JOINERS = "\u200c\u200d"
_VIRAMA = 9  # the canonical combining class of all viramas
_SPACES = " \u3000"
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SELECTORS = (0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF)
_UNSEEN = {"Cc": "a control character", "Cf": "an invisible character", "Cn": "an unassigned character"}
_SEPARATORS = {"Zl": "a line separator", "Zp": "a paragraph separator", "Zs": "a space other than the plain one"}


def person_name(text: str) -> str:
    """Return a text as a name in the form of new names.

    Raises:
        ParameterError: it is empty or too long, begins or ends with white space, or has an invisible character.
    """
    identity_bytes(text)
    name = unicodedata.normalize("NFC", text)
    identity_bytes(name)
    if reason := _fault(name):
        raise ParameterError(f"expected a name of visible characters, got {name[:40]!r}: {reason}")
    return name


def new_name(name: str) -> bytes:
    """Return a name in UTF-8, after checking that it has the form of new names.

    Raises:
        ParameterError: it has another form.
    """
    if person_name(name) != name:
        raise ParameterError(f"expected a name in the normal form NFC, got {name[:40]!a}")
    return identity_bytes(name)


def asked_name(text: str, known: Collection[str] = ()) -> str:
    """Return the name that a question means: the text itself if it is a known name, else its normal form.

    Raises:
        ParameterError: it is empty or too long, or has a lone surrogate.
    """
    identity_bytes(text)
    return text if text in known else unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class OddName:
    """A name in a gallery that is not in the form of new names.

    Args:
        name: as it is in the gallery.
        becomes: the name in that form; None if a person must choose another name.
        reason: why the name is not in that form.
    """

    name: str
    becomes: str | None
    reason: str


def odd_names(names: Collection[str]) -> list[OddName]:
    """Return the names that are not in the form of new ones. None of them becomes a name that another person has.

    Args:
        names: all names in the gallery.
    """
    forms = {name: unicodedata.normalize("NFC", name).strip() for name in names}
    owners: dict[str, list[str]] = defaultdict(list)
    for name, form in forms.items():
        owners[form].append(name)
    found = []
    for name, form in forms.items():
        if reason := _reason(name):
            others = [other for other in owners[form] if other != name]
            if others:
                found.append(OddName(name, None, f"{reason}; without that it is {others[0][:40]!a}"))
            else:
                found.append(OddName(name, form if form and not _fault(form) else None, reason))
    return found


def _reason(name: str) -> str:
    """Return why a name is not in the form of new names; "" if it is."""
    if unicodedata.normalize("NFC", name) != name:
        return "it is not in the normal form NFC"
    return _fault(name)


def _fault(name: str) -> str:
    """Return what is wrong with a name in the normal form; "" if nothing is."""
    stripped = name.strip()
    if not stripped:
        return "it is white space alone"
    if stripped != name:
        return "it begins or ends with white space"
    for place, character in enumerate(name):
        if what := _unseen(name, place, character):
            return f"character {place + 1} is {what}, {_title(character)}"
    return ""


def _unseen(name: str, place: int, character: str) -> str:
    """Describe a character that cannot be seen or told from another; return "" for any other character."""
    if character in _SPACES or (character in _JOINERS and _joins(name, place)):
        return ""
    if character in _FILLERS or any(low <= ord(character) <= high for low, high in _SELECTORS):
        return "an invisible character"
    category = unicodedata.category(character)
    return _UNSEEN.get(category) or _SEPARATORS.get(category, "")


def _joins(name: str, place: int) -> bool:
    """Return whether a joiner changes what is seen: it does after a virama, or between Arabic letters."""
    before, after = name[place - 1 : place], name[place + 1 : place + 2]
    if before and unicodedata.combining(before) == _VIRAMA:
        return True
    both = [unicodedata.bidirectional(one) == "AL" for one in (before, after) if one]
    return name[place] == _JOINERS[0] and both == [True, True]


def _title(character: str) -> str:
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}{' ' if name else ''}{name}"
