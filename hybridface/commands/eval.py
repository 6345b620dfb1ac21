"""`hybridface eval`: how often the network, its arithmetic, and the protocols are right."""

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
        typer.Option("--mode", help="float64; fixed point bit by bit; or one of the protocols, on some pairs."),
    ] = EvalMode.PLAIN,
    model: ModelOption = DEFAULT_MODEL,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, help="So many random pairs; 0 for all.", show_default="all, 20 of a protocol"),
    ] = None,
    folds: Annotated[
        str, typer.Option("--folds", help="Only these, like 7,8; thresholds then come from all the others.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random pairs.")] = 0,
    face: Annotated[
        FaceChoice, typer.Option("--face", help="Which of several faces counts; 'only' takes the photo's middle.")
    ] = FaceChoice.CENTRE,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that align and embed.")] = 2,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder for results and plot.", show_default="lfw-MODEL-MODE"),
    ] = None,
    cache: FacesCacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Accuracy by LFW's protocol: every fold is decided with the threshold that is best on the other folds.

    Writes result.json, pairs.csv and roc.png. A run that was stopped goes on where it was.
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
    """Find out now, rather than after a long measurement."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"expected a folder to write to, got {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise ParameterError(f"expected a folder to write to, got {folder}")


@evaluation.command("rank")
def eval_rank(
    images: Annotated[Path, typer.Option("--images", help="LFW: a tar file or a folder, NAME/NAME_0001.jpg.")],
    pairs: Annotated[Path, typer.Option("--pairs", help="Pairs in LFW's format; their photos are used.")],
    model: ModelOption = DEFAULT_MODEL,
    probes: Annotated[
        int, typer.Option("--probes", min=0, help="People to look for; 0 for all with two photos.")
    ] = 500,
    protocol: Annotated[int, typer.Option("--protocol", min=0, help="Of these, in the real protocol.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the drawn people.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that align and embed.")] = 2,
    cache: FacesCacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Identification: is the nearest person in fixed point, and in the protocol, the nearest in float64?"""
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
    limit: Annotated[int, typer.Option("--limit", min=0, help="So many random photos; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random photos.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that align and compute.")] = 2,
    cache: FacesCacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """The largest magnitude that each comparison meets, and the bits that it needs; an error if it has too few.

    The widths of the known networks come from such a measurement. Measure your own photos before you deploy.
    """
    from hybridface.measure.accuracy.ranges import RangeOptions, ranges, ranges_table

    with faces_cache(cache, "lfw") as kept:
        document = ranges(RangeOptions(images, kept, model, limit, seed, workers, not quiet and not as_json))
    show(document, ranges_table, as_json)
