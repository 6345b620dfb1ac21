"""`hybridface train`: a patch network from photos of faces, taught by a larger network."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hybridface.commands.options import FacesCacheOption, JsonOption, QuietOption
from hybridface.commands.places import faces_cache
from hybridface.models import DEFAULT_MODEL
from hybridface.output.terminal import show
from protocols.errors import ParameterError

__all__ = ["train"]

_SHOWN_STEPS = 20


def train(
    images: Annotated[Path, typer.Option("--images", help="Faces: a folder or a tar file; NAME/PHOTO.jpg for pairs.")],
    output: Annotated[Path, typer.Option("--output", help="The model file to write.")],
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            help="Pairs in LFW's format, with folds: for the threshold and the accuracy. Without, the teacher decides.",
        ),
    ] = None,
    held_out_folds: Annotated[
        str, typer.Option("--held-out-folds", help="Folds whose people are only measured on, counted from 1.")
    ] = "7,8",
    held_out_fraction: Annotated[
        float, typer.Option("--held-out-fraction", min=0.0, max=0.9, help="Without pairs: photos not trained on.")
    ] = 0.1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUTPUT.checkpoint, if there is one.")] = False,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the number of photos.")] = 100,
    views: Annotated[int, typer.Option("--views", min=0, help="Changed copies of every face.")] = 7,
    members: Annotated[int, typer.Option("--members", min=1, help="Students whose mean is the result.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, views and draws.")] = 0,
    teacher: Annotated[str, typer.Option("--teacher", help="The network to learn from.")] = DEFAULT_MODEL,
    device: Annotated[str, typer.Option("--device", help="cpu, or cuda for an NVIDIA GPU.")] = "cpu",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that align faces.")] = 2,
    cache: FacesCacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a patch network, which has squares for activations, by distillation from another network; no labels needed.

    Aligned faces and the teacher's answers are kept in the cache folder (`--cache`), unencrypted.
    """
    from hybridface.faces.pairs import folds_from_text
    from hybridface.train.distil import DistilOptions, distil
    from hybridface.train.losses import Losses

    options = DistilOptions(
        held_out=folds_from_text(held_out_folds),
        fraction=held_out_fraction,
        teacher=teacher,
        epochs=epochs,
        views=views,
        members=members,
        seed=seed,
    )
    _check_device(device)
    if output.is_dir() or not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise ParameterError(f"expected a file to write to in a folder that exists, got {output}")
    shown = not quiet and not as_json
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[losses]}"), TimeRemainingColumn()
    progress = Progress(*columns, console=Console(stderr=True), disable=not shown)
    task = progress.add_task("training", losses="")
    before = 0

    def on_step(step: int, steps: int, losses: Losses) -> None:
        nonlocal before
        if step <= before:
            progress.reset(task)  # the next student
        before = step
        if step % _SHOWN_STEPS == 0 or step == steps:
            progress.start()  # not before: alignment and the teacher have bars of their own
            text = "  ".join(f"{name} {float(value):.3f}" for name, value in vars(losses).items())
            progress.update(task, completed=step, total=steps, losses=text)

    try:
        with faces_cache(cache, "train") as kept:
            result = distil(images, pairs, output, options, kept, resume, device, workers, shown, on_step)
    finally:
        progress.stop()
    document = {"output": str(output), **asdict(result)}
    show(document, _result_table, as_json)


def _result_table(document: dict[str, Any]) -> Table:
    """Return the figures; of the levels, the one with the least headroom."""
    table = Table(title=f"Patch network, written to {document['output']}", box=None, show_header=False)
    least = min(document["budget"], key=lambda level: level["headroom_bits"])
    figures = {**document, **(document["accuracy"] or {}), **(document["agreement"] or {})}
    figures["largest before squares"] = ", ".join(f"{value:.1f}" for value in document["ranges"])
    figures["least headroom, bits"] = f"{least['headroom_bits']:.1f}, at {least['name']}"
    for name in ("accuracy", "agreement", "output", "ranges", "budget"):
        del figures[name]
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
    return table


def _check_device(device: str) -> None:
    import torch

    if device not in ("cpu", "cuda"):
        raise ParameterError(f"expected --device cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ParameterError("expected an NVIDIA GPU that torch can use for --device cuda, found none")
