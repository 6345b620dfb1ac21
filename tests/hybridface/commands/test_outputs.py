"""Outputs that are closed, full, or cannot hold a name: exit status 1 means different people, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybridface.galleries.clear_embedding import ClearEmbedding
from hybridface.galleries.file import GalleryFile
from hybridface.models.model import load_model
from parties.gallery.kind import GalleryKind
from support.paths import ROOT
from support.tiny_network import save_chips

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list with one person, whose name has a letter that ASCII has not."""
    folder, model = tmp_path_factory.mktemp("list"), load_model("tiny-test")
    with GalleryFile(folder / "gallery.db", model, GalleryKind.LIST) as file:
        file.enroll("Zoë", ClearEmbedding(model)(save_chips(folder, seed=1)["a"], aligned=True))
    return folder / "gallery.db"


def run(words: str, gallery: Path, **environment: str) -> tuple[int, str]:
    """Run a command by a shell that redirects its output; return its exit status, and standard error."""
    command = f"{sys.executable} -P -m hybridface {words} --gallery {gallery}"
    for redirected in (" >", " 2>", " |"):
        if redirected in words:
            start, end = words.split(redirected, 1)
            command = f"{sys.executable} -P -m hybridface {start} --gallery {gallery}{redirected}{end}"
            break
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stderr + done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("list --model tiny-test >&-", "hybridface: expected an open standard output"),
        ("list --model tiny-test >/dev/full", "No space left on device"),
        ("list --model tiny-test --json >/dev/full", "No space left on device"),
        ("list --model tiny-test | true", ""),
        ("list --model tiny-test --json | true", ""),
        ("list --model nothing --json >/dev/full 2>/dev/full", ""),
        ("list --model nothing 2>&-", ""),
    ],
)
def test_an_output_that_takes_nothing_is_an_error(gallery: Path, words: str, said: str) -> None:
    status, errors = run(words, gallery)
    assert status == 2
    assert said in errors


def test_a_closed_standard_error_is_none(gallery: Path) -> None:
    status, said = run("list --model tiny-test 2>&-", gallery)
    assert (status, "Zoë" in said) == (0, True)


def test_what_an_encoding_does_not_have_is_escaped(gallery: Path) -> None:
    status, said = run("list --model tiny-test", gallery, PYTHONIOENCODING="ascii")
    assert status == 0
    assert "Zo\\xeb" in said
