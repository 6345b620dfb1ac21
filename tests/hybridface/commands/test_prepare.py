"""Correlations on the command line: who makes them, runs that are prepared for later, and their benchmark."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from parties.session.correlations import Correlations
from support.ranks import Done
from support.tiny_network import save_chips

TINY = ["--model", "tiny-test"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Aligned random chips: "a", "same" and "different"."""
    return save_chips(tmp_path_factory.mktemp("photos"), seed=3)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_verifications_take_what_was_prepared(
    call: Callable[..., Done], photos: dict[str, str], tmp_path: Path
) -> None:
    where = [*TINY, "--prepared", str(tmp_path / "kept")]
    status, out, errors = call("prepare", "--count", "2", *where, "--quiet")
    assert (status, errors) == (0, "")
    assert "2 prepared, in " in out.replace("\n", " ")
    assert len(list(tmp_path.glob("kept/client/*/*.ready"))) == len(list(tmp_path.glob("kept/server/*/*.ready"))) == 2
    found = []
    for _ in range(3):
        status, out, errors = call("verify", photos["a"], photos["same"], "--aligned", "--json", "--costs", *where)
        assert (status, errors) == (0, "")
        result = json.loads(out)
        offline = {stage["stage"] for stage in result["costs"]["stages"] if stage["phase"] == "offline"}
        assert ("correlations" in offline) is not result["was_prepared"]
        found.append(result["was_prepared"])
    assert found == [True, True, False]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_galleries_take_what_was_prepared(
    call: Callable[..., Done], photos: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    status, out, errors = call("prepare", "--count", "2", "--for", "photo", *TINY, "--json")
    assert (status, errors) == (0, "")
    document = json.loads(out)
    assert (document["kept"], document["folder"]) == (2, str(tmp_path / "hybridface" / "prepared"))
    assert len(document["seconds"]) == len(document["MB_both_ways"]) == 2
    left = lambda: len(list(tmp_path.glob("hybridface/prepared/client/*/*.ready")))  # noqa: E731
    assert call("enroll", "--id", "Ann", photos["a"], *TINY, "--aligned", "--quiet")[0] == 0
    assert left() == 1
    assert call("identify", photos["same"], *TINY, "--aligned", "--quiet")[:2] == (0, "Ann\n")
    assert left() == 0


def test_nowhere_to_keep_runs(call: Callable[..., Done]) -> None:
    status, out, errors = call("prepare", "--prepared", "none", *TINY)
    assert (status, out) == (2, "")
    assert errors == "hybridface: expected a folder to keep prepared runs in, got none\n"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_benchmark(call: Callable[..., Done]) -> None:
    small = ["--transfers", "5000", "--comparisons", "64", "--runs", "1"]
    status, out, errors = call("bench", "correlations", *small, "--json")
    assert (status, errors) == (0, "")
    document = json.loads(out)
    assert list(document["kinds"]) == list(Correlations)
    ot, iknp, dealer = document["kinds"].values()
    assert "transfers" not in dealer
    assert iknp["transfers"]["bytes_each"] > 15
    assert ot["start"]["MB"] > iknp["start"]["MB"] > 0
    for figures in (ot, iknp, dealer):
        sizes = [figures["comparisons"][bits]["bytes_each"] for bits in ("19", "22", "28", "32")]
        assert sizes == sorted(sizes)
        assert all(one["microseconds_each"] > 0 for one in figures["comparisons"].values())
        assert set(figures["peak_MiB"]) == {"client", "server", *(["dealer"] if figures is dealer else [])}
    status, out, errors = call("bench", "correlations", *small, "--kind", "dealer", "--quiet")
    assert (status, errors) == (0, "")
    assert "5,000 random transfers" in out
    assert "Correlations of 64 comparisons" in out
