"""`hybridface prepare`: do the offline phase of verifications ahead of time; both sides keep the result on disk."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hybridface.commands.client import IdentityFolderOption
from hybridface.commands.options import (
    CacheOption,
    CorrelationsOption,
    JsonOption,
    ModelOption,
    PreparedOption,
    QuietOption,
    RevealOption,
    ThresholdOption,
    TimeoutOption,
)
from hybridface.commands.parties import (
    ServerOption,
    expect_remote_effects,
    named_model,
    parties_of,
)
from hybridface.commands.places import prepared_path, weights_cache
from hybridface.models import DEFAULT_MODEL
from hybridface.output.terminal import ProgressBars, show
from hybridface.processes.runs import PreparationRun, Purpose
from parties.prepared.store import MAX_KEPT
from parties.session.correlations import Correlations
from protocols.errors import ParameterError
from protocols.matching.reveal import Reveal

__all__ = ["prepare"]


def prepare(
    context: typer.Context,
    count: Annotated[int, typer.Option("--count", min=1, max=MAX_KEPT, help="Number of prepared runs to make.")] = 10,
    purpose: Annotated[
        Purpose,
        typer.Option(
            "--for",
            help="What the runs are for. pair: `verify A B`. photo: `enroll`, `verify --id`, `identify`. template: "
            "`verify A B --enrolled`, whose second photo also takes a run for a photo.",
        ),
    ] = Purpose.PAIR,
    model: ModelOption = DEFAULT_MODEL,
    reveal: RevealOption = Reveal.CLIENT,
    correlations: CorrelationsOption = Correlations.OT,
    prepared: PreparedOption = "",
    cache: CacheOption = "",
    threshold: ThresholdOption = None,
    timeout: TimeoutOption = 300.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    server: ServerOption = "",
    own: IdentityFolderOption = None,
) -> None:
    """Do the offline phase of some verifications now; later commands use each prepared run once.

    Client and server each keep a file for every run, some 40 MB per photo. Neither file is of use without the other.
    """
    expect_remote_effects(context, server)
    with parties_of(
        server, own, model=named_model(context, model, server), threshold=threshold, timeout=timeout
    ) as parties:
        folder = prepared_path(prepared, parties.name)
        if folder is None:
            raise ParameterError("expected a folder to keep prepared runs in, got none")
        run = PreparationRun(
            model=parties.model.name,
            timeout=timeout,
            threshold=threshold,
            reveal=reveal,
            correlations=correlations,
            cache=None if server else weights_cache(cache),
            prepared=folder,
            count=count,
            purpose=purpose,
        )
        with ProgressBars(shown=not quiet and not as_json) as bars:
            outcome = parties.start(run, bars)
    offline = [kept["cost"]["offline"] for kept in outcome.kept]
    document = {
        "kept": len(outcome.kept),
        "folder": str(folder),
        "seconds": [one["elapsed_seconds"] for one in offline],
        "MB, both ways": [(one["bytes_up"] + one["bytes_down"]) / 1e6 for one in offline],
        "peak_bytes": outcome.memory,
    }
    show(document, _table, as_json)
    if len(outcome.kept) < count:
        Console(stderr=True).print(f"hybridface: expected to keep {count} prepared runs, kept {len(outcome.kept)}")
        raise typer.Exit(2)


def _table(document: dict[str, Any]) -> Table:
    seconds, size = document["seconds"], document["MB, both ways"]
    table = Table(box=None, show_header=False, title=f"{document['kept']} prepared, in {document['folder']}")
    table.add_row("seconds each", f"{min(seconds):.1f} to {max(seconds):.1f}")
    table.add_row("MB sent each, both ways", f"{max(size):.0f}")
    for role, peak in sorted(document["peak_bytes"].items()):
        table.add_row(f"peak memory of the {role}, MiB", f"{peak / 2**20:.0f}")
    return table
