"""Measure a server for other organisations, on this machine's loopback: speed beside MPI, many clients, many sessions.

Server and clients are processes of their own, with real keys, in a temporary folder.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from hybridface.errors import RunError
from hybridface.folders import temporary_folder
from hybridface.measure.cost.service_client import as_arguments
from hybridface.processes.portraits import aligned_photos
from hybridface.processes.runs import HybridRun
from hybridface.processes.start import start
from hybridface.remote.known import add_server
from hybridface.service.address import Address
from hybridface.service.folder import allow_client, create_server_folder
from launch.mpiexec import python_module
from parties.transport.identity import create_identity

__all__ = ["ServiceMeasurement", "measure_service", "service_table"]

_READY_SECONDS = 120.0
_CLIENT_SECONDS = 1800.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.1
_MIB = 2**20
_NAME = "bench"
_SCATTERED = 20
"""Clients that come at irregular times."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ServiceMeasurement:
    """What to measure.

    Args:
        model: the network's name.
        photos: two photos.
        runs: sessions of each kind, in turn.
        repeat: verifications in each session.
        clients: clients at once.
        sessions: sessions one after another.
        cache: folder of encoded weights for MPI's server; None to encode them anew.
    """

    model: str
    photos: tuple[Path, Path]
    runs: int = 3
    repeat: int = 3
    clients: int = 4
    sessions: int = 200
    cache: Path | None = None


@dataclass(frozen=True)
class _Loopback:
    """A running server, and a client that may use it."""

    process: "subprocess.Popen[bytes]"
    client: Path

    @property
    def door(self) -> psutil.Process:
        """The process that accepts connections."""
        return psutil.Process(self.process.pid).children()[0]

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a client's command."""
        return python_module("hybridface", *arguments, "--server", _NAME, "--identity", str(self.client))


def measure_service(wanted: ServiceMeasurement, say: Say) -> dict[str, Any]:
    """Measure, and return the figures as a JSON object.

    Args:
        say: called with a few words when a part begins.

    Raises:
        RunError: a session failed.
    """
    with temporary_folder() as folder, ExitStack() as stack:
        chips = stack.enter_context(aligned_photos(wanted.photos, _chip_size(wanted.model)))
        server = stack.enter_context(_serving(folder, wanted))
        say("online, beside MPI")
        document: dict[str, Any] = {"model": wanted.model, **_beside_mpi(server, wanted, chips)}
        say("bulk")
        document["bulk_mb_per_second"] = _bulk(folder)
        say(f"{wanted.clients} clients at once")
        document |= _at_once(server, wanted, chips)
        say("from start to answer")
        document["start_to_answer_seconds"] = _start_to_answer(server, wanted)
        say(f"{wanted.sessions} sessions")
        document |= _one_after_another(server, wanted)
    return document


def service_table(document: dict[str, Any]) -> Table:
    """Return the figures as a table."""
    table = Table(box=None, title=f"A server on loopback, {document['model']}", show_header=False)
    rows = {
        "online seconds, TLS": f"{document['online_tls_seconds']:.3f}",
        "online seconds, MPI": f"{document['online_mpi_seconds']:.3f}",
        "TLS / MPI": f"{document['online_ratio']:.2f}",
        "bulk, MB/s": f"{document['bulk_mb_per_second']:.0f}",
        "verifications an hour, one client": f"{document['per_hour_one']:.0f}",
        f"verifications an hour, {document['clients']} clients": f"{document['per_hour_all']:.0f}",
        "throughput / one client's": f"{document['throughput_ratio']:.2f}",
        "MiB of a further session": f"{document['session_mib']:.0f}",
        "MiB of the door": f"{document['door_mib']:.0f}",
        "start of a client to its answer, seconds": f"{document['start_to_answer_seconds']:.2f}",
        f"failures in {document['sessions']} sessions": str(document["failures"]),
        "door's memory, before and after, MiB": " to ".join(f"{one:.1f}" for one in document["door_mib_over_sessions"]),
        "processes, files and threads left": str(document["left"]),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _chip_size(model: str) -> int:
    from hybridface.models.model import load_model

    return load_model(model, weights=False).chip_size


@contextmanager
def _serving(folder: Path, wanted: ServiceMeasurement) -> Iterator[_Loopback]:
    """Run a server for the measurement; end it after this block."""
    address = Address("127.0.0.1", _free_port())
    here, client = folder / "server", folder / "client"
    settings = create_server_folder(here, "localhost", address)
    gallery = here / "gallery.db"
    _run(python_module("hybridface", "create-gallery", "--gallery", str(gallery), "--model", wanted.model))
    text = settings.read_text().replace("[models.dlib-resnet29]", f"[models.{wanted.model}]")
    lines = [line for line in text.splitlines() if not line.startswith("operations")]
    tables = f'[galleries.people]\nfile = "{gallery.name}"\nmodel = "{wanted.model}"\n'
    if wanted.model != "tiny-test":
        tables += "[models.tiny-test]\n"
    settings.write_text(f"max_sessions = {wanted.clients + 1}\n" + "\n".join(lines) + f"\n{tables}")
    own, other = create_identity(here, "localhost"), create_identity(client, "client")
    models = sorted({wanted.model, "tiny-test"})
    allow_client(here, "client", other.fingerprint, models, {"people": ["verify", "enroll"]})
    add_server(client, address, fingerprint=own.fingerprint, name=_NAME)
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(python_module("hybridface", "serve", str(settings)), stderr=log)
    try:
        _await_ready(process, folder / "serve.log")
        yield _Loopback(process, client)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while '"ready"' not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RunError(f"the server did not start: {log.read_text().strip().splitlines()[-1:]}")
        time.sleep(_LOOK_SECONDS)


def _beside_mpi(server: _Loopback, wanted: ServiceMeasurement, chips: Sequence[Path]) -> dict[str, Any]:
    """Compare the online phase over TLS with that over MPI, in sessions that take turns."""
    tls, mpi = list[float](), list[float]()
    run = HybridRun(
        model=wanted.model,
        photos=tuple(chips),
        aligned=True,
        enrolled=True,
        repeat=wanted.repeat,
        cache=wanted.cache,
    )
    for _ in range(wanted.runs):
        mpi += [float(one["cost"]["online"]["elapsed_seconds"]) for one in start(run).results]
        tls += _clients(server, wanted, chips, 1)[0]["online"]
    medians = statistics.median(tls), statistics.median(mpi)
    return {
        "online_tls_seconds": medians[0],
        "online_mpi_seconds": medians[1],
        "online_ratio": medians[0] / medians[1],
        "verifications_each": len(tls),
    }


def _at_once(server: _Loopback, wanted: ServiceMeasurement, chips: Sequence[Path]) -> dict[str, Any]:
    """Compare the throughput of several clients at once with that of one, and weigh the sessions."""
    (one,) = _clients(server, wanted, chips, 1)
    weights: list[tuple[int, int]] = []
    several = _clients(server, wanted, chips, wanted.clients, lambda: weights.append(_weight(server)))
    per_hour = [_per_hour([one]), _per_hour(several)]
    most = max(weights)
    return {
        "clients": wanted.clients,
        "per_hour_one": per_hour[0],
        "per_hour_all": per_hour[1],
        "throughput_ratio": per_hour[1] / per_hour[0],
        "session_mib": most[0] / max(1, wanted.clients) / _MIB,
        "door_mib": most[1] / _MIB,
    }


def _weight(server: _Loopback) -> tuple[int, int]:
    """Return the bytes that all sessions have for themselves, and those of the door."""
    own = 0
    for session in server.door.children():
        try:
            own += session.memory_full_info().uss
        except psutil.Error:
            continue
    return own, server.door.memory_info().rss


def _per_hour(clients: Sequence[dict[str, Any]]) -> float:
    count = sum(len(client["online"]) for client in clients)
    return 3600 * count / (max(client["ended"] for client in clients) - min(client["began"] for client in clients))


def _clients(
    server: _Loopback,
    wanted: ServiceMeasurement,
    chips: Sequence[Path],
    count: int,
    on_look: Callable[[], None] | None = None,
) -> list[dict[str, Any]]:
    """Run clients at once, each with one session; return what each reports."""
    arguments = as_arguments(_NAME, server.client, wanted.model, wanted.repeat, chips)
    command = python_module("hybridface.measure.cost.service_client", *arguments)
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(count)]
    try:
        deadline = time.monotonic() + _CLIENT_SECONDS
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            if on_look:
                on_look()
        return [_reported(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _reported(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    output, errors = process.communicate(timeout=_STOP_SECONDS)
    if process.returncode:
        raise RunError(f"a client failed: {errors.decode(errors='replace').strip().splitlines()[-1:]}")
    document: dict[str, Any] = json.loads(output.splitlines()[-1])
    return document


def _start_to_answer(server: _Loopback, wanted: ServiceMeasurement) -> float:
    """Return the median seconds from the start of a client's command to its answer: template and run are there."""
    people = ["--gallery", "people"]
    photo, other = map(str, wanted.photos)
    _run(server.command("enroll", "--id", "somebody", other, *people, "--quiet"))
    prepared = str(server.client / "prepared")
    options = ["--prepared", prepared, "--quiet"]
    _run(server.command("prepare", "--count", "3", "--for", "photo", "--model", wanted.model, *options))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        _run(server.command("verify", photo, "--id", "somebody", *people, *options), good=(0, 1))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _one_after_another(server: _Loopback, wanted: ServiceMeasurement) -> dict[str, Any]:
    """Run many sessions with a tiny network; see whether any fails and what is left of them."""
    from hybridface.measure.cost.service_client import small_sessions

    small_sessions(_NAME, server.client, 2)
    _await_no_session(server)
    before, memory = _held(server), [_door_mib(server)]
    failures = small_sessions(_NAME, server.client, wanted.sessions)
    arguments = [_NAME, str(server.client)]
    command = python_module("hybridface.measure.cost.service_client", *arguments)
    several = []
    for number in range(min(_SCATTERED, wanted.sessions)):
        several.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(0.05 * (7 * number % 11))  # at irregular times
    failures += sum(process.wait(_CLIENT_SECONDS) != 0 for process in several)
    _await_no_session(server)
    memory.append(_door_mib(server))
    left = [after - then for after, then in zip(_held(server), before, strict=True)]
    return {
        "sessions": wanted.sessions + len(several),
        "failures": failures,
        "door_mib_over_sessions": memory,
        "left": sum(left),
    }


def _await_no_session(server: _Loopback) -> None:
    """Wait until the processes of all sessions have ended."""
    deadline = time.monotonic() + _STOP_SECONDS
    while server.door.children() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    time.sleep(1.0)  # for the descriptors of the last one


def _held(server: _Loopback) -> tuple[int, int, int]:
    """Return how many processes, descriptors and threads the server has."""
    family = [psutil.Process(server.process.pid), server.door]
    return (
        len(psutil.Process(server.process.pid).children(recursive=True)),
        sum(one.num_fds() for one in family),
        sum(one.num_threads() for one in family),
    )


def _door_mib(server: _Loopback) -> float:
    return float(server.door.memory_info().rss) / _MIB


def _run(command: Sequence[str], good: Sequence[int] = (0,)) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_CLIENT_SECONDS, check=False)
    if done.returncode not in good:
        raise RunError(f"{command[3]} failed: {done.stderr.strip().splitlines()[-1:]}")


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _bulk(folder: Path) -> float:
    """Return the MB a second that one process sends another, over TLS and WebSocket."""
    done = subprocess.run(
        [sys.executable, "-m", "hybridface.measure.cost.service_bulk", str(folder / "server"), str(folder / "client")],
        capture_output=True,
        text=True,
        timeout=_CLIENT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RunError(f"the bulk transfer failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout)
