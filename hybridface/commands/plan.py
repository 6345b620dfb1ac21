"""`hybridface calibrate` and `hybridface plan`: measure the planner's constants, and show the plans made with them."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hybridface.commands.options import CacheOption, JsonOption, LinkOption, ModelArgument, QuietOption
from hybridface.commands.places import cache_path
from hybridface.models import DEFAULT_MODEL
from hybridface.output.terminal import ProgressBars, show
from hybridface.photos import photo_path
from protocols.errors import ParameterError
from protocols.link import link_named

__all__ = ["calibrate_machine", "plan"]

_MEANINGS = {
    "client_upload": "ciphertext sent, client: encrypt, pack",
    "server_upload": "ciphertext sent, server: unpack, expand",
    "server_download": "ciphertext returned, server: rerandomise, mask, pack",
    "client_download": "ciphertext returned, client: unpack, decrypt",
    "product": "ciphertext times weights, accumulated",
    "weight": "weight polynomial read from memory",
}


def calibrate_machine(cache: CacheOption = "", as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Measure the planner's constants on this machine in some seconds, and keep them for later sessions."""
    from parties.machine.calibration import calibrate, calibration_path, save_calibration

    folder = cache_path(cache)
    if folder is None:
        raise ParameterError("expected a folder to keep the constants in, got --cache none")
    path = calibration_path(folder)
    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task("calibrating")

        def on_step(name: str, index: int, total: int) -> None:
            progress.update(task, description=name, completed=index, total=total)

        model = calibrate(on_step)
    save_calibration(model, path)
    times = {key: value for key, value in asdict(model).items() if key in _MEANINGS}
    show(times, lambda _: _times_table(times, path), as_json)


def plan(
    model: ModelArgument = DEFAULT_MODEL,
    link: LinkOption = "none",
    measure: Annotated[bool, typer.Option(help="Run one verification to fill the measured columns.")] = True,
    cache: CacheOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show how each private layer is packed for a connection: counts, predicted and measured time and bytes."""
    from hybridface.models.model import load_model
    from hybridface.output.plan import plan_document, plan_layers, plan_table
    from hybridface.processes.runs import HybridRun
    from hybridface.processes.start import start
    from parties.machine.calibration import calibration_path, load_calibration

    simulated, loaded = link_named(link), load_model(model, weights=False)
    folder = cache_path(cache)
    cost = load_calibration(folder and calibration_path(folder), simulated)
    result = None
    if measure:
        photos = (photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg"))
        run = HybridRun(model=model, link=simulated, cache=folder, photos=photos, enrolled=True, repeat=2)
        with ProgressBars(shown=not quiet and not as_json) as bars:
            outcome = start(run, bars)
        result = outcome.results[-1]
    layers = plan_layers(loaded, cost, result)
    show(plan_document(layers, loaded, cost), lambda _: plan_table(layers, cost), as_json, columns=150)


def _times_table(times: dict[str, float], path: Path) -> Table:
    table = Table(title=f"Milliseconds of one core, written to {path}", box=None)
    table.add_column("operation")
    table.add_column("ms", justify="right")
    for key, value in times.items():
        table.add_row(_MEANINGS[key], f"{value:.4f}")
    return table
