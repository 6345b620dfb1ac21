"""`hybridface bench`: speed, bytes, rounds and memory, measured."""

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
        """Those that are meant."""
        return ("private", "list") if self is GalleryKinds.BOTH else (self.value,)


bench = typer.Typer(no_args_is_help=True, context_settings=CONTEXT, help="Measure speed, bytes, rounds and memory.")
bench.command("modes")(bench_modes)


@bench.command("verify")
def bench_verify(
    first: Annotated[Path | None, typer.Argument(help="The photo; a portrait of the project if left out.")] = None,
    second: Annotated[Path | None, typer.Argument(help="The photo that is enrolled.")] = None,
    mode: ModeOption = Mode.HYBRID,
    model: ModeModelOption = "",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Verifications in one session.")] = 5,
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
    """One photo against an enrolled template, several times: median, minimum and maximum, and memory."""
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
        int, typer.Option("--ranks", min=1, max=64, help="Measure on 1, ... so many ranks of the server.")
    ] = 2,
    model: ModelOption = DEFAULT_MODEL,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs with each number of ranks.")] = 5,
    cache: CacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """The homomorphic products of one photo on the server alone, and shared out among more of its ranks."""
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
        str, typer.Option("--weights", help="A file of `hybridface train`, or random; else the shipped network.")
    ] = "",
    widths: Annotated[
        str, typer.Option("--widths", help="Of a random network, one a square.", show_default="64,64,64")
    ] = "",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Verifications in one session.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """One input against an enrolled template, computed by the server under encryption from end to end."""
    from hybridface.measure.cost.pure_he import RANDOM, bench_pure_he, pure_he_table

    if widths and weights != RANDOM:
        raise ParameterError(f"expected --widths with --weights random alone, got {widths!r}")
    sizes = (widths or "64,64,64").split(",")
    if not all(item.isdecimal() for item in sizes):
        raise ParameterError(f"expected widths like 64,64, got {widths!r}")
    document = bench_pure_he(weights, [int(item) for item in sizes], runs)
    show(document, pure_he_table, as_json)


@bench.command("identify")
def bench_identify_command(
    sizes: Annotated[str, typer.Option("--sizes", help="Templates in the gallery.")] = "1000,10000,100000",
    kind: Annotated[GalleryKinds, typer.Option("--kind", help="Which kind of gallery.")] = GalleryKinds.BOTH,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Identifications in each gallery.")] = 5,
    shards: Annotated[str, typer.Option("--shards", help="Parts that a private gallery is searched in.")] = "1",
    correlations: CorrelationsOption = Correlations.OT,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Who of a gallery is nearest to a probe, after its embedding: cost by the gallery's size, and how it grows."""
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
    first: Annotated[Path | None, typer.Argument(help="The photo; a portrait of the project if left out.")] = None,
    second: Annotated[Path | None, typer.Argument(help="The photo that is enrolled.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of each peer; SPU's is one.")] = 5,
    aligned: AlignedOption = False,
    spu: Annotated[
        Path | None, typer.Option("--spu", help="Python of SPU's environment (.venv-spu/bin/python).")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the JSON object to a file as well.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    timeout: TimeoutOption = 300.0,
) -> None:
    """The same verification in the clear, by this project, by CrypTen alone, and by SPU's Cheetah, interleaved."""
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
        typer.Option("--kind", help="Who makes them; may be given several times.", show_default="all"),
    ] = None,
    transfers: Annotated[int, typer.Option("--transfers", min=1, help="Random transfers in a run.")] = 4_000_000,
    comparisons: Annotated[int, typer.Option("--comparisons", min=64, help="Comparisons in a run.")] = 200_000,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of each, after one that does not count.")] = 5,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Random transfers, and what a comparison uses up: time and bytes, without a dealer (two ways) and with one."""
    from hybridface.measure.cost.correlations import bench_correlations, correlations_table

    chosen = kinds or list(Correlations)
    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task("starting", total=len(chosen))

        def on_kind(kind: Correlations) -> None:
            progress.update(task, description=kind.value, completed=chosen.index(kind))

        document = bench_correlations(chosen, transfers, comparisons, runs, on_kind)
    show(document, correlations_table, as_json)
