"""`hybridface bench modes`: compare all ways to verify a face, in a report with pictures."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hybridface.commands.options import JsonOption, QuietOption, TimeoutOption
from hybridface.commands.places import say_warning
from hybridface.errors import EXIT_ERROR, ImageError, RunError
from hybridface.output.terminal import show
from hybridface.photos import photo_path
from protocols.link import LINKS, link_named

__all__ = ["bench_modes"]

_QUICK_NETWORKS, _ROUNDS, _VERIFICATIONS = "none,wan", 3, 3


def bench_modes(
    first: Annotated[Path | None, typer.Argument(help="The photo; by default, a portrait from the project.")] = None,
    second: Annotated[Path | None, typer.Argument(help="The photo to enrol; by default, another portrait.")] = None,
    runs: Annotated[
        int | None,
        typer.Option("--runs", min=1, help="Repetitions; each starts every mode once.", show_default=str(_ROUNDS)),
    ] = None,
    links: Annotated[
        str | None,
        typer.Option("--links", help="Simulated networks, with commas between.", show_default=",".join(LINKS)),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"One repetition, networks {_QUICK_NETWORKS}.")] = False,
    output: Annotated[
        Path, typer.Option("--output", help="A folder for report.html and report.json, or an .html file.")
    ] = Path("modes-report"),
    accuracy: Annotated[
        list[Path] | None,
        typer.Option("--accuracy", help="A result.json of `hybridface eval lfw`; may be given several times."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    timeout: TimeoutOption = 300.0,
) -> None:
    """Compare plain, hybrid, pure HE, pure MPC and features-only HE on the same faces; write a report.

    Writes report.html and report.json.

    Exit status: 0 done, 2 error. A mode that fails counts as an error too; the report is still written, and says which.
    """
    from hybridface.measure import modes as modes_report
    from hybridface.measure.modes.accuracy import read_accuracy, shipped_accuracy
    from hybridface.measure.modes.page import report_page
    from hybridface.measure.peers import progress_bar

    photos = (first or photo_path("person_b_1.jpg"), second or photo_path("person_b_2.jpg"))
    for photo in photos:
        if not photo.is_file():
            raise ImageError(f"{photo}: expected a photo, found no such file")
    names = links or (_QUICK_NETWORKS if quick else ",".join(LINKS))
    simulated = tuple(link_named(name.strip()) for name in names.split(","))
    rounds = runs or (1 if quick else _ROUNDS)
    settings = modes_report.Settings(photos, simulated, rounds, _VERIFICATIONS, timeout)
    known = read_accuracy(accuracy) if accuracy else shipped_accuracy()
    paths = modes_report.report_paths(output)
    with progress_bar(shown=not quiet and not as_json) as on_step:
        measurements = modes_report.measure_modes(settings, on_step)
    given = [photo.name for photo in (first, second) if photo]
    command = _command([*given, "--runs", str(rounds), "--links", ",".join(link.name for link in simulated)], accuracy)
    document = modes_report.modes_document(measurements, settings, known, command)
    modes_report.write_report(paths, document, report_page(document))
    show(document, modes_report.modes_table, as_json, columns=120)
    if not as_json and not quiet:
        sys.stdout.write(f"Report: {paths.page}\n")
    failed = [m for m in measurements if m.reason]
    if not failed:
        return
    error = RunError(f"{len(failed)} of {len(measurements)} measurements failed, the first: {failed[0].reason}")
    if not as_json:
        raise error
    say_warning(str(error))  # the printed document already lists all failures
    raise typer.Exit(EXIT_ERROR)


def _command(arguments: list[str], accuracy: list[Path] | None) -> str:
    """Return the command in a form to show: with file names, without paths."""
    results = [word for path in accuracy or () for word in ("--accuracy", path.name)]
    return " ".join(["hybridface bench modes", *arguments, *results])
