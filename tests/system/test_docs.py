"""The documents: Python examples run as they stand, each in a namespace of its own, and links lead somewhere."""

import re
from pathlib import Path
from types import ModuleType

import pytest

import hybridface
import protocols
from support.markdown import Block, blocks, documents
from support.paths import ROOT

PYTHON, NOT_RUN = "python", "python no-run"

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


@pytest.mark.parametrize(("package", "page"), [(hybridface, "python"), (protocols, "protocols")])
def test_the_reference_has_every_public_name(package: ModuleType, page: str) -> None:
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text()
    named = {line.rpartition(".")[2] for line in text.splitlines() if line.startswith("::: ")}
    whole = {"__version__", "CLIENT", "SERVER", "FRACTION_BITS"}  # constants, which say all by their value
    errors = {"HybridFaceError", "ParameterError", "PeerLostError", "ProtocolError"}  # the page has their module
    reveal = {"Reveal"}  # on one page only, so that links have one target
    assert set(package.__all__) - whole - errors - reveal <= named


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
