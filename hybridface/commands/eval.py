"""`hybridface eval`: measure how often the network, its arithmetic, and the protocols are right."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from hybridface.commands.options import CONTEXT, FacesCacheOption, JsonOption, ModelOption, QuietOption
from hybridface.commands.places import faces_cache
from hybridface.faces.choice import FaceChoice
from hybridface.measure.accuracy.mode import EvalMode
from hybridface.models import DEFAULT_MODEL
from hybridface.output.terminal import show
from protocols.errors import ParameterError

__all__ = ["evaluation"]

evaluation = typer.Typer(no_args_is_help=True, context_settings=CONTEXT, help="Measure accuracy on pairs of photos.")


@evaluation.command("lfw")
def eval_lfw(
    images: Annotated[Path, typer.Option("--images", help="LFW: a tar file or a folder, NAME/NAME_0001.jpg.")],
    pairs: Annotated[Path, typer.Option("--pairs", help="Pairs in LFW's format, with folds.")],
    mode: Annotated[
        EvalMode,
        typer.Option(
            "--mode",
            help="How to decide: in float64, in the protocol's exact fixed point, or by a protocol on some pairs.",
        ),
    ] = EvalMode.PLAIN,
    model: ModelOption = DEFAULT_MODEL,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=0, help="Use this many random pairs; 0 for all.", show_default="all; 20 for a protocol"
        ),
    ] = None,
    folds: Annotated[
        str, typer.Option("--folds", help="Use only these folds, like 7,8; thresholds then come from all other folds.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for the random pairs.")] = 0,
    face: Annotated[
        FaceChoice,
        typer.Option("--face", help="Which of several faces counts; 'only' uses the photo's middle instead."),
    ] = FaceChoice.CENTRE,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Number of processes that align and embed.")] = 2,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder for the results and the plot.", show_default="lfw-MODEL-MODE"),
    ] = None,
    cache: FacesCacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure accuracy by LFW's protocol: decide each fold with the threshold that is best on the other folds.

    Writes result.json, pairs.csv and roc.png. Run the command again to continue after an interruption.
    """
    from hybridface.faces.pairs import folds_from_text
    from hybridface.measure.accuracy.evaluation import EvaluationOptions, evaluate
    from hybridface.measure.accuracy.report import accuracy_table, write_results

    chosen = folds_from_text(folds) if folds else ()
    folder = output or Path(f"lfw-{model}-{mode}")
    _make_output(folder)
    shown = not quiet and not as_json
    with faces_cache(cache, "lfw") as kept:
        options = EvaluationOptions(images, pairs, kept, mode, model, limit, chosen, seed, face, workers, shown)
        result = evaluate(options)
    write_results(folder, result)
    show(result.document, accuracy_table, as_json)


def _make_output(folder: Path) -> None:
    """Make the folder now, so that an error does not come after a long measurement."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"expected a folder to write to, got {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise ParameterError(f"expected a folder to write to, got {folder}")


@evaluation.command("rank")
def eval_rank(
    images: Annotated[Path, typer.Option("--images", help="LFW: a tar file or a folder, NAME/NAME_0001.jpg.")],
    pairs: Annotated[Path, typer.Option("--pairs", help="Pairs in LFW's format; only their photos are used.")],
    model: ModelOption = DEFAULT_MODEL,
    probes: Annotated[
        int, typer.Option("--probes", min=0, help="Number of people to search for; 0 for all who have two photos.")
    ] = 500,
    protocol: Annotated[
        int, typer.Option("--protocol", min=0, help="How many of these people to search for with the real protocol.")
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for the choice of people.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Number of processes that align and embed.")] = 2,
    cache: FacesCacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure identification: do fixed point and the protocol find the same nearest person as float64?"""
    from hybridface.measure.accuracy.ranking import RankOptions, rank

    with faces_cache(cache, "lfw") as kept:
        document = rank(
            RankOptions(images, pairs, kept, model, probes, protocol, seed, workers, not quiet and not as_json)
        )

    def table(document: dict[str, Any]) -> Table:
        lines = Table(box=None, show_header=False, title="Identification")
        for name, value in document.items():
            lines.add_row(name, f"{value:.2%}" if isinstance(value, float) else str(value))
        return lines

    show(document, table, as_json)


@evaluation.command("ranges")
def eval_ranges(
    images: Annotated[Path, typer.Option("--images", help="Photos of faces: a tar file or a folder.")],
    model: ModelOption = DEFAULT_MODEL,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Use this many random photos; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for the random photos.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Number of processes that align and compute.")] = 2,
    cache: FacesCacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the largest magnitude in each comparison and the bits it needs; fail if a comparison has too few bits.

    The bit widths of the known networks come from such a measurement. Measure your own photos before you deploy.
    """
    from hybridface.measure.accuracy.ranges import RangeOptions, ranges, ranges_table

    with faces_cache(cache, "lfw") as kept:
        document = ranges(RangeOptions(images, kept, model, limit, seed, workers, not quiet and not as_json))
    show(document, ranges_table, as_json)
