"""Launching: command lines as data, and scripts that say what they say."""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch import mpiexec
from launch.mpiexec import ONE_MACHINE, ONE_THREAD, find_mpiexec, mpiexec_command

LAUNCH = Path(mpiexec.__file__).parent
RANKS = [["face", "client", "a.jpg"], ["face", "server"], ["face", "dealer"]]
SETTINGS = ["OMP_NUM_THREADS", "1", "OPENBLAS_NUM_THREADS", "1", "MKL_NUM_THREADS", "1", "UCX_TLS", "self,sm"]
PROGRAMS = ["-n", "1", "face", "client", "a.jpg", ":", "-n", "1", "face", "server", ":", "-n", "1", "face", "dealer"]


def test_one_machine() -> None:
    """Without a port: mpiexec.gforker has none, and ranks talk through shared memory."""
    environment = [word for i in range(0, len(SETTINGS), 2) for word in ("-genv", *SETTINGS[i : i + 2])]
    assert mpiexec_command(RANKS) == ["mpiexec.gforker", "-exitinfo", *environment, *PROGRAMS]
    assert mpiexec_command(RANKS, "/opt/mpiexec")[0] == "/opt/mpiexec"


def test_the_environment_is_added_and_may_override_the_threads() -> None:
    command = mpiexec_command(RANKS, environment={"UCX_TLS": "tcp,self", "OMP_NUM_THREADS": "4"})
    pairs = {command[i + 1]: command[i + 2] for i, word in enumerate(command) if word == "-genv"}
    assert pairs == {**ONE_THREAD, "OMP_NUM_THREADS": "4", "UCX_TLS": "tcp,self"}
    assert (ONE_THREAD["OMP_NUM_THREADS"], ONE_MACHINE["UCX_TLS"]) == ("1", "self,sm"), "a default was changed in place"


def test_arguments_stay_whole_words() -> None:
    odd = ["two words", 'it\'s "quoted"', "$HOME", "a;b", "é", ""]
    command = mpiexec_command([["face", *odd], ["face", "server"]])
    assert command[command.index("face") + 1 :][: len(odd)] == odd
    assert shlex.split(shlex.join(command)) == command


def test_one_rank_needs_no_colon() -> None:
    assert ":" not in mpiexec_command([["face", "client"]])
    assert mpiexec_command(RANKS).count(":") == 2


def test_mpiexec_beside_the_interpreter_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    beside, on_path = tmp_path / "env/bin/mpiexec.gforker", tmp_path / "usr/mpiexec.gforker"
    for file in (beside, on_path):
        file.parent.mkdir(parents=True)
        file.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(beside.parent / "python"))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_mpiexec() == str(beside)
    beside.unlink()
    assert find_mpiexec() == str(on_path)
    on_path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^expected mpiexec\.gforker \(pip install mpich\), found none$"):
        find_mpiexec()


def test_launch_imports_none_of_the_other_packages() -> None:
    names = set()
    for path in LAUNCH.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
    assert names <= set(sys.stdlib_module_names)


FAKE = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$ARGUMENTS"
exit 1
"""


def run_script(script: str, arguments: list[str], tmp_path: Path, **extra: str) -> tuple[int, list[str], str]:
    """Run a launch script with an `mpiexec` that only writes down its arguments."""
    fake, written = tmp_path / "mpiexec", tmp_path / "arguments"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    path = tmp_path / "launch" / script  # a copy, so that no virtual environment beside launch/ hides the fake
    path.parent.mkdir(exist_ok=True)
    path.write_text((LAUNCH / script).read_text())
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ARGUMENTS": str(written), "SLURM_SUBMIT_DIR": "/none"}
    environment |= extra
    done = subprocess.run(
        ["bash", str(path), *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, written.read_text().splitlines() if written.exists() else [], done.stderr


PHOTOS = ["my photo.jpg", "b.jpg", "--aligned"]


def parties(correlations: str) -> list[str]:
    told = ["--correlations", correlations]
    return [
        *["-n", "1", "hybridface", "party", "client", *PHOTOS, *told],
        *[":", "-n", "1", "hybridface", "party", "server", *told],
        *([":", "-n", "1", "hybridface", "party", "dealer", *told] if correlations == "dealer" else []),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "before", "expected"),
    [
        ("one_machine.sh", [], ["-launcher", "fork"]),
        ("several_machines.sh", ["my hosts"], ["-f", "my hosts", "-ppn", "1", "-genv", "OMP_NUM_THREADS", "1"]),
        ("cluster.slurm", [], ["-bootstrap", "slurm", "-ppn", "1", "-genv", "OMP_NUM_THREADS", "1"]),
    ],
)
@pytest.mark.parametrize(
    ("extra", "correlations"),
    [({}, "ot"), ({"CORRELATIONS": "ot-iknp"}, "ot-iknp"), ({"CORRELATIONS": "dealer"}, "dealer")],
    ids=["default", "ot-iknp", "dealer"],
)
def test_scripts_start_the_parties_and_pass_the_status_on(
    script: str, before: list[str], expected: list[str], extra: dict[str, str], correlations: str, tmp_path: Path
) -> None:
    status, arguments, _ = run_script(script, [*before, *PHOTOS], tmp_path, **extra)
    assert arguments == [*expected, *parties(correlations)]
    assert status == 1


@pytest.mark.slow
@pytest.mark.parametrize(("script", "few"), [("one_machine.sh", ["a.jpg"]), ("several_machines.sh", ["h", "a.jpg"])])
def test_scripts_without_photos_say_how_they_are_used(script: str, few: list[str], tmp_path: Path) -> None:
    status, arguments, errors = run_script(script, few, tmp_path)
    assert status == 2
    assert arguments == []
    assert f"launch/{script}" in errors
    assert not any(line.startswith("#") for line in errors.splitlines())


def test_the_kubernetes_job_starts_the_same_parties() -> None:
    lines = (LAUNCH / "kubernetes.yaml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "args:") + 1
    words = []
    for line in lines[start:]:
        if not line.strip().startswith("- "):
            break
        words.append(line.strip()[2:].strip('"'))
    client = ["-n", "1", "hybridface", "party", "client", "/photos/a.jpg", "/photos/b.jpg"]
    assert words[words.index("-n") :] == [*client, ":", "-n", "1", "hybridface", "party", "server"]


def test_the_example_host_file_names_a_host_for_each_party() -> None:
    hosts = [line for line in (LAUNCH / "hosts.example").read_text().splitlines() if line.strip()]
    assert len(hosts) == len(set(hosts)) == 2
