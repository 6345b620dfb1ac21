"""Run the parties in one process, as threads that are connected by queues. For notebooks and fast tests."""

import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from parties.session.correlations import Correlations
from parties.session.source import open_source
from parties.transport.queues import local_channels
from protocols.channel import CLIENT, SERVER, Channel
from protocols.correlations import Dealer
from protocols.errors import PeerLostError, reason_for_peers
from protocols.shares.party import MpcParty

__all__ = ["PartyThread", "run_locally"]

_ClientResult = TypeVar("_ClientResult")
_ServerResult = TypeVar("_ServerResult")


class PartyThread(threading.Thread):
    """A party's thread. It closes its channels when it ends, so that its peers end too.

    Args:
        name: the party's name.
        work: called in the thread; does what the party has to do.
        channels: the party's ends of its channels.
    """

    def __init__(self, name: str, work: Callable[[], object], channels: tuple[Channel, ...]) -> None:
        super().__init__(name=f"hybridface-{name}", daemon=True)
        self._work, self._channels = work, channels
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the party's work, and report an error to the peers."""
        try:
            self._work()
        except BaseException as error:
            self.error = error
            for channel in self._channels:
                channel.send_error(reason_for_peers(error))
        finally:
            for channel in self._channels:
                channel.close()


def run_locally(
    client: Callable[[MpcParty], _ClientResult],
    server: Callable[[MpcParty], _ServerResult],
    timeout: float = 60.0,
    correlations: Correlations = Correlations.OT,
) -> tuple[_ClientResult, _ServerResult]:
    """Run both parties' sides of a protocol in this process, and return the results of both.

    Each side runs in a thread of its own. It is called with its `MpcParty`, which is already entered. If a side fails,
    this function raises the first error.

    Args:
        timeout: seconds that a party waits for the other.
        correlations: who makes the correlations. A dealer runs in a thread too.
    """
    to_server, to_client = local_channels("client", "server", timeout)
    results: dict[int, object] = {}

    def be(rank: int, peer: Channel, dealer: Channel | None, work: Callable[[MpcParty], object]) -> None:
        source = open_source(rank, correlations, peer, dealer)
        with MpcParty(rank, peer, source) as party:
            results[rank] = work(party)
        source.end()

    of_client: tuple[Channel, ...] = ()
    of_server: tuple[Channel, ...] = ()
    threads = []
    if correlations.needs_dealer:
        client_dealer, dealer_client = local_channels("client", "dealer", timeout)
        server_dealer, dealer_server = local_channels("server", "dealer", timeout)
        of_client, of_server = (client_dealer,), (server_dealer,)
        threads.append(
            PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server))
        )
    for rank, peer, dealers, work in ((CLIENT, to_server, of_client, client), (SERVER, to_client, of_server, server)):
        side = partial(be, rank, peer, dealers[0] if dealers else None, work)
        threads.append(PartyThread(("client", "server")[rank], side, (peer, *dealers)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [thread.error for thread in threads if thread.error]
    causes = [error for error in errors if not isinstance(error, PeerLostError)] or errors
    if causes:
        raise causes[0]
    return results[CLIENT], results[SERVER]  # type: ignore[return-value]
