"""Names: what looks the same is the same, what cannot be seen is refused, and old names are told, not merged."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.gallery.store.identities import OddName, asked_name, new_name, odd_names, person_name
from protocols.errors import ParameterError

SEEN = [
    "alice",
    "Ada Lovelace",
    "ALICE",
    "Zoë",
    "O'Neill-Müller, 3rd",
    "王秀英 🙂",
    "山田\u3000太郎",  # the ideographic space, as in Japanese names
    "\u0646\u062c\u0645\u0647\u200c\u0627\u0644\u0633\u0627\u062f\u0627\u062a",  # Arabic letters, a non-joiner
    "ශ්\u200dරී",  # a zero-width joiner behind a virama
    "[/x] %_?*",
    "x" * 10_000,
]
UNSEEN = [
    (" ", "white space alone"),
    ("\u3000\u2003", "white space alone"),
    (" alice", "begins or ends with white space"),
    ("alice\n", "begins or ends with white space"),
    ("alice\u00a0", "begins or ends with white space"),
    ("\u3000山田", "begins or ends with white space"),
    ("a\0b", "character 2 is a control character, U+0000"),
    ("a\x1b[2Jb", "a control character, U+001B"),
    ("a\nb", "a control character, U+000A"),
    ("a\u200bb", "an invisible character, U+200B ZERO WIDTH SPACE"),
    ("\ufeffalice", "character 1 is an invisible character, U+FEFF"),
    ("alice\u202ebob", "U+202E RIGHT-TO-LEFT OVERRIDE"),
    ("ali\u00adce", "U+00AD SOFT HYPHEN"),
    ("a\u200db", "U+200D ZERO WIDTH JOINER"),
    ("alice\u200c", "U+200C ZERO WIDTH NON-JOINER"),
    ("\u200dalice", "U+200D ZERO WIDTH JOINER"),
    ("a\u3164b", "U+3164 HANGUL FILLER"),
    ("a\u2800b", "U+2800 BRAILLE PATTERN BLANK"),
    ("❤\ufe0f", "U+FE0F VARIATION SELECTOR-16"),
    ("a\U000e0041b", "U+E0041 TAG LATIN CAPITAL LETTER A"),
    ("a\u00a0b", "a space other than the plain one, U+00A0 NO-BREAK SPACE"),
    ("a\u2009b", "U+2009 THIN SPACE"),
    ("a\u2028b", "a line separator, U+2028"),
    ("a\u0378b", "an unassigned character, U+0378"),
    ("a\ufffeb", "an unassigned character, U+FFFE"),
]


@pytest.mark.parametrize("name", SEEN, ids=ascii)
def test_a_name_that_can_be_seen_stays_as_it_is(name: str) -> None:
    assert person_name(name) == asked_name(name) == name
    assert new_name(name) == name.encode()
    assert odd_names([name]) == []


WRITTEN_OTHERWISE = ["Zoe\u0308", "A\u030angstro\u0308m", "\u1100\u1161", "\u212b", "e\u0323\u0301"]


@pytest.mark.parametrize("name", WRITTEN_OTHERWISE, ids=ascii)
def test_two_ways_to_write_one_name_are_one_name(name: str) -> None:
    formed = unicodedata.normalize("NFC", name)
    assert formed != name
    assert person_name(name) == person_name(formed) == asked_name(name) == formed
    assert asked_name(name, {name}) == name, "an old name is asked for as it is"
    with pytest.raises(ParameterError, match="expected a name in the normal form NFC, got 'Z|expected a name in"):
        new_name(name)


@pytest.mark.parametrize(("name", "said"), UNSEEN, ids=lambda value: ascii(value))
def test_what_cannot_be_seen_is_refused_by_its_name(name: str, said: str) -> None:
    for check in (person_name, new_name):
        with pytest.raises(ParameterError) as caught:
            check(name)
        assert said in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["", "x" * 10_001, "\u1e9b\u0323" + "x" * 10_000, "\ud800", None, b"x"])
def test_what_is_no_text_of_the_right_length(name: Any) -> None:
    for check in (person_name, new_name, asked_name):
        with pytest.raises(ParameterError, match="expected an identity of"):
            check(name)


def test_a_name_that_is_too_long_in_its_normal_form() -> None:
    with pytest.raises(ParameterError, match="expected an identity of 1 to 10000 characters, got 20000"):
        person_name("\u0958" * 10_000)  # one character, which the normal form always writes as two


def test_case_counts() -> None:
    assert len({person_name(name) for name in ("Alice", "alice", "ALICE")}) == 3


_USUAL = st.characters(categories=("L", "M", "N", "P", "S", "Co"))


@given(st.text(_USUAL | st.sampled_from(" \u3000\u200c\u200d") | st.characters(), min_size=1, max_size=20))
def test_a_name_is_taken_the_same_however_often(text: str) -> None:
    try:
        name = person_name(text)
    except ParameterError:
        return
    assert person_name(name) == name == name.strip()
    assert name.isprintable() or "\u3000" in name or set(name) & set("\u200c\u200d") or _private(name)
    assert odd_names([name]) == []


def _private(name: str) -> bool:
    return any(unicodedata.category(one) == "Co" for one in name)


OLD = ["Zoe\u0308", "Zoë", " bob", "Bob", "e\u0301ve", "a\u200bb", "  ", "ok"]


def test_old_names_are_told_and_those_that_would_meet_stay_apart() -> None:
    found = {odd.name: odd for odd in odd_names(OLD)}
    assert found["Zoe\u0308"].becomes is None
    assert "without that it is 'Zo\\xeb'" in found["Zoe\u0308"].reason
    assert found[" bob"] == OddName(" bob", "bob", "it begins or ends with white space")
    assert found["e\u0301ve"].becomes == "éve"
    assert found["a\u200bb"].becomes is None
    assert found["  "].becomes is None
    assert len(found) == 5


def test_two_old_names_that_would_be_one_stay_two() -> None:
    assert [odd.becomes for odd in odd_names([" bob", "bob "])] == [None, None]
