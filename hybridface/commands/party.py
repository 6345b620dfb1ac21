"""`hybridface party`: one rank of a computation between machines; `mpiexec` starts them."""

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
    role: Annotated[Role, typer.Argument(help="What this rank is.")],
    photos: Annotated[list[Path] | None, typer.Argument(help="The client's two photos.")] = None,
    mode: ModeOption = Mode.HYBRID,
    model: ModeModelOption = "",
    reveal: RevealOption = Reveal.CLIENT,
    aligned: AlignedOption = False,
    enrolled: EnrolledOption = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", help="The server's weight file; of a patch network's the client reads the public arrays."
        ),
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Verify so many times.")] = 1,
    events: Annotated[bool, typer.Option("--events", help="Write JSON lines for a program to read.")] = False,
    timeout: TimeoutOption = 300.0,
    link: LinkOption = "none",
    batch: Annotated[int, typer.Option("--batch", min=1, max=16, help="Copies of the first photo in a batch.")] = 1,
    pool: PoolOption = 0,
    pause: Annotated[float, typer.Option("--pause", min=0, max=300, help="Seconds between verifications.")] = 0.0,
    cache: CacheOption = "",
    max_answers: Annotated[
        int, typer.Option("--max-answers", min=1, help="Scores that a session gives in pure-HE mode, on both sides.")
    ] = 50,
    tasks: Annotated[Path | None, typer.Option("--tasks", help="The client's tasks for a gallery, JSON lines.")] = None,
    key: KeyOption = None,
    gallery: GalleryOption = None,
    new_gallery: Annotated[
        bool, typer.Option("--new-gallery", help="Make the server's gallery, a private one, if there is none.")
    ] = False,
    client_name: Annotated[
        str, typer.Option("--client-name", help="Whom the server's limits count: the client, as you know it.")
    ] = "client",
    limits: LimitsOption = True,
    correlations: CorrelationsOption = Correlations.OT,
    prepared: Annotated[
        Path | None, typer.Option("--prepared", help="This party's folder of prepared runs.", show_default="none")
    ] = None,
    face: FaceOption = FaceChoice.ONLY,
    accept_damaged: AcceptDamagedOption = False,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Prepare and keep so many runs instead of verifying.")] = 0,
    keep_for: Annotated[Purpose, typer.Option("--keep-for", help="What for, as for `prepare`.")] = Purpose.PAIR,
) -> None:
    """Be one rank of a computation between machines; start two with mpiexec (see launch/), or more with workers.

    mpiexec -n 1 hybridface party client A.jpg B.jpg : -n 1 hybridface party server

    With --correlations dealer, for all of them, there is a third: hybridface party dealer.
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
    """Return what a run is told of the client's photos."""
    given = {name: context.params[name] for name in ("aligned", "repeat", "pause")}
    return {**given, "photos": tuple(context.params["photos"] or ()), "reading": reading}


def _hybrid(context: typer.Context, role: Role, told: dict[str, Any], reading: PhotoOptions) -> SharedRun:
    """Return the run in hybrid mode that a rank is part of, as far as it knows."""
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
_OF_NETWORK = ("model", "weights", "reveal")
NO_EFFECT: dict[Role, tuple[str, ...]] = {
    Role.CLIENT: (*_OF_GALLERY, "cache"),
    Role.SERVER: (*_OF_CLIENT, "key"),
    Role.WORKER: (*_OF_CLIENT, *_OF_GALLERY, *_OF_BOTH, "key"),
    Role.DEALER: (*_OF_CLIENT, *_OF_GALLERY, *_OF_BOTH, *_OF_NETWORK, "key", "cache"),
    Role.CLIENT_SHARD: (*_OF_CLIENT, *_OF_GALLERY, *_OF_BOTH, *_OF_NETWORK, "cache"),
    Role.SERVER_SHARD: (*_OF_CLIENT, *_OF_GALLERY[1:], *_OF_BOTH, *_OF_NETWORK, "key", "cache"),
    Role.DEALER_SHARD: (*_OF_CLIENT, *_OF_GALLERY, *_OF_BOTH, *_OF_NETWORK, "key", "cache"),
}
"""The options that do nothing in a rank, whatever it is about."""


def _expect_effects(context: typer.Context, role: Role, mode: Mode) -> None:
    """Refuse options that do nothing in what was asked for."""
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
    """Raise `ParameterError` for what this mode cannot do."""
    if reveal is not Reveal.CLIENT:
        raise ParameterError(f"in pure-HE mode the client learns the result, expected no --reveal {reveal}")
    for name, value, usual in (("pool", pool, 0), ("batch", batch, 1)):
        if value != usual:
            raise ParameterError(f"pure-HE mode has no --{name}, expected none, got {value}")
    if repeat > max_answers:
        raise ParameterError(f"expected at most {max_answers} verifications (--max-answers), got {repeat}")
