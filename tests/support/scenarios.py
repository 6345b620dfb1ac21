"""Whole sessions of the tiny network, of every kind, for tests that disturb what goes over their channels.

A scenario runs one or more sessions, and returns what the client has learned. `watched` notes how every party's thread
ends, and every error report that travels.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from hybridface.models.model import load_model
from parties.gallery.key import GalleryKey
from parties.local import PartyThread
from parties.session.correlations import Correlations
from parties.transport.queues import LocalTransport
from protocols.matching.reveal import Reveal
from support import gallery_sessions, list_sessions, wire_sessions
from support.prepared_runs import session as kept_session

__all__ = ["SCENARIOS", "Watched", "watched"]

MODEL = load_model("tiny-test")
IMAGES = gallery_sessions.IMAGES
SECRET = "canary"  # noqa: S105
"""Part of every identity, path and key that a party must keep to itself, or between the client and the server."""

ERROR_CODE, END_SECONDS = 255, 20.0


@dataclass
class Watched:
    """What happened in a scenario.

    Args:
        errors: with which parties' threads ended, and the client.
        reports: texts of error reports, as they were sent.
        hung: names of threads that did not end.
    """

    errors: list[BaseException] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)


@contextmanager
def watched() -> Iterator[Watched]:
    """Watch all parties of this process; an error of a scenario in the block is noted, too, and goes no further.

    Then the client's ends are closed, as a rank's are that ends.
    """
    seen = Watched()
    threads: list[PartyThread] = []
    transports: list[LocalTransport] = []
    make, run, send = LocalTransport.__init__, PartyThread.run, LocalTransport.send

    def noted_make(transport: LocalTransport, *arguments: Any, **options: Any) -> None:
        make(transport, *arguments, **options)
        transports.append(transport)

    def noted_run(thread: PartyThread) -> None:
        threads.append(thread)
        run(thread)
        if thread.error:
            seen.errors.append(thread.error)

    def noted_send(transport: LocalTransport, payload: bytes, timeout: float | None = None) -> None:
        if len(payload) > 24 and payload[3] == ERROR_CODE:
            seen.reports.append(bytes(payload[24:]).decode())
        send(transport, payload, timeout)

    with (
        mock.patch.object(LocalTransport, "__init__", noted_make),
        mock.patch.object(PartyThread, "run", noted_run),
        mock.patch.object(LocalTransport, "send", noted_send),
    ):
        try:
            yield seen
        except AssertionError:  # of a support module that expects its threads to end without one
            assert any(thread.error for thread in threads)
        except BaseException as error:
            seen.errors.append(error)
        if seen.errors:
            for transport in transports:
                transport.close()
        for thread in threads:
            thread.join(END_SECONDS)
        seen.hung += [thread.name for thread in threads if thread.is_alive()]
    assert threading.current_thread() not in threads


def private_gallery(folder: Path, shards: int = 2) -> list[Any]:
    """Enrol, list, verify, identify, remove, and change the key."""
    with gallery_sessions.session(folder, gallery_sessions.KEY, shards=shards, timeout=END_SECONDS) as client:
        for number in range(3):
            client.enroll_identity(f"{SECRET} {number}", IMAGES[number][None])
        found = [
            client.identify(IMAGES[1][None]).identity,
            client.verify_identity(f"{SECRET} 1", IMAGES[1][None]).match,
        ]
        listed = client.list_identities()
        return [*found, listed, client.remove_identities([f"{SECRET} 0"]), client.rotate_key(GalleryKey(bytes(32)))]


def server_list(folder: Path) -> list[Any]:
    """Read a list, identify, and verify."""
    with (
        mock.patch.object(list_sessions, "NAMES", [f"{SECRET} {number}" for number in range(5)]),
        list_sessions.session(list_sessions.fill(folder / f"{SECRET}.db"), reveal=Reveal.BOTH) as (client, _),
    ):
        found = client.identify(list_sessions.IMAGES[0][None], 2).identities
        return [found, client.verify_identity(f"{SECRET} 0", list_sessions.IMAGES[0][None]).match]


def prepared_runs(folder: Path) -> list[Any]:
    """Keep a run in one session, and take it up in the next."""
    with kept_session(folder, MODEL, Correlations.DEALER) as client:
        client.save_prepared(2, 1)
    with kept_session(folder, MODEL, Correlations.DEALER) as client:
        return [client.verify_pair(IMAGES[:2]).match]


def verification(folder: Path) -> list[Any]:
    """Enrol, and verify, without a dealer."""
    results: list[Any] = []

    def work(client: Any) -> None:
        template = client.enroll(f"{SECRET} name", IMAGES[:1])
        results.append(client.verify(IMAGES[1:2], template).match)

    wire_sessions.run_session(Correlations.OT, work)
    return results


def workers(folder: Path) -> list[Any]:
    """Verify a pair with two workers of the server's."""
    results: list[Any] = []
    wire_sessions.run_session(
        Correlations.DEALER, lambda client: results.append(client.verify_pair(IMAGES[:2]).match), workers=2
    )
    return results


def pure_he(folder: Path) -> list[Any]:
    """Enrol, and verify, on ciphertexts alone."""
    return [wire_sessions.run_pure_he(f"{SECRET} name")]


SCENARIOS: dict[str, Callable[[Path], list[Any]]] = {
    "private gallery": private_gallery,
    "server's list": server_list,
    "prepared runs": prepared_runs,
    "verification": verification,
    "workers": workers,
    "pure HE": pure_he,
}
