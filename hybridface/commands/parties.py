"""The parties of a command: all on this machine, or the server of another organisation."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

import typer

from hybridface.commands.client import identity_folder
from hybridface.commands.effects import expect_effect
from hybridface.commands.places import say_warning

if TYPE_CHECKING:
    from hybridface.models.model import Model
    from hybridface.processes.outcome import Outcome
    from hybridface.processes.runs import Run
    from hybridface.remote.start import RemoteServer

__all__ = [
    "Parties",
    "ServerOption",
    "ThisMachine",
    "expect_remote_effects",
    "named_model",
    "parties_of",
]

ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        help="Another organisation's server: a name or an address that `hybridface client add` has added.",
        show_default="all parties on this machine",
    ),
]
_OF_THE_SERVER = (
    "workers",
    "link",
    "cache",
    "threshold",
    "shards",
    "kind",
    "limits",
    "replace",
    "weights",
    "new_gallery",
)
"""Options about what a server of another organisation decides itself."""


class ThisMachine:
    """All parties on this machine; a context manager, as `RemoteServer` is.

    Args:
        model: the network's name.
        threshold: None for the network's own.
    """

    def __init__(self, model: str, threshold: float | None = None) -> None:
        self._name, self._threshold = model, threshold

    name = ""
    """No server has this name: it stands for this machine."""

    @property
    def model(self) -> "Model":
        """The network, without weights."""
        from hybridface.models.model import load_model

        return load_model(self._name, weights=False).with_threshold(self._threshold)

    def start(self, run: "Run", on_event: Callable[[dict[str, Any]], None] | None = None) -> "Outcome":
        """Start the ranks of a run, as `processes.start.start` does."""
        from hybridface.processes.start import start

        return start(run, on_event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: each run ends its own ranks."""


Parties: TypeAlias = "ThisMachine | RemoteServer"
"""The parties of a command."""


def parties_of(
    server: str, identity: Path | None, *, model: str, threshold: float | None = None, timeout: float = 300.0
) -> Parties:
    """Return the parties that the options name.

    Args:
        server: "" for this machine.
        identity: the folder that `--identity` names.
        model: the network's name; "" for the remote server's.
    """
    if not server:
        return ThisMachine(model, threshold)
    from hybridface.remote.start import RemoteServer

    return RemoteServer(server, identity_folder(identity), say_warning, timeout=timeout, model=model)


def named_model(context: typer.Context, model: str, server: str) -> str:
    """Return the network that `--model` names; "" if the user left that to a remote server."""
    source = context.get_parameter_source("model")
    return "" if server and source is not None and source.name == "DEFAULT" else model


def expect_remote_effects(context: typer.Context, server: str) -> None:
    """Refuse options that do nothing with a remote server, or without one.

    Raises:
        ParameterError: the user gave one.
    """
    if server:
        expect_effect(context, _OF_THE_SERVER, "with --server, which decides that itself")
    else:
        expect_effect(context, ("own",), "without --server")
