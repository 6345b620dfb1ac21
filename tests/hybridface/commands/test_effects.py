"""No option is ignored: each changes what the ranks or a remote server are told, or is refused."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from hybridface.commands.main import app
from hybridface.errors import RunError
from hybridface.folders import configuration_directory
from hybridface.models.model import Model, load_model
from hybridface.photos import photo_path
from hybridface.processes import supervised
from hybridface.remote.known import KnownServer, add_server
from hybridface.remote.start import RemoteServer
from hybridface.service.address import Address
from hybridface.service.requests import Described, DescribedGallery
from parties.gallery.key import create_key
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
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


RIGHTS = tuple(Right)
DESCRIBED = Described(
    "match",
    "1.0",
    "bank",
    {"tiny-test": "0f" * 32, "patchnet": "f0" * 32},
    ("tiny-test",),
    {name: DescribedGallery(GalleryKind.PRIVATE, "tiny-test", RIGHTS) for name in ("staff", "guests")},
)


class SilentConnection:
    """A connection to a server that only says who it is."""

    def __init__(self, server: KnownServer, *_: object) -> None:
        self.server = server

    def describe(self) -> Described:
        return DESCRIBED

    def model(self, name: str) -> Model:
        return load_model(name, weights=False)

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def asked(call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, object]]:
    """Return a command's exit status, and what a remote server would have been asked, or why nothing is asked."""
    found: list[object] = []

    @contextmanager
    def stop(self: RemoteServer, run: Any) -> Iterator[None]:
        tasks = run.tasks.read_text() if getattr(run, "tasks", None) else ""
        changed = {"tasks": None} if tasks else {}
        tasks = re.sub(r'[^"]*/hybridface-[^"]*', "", tasks)  # a temporary folder
        found.append((self.name, self._folder, self._timeout, self._request(run), replace(run, **changed), tasks))
        raise RunError("not started")
        yield

    monkeypatch.setattr("hybridface.remote.start.ServerConnection", SilentConnection)
    monkeypatch.setattr(RemoteServer, "session", stop)

    def run(*words: str) -> tuple[int, object]:
        found.clear()
        status, _, errors = call(*words)
        return status, found[0] if found else errors

    return run


IN_GALLERY = ["--server", "match", "--gallery", "staff"]
REMOTE = {
    "two photos": ["verify", "A", "A", "--aligned", "--server", "match"],
    "two photos, pure-HE": ["verify", "A", "A", "--aligned", "--server", "match", "--mode", "pure-he"],
    "prepared runs": ["prepare", "--server", "match"],
    "enrolling": ["enroll", "--id", "ann", "A", "--aligned", *IN_GALLERY],
    "identifying": ["identify", "A", "--aligned", *IN_GALLERY],
    "verifying in a gallery": ["verify", "--id", "ann", "A", "--aligned", *IN_GALLERY],
    "listing": ["list", *IN_GALLERY],
    "removing": ["remove", "ann", *IN_GALLERY],
    "renaming": ["rename", "ann", "bob", *IN_GALLERY],
    "importing": ["import", "F", "--aligned", *IN_GALLERY],
    "a new key": ["rotate-key", "N", *IN_GALLERY],
}


@pytest.mark.slow
@pytest.mark.parametrize("way", REMOTE)
def test_every_option_has_an_effect_on_a_remote_server_or_is_refused(
    call: Callable[..., Done], asked: Callable[..., tuple[int, object]], home: Path, way: str
) -> None:
    other = home / "other"
    for folder in (home / "f", other / "servers" / "match"):
        folder.mkdir(parents=True)
    names = {"A": save_chips(home / "f", seed=1)["a"], "N": str(home / "new.key"), "F": str(home / "f")}
    own = configuration_directory()
    add_server(own, Address("match.example", 7461), name="match", fingerprint=f"ed25519-{'ab' * 32}")
    (own / "keys" / "match").mkdir(parents=True)
    create_key(own / "keys" / "match" / "staff.key")
    command, *words = [names.get(word, word) for word in REMOTE[way]]
    given = {word for word in words if word.startswith("-")}
    plain = asked(command, *words)
    assert not isinstance(plain[1], str), plain[1]
    ignored = []
    for option in options_of(command):
        if given & {*option.opts, *option.secondary_opts}:
            continue
        value = ["--model", "patchnet"] if option.name == "model" else words_of(option, other)
        done = asked(command, *words, *value)
        refused = isinstance(done[1], str) and done[0] == 2
        if not refused and done == plain:
            ignored.append(option.name)
    assert ignored == IGNORED_REMOTELY.get(way, []), "these do nothing, in silence"


IGNORED_REMOTELY = {
    # the first session asks who is enrolled, in both cases
    "importing": ["dry_run"],
}
