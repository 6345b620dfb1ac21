"""`hybridface verify` and `demo`: compare two photos, with client and server as MPI processes on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hybridface.commands.client import IdentityFolderOption
from hybridface.commands.effects import expect_effect
from hybridface.commands.gallery_options import PhotoSettings
from hybridface.commands.options import (
    AcceptDamagedOption,
    AlignedOption,
    CacheOption,
    CorrelationsOption,
    CostsOption,
    EnrolledOption,
    FaceOption,
    GalleryOption,
    IdentityOption,
    JsonOption,
    KeyOption,
    LayersOption,
    LinkOption,
    ModeModelOption,
    ModeOption,
    PreparedOption,
    QuietOption,
    RevealOption,
    ThresholdOption,
    TimeoutOption,
    WorkersOption,
)
from hybridface.commands.parties import ServerOption, expect_remote_effects
from hybridface.commands.places import check_photos, existing_prepared_path, weights_cache
from hybridface.errors import EXIT_DIFFERENT, EXIT_SAME, RunError
from hybridface.faces.choice import FaceChoice
from hybridface.models import DEFAULT_MODEL, check_name
from hybridface.modes import Mode
from hybridface.output.documents import print_json, verification_document
from hybridface.output.terminal import ProgressBars, width
from hybridface.photos import copy_photos, photo_path
from parties.session.correlations import Correlations
from protocols.errors import ParameterError
from protocols.link import Link, link_named
from protocols.matching.reveal import Reveal

if TYPE_CHECKING:
    from hybridface.commands.parties import Parties
    from hybridface.models.model import Model
    from hybridface.processes.outcome import Outcome
    from hybridface.processes.runs import Run

__all__ = ["demo", "verify"]


def verify(
    context: typer.Context,
    first: Annotated[
        Path, typer.Argument(help="A photo with one face (JPEG, HEIC, PNG, ...: docs/PHOTOS.md); - for standard input.")
    ],
    second: Annotated[Path | None, typer.Argument(help="The photo to compare it with; left out with --id.")] = None,
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
    costs: CostsOption = False,
    quiet: QuietOption = False,
    timeout: TimeoutOption = 300.0,
    link: LinkOption = "none",
    workers: WorkersOption = 0,
    cache: CacheOption = "",
    correlations: CorrelationsOption = Correlations.OT,
    prepared: PreparedOption = "",
    face: FaceOption = FaceChoice.ONLY,
    accept_damaged: AcceptDamagedOption = False,
    threshold: ThresholdOption = None,
    server: ServerOption = "",
    own: IdentityFolderOption = None,
) -> None:
    """Compare two photos, or a photo with an enrolled person (--id).

    Starts client and server as MPI processes on this machine; or uses another organisation's server (--server).

    Exit status: 0 same person, 1 different people, 2 error.
    """
    if (second is None) == (identity is None):
        raise ParameterError("expected a second photo, or the --id of somebody in the gallery")
    check_photos([first, *([second] if second else [])])
    name, simulated = model or ("" if server else mode.default_model), link_named(link)
    if name:
        check_name(name, under_encryption=mode is Mode.PURE_HE)
    _expect_effects(context, identity is not None, mode, as_json)
    expect_remote_effects(context, server)
    if mode is Mode.PURE_HE and reveal is not Reveal.CLIENT:
        raise ParameterError(f"expected no --reveal {reveal} in pure-HE mode, where the client learns the result")
    settings = PhotoSettings(
        gallery=gallery,
        as_json=as_json,
        model=name,
        key=key,
        cache=cache,
        timeout=timeout,
        quiet=quiet,
        correlations=correlations,
        prepared=prepared,
        aligned=aligned,
        face=face,
        accept_damaged=accept_damaged,
        server=server,
        own=own,
    )
    if second is not None:
        pair = _Pair(first, second, mode, reveal, simulated, enrolled, workers, threshold)
        _verify_pair(pair, settings, layers, costs)
        return
    if mode is not Mode.HYBRID:
        raise ParameterError("expected --mode hybrid for a gallery")
    from hybridface.commands.gallery import verify_identity

    verify_identity(first, identity or "", settings, reveal=reveal, link=simulated, threshold=threshold)


@dataclass(frozen=True)
class _Pair:
    """A comparison of two photos: its settings, without those that it shares with galleries."""

    first: Path
    second: Path
    mode: Mode
    reveal: Reveal
    link: Link
    enrolled: bool
    workers: int
    threshold: float | None

    def run(self, chips: tuple[Path, ...], settings: PhotoSettings, parties: "Parties") -> "Run":
        """Return the run in which the parties compare the aligned crops."""
        from hybridface.processes.runs import HybridRun, PureHeRun

        told: dict[str, Any] = {
            "model": parties.model.name,
            "timeout": settings.timeout,
            "link": self.link,
            "threshold": self.threshold,
        }
        if self.mode is Mode.PURE_HE:
            return PureHeRun(**told, photos=chips, aligned=True)
        return HybridRun(
            **told,
            reveal=self.reveal,
            correlations=settings.correlations,
            cache=None if settings.server else weights_cache(settings.cache),
            prepared=existing_prepared_path(settings.prepared, parties.name),
            photos=chips,
            aligned=True,
            enrolled=self.enrolled,
            workers=self.workers,
        )


def _verify_pair(pair: _Pair, settings: PhotoSettings, layers: bool, costs: bool) -> None:
    """Compare two photos, print the decision, and exit: 0 same person, 1 different people."""
    from hybridface.processes.portraits import aligned_photos

    shown = not settings.quiet and not settings.as_json
    with settings.parties(pair.threshold) as parties:
        model = parties.model
        photos = aligned_photos((pair.first, pair.second), model.chip_size, settings.aligned, settings.reading)
        with photos as chips, ProgressBars(shown=shown) as bars:
            outcome = parties.start(pair.run(chips, settings, parties), bars)
    stays_remote = bool(settings.server) and pair.reveal is Reveal.SERVER
    if outcome.match is None and not stays_remote:
        raise RunError("cannot report the decision: no party sent one")
    if settings.as_json:
        print_json(_document(outcome, outcome.match, costs))
    else:
        _print_outcome(outcome, model, layers)
    raise typer.Exit(EXIT_DIFFERENT if outcome.match is False else EXIT_SAME)


def _expect_effects(context: typer.Context, in_gallery: bool, mode: Mode, as_json: bool) -> None:
    """Refuse options that do nothing in this comparison."""
    if in_gallery:
        expect_effect(context, ("enrolled", "layers", "workers", "costs"), "with --id")
    else:
        expect_effect(context, ("gallery", "key"), "without --id")
    if mode is Mode.PURE_HE:
        expect_effect(context, ("enrolled", "workers", "correlations", "cache", "prepared"), "in pure-HE mode")
    if as_json:
        expect_effect(context, ("layers",), "with --json")
    else:
        expect_effect(context, ("costs",), "without --json")
    if context.params["aligned"]:
        expect_effect(context, ("face", "accept_damaged"), "with --aligned")


def demo(
    quiet: QuietOption = False,
    save_photos: Annotated[
        Path | None, typer.Option(help="Copy the demo's photos into this folder, and compare nothing.")
    ] = None,
) -> None:
    """Compare two photos that come with the project, with the same private computation as `verify`."""
    if save_photos is not None:
        typer.echo(f"{copy_photos(save_photos)} photos, and their credits, are in {save_photos}.")
        return
    from hybridface.models.model import load_model
    from hybridface.processes.runs import HybridRun
    from hybridface.processes.start import start

    photos = (photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg"))
    model = load_model(DEFAULT_MODEL, weights=False)
    console = Console()
    console.print(f"Client's photos: {photos[0].name}, {photos[1].name} (credits beside them). Server: {model.name}.")
    with ProgressBars(shown=not quiet) as bars:
        outcome = start(HybridRun(model=model.name, photos=photos, cache=weights_cache("")), bars)
    _print_outcome(outcome, model, layers=False)


def _document(outcome: "Outcome", match: bool | None, costs: bool) -> dict[str, Any]:
    result = outcome.results[-1]
    spent = {**result["cost"], "setup": outcome.setup, "peak_bytes": outcome.memory} if costs else None
    return verification_document(result, match, spent)


def _print_outcome(outcome: "Outcome", model: "Model", layers: bool) -> None:
    from hybridface.output.cost import cost_table, decision_text, score_text
    from parties.session.cost import CostReport, StageCost

    result = outcome.results[-1]
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
