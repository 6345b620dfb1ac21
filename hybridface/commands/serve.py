"""`hybridface serve`: serve clients of other organisations until told to stop."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    configuration: Annotated[Path, typer.Argument(help="The server's configuration, made by `server init`.")],
) -> None:
    """Serve clients of other organisations over TLS, until told to stop.

    Writes one JSON line for each event to standard error. `hybridface server check` checks the configuration.

    SIGTERM and Ctrl-C end the server when its sessions have ended. SIGHUP reloads configuration, clients and
    certificate; no session ends.
    """
    from hybridface.service.supervisor import Supervisor

    Supervisor(configuration).run()
