"""The project's documents, and the blocks of examples in them."""

import re
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

__all__ = ["Block", "blocks", "documents"]

FENCE = "```"


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
    """Return the documents: those of the root, then everything in `docs/`."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


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
