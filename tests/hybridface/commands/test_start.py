"""A quick start: help, and every error of arguments, come before anything heavy is loaded."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
import typer

from hybridface.commands.main import app
from hybridface.photos import photo_path
from support.paths import ROOT

pytestmark = pytest.mark.slow

HEAVY = ("torch", "crypten", "tenseal", "numba", "mpi4py", "dlib", "_dlib_pybind11", "scipy", "matplotlib")
FINGERPRINT = f"ed25519-{'ab' * 32}"
PAIR = [str(photo_path("person_b_1.jpg"))] * 2
ERRORS = [
    ["guess"],
    ["verify"],
    ["verify", "missing.jpg", "missing.jpg"],
    ["verify", "missing.jpg", "missing.jpg", "--model", "no"],
    ["verify", "missing.jpg", "missing.jpg", "--timeout", "0"],
    ["identify", "missing.jpg"],
    ["enroll", "--id", "Ann", "missing.jpg"],
    ["create-key", "--key", "/dev/null"],
    ["create-gallery", "--gallery", "/dev/null"],
    ["list"],
    ["queries"],
    ["rename", "Ann", "Bob"],
    ["rename", "Ann", " "],
    ["check-names"],
    ["limits"],
    ["limits", "--verify", "many"],
    ["import", "missing", "--identity-from", "list"],
    ["import", "missing"],
    ["bench", "verify", "--model", "no"],
    ["bench", "verify", "missing.jpg", "missing.jpg"],
    ["bench", "workers", "--model", "no"],
    ["plan", "no"],
    ["eval", "lfw", "--images", "missing"],
    ["train", "--images", "missing"],
    ["party", "spectator"],
    ["server"],
    ["server", "init"],
    ["server", "init", "/dev/null", "--listen", "a b"],
    ["server", "init", "/dev/null", "--days", "0"],
    ["server", "init", "/dev/null", "--name", ""],
    ["server", "allow", "missing", "bank", FINGERPRINT],
    ["server", "allow", "missing", "bank", FINGERPRINT, "--gallery", "staff"],
    ["server", "allow", "missing", "bank", FINGERPRINT, "--gallery", "staff", "--may", "fly"],
    ["server", "deny", "missing", "bank"],
    ["server", "clients", "missing"],
    ["server", "renew", "missing"],
    ["server", "check"],
    ["server", "check", "missing"],
    ["client"],
    ["client", "init", "--identity", "/dev/null"],
    ["client", "add", "a b", FINGERPRINT],
    ["client", "add", "match.example"],
    ["client", "add", "match.example", "ed25519-12"],
    ["client", "add", "match.example", ""],
    ["client", "add", "match.example", "--ca", "missing"],
    ["client", "add", "match.example", FINGERPRINT, "--as", "../match"],
    ["client", "forget", "match"],
    ["client", "trust", "match", "--model", "patchnet"],
    ["client", "renew"],
    ["serve"],
    ["serve", "missing"],
    ["ping"],
    ["ping", "--server", "match"],
    ["verify", "missing.jpg", "missing.jpg", "--identity", "missing"],
    ["verify", *PAIR, "--server", "match", "--threshold", "0.5"],
    ["verify", *PAIR, "--server", "match", "--workers", "2"],
    ["verify", *PAIR, "--server", "match", "--link", "wan"],
    ["enroll", "--id", "Ann", PAIR[0], "--server", "match", "--kind", "list"],
    ["identify", PAIR[0], "--server", "match", "--shards", "2"],
    ["identify", PAIR[0], "--server", "match", "--limits", "file"],
    ["list", "--server", "match", "--cache", "none"],
    ["import", "missing", "--server", "match", "--cache", "none"],
    ["prepare", "--server", "match", "--threshold", "0.5"],
    ["rename", "Ann", "Bob", "--identity", "missing"],
    ["server", "allow", "missing", "ann", "ed25519-0"],
    ["server", "init", "missing", "--listen", "a:b"],
    ["client", "add", "localhost", "ed25519-0"],
    ["client", "forget", "nobody"],
]
PROGRAM = f"""
import contextlib, io, json, sys
from hybridface.commands.main import main
for arguments in json.loads(sys.argv[1]):
    status = 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(arguments)
        except SystemExit as end:
            status = end.code
    print(json.dumps([arguments, status, [name for name in {HEAVY} if name in sys.modules]]))
"""


def started(command_lines: Sequence[Sequence[str]], home: str) -> list[tuple[list[str], int, list[str]]]:
    """Run command lines one after another in a new process: each one's exit status, and what was loaded by its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(command_lines)],
        cwd=ROOT,
        env={"PATH": "", "HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def all_commands() -> Iterator[list[str]]:
    """Yield the words of every command and of every group of commands."""

    def below(command: object, words: list[str]) -> Iterator[list[str]]:
        yield words
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, [*words, name])

    yield from below(typer.main.get_command(app), [])


def test_help_loads_nothing_heavy(tmp_path: object) -> None:
    commands = list(all_commands())
    assert ["bench", "verify"] in commands
    assert ["queries"] in commands
    assert ["server", "init"] in commands
    for arguments, status, loaded in started([[*words, "--help"] for words in commands], str(tmp_path)):
        assert (status, loaded) == (0, []), arguments


def test_errors_of_arguments_load_nothing_heavy(tmp_path: object) -> None:
    for arguments, status, loaded in started(ERRORS, str(tmp_path)):
        assert (status, loaded) == (2, []), arguments
