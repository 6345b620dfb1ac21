"""The documents: Python examples run as they stand, each in a namespace of its own, and links lead somewhere."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.paths import ROOT

FENCE = "```"
PYTHON, NOT_RUN = "python", "python no-run"


@dataclass(frozen=True)
class Block:
    """A fenced block: its file, first line of source, the heading above it, what follows the fence, and its source."""

    path: Path
    line: int
    heading: str
    language: str
    source: str

    @property
    def id(self) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-")
        return f"{self.path.stem}-{slug}-line-{self.line}"


def documents() -> list[Path]:
    return [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if path.is_file()]


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a Markdown file.

    Raises:
        ValueError: the last block is not closed.
    """
    found: list[Block] = []
    heading, start = path.stem, 0
    language: str | None = None
    source: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if language is None and line.startswith(FENCE):
            language, start, source = line.removeprefix(FENCE).strip(), number + 1, []
        elif language is not None and line.rstrip() == FENCE:
            found.append(Block(path, start, heading, language, "\n".join(source) + "\n"))
            language = None
        elif language is not None:
            source.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    if language is not None:
        raise ValueError(
            f"{path.name}: expected a closing fence for the block at line {start}, got the end of the file"
        )
    return found


EXAMPLES = [block for path in documents() for block in blocks(path) if block.language == PYTHON]


def test_protocols_have_examples() -> None:
    headings = {block.heading for block in EXAMPLES if block.path.name == "PROTOCOLS.md"}
    assert headings >= {
        "Shares to ciphertexts",
        "Ciphertexts to shares",
        "Private convolution",
        "Private fully connected layer",
        "ReLU",
        "Max-pool",
        "Squared distance and decision",
        "A whole network",
    }


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_python_fences_are_known(path: Path) -> None:
    fences = {block.language for block in blocks(path) if block.language.startswith(PYTHON)}
    assert fences <= {PYTHON, NOT_RUN}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
def test_example_runs(example: Block) -> None:
    padded = "\n" * (example.line - 1) + example.source  # so that a traceback shows the document's line
    exec(compile(padded, str(example.path), "exec"), {"__name__": "example"})  # noqa: S102


def anchors_of(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    gone = []
    for document in documents():
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            name, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            place = (document.parent / name) if name else document
            if not place.exists() or (anchor and anchor not in anchors_of(place)):
                gone.append(f"{document.name}: {target}")
    assert not gone
