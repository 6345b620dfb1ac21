"""What ranks are told, and what they say: command lines of `hybridface party`, and our own lines of what comes out."""

from pathlib import Path

from PIL import Image

from launch.mpiexec import python_module
from support.tiny_network import save_chips

__all__ = [
    "DEALER",
    "DEALT",
    "FAILED",
    "PARTY",
    "TINY",
    "WORKER",
    "answers",
    "client",
    "expect_no_face",
    "odd_photos",
    "said",
    "server",
]

FAILED = (2, 9)
"""mpiexec's exit status when ranks abort: theirs, or 9 where it killed one of them before that one could end."""

PARTY = python_module("hybridface", "party")
TINY = ["--model", "tiny-test"]
DEALT = ["--correlations", "dealer"]
DEALER = [*PARTY, "dealer", *DEALT]
WORKER = [*PARTY, "worker", *TINY]


def client(*options: str, model: str = "tiny-test") -> list[str]:
    return [*PARTY, "client", *options, "--model", model]


def server(*options: str, model: str = "tiny-test") -> list[str]:
    return [*PARTY, "server", *options, "--model", model]


def said(errors: str) -> list[str]:
    """Return the lines that our ranks wrote on standard error, without mpiexec's own."""
    assert "Traceback" not in errors, errors
    return [line for line in errors.splitlines() if line.startswith("hybridface")]


def expect_no_face(status: int, out: str, errors: str) -> None:
    """Expect what ranks say of the client's grey.png, which shows no face."""
    assert status in FAILED
    assert not answers(out)
    (line,) = said(errors)
    assert line.startswith("hybridface client: grey.png: expected one face, found 0"), "before it joins the others"


def answers(out: str) -> list[str]:
    """Return the lines that give a decision; what else there is on standard output comes from mpiexec."""
    return [line for line in out.splitlines() if "person" in line or "people" in line or "match" in line]


def odd_photos(folder: Path) -> dict[str, str]:
    """Save chips as `save_chips`, under odd names, and two photos without a face: "large" and "grey"."""
    paths = save_chips(folder, seed=2, name="{} 'é'.png")
    for name, size in {"large": 150, "grey": 200}.items():
        paths[name] = str(folder / f"{name}.png")
        Image.new("RGB", (size, size), (128, 128, 128)).save(paths[name])
    return paths
