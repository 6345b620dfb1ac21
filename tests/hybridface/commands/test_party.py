"""The command line's options, as they reach the ranks."""

import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from hybridface.modes import Mode
from hybridface.photos import photo_path
from hybridface.processes import start as run
from hybridface.processes.options import Purpose
from parties.session.correlations import Correlations
from parties.session.weight_cache import cache_directory
from protocols.link import MOBILE, NONE, WAN
from protocols.matching.distance import Reveal
from support.helpers import Done, save_chips

TINY = ["--model", "tiny-test", "--aligned"]
OT, DEALER = Correlations.OT, Correlations.DEALER
KEEP = (None, 0, Purpose.PAIR)

Options = namedtuple(
    "Options",
    "model photos aligned enrolled repeat reveal events timeout link batch pool pause cache mode max_answers "
    "tasks key gallery client_name limits correlations prepared keep keep_for",
)
STOPPED = "not started"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Aligned random chips: "a", "same" and "different"."""
    return save_chips(tmp_path_factory.mktemp("photos"), seed=3)


@pytest.fixture
def ranks(call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Options]]:
    """Return what each rank is told to do by a command, by reading the ranks' own command lines."""

    def told(*arguments: str) -> dict[str, Options]:
        lines: list[list[str]] = []

        def mpiexec_command(programs: list[list[str]], mpiexec: str) -> list[str]:
            lines.extend(programs)
            raise FileNotFoundError(STOPPED)

        party = ModuleType("hybridface.processes.rank")
        options: dict[str, Options] = {}
        party.PartyOptions = Options  # type: ignore[attr-defined]
        party.run_party = lambda role, given: options.update({role.value: given}) or 0  # type: ignore[attr-defined]
        monkeypatch.setattr(run, "mpiexec_command", mpiexec_command)
        assert call(*arguments)[::2] == (2, f"hybridface: {STOPPED}\n")
        monkeypatch.setitem(sys.modules, "hybridface.processes.rank", party)
        for line in lines:
            assert line[:3] == [sys.executable, "-m", "hybridface"]
            status, _, errors = call(*line[3:])
            assert (status, errors) == (0, ""), line
        return options

    return told


def test_options_reach_the_ranks(ranks: Callable[..., dict[str, Options]], photos: dict[str, str]) -> None:
    a, b = photos["a"], photos["same"]
    shared = ["--quiet", "--reveal", "both", "--enrolled", "--timeout", "7", "--prepared", "none"]
    options = ranks("verify", a, b, *TINY, *shared, "--correlations", "dealer")
    assert list(options) == ["client", "server", "dealer"]
    client, server, dealer = options.values()
    run = (
        1,
        0,
        0.0,
        cache_directory(),
        Mode.HYBRID,
        50,
        None,
        None,
        None,
        "client",
        True,
        DEALER,
        None,
        0,
        Purpose.PAIR,
    )
    assert client[1:] == ((Path(a), Path(b)), True, True, 1, Reveal.BOTH, True, 7.0, NONE, *run)
    assert (server.photos, server.reveal, server.events, server.timeout) == ((), Reveal.BOTH, True, 7.0)
    assert (dealer.photos, dealer.events) == ((), True)
    models = client.model(), server.model()
    assert [model.name for model in models] == ["tiny-test", "tiny-test"]
    assert models[0].weights is None, "the client has read the weights"
    assert models[1].weights is not None


def test_the_benchmarks_options_reach_the_client(ranks: Callable[..., dict[str, Options]]) -> None:
    options = ranks("bench", "verify", "--quiet", "--runs", "3", "--model", "tiny-test")
    assert list(options) == ["client", "server"], "no dealer unless one is asked for"
    client = options["client"]
    portraits = tuple(photo_path(f"person_b_{i}.jpg") for i in (1, 2))
    run = (1, 0, 0.0, cache_directory(), Mode.HYBRID, 3, None, None, None, "client", True, OT, *KEEP)
    assert client[1:] == (portraits, False, True, 3, Reveal.CLIENT, True, 300.0, NONE, *run)


def test_a_mode_reaches_its_ranks(ranks: Callable[..., dict[str, Options]], photos: dict[str, str]) -> None:
    told = ranks("verify", photos["a"], photos["same"], "--aligned", "--quiet", "--mode", "pure-he")
    assert [(role, options.mode) for role, options in told.items()] == [
        ("client", Mode.PURE_HE),
        ("server", Mode.PURE_HE),
    ]
    assert [options.model().name for options in told.values()] == ["patchnet"] * 2
    assert told["client"].model().patch_weights is None
    assert told["server"].model().patch_weights is not None
    told = ranks("bench", "verify", "--quiet", "--runs", "70", "--mode", "pure-he")
    assert [options.max_answers for options in told.values()] == [70, 70]


def test_a_network_reaches_all_ranks(ranks: Callable[..., dict[str, Options]], photos: dict[str, str]) -> None:
    dealt = ["--correlations", "dealer"]
    told = ranks("verify", photos["a"], photos["same"], *TINY, "--quiet", "--link", "wan", *dealt)
    assert [(role, options.link) for role, options in told.items()] == [
        ("client", WAN),
        ("server", WAN),
        ("dealer", WAN),
    ]
    told = ranks("bench", "verify", "--quiet", "--model", "tiny-test", "--link", "mobile")
    assert [options.link for options in told.values()] == [MOBILE] * 2


@pytest.mark.parametrize(
    "name",
    [
        "two words.png",
        'it\'s [b]"é".png',
        "--events.png",
    ],
)
def test_names_of_photos_are_only_names(
    ranks: Callable[..., dict[str, Options]],
    photos: dict[str, str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # after `call` has gone elsewhere
    Path(name).write_bytes(Path(photos["a"]).read_bytes())
    client = ranks("verify", *TINY, "--quiet", "--", name, photos["same"])["client"]
    assert client.photos == (Path(name), Path(photos["same"]))
