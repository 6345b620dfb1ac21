"""Limits that the operator sets: for everybody, for a client, and back to what was delivered."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parties.gallery.kind import GalleryKind
from parties.gallery.store.limits import OPERATOR, QueryLimits
from parties.gallery.store.store import GalleryStore
from support.ranks import Done


@pytest.fixture
def gallery(tmp_path: Path) -> str:
    with GalleryStore(tmp_path / "gallery.db", "0" * 64, 8, GalleryKind.PRIVATE):
        return str(tmp_path / "gallery.db")


def limits_of(call: Callable[..., Done], gallery: str, *arguments: str) -> dict[tuple[str | None, str], Any]:
    status, out, errors = call("limits", "--gallery", gallery, "--json", *arguments)
    assert (status, errors) == (0, "")
    return {
        (line["client"], line["question"]): (line["at_once"], line["per_hour"], line["set"])
        for line in json.loads(out)["limits"]
    }


def test_limits_are_said_and_set(call: Callable[..., Done], gallery: str) -> None:
    delivered = {(None, question): (20, 4, False) for question in ("verify", "identify", "guess")}
    assert limits_of(call, gallery) == delivered
    assert limits_of(call, gallery, "--verify", "5/1", "--guess", "3/0.5") == {
        **delivered,
        (None, "verify"): (5, 1, True),
        (None, "guess"): (3, 0.5, True),
    }
    assert limits_of(call, gallery, "--client", "door", "--verify", "50/10")["door", "verify"] == (50, 10, True)
    status, out, _ = call("limits", "--gallery", gallery)
    assert status == 0
    assert [line.split() for line in out.splitlines()][1:] == [
        ["everybody", "guess", "3", "0.5"],
        ["everybody", "identify", "20", "4", "default"],
        ["everybody", "verify", "5", "1"],
        ["door", "verify", "50", "10"],
    ]
    limits_of(call, gallery, "--client", "door", "--verify", "default")
    assert limits_of(call, gallery, "--verify", "default", "--guess", "default") == delivered
    with QueryLimits(Path(gallery)) as limits:
        lines = [(line.client, line.operation) for line in limits.queries()]
    assert lines == [(OPERATOR, "set limit")] * 6


def test_the_limits_of_one_client_are_its_own_or_everybodys(call: Callable[..., Done], gallery: str) -> None:
    limits_of(call, gallery, "--client", "door", "--verify", "50/10", "--guess", "2/1")
    limits_of(call, gallery, "--guess", "3/0.5")
    of_gate = {
        ("gate", "verify"): (7, 1, True),
        (None, "identify"): (20, 4, False),
        (None, "guess"): (3, 0.5, True),
    }
    assert limits_of(call, gallery, "--client", "gate", "--verify", "7/1") == of_gate
    assert limits_of(call, gallery, "--client", "gate") == of_gate
    assert list(limits_of(call, gallery, "--client", "nobody")) == [
        (None, question) for question in ("guess", "identify", "verify")
    ]
    status, out, _ = call("limits", "--gallery", gallery, "--client", "door")
    assert (status, [line.split() for line in out.splitlines()][1:]) == (
        0,
        [
            ["everybody", "identify", "20", "4", "default"],
            ["door", "guess", "2", "1"],
            ["door", "verify", "50", "10"],
        ],
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--verify", "many"), "expected AT_ONCE/PER_HOUR, such as 10/2, or default, got 'many'"),
        (("--verify", "5"), "expected AT_ONCE/PER_HOUR"),
        (("--verify", "5/1/1"), "expected AT_ONCE/PER_HOUR"),
        (("--identify", "0/1"), "expected 1 query or more at once and 1e-06 or more an hour"),
        (("--guess", "1/nan"), "expected 1 query or more at once and 1e-06 or more an hour"),
        (("--verify", "1/1e-10"), "an hour, each below 1e+09, got 1 and 1e-10"),
        (("--verify", "5/1", "--client", "a\nb"), "expected 1 to 256 printable characters"),
    ],
)
def test_limits_that_are_none(call: Callable[..., Done], gallery: str, arguments: tuple[str, ...], said: str) -> None:
    status, out, errors = call("limits", "--gallery", gallery, *arguments)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert said in errors
    assert not any(rate[-1] for rate in limits_of(call, gallery).values())
