"""What sets the project up: `make` and the image take torch without CUDA, whatever Python there is."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from launch import mpiexec

ROOT = Path(mpiexec.__file__).parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

PYTHON = """#!/usr/bin/env bash
# Stands for Python, and for that of the environment that it makes: writes down what pip is told.
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; printf '#!/bin/sh\\n' > "$3/bin/hybridface"
               chmod +x "$3/bin/hybridface" ;;
    "-m pip") echo "${*:4}" >> "$TOLD"; case "$*" in *+cpu*) exit "$NO_CPU_BUILD" ;; esac ;;
    *) if [[ $2 == *torch* ]]; then printf '%s' "$NOTICE"; else exec "$REAL" "$@"; fi ;;
esac
"""


def make(tmp_path: Path, no_cpu_build: bool = False, notice: str = "") -> tuple[list[list[str]], str]:
    """Run `make` for the environment in a folder of its own: pip's arguments, and what was written."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    fake, told = tmp_path / "fake", tmp_path / "told"
    fake.write_text(PYTHON)
    fake.chmod(0o755)
    extra = {"TOLD": str(told), "NO_CPU_BUILD": str(int(no_cpu_build)), "NOTICE": notice, "REAL": sys.executable}
    command = ["make", "--silent", f"PYTHON={fake}", ".venv/.installed"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | extra, capture_output=True, text=True, timeout=60, check=True
    )
    return [line.split() for line in told.read_text().splitlines()], done.stdout + done.stderr


def pinned() -> str:
    """Return the version of torch that the package asks for."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (torch,) = [line for line in asked if line.startswith("torch==")]
    return torch


@pytest.mark.slow
def test_make_takes_torch_without_cuda(tmp_path: Path) -> None:
    (torch, others), written = make(tmp_path)
    assert torch[-1] == f"{pinned()}+cpu"
    assert torch[torch.index("--index-url") + 1] == CPU_INDEX
    assert "--no-deps" in torch, "everything else comes from the usual index"
    assert "--index-url" not in others
    assert others[-2:] == ["--editable", ".[dev,docs]"]
    assert "CUDA" not in written


@pytest.mark.slow
def test_make_says_that_there_is_no_build_without_cuda(tmp_path: Path) -> None:
    (_, usual, others), written = make(tmp_path, no_cpu_build=True, notice="torch is a build for CUDA")
    assert usual[-1] == pinned()
    assert "--index-url" not in usual
    assert others[-1] == ".[dev,docs]"
    assert f"Cannot get {pinned()} without CUDA from {CPU_INDEX}: installing the usual build" in written
    assert "torch is a build for CUDA" in written


def test_every_place_pins_one_torch() -> None:
    for name in ("launch/Dockerfile", "README.md"):
        text = (ROOT / name).read_text()
        assert CPU_INDEX in text, name
        assert set(re.findall(r"torch==[\w.+]+", text)) == {f"{pinned()}+cpu"}, name
    assert pinned() in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_image_has_the_packages_and_nothing_that_lies_about() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    assert set(kept) == {
        *("hybridface", "launch", "parties", "protocols"),
        *("LICENSE", "NOTICE", "README.md", "constraints.txt", "pyproject.toml"),
    }
    assert all((ROOT / name).exists() for name in kept)
