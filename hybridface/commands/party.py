"""`hybridface party`: one rank of a computation between machines, started by `mpiexec`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hybridface.commands.effects import expect_effect
from hybridface.commands.options import (
    AcceptDamagedOption,
    AlignedOption,
    CacheOption,
    CorrelationsOption,
    EnrolledOption,
    FaceOption,
    GalleryOption,
    KeyOption,
    LimitsOption,
    LinkOption,
    ModeModelOption,
    ModeOption,
    PoolOption,
    RevealOption,
    ThresholdOption,
    TimeoutOption,
)
from hybridface.commands.places import weights_cache
from hybridface.faces.choice import FaceChoice
from hybridface.faces.options import PhotoOptions
from hybridface.modes import Mode
from hybridface.processes.runs import GalleryRun, HybridRun, PreparationRun, PureHeRun, Purpose, Run, SharedRun
from parties.session.correlations import Correlations
from parties.transport.roles import SHARD_ROLES, Role
from protocols.errors import ParameterError
from protocols.link import link_named
from protocols.matching.reveal import Reveal

__all__ = ["party"]


def party(
    context: typer.Context,
    role: Annotated[Role, typer.Argument(help="The role of this rank.")],
    photos: Annotated[list[Path] | None, typer.Argument(help="The client's two photos.")] = None,
    mode: ModeOption = Mode.HYBRID,
    model: ModeModelOption = "",
    reveal: RevealOption = Reveal.CLIENT,
    aligned: AlignedOption = False,
    enrolled: EnrolledOption = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            help="The server's weight file; if it holds a patch network, the client reads its public arrays.",
        ),
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Number of verifications.")] = 1,
    events: Annotated[bool, typer.Option("--events", help="Write JSON lines for a program to read.")] = False,
    timeout: TimeoutOption = 300.0,
    link: LinkOption = "none",
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=16, help="Number of copies of the first photo in a batch.")
    ] = 1,
    pool: PoolOption = 0,
    pause: Annotated[float, typer.Option("--pause", min=0, max=300, help="Seconds between verifications.")] = 0.0,
    cache: CacheOption = "",
    max_answers: Annotated[
        int,
        typer.Option(
            "--max-answers", min=1, help="Number of scores in a session in pure-HE mode; the same on both sides."
        ),
    ] = 50,
    tasks: Annotated[
        Path | None, typer.Option("--tasks", help="File of the client's tasks for a gallery, as JSON lines.")
    ] = None,
    key: KeyOption = None,
    gallery: GalleryOption = None,
    new_gallery: Annotated[
        bool, typer.Option("--new-gallery", help="Make the server's gallery, a private one, if it does not exist.")
    ] = False,
    client_name: Annotated[
        str, typer.Option("--client-name", help="Your name for the client; the server's limits count queries by it.")
    ] = "client",
    limits: LimitsOption = True,
    correlations: CorrelationsOption = Correlations.OT,
    prepared: Annotated[
        Path | None, typer.Option("--prepared", help="This party's folder of prepared runs.", show_default="none")
    ] = None,
    face: FaceOption = FaceChoice.ONLY,
    accept_damaged: AcceptDamagedOption = False,
    threshold: ThresholdOption = None,
    keep: Annotated[
        int, typer.Option("--keep", min=0, help="Instead of verifying, prepare this many runs and keep them.")
    ] = 0,
    keep_for: Annotated[
        Purpose, typer.Option("--keep-for", help="What the kept runs are for; see `prepare --for`.")
    ] = Purpose.PAIR,
) -> None:
    """Run one rank of a computation between machines; mpiexec starts all ranks (see launch/).

    mpiexec -n 1 hybridface party client A.jpg B.jpg : -n 1 hybridface party server

    With --correlations dealer on every rank, add a third rank: hybridface party dealer.

    Workers of the server are further ranks: hybridface party worker.
    """
    _expect_effects(context, role, mode)
    from hybridface.processes.events import Events

    told_by = Events(role, events)
    reading = PhotoOptions(face, accept_damaged, told_by.warn)
    told: dict[str, Any] = {
        "model": model or mode.default_model,
        "weights": weights,
        "timeout": timeout,
        "link": link_named(link),
        "threshold": threshold,
    }
    if mode is Mode.PURE_HE:
        _check_pure_he(reveal, pool, batch, repeat, max_answers)
        run: Run = PureHeRun(**told, **_photos(context, reading), max_answers=max_answers)
    else:
        shared = {
            "reveal": reveal,
            "correlations": correlations,
            "cache": weights_cache(cache),
            "prepared": prepared,
        }
        run = _hybrid(context, role, told | shared, reading)
    from hybridface.processes.rank import run_rank

    raise typer.Exit(run_rank(role, run, told_by))


def _photos(context: typer.Context, reading: PhotoOptions) -> dict[str, Any]:
    """Return a run's settings about the client's photos."""
    given = {name: context.params[name] for name in ("aligned", "repeat", "pause")}
    return {**given, "photos": tuple(context.params["photos"] or ()), "reading": reading}


def _hybrid(context: typer.Context, role: Role, told: dict[str, Any], reading: PhotoOptions) -> SharedRun:
    """Return the run in hybrid mode that a rank takes part in, as far as the rank knows it."""
    given = context.params
    about = {Role.CLIENT: given["tasks"], Role.SERVER: given["gallery"]}
    if about.get(role) or role in SHARD_ROLES:
        names = ("tasks", "key", "gallery", "new_gallery", "client_name", "limits", "aligned")
        return GalleryRun(**told, **{name: given[name] for name in names}, reading=reading)
    if given["keep"] and role is Role.CLIENT:
        return PreparationRun(**told, count=given["keep"], purpose=given["keep_for"])
    sizes = {name: given[name] for name in ("enrolled", "batch", "pool")}
    return HybridRun(**told, **_photos(context, reading), **sizes)


_OF_PHOTOS = ("photos", "aligned", "enrolled", "repeat", "batch", "pool", "pause", "face", "accept_damaged")
_OF_GALLERY = ("gallery", "new_gallery", "client_name", "limits")
_OF_CLIENT = (*_OF_PHOTOS, "tasks", "keep", "keep_for")
_OF_BOTH = ("prepared", "max_answers")
_OF_NETWORK = ("model", "weights", "reveal", "threshold")
NO_EFFECT: dict[Role, tuple[str, ...]] = {
    Role.CLIENT: (*_OF_GALLERY, "cache"),
    Role.SERVER: (*_OF_CLIENT, "key"),
    Role.WORKER: (*_OF_CLIENT, *_OF_GALLERY, *_OF_BOTH, "key"),
    Role.DEALER: (*_OF_CLIENT, *_OF_GALLERY, *_OF_BOTH, *_OF_NETWORK, "key", "cache"),
    Role.CLIENT_SHARD: (*_OF_CLIENT, *_OF_GALLERY, *_OF_BOTH, *_OF_NETWORK, "cache"),
    Role.SERVER_SHARD: (*_OF_CLIENT, *_OF_GALLERY[1:], *_OF_BOTH, *_OF_NETWORK, "key", "cache"),
    Role.DEALER_SHARD: (*_OF_CLIENT, *_OF_GALLERY, *_OF_BOTH, *_OF_NETWORK, "key", "cache"),
}
"""The options that do nothing in a rank of each role, in any run."""


def _expect_effects(context: typer.Context, role: Role, mode: Mode) -> None:
    """Refuse options that do nothing in this run."""
    expect_effect(context, NO_EFFECT[role], f"for a {role}")
    given = context.params
    if mode is Mode.PURE_HE:
        others = ("enrolled", "cache", "prepared", "tasks", "key", *_OF_GALLERY, "keep", "keep_for")
        expect_effect(context, others, "in pure-HE mode")
    else:
        expect_effect(context, ("max_answers",), "in hybrid mode")
    if given["tasks"]:
        no_pair = (name for name in _OF_PHOTOS if name not in ("aligned", "face", "accept_damaged"))
        expect_effect(context, (*no_pair, "keep", "keep_for"), "with --tasks")
    elif role is Role.CLIENT:
        expect_effect(context, ("key",), "without --tasks")
    if given["keep"]:
        expect_effect(context, _OF_PHOTOS, "with --keep")
    else:
        expect_effect(context, ("keep_for",), "without --keep")
    if role is Role.SERVER and not given["gallery"]:
        expect_effect(context, _OF_GALLERY[1:], "without --gallery")
    if given["aligned"]:
        expect_effect(context, ("face", "accept_damaged"), "with --aligned")


def _check_pure_he(reveal: Reveal, pool: int, batch: int, repeat: int, max_answers: int) -> None:
    """Raise `ParameterError` for options that pure-HE mode does not have."""
    if reveal is not Reveal.CLIENT:
        raise ParameterError(f"expected no --reveal {reveal} in pure-HE mode, where the client learns the result")
    for name, value, usual in (("pool", pool, 0), ("batch", batch, 1)):
        if value != usual:
            raise ParameterError(f"expected no --{name} in pure-HE mode, got {value}")
    if repeat > max_answers:
        raise ParameterError(f"expected at most {max_answers} verifications (--max-answers), got {repeat}")
