"""The tutorials, typed along: every command is run, and prints what its page says.

A command may leave a process in the background, if that process writes to files only. It ends with its tutorial.
"""

import doctest
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from support.markdown import blocks
from support.paths import ROOT

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
TYPED = [path for path in TUTORIALS if any(block.language == "console" for block in blocks(path))]
GUARD_SECONDS = 250


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A user's home, which all share, because the server's encoded weights in it are large."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def typed(tutorial: Path) -> list[tuple[str, str]]:
    """Return the commands of a tutorial, each with what it prints."""
    found: list[tuple[str, str]] = []
    for block in blocks(tutorial):
        for line in block.source.splitlines(keepends=True) if block.language == "console" else []:
            if line.startswith("$ "):
                found.append((line[2:].rstrip(), ""))
            else:
                found[-1] = found[-1][0], found[-1][1] + line
    return found


@contextmanager
def shell(command: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a command, and give what it prints; at the end of the block, end what it has left in the background."""
    with subprocess.Popen(
        ["timeout", str(GUARD_SECONDS), "bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.read()
        finally:  # nobody has waited for the process yet, so its number is still its own
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tutorial", TYPED, ids=lambda tutorial: tutorial.stem)
def test_a_tutorial_can_be_typed_along(tutorial: Path, home: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "PYTHON"))}
    environment |= {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with ExitStack() as running:
        for command, expected in typed(tutorial):
            printed = running.enter_context(shell(command, tmp_path, environment))
            as_expected = doctest.OutputChecker().check_output(
                expected, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            )
            assert as_expected, f"{command}\nprinted:\n{printed}\nexpected:\n{expected}"


def test_the_tutorials_verify_enrol_and_identify() -> None:
    commands = {command.split()[1] for path in TYPED for command, _ in typed(path) if command.startswith("hybridface")}
    assert commands >= {"verify", "enroll", "identify", "list", "remove"}
