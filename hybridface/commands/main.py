"""The command line: every command is a module beside this one, which loads what it needs when it runs.

Exit status: 0 same person (or done), 1 different people, 2 error. Errors are one line on standard error.
"""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from hybridface.commands.bench import bench
from hybridface.commands.client import client
from hybridface.commands.eval import evaluation
from hybridface.commands.gallery import register
from hybridface.commands.options import CONTEXT
from hybridface.commands.party import party
from hybridface.commands.ping import ping
from hybridface.commands.plan import calibrate_machine, plan
from hybridface.commands.prepare import prepare
from hybridface.commands.serve import serve
from hybridface.commands.server import server
from hybridface.commands.train import train
from hybridface.commands.verify import demo, verify
from hybridface.errors import EXIT_ERROR, told
from hybridface.output.documents import error_document, print_json
from hybridface.signals import Interrupted, end
from parties.transport.started import was_started_by_mpiexec

__all__ = ["app", "main"]

_ABORT_SECONDS = 5.0
"""How long a rank that cannot begin waits for the others to start MPI, in order to end them."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from hybridface.version import __version__

        typer.echo(f"hybridface {__version__}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compare faces between two organisations that do not show each other their data."""


app.command("verify")(verify)
app.command("demo")(demo)
app.command("party")(party)
app.command("prepare")(prepare)
app.command("serve")(serve)
app.command("ping")(ping)
app.add_typer(server, name="server")
app.add_typer(client, name="client")
register(app)
app.add_typer(bench, name="bench")
app.add_typer(evaluation, name="eval")
app.command("calibrate")(calibrate_machine)
app.command("plan")(plan)
app.command("train")(train)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; turn errors of the project into one line and exit status 2.

    Args:
        arguments: arguments without the program's name; the process's own if left out.
    """
    as_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    _prepare_output()
    os.environ["PYTHONSAFEPATH"] = "1"  # processes that this one starts run no code from the current folder
    try:
        app(arguments)
    except Exception as error:  # never exit status 1, which means different people
        with suppress(OSError):  # nobody reads it, or there is no room for it
            sys.stderr.write(f"hybridface: {told(error)}\n")
            if as_json:
                print_json(error_document(error))
                sys.stdout.flush()
        _exit_with_error()
    except Interrupted as interrupted:
        end(interrupted)
    except SystemExit as leaving:
        nobody_reads = isinstance(leaving.__context__, OSError)  # typer exits with 1 if the output is closed
        wrong_arguments = getattr(leaving.__context__, "format_message", None)  # typer has printed them
        if as_json and wrong_arguments:
            with suppress(OSError):
                print_json(error_document(wrong_arguments(), "usage"))
        if leaving.code == EXIT_ERROR or nobody_reads or not _flushed() or isinstance(leaving.__context__, typer.Abort):
            _exit_with_error()
        raise


def _flushed() -> bool:
    """Return whether all output has gone out; Python would check only at its end, and then exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):  # standard output may be no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes the rest
        return False
    return True


def _prepare_output() -> None:
    """Check that there is an output before any work; write characters that its encoding does not have as escapes."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # type: ignore[unreachable]  # noqa: SIM115
    if sys.stdout is None:
        sys.stderr.write("hybridface: expected an open standard output\n")  # type: ignore[unreachable]
        sys.exit(EXIT_ERROR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _exit_with_error() -> None:
    """Exit with status 2. A rank of mpiexec that has not joined MPI yet ends the others, which wait for it."""
    if was_started_by_mpiexec(os.environ):
        from parties.transport.mpi_library import abort_world

        abort_world(EXIT_ERROR, _ABORT_SECONDS)
    sys.exit(EXIT_ERROR)
