"""Launching: command lines as data, and scripts that say what they say."""

import ast
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from hybridface.commands.main import app
from hybridface.commands.party import NO_EFFECT
from hybridface.processes.programs import programs_of
from hybridface.processes.runs import GalleryRun, HybridRun, PureHeRun
from launch import mpiexec
from launch.mpiexec import ONE_MACHINE, ONE_THREAD, find_mpiexec, mpiexec_command
from parties.transport.roles import Role

LAUNCH = Path(mpiexec.__file__).parent
RANKS = [["face", "client", "a.jpg"], ["face", "server"], ["face", "dealer"]]
SETTINGS = ["OMP_NUM_THREADS", "1", "OPENBLAS_NUM_THREADS", "1", "MKL_NUM_THREADS", "1", "UCX_TLS", "self,sysv,cma"]
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
    assert (ONE_THREAD["OMP_NUM_THREADS"], ONE_MACHINE["UCX_TLS"]) == ("1", "self,sysv,cma"), (
        "a default was changed in place"
    )


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


def run_script(
    script: str,
    arguments: list[str],
    tmp_path: Path,
    programs: tuple[str, ...] = ("mpiexec", "mpiexec.gforker", "hybridface"),
    **extra: str,
) -> tuple[int, list[str], str]:
    """Run a launch script with an `mpiexec` that only writes down its arguments."""
    written, on_path = tmp_path / "arguments", tmp_path / "bin"
    on_path.mkdir(exist_ok=True)
    for name in programs:
        (on_path / name).write_text(FAKE)
        (on_path / name).chmod(0o755)
    path = tmp_path / "launch" / script  # a copy, so that no virtual environment beside launch/ hides the fake
    path.parent.mkdir(exist_ok=True)
    for name in (script, "ranks.sh"):
        (path.parent / name).write_text((LAUNCH / name).read_text())
    environment = {"PATH": f"{on_path}:/usr/bin:/bin", "ARGUMENTS": str(written), "SLURM_SUBMIT_DIR": str(tmp_path)}
    environment |= extra
    done = subprocess.run(
        ["bash", str(path), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30
    )
    return done.returncode, plain(written.read_text().splitlines()) if written.exists() else [], done.stderr


def plain(arguments: list[str]) -> list[str]:
    """Return the arguments with ranks that run in a shell, which sends their output elsewhere, as those that do not."""
    while "rank" in arguments:
        end = arguments.index("rank")
        assert arguments[end - 3 : end] == ["sh", "-c", 'exec hybridface party "$@" >&3 2>&4']
        arguments = [*arguments[: end - 3], "hybridface", "party", *arguments[end + 1 :]]
    return arguments


PHOTOS = ["my photo.jpg", "b.jpg", "--aligned"]
KEPT = ["-genvlist", "PATH,LANG,LC_ALL,UCX_TLS"]
"""What of the client's environment goes to other hosts: nothing that could be a secret."""


def parties(
    correlations: str,
    client: Sequence[str] = PHOTOS,
    server: Sequence[str] = (),
    shared: Sequence[str] = (),
    both: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
) -> list[str]:
    """Return what mpiexec is told: options of client, server, all and both, and where all but the client run."""
    told = [*shared, "--correlations", correlations]
    return [
        *["-n", "1", "hybridface", "party", "client", *told, *both, *client],
        *[":", "-n", "1", *elsewhere, "hybridface", "party", "server", *told, *both, *server],
        *([":", "-n", "1", *elsewhere, "hybridface", "party", "dealer", *told] if correlations == "dealer" else []),
    ]


def hosts(tmp_path: Path, *names: str) -> None:
    """Write the host file "my hosts"."""
    (tmp_path / "my hosts").write_text("# one a line\n\n" + "".join(f"{name}\n" for name in names))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "before", "expected"),
    [
        ("one_machine.sh", [], ["-exitinfo", "-genv", "UCX_TLS", "self,sysv,cma"]),
        ("several_machines.sh", ["my hosts"], ["-f", "my hosts", "-ppn", "1", *KEPT, "-genv", "OMP_NUM_THREADS", "1"]),
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
    hosts(tmp_path, "a", "b", "c")
    status, arguments, _ = run_script(script, [*before, *PHOTOS], tmp_path, **extra)
    elsewhere = ["-wdir", "/"] if script == "several_machines.sh" else []
    assert arguments == [*expected, *parties(correlations, elsewhere=elsewhere)]
    assert status == 1


@pytest.mark.slow
def test_a_killed_rank_is_no_decision(tmp_path: Path) -> None:
    """mpiexec.gforker ends with 0 then, which would mean the same person."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "hybridface").write_text('#!/bin/sh\n[ "$2" = server ] && kill -9 $$\nsleep 0.2\n')
    (folder / "hybridface").chmod(0o755)
    script = tmp_path / "launch" / "one_machine.sh"
    script.parent.mkdir()
    for name in ("one_machine.sh", "ranks.sh"):
        (script.parent / name).write_text((LAUNCH / name).read_text())
    path = f"{folder}:{Path(find_mpiexec()).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", str(script), *PHOTOS], env={"PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (2, "hybridface: a rank has been killed\n")


@pytest.mark.slow
def test_a_timeout_is_told_and_is_no_decision(tmp_path: Path) -> None:
    folder, script = tmp_path / "bin", tmp_path / "launch" / "one_machine.sh"
    for made in (folder, script.parent):
        made.mkdir()
    (folder / "hybridface").write_text("#!/bin/sh\nexec sleep 30\n")
    (folder / "hybridface").chmod(0o755)
    for name in ("one_machine.sh", "ranks.sh"):
        (script.parent / name).write_text((LAUNCH / name).read_text())
    environment = {"PATH": f"{folder}:{Path(find_mpiexec()).parent}:/usr/bin:/bin", "MPIEXEC_TIMEOUT": "1"}
    done = subprocess.run(
        ["bash", str(script), *PHOTOS], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "Timeout of 1 seconds expired" in done.stderr


@pytest.mark.slow
def test_an_interface_keeps_all_that_is_sent_on_one_network(tmp_path: Path) -> None:
    hosts(tmp_path, "a", "b")
    _, arguments, errors = run_script("several_machines.sh", ["my hosts", *PHOTOS], tmp_path)
    assert "-iface" not in arguments
    assert errors == (
        "several_machines.sh: INTERFACE is not set: the ranks' messages may take any network that the hosts share\n"
    )
    _, arguments, errors = run_script("several_machines.sh", ["my hosts", *PHOTOS], tmp_path, INTERFACE="wg0")
    start = arguments.index("-iface")
    assert arguments[start : start + 5] == ["-iface", "wg0", "-genv", "UCX_NET_DEVICES", "wg0"]
    assert errors == ""


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--gallery", "--weights", "--cache", "--prepared"])
def test_paths_on_the_servers_host_are_whole(option: str, tmp_path: Path) -> None:
    hosts(tmp_path, "a", "b")
    status, arguments, errors = run_script("several_machines.sh", ["my hosts", *PHOTOS, option, "here"], tmp_path)
    assert (status, arguments, errors.count("\n")) == (2, [], 1)
    assert f"cannot tell where {option} is on the server's host: expected a path that begins with /, got here" in errors
    status, *_ = run_script("several_machines.sh", ["my hosts", *PHOTOS, option, "/there"], tmp_path)
    assert status == 1


WORDS = [
    ("--mode pure-he", {"shared": ["--mode=pure-he"]}),
    ("--mode=pure-he --max-answers 3", {"shared": ["--mode=pure-he"], "both": ["--max-answers=3"]}),
    (
        "--model tiny-test --reveal both --threshold 1 --timeout 9",
        {"shared": ["--timeout=9"], "both": ["--model=tiny-test", "--reveal=both", "--threshold=1"]},
    ),
    ("--correlations dealer --model tiny-test", {"correlations": "dealer", "both": ["--model=tiny-test"]}),
    ("--repeat 2 --enrolled", {"client": [*PHOTOS, "--repeat", "2", "--enrolled"]}),
    ("--gallery g.db --no-limits --client-name x", {"server": ["--gallery=g.db", "--no-limits", "--client-name=x"]}),
    ("--gallery=g.db --new-gallery", {"server": ["--gallery=g.db", "--new-gallery"]}),
    ("--weights w.npz", {"client": [*PHOTOS, "--weights=w.npz"], "server": ["--weights=w.npz"]}),
    ("--prepared p", {"client": [*PHOTOS, "--prepared=p/client"], "server": ["--prepared=p/server"]}),
    ("--cache none -- --mode", {"client": [*PHOTOS, "--", "--mode"], "server": ["--cache=none"]}),
    ("--correlations=dealer --link none", {"correlations": "dealer", "shared": ["--link=none"]}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "expected"), WORDS, ids=[words for words, _ in WORDS])
def test_every_option_reaches_the_ranks_that_need_it(words: str, expected: dict[str, Any], tmp_path: Path) -> None:
    _, arguments, _ = run_script("one_machine.sh", [*PHOTOS, *words.split()], tmp_path)
    assert arguments[4:] == parties(**{"correlations": "ot", **expected})


@pytest.mark.slow
def test_an_option_without_its_value_is_refused(tmp_path: Path) -> None:
    status, arguments, errors = run_script("one_machine.sh", [*PHOTOS, "--mode"], tmp_path)
    assert (status, arguments, errors) == (2, [], "one_machine.sh: expected a value after --mode, got none\n")


def test_the_options_of_all_ranks_are_those_of_a_run() -> None:
    """What `programs` tells every rank, or the server, the scripts do as well; and they name no option that is none."""
    text = (LAUNCH / "ranks.sh").read_text()
    lines = [line.split(")")[0] for line in text.splitlines() if line.strip().startswith("--")]
    named = {word for line in lines for word in line.replace("|", " ").split() if len(word) > 2}
    options = {
        name
        for parameter in typer.main.get_command(app).commands["party"].params  # type: ignore[attr-defined]
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    assert named - {"\\"} <= options
    run = PureHeRun(model="m", weights=Path("w"))
    shared = HybridRun(model="m", weights=Path("w"), cache=Path("c"), prepared=Path("p"))
    gallery = GalleryRun(model="m", gallery=Path("g"), limits=False)
    servers = [program for each in (run, shared, gallery) for program in programs_of(each) if program[0] == "server"]
    assert {word for program in servers for word in program if word.startswith("--")} <= named
    own = {parameter.name: parameter.opts for parameter in typer.main.get_command(app).commands["party"].params}  # type: ignore[attr-defined]
    (server,) = (line for line in text.splitlines() if line.endswith('server+=("$1") ;;') and "client+" not in line)
    assert {name for parameter in NO_EFFECT[Role.CLIENT] for name in own[parameter]} <= set(
        server.split(")")[0].split()
    )
    for kind, roles in {"all": Role, "both": (Role.CLIENT, Role.SERVER)}.items():
        (told,) = (line for line in text.splitlines() if line.endswith(f') {kind}+=("$1") ;;'))
        useless = {name for role in roles for parameter in NO_EFFECT[role] for name in own[parameter]}
        assert not useless & set(told.split(")")[0].split()), f"a rank of {kind} refuses it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (
            None,
            [],
            "cannot read the host file my hosts: expected a file with one host per line, like launch/hosts.example",
        ),
        (["a"], [], "cannot place 2 ranks on separate hosts: expected 2 hosts in my hosts, one per line, got 1"),
        (["a", "b"], ["--correlations", "dealer"], "expected 3 hosts in my hosts, one per line, got 2"),
    ],
    ids=["no file", "one host", "none for the dealer"],
)
def test_a_host_file_that_cannot_serve_is_refused(
    names: list[str] | None, options: list[str], said: str, tmp_path: Path
) -> None:
    if names is not None:
        hosts(tmp_path, *names)
    status, arguments, errors = run_script("several_machines.sh", ["my hosts", *PHOTOS, *options], tmp_path)
    assert (status, arguments) == (2, [])
    assert errors.startswith("several_machines.sh: ")
    assert errors.endswith(f"{said}\n")
    assert errors.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("script", ["one_machine.sh", "several_machines.sh", "cluster.slurm"])
def test_without_mpiexec_nothing_starts(script: str, tmp_path: Path) -> None:
    hosts(tmp_path, "a", "b")
    status, _, errors = run_script(script, ["my hosts", *PHOTOS], tmp_path, programs=())
    assert (status, errors.count("\n")) == (2, 1)
    program = "mpiexec.gforker" if script == "one_machine.sh" else "mpiexec"
    assert errors.startswith(f"{script}: cannot find the program {program}: install hybridface")


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
