"""No option is ignored: each changes what the ranks are told, or is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from hybridface.commands.main import app
from hybridface.errors import RunError
from hybridface.photos import photo_path
from hybridface.processes import supervised
from parties.transport.roles import Role
from support.rank_programs import TINY
from support.ranks import Done
from support.tiny_network import save_chips

OUTPUT = {"as_json", "costs", "layers", "quiet", "events", "help"}
"""Options about what is printed."""


VALUES: dict[str, list[str]] = {
    "mode": ["pure-he"],
    "model": ["tiny-test"],
    "reveal": ["both"],
    "link": ["wan"],
    "cache": ["none"],
    "correlations": ["dealer"],
    "face": ["largest"],
    "keep_for": ["template"],
    "client_name": ["Bank"],
    "identity": ["Ann"],
}
"""A value of an option that is not the one it has by itself."""


def words_of(option: Any, folder: Path) -> list[str]:
    """Return the words that give an option another value."""
    kind = option.type_descriptor.annotation
    if getattr(option, "is_flag", False):
        return [option.secondary_opts[0] if option.default is True else option.opts[0]]
    if option.name in VALUES:
        return [option.opts[0], *VALUES[option.name]]
    if kind in (int, float):
        return [option.opts[0], "4" if option.default == 3 else "3"]
    return [option.opts[0], str(folder)]


def options_of(command: str) -> list[Any]:
    group: Any = typer.main.get_command(app)
    for word in command.split():
        group = group.commands[word]
    parameters = group.params
    return [one for one in parameters if one.opts[0].startswith("-") and one.name not in OUTPUT]


@pytest.fixture
def told(call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, object]]:
    """Return a command's exit status, and what its ranks would have been told, or why they are not started."""
    found: list[object] = []

    def stop(programs: list[list[str]], mpiexec: str) -> list[str]:
        found.append([[word for word in program[4:] if "hybridface-" not in word] for program in programs])
        raise RunError("not started")

    def run_rank(role: Role, run: Any, events: Any) -> int:
        found.append((role, run))
        return 0

    monkeypatch.setattr(supervised, "mpiexec_command", stop)
    monkeypatch.setattr("hybridface.processes.rank.run_rank", run_rank)

    def run(*words: str) -> tuple[int, object]:
        found.clear()
        status, _, errors = call(*words)
        return status, found[0] if found else errors

    return run


FILES = ["--gallery", "G", "--key", "K"]
"""Of a private gallery, and of its client."""

WAYS = {
    "two photos": ["verify", "P", "P", *TINY],
    "two photos, pure-HE": ["verify", "P", "P", "--mode", "pure-he"],
    **{f"party {role}": ["party", role] for role in Role},
    "prepared runs": ["prepare", *TINY],
    "enrolling": ["enroll", "--id", "ann", "P", *TINY, *FILES],
    "identifying": ["identify", "P", *TINY, *FILES],
    "verifying in a gallery": ["verify", "--id", "ann", "P", *TINY, *FILES],
    "importing": ["import", "F", *TINY, *FILES],
    "renaming": ["rename", "ann", "bob", *TINY, *FILES],
    "a new key": ["rotate-key", "N", *TINY, *FILES],
    "bench verify": ["bench verify", *TINY],
    "bench workers": ["bench workers", *TINY],
    "bench correlations": ["bench correlations"],
    "bench identify": ["bench identify"],
    "bench pure-he": ["bench pure-he"],
    "party client of a gallery": ["party", "client", "--tasks", "T"],
    "party client that prepares": ["party", "client", "--keep", "2"],
    "party client, pure-HE": ["party", "client", "--mode", "pure-he"],
    "party server of a gallery": ["party", "server", "--gallery", "G"],
    "party server, pure-HE": ["party", "server", "--mode", "pure-he"],
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_option_has_an_effect_or_is_refused(
    call: Callable[..., Done], told: Callable[..., tuple[int, object]], tmp_path: Path, way: str
) -> None:
    (tmp_path / "f").mkdir()
    names = {"P": str(photo_path("person_b_1.jpg")), "T": "tasks", "N": str(tmp_path / "new.key")}
    names |= {"A": save_chips(tmp_path / "f", seed=1)["a"], "F": str(tmp_path / "f"), "G": str(tmp_path / "g.db")}
    names["K"] = str(tmp_path / "key")
    command, *words = [names.get(word, word) for word in WAYS[way]]
    given = {word for word in words if word.startswith("-")}
    if FILES[0] in WAYS[way]:
        assert call("create-key", "--key", names["K"])[0] == 0
        assert call("create-gallery", "--gallery", names["G"], *TINY)[0] == 0
    plain = told(*command.split(), *words)
    assert not isinstance(plain[1], str), plain[1]
    ignored = []
    for option in options_of(command):
        if given & {*option.opts, *option.secondary_opts}:
            continue
        done = told(*command.split(), *words, *words_of(option, tmp_path))
        refused = isinstance(done[1], str) and done[0] == 2
        if not refused and done == plain:
            ignored.append(option.name)
    assert ignored == IGNORED.get(way, []), "these do nothing, in silence"


IGNORED = {
    # they act before any rank starts
    "two photos": ["face", "accept_damaged"],
    "two photos, pure-HE": ["face", "accept_damaged"],
    # the ranks read it in a file, whose temporary name is left out here
    "identifying": ["top"],
    # the first run that would start has one rank, however many follow
    "bench workers": ["most"],
    # every rank is told how correlations are made and by what mode, and checks that all agree
    "party client, pure-HE": ["correlations"],
    "party server, pure-HE": ["correlations"],
}
