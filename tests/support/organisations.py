"""Two organisations, each on a host of its own: network namespaces with real addresses and one link between them.

Where the system allows no namespaces, both hosts are this machine, and tests that take the link down are skipped.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from parties.transport.identity import read_identity
from support.certificates import dated
from support.paths import ROOT

__all__ = [
    "END_SECONDS",
    "EVERYTHING",
    "SERVER",
    "START_SECONDS",
    "Host",
    "Organisations",
    "ServerProcess",
    "await_no_session",
    "certificate",
    "changed",
    "full",
    "in_client",
    "lines_of",
    "refused",
    "session",
    "sessions_of",
    "two_organisations",
    "verified",
]

SERVER_ADDRESS, CLIENT_ADDRESS = "10.99.0.1", "10.99.0.2"
EVERYTHING = "verify,identify,enroll,list,remove,rename,rotate"
START_SECONDS = 90.0
STOP_SECONDS = 60.0
END_SECONDS = 30.0
"""How long both sides may take to notice a link that is down: 20 seconds of silence, on a busy machine."""


@dataclass(frozen=True)
class Host:
    """A host: a network namespace, a home folder and an address.

    Args:
        namespace: its name; "" for this machine itself.
        home: folder of its configuration, caches and temporary files.
        address: its address on the link.
    """

    namespace: str
    home: Path
    address: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands: nothing of another host's."""
        folders = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CONFIG", "DATA", "CACHE")}
        (self.home / "tmp").mkdir(exist_ok=True)
        return {**os.environ, **folders, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.home / "tmp")}

    @property
    def inside(self) -> list[str]:
        """The beginning of a command line that runs something on this host."""
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs hybridface on this host."""
        return [*self.inside, sys.executable, "-m", "hybridface", *arguments]

    def run(self, *arguments: str, timeout: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """Run a hybridface command to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def done(self, *arguments: str) -> Any:
        """Run a command with `--json` that must succeed, and return its document."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a hybridface command."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@dataclass
class ServerProcess:
    """A running server, with the events that it has logged."""

    process: "subprocess.Popen[bytes]"
    log: Path
    read: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def look(self) -> list[dict[str, Any]]:
        """Return all events so far."""
        whole, _, _ = self.log.read_text()[self.read :].rpartition("\n")
        if whole:
            self.read += len(whole) + 1
            self.events += [json.loads(line) for line in whole.splitlines()]
        return self.events

    def count(self, name: str) -> int:
        """Return how often an event has been logged."""
        return sum(event["event"] == name for event in self.look())

    def last(self, name: str) -> dict[str, Any]:
        """Return the last event of a name."""
        return [event for event in self.look() if event["event"] == name][-1]

    @contextmanager
    def awaiting(self, name: str) -> Iterator[None]:
        """Wait, after this block, until an event has been logged once more."""
        before, deadline = self.count(name), time.monotonic() + START_SECONDS
        yield
        while self.count(name) <= before:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, (name, self.log.read_text())
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the server, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class Organisations:
    """The server's and the client's host, and the link between them."""

    server: Host
    client: Host

    @property
    def folder(self) -> Path:
        """The server's folder."""
        return self.server.home / "server"

    @property
    def port(self) -> int:
        """The server's port: the usual one on a host of its own."""
        return 7461 if self.server.namespace else 20_000 + 2 * (os.getpid() % 10_000)

    def link(self, state: str) -> None:
        """Take the link up or down."""
        if not self.client.namespace:
            pytest.skip("this system allows no network namespaces, so there is no link")
        _ip("-n", self.client.namespace, "link", "set", "hf-link", state)

    def introduce(self, settings: str = "") -> None:
        """Make both sides known to each other, as their operators would: a tiny network, and a gallery for it.

        Args:
            settings: lines for the top of the server's settings.
        """
        folder = str(self.folder)
        own = self.server.done("server", "init", folder, "--name", "match.example.org")
        staff = self.folder / "staff.gallery"
        self.server.done("create-gallery", "--gallery", str(staff), "--model", "tiny-test")
        path = self.folder / "server.toml"
        text = path.read_text().replace("[models.dlib-resnet29]", "[models.tiny-test]")
        text = text.replace("7461", str(self.port)).replace("7462", str(self.port + 1))
        gallery = f'\n[galleries.staff]\nfile = "{staff.name}"\nmodel = "tiny-test"\n'
        path.write_text(settings + text + gallery)
        theirs = self.client.done("client", "init")
        self.allow(theirs["fingerprint"])
        self.client.done("client", "add", f"{self.server.address}:{self.port}", own["fingerprint"], "--as", "match")

    def allow(self, fingerprint: str, may: str = EVERYTHING, name: str = "bank") -> None:
        """Let a client in."""
        rights = ["--model", "tiny-test", "--gallery", "staff", "--may", may]
        self.server.done("server", "allow", str(self.folder), name, fingerprint, *rights)

    @contextmanager
    def serving(self) -> Iterator[ServerProcess]:
        """Run the server in this block."""
        log = self.server.home / f"serve-{time.monotonic_ns()}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.server.command("serve", str(self.folder / "server.toml")),
                cwd=self.server.home,
                env=self.server.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        server = ServerProcess(process, log)
        try:
            with server.awaiting("ready"):
                pass
            yield server
        finally:
            server.end()


SERVER = ("--server", "match")
"""The options that name the other organisation's server."""


def verified(both: Organisations, *options: str) -> bool:
    """Compare two photos of the client, which match."""
    answer = both.client.done("verify", "a.png", "same.png", "--aligned", *SERVER, *options)
    return bool(answer["match"])


def lines_of(errors: str) -> list[str]:
    """Return what a command has said on standard error, without the notes of a first use."""
    return [line for line in errors.splitlines() if "pinned as" not in line and "made a new key" not in line]


def refused(both: Organisations, *command: str) -> str:
    """Return the one line with which a command of the client fails."""
    done = both.client.run(*command, *SERVER)
    lines = lines_of(done.stderr)
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), (done.stdout, done.stderr)
    return lines[0]


def sessions_of(server: ServerProcess) -> list[psutil.Process]:
    """Return the processes of sessions that run now."""
    doors = psutil.Process(server.process.pid).children()
    return [session for door in doors for session in door.children()]


def await_no_session(server: ServerProcess) -> None:
    deadline = time.monotonic() + END_SECONDS
    while sessions_of(server):
        assert time.monotonic() < deadline, "a session is left"
        time.sleep(0.05)


@contextmanager
def session(both: Organisations, server: ServerProcess, count: int = 100) -> "Iterator[subprocess.Popen[str]]":
    """Give a client that is in the middle of a long session."""
    own = both.client.home / f"prepared-{time.monotonic_ns()}"
    with server.awaiting("session opened"):
        client = both.client.start("prepare", "--count", str(count), "--quiet", "--prepared", str(own), *SERVER)
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


@contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    """Replace a file's content in this block."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def certificate(folder: Path, begins: timedelta, expires: timedelta) -> Iterator[None]:
    """Give an identity a certificate of other dates in this block."""
    own = read_identity(folder)
    with changed(own.certificate, own.certificate.read_bytes()):
        dated(own, begins, expires)
        yield


def in_client(both: Organisations, program: str) -> "subprocess.Popen[str]":
    """Start a Python program on the client's host, which may use the network as it likes."""
    told = program.replace("ADDRESS", repr((both.server.address, both.port)))
    return subprocess.Popen(
        [*both.client.inside, sys.executable, "-c", f"import socket, sys, time\n{told}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def full(path: Path) -> Iterator[None]:
    """Put a full file system in place of a folder in this block."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "full", str(path)], check=False)
    if mounted.returncode:
        pytest.skip("this system allows no mounts")
    try:
        (path / "filler").write_bytes(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def two_organisations(folder: Path) -> Iterator[Organisations]:
    """Make two hosts with one link between them; remove them after this block."""
    names = [f"hf-{side}-{os.getpid()}" for side in ("server", "client")]
    with ExitStack() as undo:
        if not _can_have_namespaces():
            hosts = [Host("", folder / name, "127.0.0.1") for name in names]
            for host in hosts:
                host.home.mkdir()
            yield Organisations(*hosts)
            return
        for name in names:
            _ip("netns", "add", name)
            undo.callback(_ip, "netns", "del", name)
        _ip("link", "add", "hf-link", "netns", names[0], "type", "veth", "peer", "name", "hf-link", "netns", names[1])
        for name, address in zip(names, (SERVER_ADDRESS, CLIENT_ADDRESS), strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "hf-link")
            for device in ("lo", "hf-link"):
                _ip("-n", name, "link", "set", device, "up")
        hosts = []
        for name, address in zip(names, (SERVER_ADDRESS, CLIENT_ADDRESS), strict=True):
            home = folder / name
            home.mkdir()
            hosts.append(Host(name, home, address))
        yield Organisations(*hosts)


def _can_have_namespaces() -> bool:
    """Return whether this system lets us make network namespaces: it needs iproute2 and root."""
    name = f"hf-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)
