"""The layers: imports go one way, dangerous libraries stay in their modules, every file is small enough to read.

Each test looks at all files, and lists every one that offends.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
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

ARCHITECTURE = (ROOT / "docs" / "ARCHITECTURE.md").read_text()


def rooms_of(text: str) -> dict[str, set[str]]:
    """Return what each room may import of its neighbours, by the tables of ARCHITECTURE.md."""
    rooms: dict[str, set[str]] = {}
    for section in re.split(r"^##+ ", text, flags=re.MULTILINE):
        package = re.match(r"`(\w+)/`\n", section)
        for row in re.finditer(r"^\| `(\w+)` \|.*\|([^|]*)\|$", section if package else "", re.MULTILINE):
            rooms[f"{package[1] if package else ''}/{row[1]}"] = set(re.findall(r"`(\w+)`", row[2]))
    return rooms


ROOMS = rooms_of(ARCHITECTURE)
"""What each room may import of its neighbours; modules beside the rooms are for all of them."""

CONFINED = {
    "mpi4py": {"parties/transport/mpi_library.py"},
    "tenseal": {
        "hybridface/measure/peers/features_only_party.py",
        "protocols/encryption/ckks.py",
        "protocols/encryption/seal_context.py",
        "protocols/encryption/seal_format.py",
        "protocols/pure_he/answer.py",
        "protocols/pure_he/evaluation_keys.py",
        "protocols/pure_he/evaluator.py",
        "protocols/pure_he/keys.py",
        "protocols/pure_he/parameters.py",
        "protocols/pure_he/protocol.py",
    },
    "prometheus_client": {"hybridface/service/operations.py"},
    "websockets": {"parties/transport/websocket.py"},
    "cryptography": {
        "parties/transport/certificates.py",
        "parties/transport/identity.py",
        "parties/transport/tls.py",
        "protocols/arithmetic/randomness.py",
        "protocols/matching/names.py",
        "protocols/transfers/hashing.py",
        "protocols/transfers/iknp.py",
        "protocols/transfers/lpn.py",
    },
    "nacl": {"protocols/transfers/base.py"},
    "numba": {"protocols/arithmetic/kernels.py"},
    "crypten": {"protocols/shares/crypten_import.py"},
    "PIL": {
        "hybridface/faces/colours.py",
        "hybridface/faces/damage.py",
        "hybridface/faces/decoding.py",
        "hybridface/faces/detection.py",
        "hybridface/faces/formats.py",
        "hybridface/faces/images.py",
        "hybridface/processes/portraits.py",
    },
    "pillow_heif": {"hybridface/faces/decoding.py"},
    "_dlib_pybind11": {"hybridface/faces/detection.py"},
}
"""Libraries that only some modules touch."""

LOAD_MPI = {
    "hybridface/commands/main.py",
    "hybridface/processes/joined.py",
    "hybridface/processes/rank.py",
    "hybridface/measure/cost/rank_main.py",
}
"""Modules that import the transport between ranks, which loads MPI; the first one within a function."""

PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
MAX_LINES = 450
FACES = re.compile(r"(?<![a-z])(dlib|faces?|photos?|portraits?|chips?)(?![a-z])", re.IGNORECASE)
PUBLIC_RANDOMNESS = re.compile(r"hybridface/(measure|train|models/tiny|faces/alignment)|protocols/pure_he/weights")
"""Where random numbers hide nothing: draws of what is measured or learned."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


FILES = {relative(path): path.read_text() for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in FILES.items()}


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield the full names that are imported in some code, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


IMPORTS = {name: set(imports_of(tree)) for name, tree in TREES.items()}


def code_without_docstrings(tree: ast.Module) -> str:
    """Return the source without docstrings and comments."""
    tree = ast.parse(ast.unparse(tree))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def test_every_package_is_looked_at() -> None:
    assert {name.split("/")[0] for name in FILES} == set(MAY_IMPORT)
    rooms = {"/".join(name.split("/")[:2]) for name in FILES if name.count("/") > 1}
    assert rooms == set(ROOMS), "ARCHITECTURE.md has other rooms"


def test_documents_name_what_there_is() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = {*tracked, *(str(folder) for path in tracked for folder in Path(path).parents)}
    named = set(re.findall(r"`([\w./-]+(?:/|\.py|\.md))`", ARCHITECTURE))
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        named |= set(re.findall(r"`((?:hybridface|protocols|parties|launch|tests)/[\w./-]*)`", document.read_text()))
    gone = {name for name in named if not any(f"/{path}".endswith(f"/{name.rstrip('/')}") for path in paths)}
    assert not gone


def test_the_tests_mirror_the_modules() -> None:
    tested_in = tomllib.loads((ROOT / "tests" / "tested_in.toml").read_text())
    several = tested_in.pop("several_modules")
    files = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    own = {re.sub(r"(\w+)\.py$", r"test_\1.py", name): name[:-3] for name in FILES if "__init__" not in name}
    without = [module for file, module in own.items() if file not in files]
    listed = [module for modules in tested_in.values() for module in modules]
    assert sorted(listed) == sorted(without), "tests/tested_in.toml lists other modules than those without a file"
    beside = [file for file in files if file not in own and file not in tested_in and not file.startswith("system/")]
    assert sorted(beside) == sorted(several)
    assert not set(tested_in) - files


def test_imports_go_one_way() -> None:
    offenders = []
    for name, imported in IMPORTS.items():
        package = name.split("/")[0]
        offenders += [f"{name}: {one}" for one in imported if one.startswith(".")]
        ours = {one for one in imported if one.split(".")[0] in MAY_IMPORT}
        offenders += [f"{name}: {one}" for one in ours if one.split(".")[0] not in MAY_IMPORT[package]]
    assert not offenders


def test_rooms_import_only_those_below() -> None:
    offenders = []
    for name, imported in IMPORTS.items():
        package, room, *rest = name.split("/")
        if not rest:
            continue
        may = ROOMS[f"{package}/{room}"] | {room}
        for one in imported:
            parts = one.split(".")
            if parts[0] == package and f"{package}/{parts[1]}" in ROOMS and parts[1] not in may:
                offenders.append(f"{name}: {one}")
    assert not sorted(offenders)


def test_the_rooms_have_no_circle() -> None:
    for package in MAY_IMPORT:
        left = {room.split("/")[1]: set(may) for room, may in ROOMS.items() if room.startswith(f"{package}/")}
        while left:
            lowest = {room for room, may in left.items() if not may}
            assert lowest, f"{package}: a circle in {sorted(left)}"
            left = {room: may - lowest for room, may in left.items() if room not in lowest}


def test_libraries_stay_in_their_modules() -> None:
    users = {
        library: {name for name, imported in IMPORTS.items() if library in {one.split(".")[0] for one in imported}}
        for library in CONFINED
    }
    assert users == CONFINED


def test_nothing_is_unpickled() -> None:
    picklers = [name for name, imported in IMPORTS.items() if {one.split(".")[0] for one in imported} & PICKLERS]
    assert not picklers
    assert not [name for name, text in FILES.items() if "torch.load" in text]


def test_secrets_come_from_the_system_and_nothing_can_replace_them() -> None:
    """Tests inject deterministic randomness from outside (`support.determinism`); the product has no way to."""
    offenders = []
    for name, tree in TREES.items():
        used = {one.split(".")[0] for one in IMPORTS[name]}
        code = code_without_docstrings(tree)
        if not PUBLIC_RANDOMNESS.match(name) and ("random" in used or "default_rng" in code or "np.random" in code):
            offenders.append(f"{name}: random numbers that can be foretold")
        if "urandom" in code or "set_random_generator" in code or "tests" in used or "support" in used:
            offenders.append(f"{name}: another source of randomness")
    assert not offenders


def test_every_module_has_a_docstring_and_is_short() -> None:
    without = [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    long = [name for name, text in FILES.items() if len(text.splitlines()) > MAX_LINES]
    assert (without, long) == ([], [])


def test_protocols_know_no_faces() -> None:
    protocols = {name: tree for name, tree in TREES.items() if name.startswith("protocols/")}
    assert not [name for name, tree in protocols.items() if FACES.search(code_without_docstrings(tree))]
    assert not [name for name in protocols if "dlib" in FILES[name]]


def test_only_ranks_load_mpi() -> None:
    mpi = {"parties.transport.mpi", "parties.transport.mpi_library"}
    users = {name for name, imported in IMPORTS.items() if any(one.rpartition(".")[0] in mpi for one in imported)}
    assert users - {"parties/transport/mpi.py"} == LOAD_MPI
    starting = {name[:-3].replace("/", ".") for name in LOAD_MPI - {"hybridface/commands/main.py"}}
    starting |= mpi
    offenders = []
    for name, tree in TREES.items():
        top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        found = {f"{node.module}.{alias.name}" for node in top for alias in node.names}
        modules = {one.rpartition(".")[0] for one in found} | found
        if modules & starting and name[:-3].replace("/", ".") not in starting:
            offenders.append(name)
    assert not offenders, "these load MPI when they are imported"


def handed_on(tree: ast.Module) -> tuple[set[str], dict[str, str], set[str]] | None:
    """Return the names of a package's `__all__`, of its lazy names, and of what type checkers see; None without."""
    calls = [node for node in tree.body if isinstance(node, ast.Assign) and "hand_on" in ast.unparse(node.value)]
    if not calls:
        return None
    assert isinstance(calls[0].value, ast.Call)
    places = ast.literal_eval(calls[0].value.args[1])
    lazily = {name: module for module, names in places.items() for name in names}
    checked = {
        f"{node.module}.{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return set(listed), lazily, checked


def test_packages_hand_on_what_they_say() -> None:
    packages = {name: handed_on(tree) for name, tree in TREES.items() if name.endswith("__init__.py")}
    assert {name for name, found in packages.items() if found} >= {"protocols/__init__.py", "hybridface/__init__.py"}
    for name, found in packages.items():
        if found:
            listed, lazily, checked = found
            assert listed == set(lazily), name
            assert checked == {f"{module}.{one}" for one, module in lazily.items()}, name
            beside = {path.stem for path in (ROOT / name).parent.iterdir()}
            assert not listed & beside, f"{name}: importing the module of that name would hide it"


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["protocols.channel", "protocols.errors", "hybridface.errors", "hybridface", "parties", "protocols"]
)
def test_small_modules_load_no_torch(module: str) -> None:
    heavy = ("torch", "crypten", "tenseal", "numba", "mpi4py", "dlib", "PIL", "matplotlib")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
