"""`hybridface train`: train a patch network on photos of faces, with a larger network as its teacher."""

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
    images: Annotated[
        Path, typer.Option("--images", help="Photos of faces: a folder or a tar file; NAME/PHOTO.jpg for pairs.")
    ],
    output: Annotated[Path, typer.Option("--output", help="The model file to write.")],
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            help="Pairs in LFW's format, with folds: for threshold and accuracy. Without them the teacher decides.",
        ),
    ] = None,
    held_out_folds: Annotated[
        str,
        typer.Option("--held-out-folds", help="Folds for measuring only: no training on their people. Counted from 1."),
    ] = "7,8",
    held_out_fraction: Annotated[
        float,
        typer.Option(
            "--held-out-fraction", min=0.0, max=0.9, help="Without --pairs: share of photos for measuring only."
        ),
    ] = 0.1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from OUTPUT.checkpoint, if it exists.")] = False,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Passes over as many examples as there are photos.")
    ] = 100,
    views: Annotated[int, typer.Option("--views", min=0, help="Number of changed copies of each face.")] = 7,
    members: Annotated[int, typer.Option("--members", min=1, help="Number of students; the result is their mean.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for weights, views and draws.")] = 0,
    teacher: Annotated[str, typer.Option("--teacher", help="The network to learn from.")] = DEFAULT_MODEL,
    device: Annotated[str, typer.Option("--device", help="cpu, or cuda for an NVIDIA GPU.")] = "cpu",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Number of processes that align faces.")] = 2,
    cache: FacesCacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a patch network by distillation from another network; needs no labels.

    A patch network has squares as activations. The cache folder (--cache) keeps aligned crops and the teacher's
    answers, unencrypted.
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
    """Return the figures as a table; of the levels, it shows only the one with the least headroom."""
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
