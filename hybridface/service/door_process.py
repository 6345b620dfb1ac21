"""The door's process: `python -m hybridface.service.door_process CONFIGURATION LISTENER ORDERS`.

The supervisor starts it, with two open descriptors: the listening socket, and a socket for events and orders.
"""

import json
import os
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from hybridface.errors import EXIT_ERROR, told
from hybridface.service.catalogue import load_catalogue
from hybridface.service.configuration import read_configuration
from hybridface.service.door import Door, trust_of
from parties.transport.identity import read_identity
from parties.transport.tls import server_context

__all__ = ["main"]

_LONGEST_TEXT = 2_000


def main(arguments: list[str]) -> int:
    """Run the door, and return its exit status."""
    path, listening, ordering = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    orders = socket.socket(fileno=ordering)

    def report(event: dict[str, Any]) -> None:
        """Send an event to the supervisor; without a supervisor, end."""
        short = {key: value[:_LONGEST_TEXT] if isinstance(value, str) else value for key, value in event.items()}
        try:
            orders.send(json.dumps(short).encode())
        except OSError:
            os._exit(EXIT_ERROR)

    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the supervisor hears them, and gives orders
    warnings.showwarning = lambda message, *_: report({"event": "warning", "why": str(message)})  # type: ignore[assignment]
    torch.set_num_threads(1)
    try:
        configuration = read_configuration(path)
        context = server_context(read_identity(configuration.folder), trust_of(configuration))
        catalogue = load_catalogue(configuration)
        listener = socket.socket(fileno=listening)
        listener.setblocking(False)
        door = Door(configuration, catalogue, context, listener, orders, report)
    except Exception as error:
        report({"event": "failed", "why": told(error)})
        return EXIT_ERROR
    door.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
