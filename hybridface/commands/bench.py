"""`hybridface bench`: measure speed, bytes, rounds and memory."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from hybridface.commands.bench_modes import bench_modes
from hybridface.commands.options import (
    CONTEXT,
    AlignedOption,
    CacheOption,
    CorrelationsOption,
    JsonOption,
    LinkOption,
    ModelOption,
    ModeModelOption,
    ModeOption,
    PoolOption,
    QuietOption,
    TimeoutOption,
    WorkersOption,
)
from hybridface.commands.places import check_writable, weights_cache
from hybridface.models import DEFAULT_MODEL
from hybridface.modes import Mode
from hybridface.output.documents import with_plain_keys
from hybridface.output.terminal import ProgressBars, show
from hybridface.photos import photo_path
from parties.session.correlations import Correlations
from protocols.errors import ParameterError
from protocols.link import link_named

__all__ = ["bench"]


class GalleryKinds(StrEnum):
    """The kinds of gallery to measure."""

    PRIVATE = "private"
    LIST = "list"
    BOTH = "both"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of gallery that are meant."""
        return ("private", "list") if self is GalleryKinds.BOTH else (self.value,)


bench = typer.Typer(no_args_is_help=True, context_settings=CONTEXT, help="Measure speed, bytes, rounds and memory.")
bench.command("modes")(bench_modes)


@bench.command("verify")
def bench_verify(
    first: Annotated[Path | None, typer.Argument(help="The photo; by default, a portrait from the project.")] = None,
    second: Annotated[Path | None, typer.Argument(help="The photo to enrol; by default, another portrait.")] = None,
    mode: ModeOption = Mode.HYBRID,
    model: ModeModelOption = "",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Number of verifications in one session.")] = 5,
    aligned: AlignedOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    link: LinkOption = "none",
    batch: Annotated[int, typer.Option("--batch", min=1, max=16, help="Copies of the photo in one batch.")] = 1,
    pool: PoolOption = 0,
    pause: Annotated[float, typer.Option("--pause", min=0, max=300, help="Seconds between verifications.")] = 0.0,
    workers: WorkersOption = 0,
    cache: CacheOption = "",
    correlations: CorrelationsOption = Correlations.OT,
) -> None:
    """Measure verifications of a photo against an enrolled template: median, minimum and maximum, and memory."""
    from hybridface.measure.cost.verify import bench_table, summarise
    from hybridface.processes.runs import HybridRun, PureHeRun, Run
    from hybridface.processes.start import start

    photos = (first or photo_path("person_b_1.jpg"), second or photo_path("person_b_2.jpg"))
    told: dict[str, Any] = {"model": model or mode.default_model, "link": link_named(link)}
    verifying: dict[str, Any] = {"photos": photos, "aligned": aligned, "repeat": runs, "pause": pause}
    run: Run
    if mode is Mode.PURE_HE:
        run = PureHeRun(**told, **verifying, max_answers=runs)
    else:
        shared: dict[str, Any] = {"correlations": correlations, "cache": weights_cache(cache), "workers": workers}
        run = HybridRun(**told, **verifying, **shared, enrolled=True, batch=batch, pool=pool)
    with ProgressBars(shown=not quiet and not as_json) as bars:
        outcome = start(run, bars)
    summary = {**summarise(outcome, run.link.name, batch), "correlations": correlations.value}
    show(summary, bench_table, as_json)


@bench.command("workers")
def bench_workers_command(
    most: Annotated[
        int, typer.Option("--ranks", min=1, max=64, help="Measure with 1, 2, ... up to this many ranks of the server.")
    ] = 2,
    model: ModelOption = DEFAULT_MODEL,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs for each number of ranks.")] = 5,
    cache: CacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the homomorphic products of one photo: on one rank of the server, and divided among more ranks."""
    from hybridface.measure.cost.workers import bench_workers, workers_table

    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task("ranks", total=most)
        document = bench_workers(
            model, most, runs, weights_cache(cache), lambda count: progress.update(task, completed=count - 1)
        )
    show(document, workers_table, as_json)


@bench.command("pure-he")
def bench_pure_he_command(
    weights: Annotated[
        str,
        typer.Option("--weights", help="A file from `hybridface train`, or 'random'; by default, the shipped network."),
    ] = "",
    widths: Annotated[
        str,
        typer.Option(
            "--widths",
            help="With --weights random: the network's widths, one for each square.",
            show_default="64,64,64",
        ),
    ] = "",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Number of verifications in one session.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Measure pure-HE mode: the server compares an input with an enrolled template, all under encryption."""
    from hybridface.measure.cost.pure_he import RANDOM, bench_pure_he, pure_he_table

    if widths and weights != RANDOM:
        raise ParameterError(f"expected --widths only with --weights random, got {widths!r}")
    sizes = (widths or "64,64,64").split(",")
    if not all(item.isdecimal() for item in sizes):
        raise ParameterError(f"expected widths like 64,64, got {widths!r}")
    document = bench_pure_he(weights, [int(item) for item in sizes], runs)
    show(document, pure_he_table, as_json)


@bench.command("identify")
def bench_identify_command(
    sizes: Annotated[
        str, typer.Option("--sizes", help="Numbers of templates in the gallery, with commas between.")
    ] = "1000,10000,100000",
    kind: Annotated[GalleryKinds, typer.Option("--kind", help="Which kind of gallery to measure.")] = GalleryKinds.BOTH,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Identifications in each gallery.")] = 5,
    shards: Annotated[
        str, typer.Option("--shards", help="Numbers of shards of a private gallery, with commas between.")
    ] = "1",
    correlations: CorrelationsOption = Correlations.OT,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how the cost of an identification grows with the gallery, without the cost of the probe's embedding."""
    from hybridface.measure.cost.identify import bench_identify, identify_table

    counts, cuts = _numbers(sizes, 8, "sizes"), _numbers(shards, 1, "shards")
    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as progress:
        galleries = sum(len(cuts) if one == GalleryKinds.PRIVATE.value else 1 for one in kind.kinds)
        task = progress.add_task("galleries", total=len(counts) * galleries)

        def on_size(of_kind: str, size: int, done: int) -> None:
            progress.update(task, description=f"{of_kind}, {size:,}", completed=done)

        document = bench_identify(counts, kind.kinds, runs, on_size, shards=cuts, correlations=correlations)
    show(document, identify_table, as_json)


def _numbers(text: str, least: int, what: str) -> list[int]:
    numbers = [int(item) for item in text.split(",") if item.isdecimal()]
    if len(numbers) != len(text.split(",")) or min(numbers) < least:
        raise ParameterError(f"expected {what} of {least} or more, with commas between, got {text!r}")
    return numbers


@bench.command("peers")
def bench_peers(
    first: Annotated[Path | None, typer.Argument(help="The photo; by default, a portrait from the project.")] = None,
    second: Annotated[Path | None, typer.Argument(help="The photo to enrol; by default, another portrait.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of each implementation; SPU runs once.")] = 5,
    aligned: AlignedOption = False,
    spu: Annotated[
        Path | None, typer.Option("--spu", help="Python of SPU's environment (.venv-spu/bin/python).")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Also write the JSON object to this file.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    timeout: TimeoutOption = 300.0,
) -> None:
    """Measure one verification in the clear, with hybridface, with CrypTen alone, and with SPU's Cheetah, in turn."""
    from hybridface.measure import peers
    from hybridface.models.model import load_model

    if spu is not None and not spu.is_file():
        raise ParameterError(f"expected the Python of SPU's environment, found no {spu}")
    if output is not None:
        check_writable(output)
    photos = (first or photo_path("person_b_1.jpg"), second or photo_path("person_b_2.jpg"))
    task = peers.make_task(load_model(model), photos, aligned)
    options = {} if spu is None else {"spu": spu}
    with peers.progress_bar(shown=not quiet and not as_json) as on_run:
        results = peers.compare(task, peers.all_peers(task, timeout=timeout, **options), runs, on_run)
    document = peers.comparison_document(results, task, runs)
    if output is not None:
        output.write_text(json.dumps(with_plain_keys(document), indent=2) + "\n")
    show(document, peers.comparison_table, as_json, columns=150)


@bench.command("correlations")
def bench_correlations_command(
    kinds: Annotated[
        list[Correlations] | None,
        typer.Option("--kind", help="Who makes the correlations; may be given several times.", show_default="all"),
    ] = None,
    transfers: Annotated[
        int, typer.Option("--transfers", min=1, help="Random oblivious transfers in a run.")
    ] = 4_000_000,
    comparisons: Annotated[int, typer.Option("--comparisons", min=64, help="Comparisons in a run.")] = 200_000,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of each kind, after one that does not count.")] = 5,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure oblivious transfers, and the correlations of a comparison: time and bytes, with and without a dealer."""
    from hybridface.measure.cost.correlations import bench_correlations, correlations_table

    chosen = kinds or list(Correlations)
    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task("starting", total=len(chosen))

        def on_kind(kind: Correlations) -> None:
            progress.update(task, description=kind.value, completed=chosen.index(kind))

        document = bench_correlations(chosen, transfers, comparisons, runs, on_kind)
    show(document, correlations_table, as_json)


@bench.command("service")
def bench_service(
    model: ModelOption = DEFAULT_MODEL,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Sessions over TLS and over MPI, in turn.")] = 3,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Verifications in each session.")] = 3,
    clients: Annotated[int, typer.Option("--clients", min=1, max=16, help="Clients at once.")] = 4,
    sessions: Annotated[int, typer.Option("--sessions", min=1, help="Sessions one after another.")] = 200,
    cache: CacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a server for other organisations on loopback: beside MPI, with many clients, over many sessions.

    Takes about a quarter of an hour with the default network.
    """
    from hybridface.measure.cost.service import ServiceMeasurement, measure_service, service_table

    photos = photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg")
    wanted = ServiceMeasurement(model, photos, runs, repeat, clients, sessions, weights_cache(cache))
    with Console(stderr=True, quiet=quiet or as_json).status("starting") as status:
        document = measure_service(wanted, status.update)
    show(document, service_table, as_json)
