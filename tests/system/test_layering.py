"""The layers: imports go one way, dangerous modules stay out, and every file stays small enough to read."""

import ast
import re
from pathlib import Path

import pytest

from support.paths import ROOT

MAY_IMPORT = {
    "protocols": {"protocols"},
    "parties": {"parties", "protocols"},
    "launch": {"launch"},
    "hybridface": {"hybridface", "parties", "protocols", "launch"},
}
"""What each package may import of the four."""

CONFINED = {
    "mpi4py": {"parties/transport/mpi.py"},
    "tenseal": {
        "hybridface/measure/peers/features_only_party.py",
        "protocols/encryption/ckks.py",
        "protocols/pure_he/answer.py",
        "protocols/pure_he/evaluation_keys.py",
        "protocols/pure_he/evaluator.py",
        "protocols/pure_he/keys.py",
        "protocols/pure_he/parameters.py",
        "protocols/pure_he/protocol.py",
        "protocols/encryption/seal_context.py",
        "protocols/encryption/seal_format.py",
    },
    "nacl": {"protocols/transfers/base.py"},
    "numba": {"protocols/arithmetic/kernels.py"},
    "crypten": {"protocols/shares/crypten_import.py"},
    "PIL": {"hybridface/faces/images.py"},
    "_dlib_pybind11": {"hybridface/faces/images.py"},
}
"""Libraries that only some modules touch."""

PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
MAX_LINES = 450
FACES = re.compile(r"(?<![a-z])(dlib|faces?|photos?|portraits?|chips?)(?![a-z])", re.IGNORECASE)

FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports anywhere, in functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: a relative import hides what is imported"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def code_without_docstrings(path: Path) -> str:
    """Return the source without docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def test_every_package_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(MAY_IMPORT)
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(path)} & set(MAY_IMPORT)
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_pickle(path: Path) -> None:
    names = imported(path)
    assert not {name.split(".")[0] for name in names} & PICKLERS
    assert "torch.load" not in path.read_text()


@pytest.mark.parametrize(("library", "places"), CONFINED.items(), ids=CONFINED)
def test_libraries_stay_in_their_module(library: str, places: set[str]) -> None:
    users = {relative(path) for path in FILES if library in {name.split(".")[0] for name in imported(path)}}
    assert users == places


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_module_has_a_docstring_and_is_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    if text.strip():
        assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "protocols")], ids=relative)
def test_protocols_know_no_faces(path: Path) -> None:
    assert "dlib" not in path.read_text()
    assert FACES.search(code_without_docstrings(path)) is None


def test_parties_does_not_start_mpi_on_import() -> None:
    users = {
        relative(path) for path in FILES if "parties.transport.mpi" in {n.rpartition(".")[0] for n in imported(path)}
    }
    benchmarks = (
        "cost/workers",
        "cost/pure_he",
        "cost/identify_rank",
        "cost/correlations_rank",
        "peers/features_only_party",
    )
    measuring = {f"hybridface/measure/{name}.py" for name in benchmarks}
    starting = {*measuring, "hybridface/commands/main.py"}
    assert users == {*starting, "hybridface/processes/rank.py"}, "importing parties.transport.mpi starts MPI"
    for path in starting - {"hybridface/measure/cost/correlations_rank.py"}:
        top_level = ast.parse((ROOT / path).read_text()).body
        modules = [node.module for node in top_level if isinstance(node, ast.ImportFrom)]
        assert not {"hybridface.processes.rank", "parties.transport.mpi"} & set(modules)
