"""A gallery's log and limits on the command line: the log is pruned, and a client may ask again."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from parties.gallery.errors import QueryLimitError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.limits import EVERYONE, OPERATOR, Query, QueryLimits
from parties.gallery.store.store import GalleryStore
from support.ranks import Done


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """A gallery of which `client` has asked about Ann until it was refused."""
    path = tmp_path / "gallery.db"
    with GalleryStore(path, "0" * 64, 8, GalleryKind.PRIVATE):
        pass
    with QueryLimits(path) as limits:
        for _ in range(20):
            limits.admit("client", "verify", "Ann")
        with pytest.raises(QueryLimitError):
            limits.admit("client", "verify", "Ann")
    return path


def log_of(path: Path) -> list[Query]:
    with QueryLimits(path) as limits:
        return limits.queries()


def test_the_log_is_pruned_before_a_day(call: Callable[..., Done], gallery: Path) -> None:
    today = f"{datetime.now():%Y-%m-%d}"
    assert call("prune-log", today, "--gallery", str(gallery)) == (0, "removed 0 lines of the log\n", "")
    assert len(log_of(gallery)) == 22
    tomorrow = f"{datetime.now() + timedelta(days=2):%Y-%m-%dT%H:%M:%S}"
    status, out, _ = call("prune-log", tomorrow, "--gallery", str(gallery), "--json")
    assert (status, json.loads(out)) == (0, {"removed": 22})
    (line,) = log_of(gallery)
    assert (line.client, line.operation, line.tag, line.allowed) == (OPERATOR, "prune log", None, True)
    with QueryLimits(gallery) as limits, pytest.raises(QueryLimitError):
        limits.take("client", "Ann")


@pytest.mark.parametrize("client", ["client", "another"])
def test_a_client_may_ask_again(call: Callable[..., Done], gallery: Path, client: str) -> None:
    said = call("reset-limit", client, "--id", "Ann", "--gallery", str(gallery))
    assert said == (0, f"{client} may ask about Ann again\n", "")
    with QueryLimits(gallery) as limits:
        last = limits.queries("Ann")[-1]
        assert (last.client, last.operation, last.allowed) == (OPERATOR, "reset limit", True)
        if client == "client":
            limits.take("client", "Ann")
        else:
            with pytest.raises(QueryLimitError):
                limits.take("client", "Ann")


def test_a_client_may_ask_about_everyone_again(call: Callable[..., Done], gallery: Path) -> None:
    with QueryLimits(gallery) as limits:
        limits.take("client", EVERYONE, tokens=20)
    status, out, _ = call("reset-limit", "client", "--gallery", str(gallery), "--json")
    assert (status, json.loads(out)) == (0, {"client": "client", "about": None})
    with QueryLimits(gallery) as limits:
        limits.take("client", EVERYONE, tokens=20)
        with pytest.raises(QueryLimitError):
            limits.take("client", "Ann")


def test_no_line_is_about_a_name_before_any_was_asked_about(call: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    GalleryStore(path, "0" * 64, 8, GalleryKind.PRIVATE).close()
    with QueryLimits(path) as limits:
        limits.log(OPERATOR, "export", EVERYONE, True)
    before = sorted(path.parent.iterdir())
    for options, lines in (((), [False]), (("--only",), [])):
        status, out, _ = call("queries", "--gallery", str(path), "--id", "Ann", *options, "--json")
        assert (status, [line["about"] for line in json.loads(out)["queries"]]) == (0, lines)
    assert sorted(path.parent.iterdir()) == before, "a reader makes no key"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prune-log", "2026-01-01", "--gallery", "none.db"), "expected a gallery, found no none.db"),
        (("reset-limit", "x", "--gallery", "none.db"), "expected a gallery, found no none.db"),
        (("prune-log", "yesterday"), "'yesterday' does not match the formats"),
        (("prune-log", "0001-01-01", "--gallery", "GALLERY"), "expected a day that this machine's clock can show"),
        (("reset-limit", "", "--gallery", "GALLERY"), "expected 1 to 256 printable characters, got ''"),
        (("reset-limit", "x", "--id", "", "--gallery", "GALLERY"), "expected an identity of 1 to 10000 characters"),
    ],
)
def test_what_cannot_be_is_said(
    call: Callable[..., Done], gallery: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = log_of(gallery)
    status, _, errors = call(*(str(gallery) if word == "GALLERY" else word for word in arguments))
    assert status == 2
    assert said in errors
    assert log_of(gallery) == before
