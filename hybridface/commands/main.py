"""The command line: `hybridface verify`, `demo`, `party`; other commands are beside it.

Exit status: 0 same person (or done), 1 different people, 2 error. Errors are one line on standard error.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hybridface.commands.bench import bench
from hybridface.commands.eval import evaluation
from hybridface.commands.gallery import register, verify_identity
from hybridface.commands.gallery_options import PhotoSettings
from hybridface.commands.options import (
    CONTEXT,
    AlignedOption,
    CacheOption,
    CorrelationsOption,
    EnrolledOption,
    GalleryOption,
    IdentityOption,
    JsonOption,
    KeyOption,
    LayersOption,
    LimitsOption,
    LinkOption,
    ModeModelOption,
    ModeOption,
    PoolOption,
    PreparedOption,
    QuietOption,
    RevealOption,
    TimeoutOption,
    WorkersOption,
)
from hybridface.commands.places import cache_options, cache_path, existing_prepared_path
from hybridface.commands.plan import calibrate_machine, plan
from hybridface.commands.prepare import prepare
from hybridface.commands.train import train
from hybridface.errors import EXIT_DIFFERENT, EXIT_ERROR, EXIT_SAME, ImageError
from hybridface.models.model import Model, load_model
from hybridface.models.terms import pure_he_terms
from hybridface.modes import Mode
from hybridface.output.cost import cost_table, decision_text, score_text
from hybridface.output.terminal import ProgressBars, width
from hybridface.photos import photo_path
from hybridface.processes.options import Purpose
from hybridface.processes.start import Outcome, run_parties
from parties.session.correlations import Correlations
from parties.session.cost import CostReport, StageCost
from parties.transport.roles import Role
from protocols.errors import HybridFaceError, ParameterError
from protocols.link import link_named
from protocols.matching.distance import Reveal

__all__ = ["app", "main"]

_STARTED_BY_MPIEXEC = ("PMI_RANK", "PMIX_RANK")
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
    help="Is this the same face? Asked between two organisations that do not show each other their data.",
)


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(help="A photo with one face (JPEG, PNG, WebP, TIFF, BMP).")],
    second: Annotated[Path | None, typer.Argument(help="The photo to compare it with; none with --id.")] = None,
    identity: IdentityOption = None,
    gallery: GalleryOption = None,
    key: KeyOption = None,
    mode: ModeOption = Mode.HYBRID,
    model: ModeModelOption = "",
    reveal: RevealOption = Reveal.CLIENT,
    aligned: AlignedOption = False,
    enrolled: EnrolledOption = False,
    layers: LayersOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    timeout: TimeoutOption = 300.0,
    link: LinkOption = "none",
    workers: WorkersOption = 0,
    cache: CacheOption = "",
    correlations: CorrelationsOption = Correlations.OT,
    prepared: PreparedOption = "",
) -> None:
    """Compare two photos: starts client and server as MPI processes on this machine.

    Exit status: 0 same person, 1 different people, 2 error.
    """
    if (second is None) == (identity is None):
        raise ParameterError("expected a second photo, or the --id of somebody in the gallery")
    for photo in filter(None, (first, second)):
        if not photo.is_file():
            raise ImageError(f"{photo}: expected a photo, found no such file")
    if second is None or identity is not None:
        if mode is not Mode.HYBRID:
            raise ParameterError("expected --mode hybrid for a gallery")
        name = model or mode.default_model
        settings = PhotoSettings(gallery, as_json, name, key, cache, timeout, quiet, correlations, prepared, aligned)
        verify_identity(first, identity or "", settings, reveal)
        return
    name = model or mode.default_model
    simulated, loaded = link_named(link), load_model(name, weights=False)
    if mode is Mode.PURE_HE:
        pure_he_terms(loaded)  # refuses other networks, before anything starts
    shared = ["--model", name, "--reveal", reveal.value]
    options = [*(["--aligned"] if aligned else []), *(["--enrolled"] if enrolled else [])]
    with ProgressBars(shown=not quiet and not as_json) as bars:
        server = cache_options(cache)
        folder = existing_prepared_path(prepared) if mode is Mode.HYBRID else None
        outcome = run_parties(
            [first, second],
            options,
            shared,
            timeout,
            bars,
            simulated.name,
            server,
            workers,
            mode,
            correlations,
            folder,
        )
    _print_outcome(outcome, loaded, as_json, layers)
    raise typer.Exit(EXIT_DIFFERENT if outcome.match is False else EXIT_SAME)


@app.command()
def demo(quiet: QuietOption = False) -> None:
    """Compare two photos that come with the project, by the same private computation as `verify`."""
    photos = [photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg")]
    shown = load_model("dlib-resnet29", weights=False)
    console = Console()
    console.print(f"Client's photos: {photos[0].name}, {photos[1].name} (credits beside them). Server: {shown.name}.")
    with ProgressBars(shown=not quiet) as bars:
        outcome = run_parties(photos, on_event=bars)
    _print_outcome(outcome, shown, as_json=False, layers=False)


@app.command()
def party(
    role: Annotated[Role, typer.Argument(help="What this rank is.")],
    photos: Annotated[list[Path] | None, typer.Argument(help="The client's two photos.")] = None,
    mode: ModeOption = Mode.HYBRID,
    model: ModeModelOption = "",
    reveal: RevealOption = Reveal.CLIENT,
    aligned: AlignedOption = False,
    enrolled: EnrolledOption = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", help="The server's weight file; of a patch network's the client reads the public arrays."
        ),
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Verify so many times.")] = 1,
    events: Annotated[bool, typer.Option("--events", help="Write JSON lines for a program to read.")] = False,
    timeout: TimeoutOption = 300.0,
    link: LinkOption = "none",
    batch: Annotated[int, typer.Option("--batch", min=1, max=16, help="Copies of the first photo in a batch.")] = 1,
    pool: PoolOption = 0,
    pause: Annotated[float, typer.Option("--pause", min=0, help="Seconds between verifications.")] = 0.0,
    cache: CacheOption = "",
    max_answers: Annotated[
        int, typer.Option("--max-answers", min=1, help="Scores that a session gives in pure-HE mode, on both sides.")
    ] = 50,
    tasks: Annotated[Path | None, typer.Option("--tasks", help="The client's tasks for a gallery, JSON lines.")] = None,
    key: KeyOption = None,
    gallery: GalleryOption = None,
    client_name: Annotated[
        str, typer.Option("--client-name", help="Whom the server's limits count: the client, as you know it.")
    ] = "client",
    limits: LimitsOption = True,
    correlations: CorrelationsOption = Correlations.OT,
    prepared: Annotated[
        Path | None, typer.Option("--prepared", help="This party's folder of prepared runs.", show_default="none")
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Prepare and keep so many runs instead of verifying.")] = 0,
    keep_for: Annotated[Purpose, typer.Option("--keep-for", help="What for, as for `prepare`.")] = Purpose.PAIR,
) -> None:
    """Be one rank of a computation between machines; start two with mpiexec (see launch/), or more with workers.

    mpiexec -n 1 hybridface party client A.jpg B.jpg : -n 1 hybridface party server

    With --correlations dealer, for all of them, there is a third: hybridface party dealer.
    """
    from hybridface.processes.rank import PartyOptions, run_party  # starts MPI, so only here

    def load() -> Model:
        return load_model(model or mode.default_model, weights=role in (Role.SERVER, Role.WORKER), path=weights)

    options = PartyOptions(
        model=load,
        photos=tuple(photos or ()),
        aligned=aligned,
        enrolled=enrolled,
        repeat=repeat,
        reveal=reveal,
        events=events,
        timeout=timeout,
        link=link_named(link),
        batch=batch,
        pool=pool,
        pause=pause,
        cache=cache_path(cache),
        mode=mode,
        max_answers=max_answers,
        tasks=tasks,
        key=key,
        gallery=gallery,
        client_name=client_name,
        limits=limits,
        correlations=correlations,
        prepared=prepared,
        keep=keep,
        keep_for=keep_for,
    )
    raise typer.Exit(run_party(role, options))


app.command("prepare")(prepare)
register(app)
app.add_typer(bench, name="bench")
app.add_typer(evaluation, name="eval")
app.command("calibrate")(calibrate_machine)
app.command("plan")(plan)
app.command("train")(train)


def main() -> None:
    """Run the command line; errors of the project become one line and exit status 2."""
    try:
        app()
    except HybridFaceError as error:
        sys.stderr.write(f"hybridface: {error}\n")
        _exit_with_error()
    except Exception as error:  # a defect: never exit status 1, which means different people
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        sys.stderr.write(f"hybridface: internal error at {place}: {type(error).__name__}: {error}\n")
        _exit_with_error()
    except SystemExit as end:
        if end.code == EXIT_ERROR:
            _exit_with_error()
        raise


def _exit_with_error() -> None:
    """Exit with status 2. A rank of mpiexec that has not joined MPI yet ends the others, who wait for it."""
    if any(name in os.environ for name in _STARTED_BY_MPIEXEC) and "parties.transport.mpi" not in sys.modules:
        from parties.transport.mpi import abort_world

        abort_world(EXIT_ERROR)
    sys.exit(EXIT_ERROR)


def _print_outcome(outcome: Outcome, model: Model, as_json: bool, layers: bool) -> None:
    result = outcome.results[-1]
    if as_json:
        said = {**result, "decision": outcome.match, "peak_bytes": outcome.memory, "setup": outcome.setup}
        sys.stdout.write(json.dumps(said) + "\n")
        return
    console = Console(width=width())
    learner = "" if result["match"] is not None else " (only the server learned it)"
    console.print(f"[bold]{decision_text(outcome.match)}[/bold]{learner}\n")
    if "score" in result:
        console.print(score_text(result["score"]["squared_distance"], model.threshold) + "\n")
    if outcome.setup:
        console.print(f"Keys, once: {outcome.setup['bytes_up'] / 1e6:.1f} MB, {outcome.setup['elapsed_seconds']:.1f} s")
    report = CostReport(tuple(StageCost(**stage) for stage in result["cost"]["stages"]))
    console.print(cost_table(report, model, layers or "score" in result))
    peaks = ", ".join(f"{role} {size / 2**20:.0f} MiB" for role, size in sorted(outcome.memory.items()))
    console.print(f"\nPeak memory: {peaks}")
