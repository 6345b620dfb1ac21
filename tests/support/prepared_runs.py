"""Sessions of a client and a server that keep prepared runs, each in a folder of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridface.local.parties import LocalLinks
from hybridface.models.model import Model
from hybridface.models.terms import hybrid_terms
from parties.local import PartyThread
from parties.prepared.store import PreparedStore
from parties.session.client import ClientSession
from parties.session.correlations import Correlations
from parties.session.server import ServerSession
from protocols.network.graph import Weights


@contextmanager
def session(
    folder: Path,
    model: Model,
    correlations: Correlations = Correlations.OT,
    server: str | None = "server",
    weights: Weights | None = None,
) -> Iterator[ClientSession]:
    """Give a client's session with a server, each with its own folder of prepared runs; `server` None for none."""
    terms = hybrid_terms(model, correlations=correlations)
    links = LocalLinks.make(correlations)
    own, theirs = PreparedStore(folder / "client"), PreparedStore(folder / server) if server else None

    def serve() -> None:
        of_server = weights or model.weights or {}
        ServerSession(links.to_client, links.of_server, terms, of_server, prepared=theirs).serve()

    threads = [PartyThread("server", serve, links.server_ends), *links.others]
    for thread in threads:
        thread.start()
    try:
        with ClientSession(links.to_server, links.of_client, terms, prepared=own) as client:
            yield client
    except BaseException:
        for channel in filter(None, (links.to_server, links.of_client)):
            channel.close()
        raise
    finally:
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def runs(folder: Path, side: str = "*") -> list[Path]:
    """Return the files of runs that lie in the folders of the parties, or of one."""
    return sorted(path for path in folder.glob(f"{side}/*/*") if path.name != "pairing")


def expected(model: Model, pair: Any) -> bool:
    with torch.no_grad():
        first, second = model.module(torch.from_numpy(pair)).numpy()
    return bool(np.linalg.norm(first - second) < model.threshold)
