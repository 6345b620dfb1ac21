"""Options that most gallery commands share, as dataclasses: each field is an option, except the context."""

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from hybridface.commands.client import IdentityFolderOption
from hybridface.commands.effects import expect_effect
from hybridface.commands.options import (
    AcceptDamagedOption,
    AlignedOption,
    CacheOption,
    CorrelationsOption,
    FaceOption,
    GalleryOption,
    JsonOption,
    KeyOption,
    ModelOption,
    PreparedOption,
    QuietOption,
    TimeoutOption,
)
from hybridface.commands.parties import (
    Parties,
    ServerOption,
    expect_remote_effects,
    named_model,
    parties_of,
)
from hybridface.commands.places import key_path, say_warning
from hybridface.faces.choice import FaceChoice
from hybridface.faces.options import PhotoOptions
from hybridface.folders import data_directory
from hybridface.models import DEFAULT_MODEL
from parties.gallery.kind import GalleryKind
from parties.session.correlations import Correlations
from protocols.errors import ParameterError

__all__ = [
    "OF_SESSIONS",
    "FileSettings",
    "GallerySettings",
    "IdOption",
    "KindOption",
    "PhotoSettings",
    "SessionSettings",
    "with_settings",
]

IdOption = Annotated[str, typer.Option("--id", help="The person's name: any text of up to 10,000 characters.")]
KindOption = Annotated[
    GalleryKind | None,
    typer.Option(
        "--kind",
        help="Kind of a new gallery. private: the server stores noise that only the client's key turns into templates. "
        "list: the server's own gallery; the server knows the templates, and there is no key.",
        show_default="private, or the kind of the gallery",
    ),
]


_CONTEXT = "context"
OF_SESSIONS = "cache", "timeout", "correlations", "prepared"
"""Options of a command that starts client and server; they do nothing if it starts none."""


@dataclass(frozen=True)
class GallerySettings:
    """Options of every command about a gallery."""

    gallery: GalleryOption = None
    as_json: JsonOption = False

    @property
    def path(self) -> Path:
        """Path of the gallery's file."""
        return self.gallery or data_directory() / "gallery.db"

    @property
    def existing_path(self) -> Path:
        """Path of the gallery's file, which must exist.

        Raises:
            ParameterError: it does not exist.
        """
        if not self.path.exists():
            raise ParameterError(f"expected a gallery, found no {self.path}: enrol somebody first")
        return self.path


@dataclass(frozen=True)
class FileSettings(GallerySettings):
    """Options of a command about the content of a gallery's file."""

    model: ModelOption = DEFAULT_MODEL


@dataclass(frozen=True)
class SessionSettings(FileSettings):
    """Options of a command that starts client and server, and perhaps a dealer."""

    key: KeyOption = None
    cache: CacheOption = ""
    timeout: TimeoutOption = 300.0
    quiet: QuietOption = False
    correlations: CorrelationsOption = Correlations.OT
    prepared: PreparedOption = ""
    server: ServerOption = ""
    own: IdentityFolderOption = None
    context: typer.Context | None = field(default=None, repr=False, compare=False)  # the command's context; no option

    def parties(self, threshold: float | None = None) -> "Parties":
        """Return the command's parties: a context manager."""
        model = named_model(self.context, self.model, self.server) if self.context else self.model
        return parties_of(self.server, self.own, model=model, threshold=threshold, timeout=self.timeout)

    @property
    def key_path(self) -> Path:
        """Path of the client's key, for a private gallery."""
        return key_path(self.key)

    def kind(self, wanted: GalleryKind | None = None, new: bool = False, alone: bool = False) -> GalleryKind:
        """Return the gallery's kind, as `kind_for_use` does; refuse a key for a list, where it does nothing.

        Args:
            alone: whether the command changes a list without a session, so that a session's options do nothing.

        Raises:
            ParameterError: the gallery is of another kind or does not exist, or an option does nothing.
        """
        from hybridface.galleries.kind import kind_for_use

        kind = kind_for_use(self.path, wanted, new)
        if kind is GalleryKind.LIST and self.key:
            raise ParameterError(f"{self.path.name}: expected no --key, since a list has none")
        if kind is GalleryKind.LIST and (new or alone) and self.context:
            expect_effect(self.context, OF_SESSIONS, "for a list, which its server changes alone")
        return kind


@dataclass(frozen=True)
class PhotoSettings(SessionSettings):
    """Options of a command that reads photos."""

    aligned: AlignedOption = False
    face: FaceOption = FaceChoice.ONLY
    accept_damaged: AcceptDamagedOption = False

    @property
    def reading(self) -> PhotoOptions:
        """How photos are read."""
        return PhotoOptions(self.face, self.accept_damaged, say_warning)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the fields of its first parameter, a class of settings, as options in its place."""
    first, *others = inspect.signature(command, eval_str=True).parameters.values()
    settings = first.annotation
    hints = get_type_hints(settings, include_extras=True)
    listed = [one for one in fields(settings) if one.name != _CONTEXT]
    options = [
        inspect.Parameter(one.name, first.kind, default=one.default, annotation=_in_panel(hints[one.name]))
        for one in listed
    ]

    @wraps(command)
    def call(context: typer.Context, **given: Any) -> None:
        chosen = {one.name: given.pop(one.name) for one in listed}
        if "server" in hints:
            expect_remote_effects(context, chosen["server"])
        if chosen.get("aligned"):
            expect_effect(context, ("face", "accept_damaged"), "with --aligned")
        if _CONTEXT in hints:
            chosen[_CONTEXT] = context
        command(settings(**chosen), **given)

    of_context = inspect.Parameter(_CONTEXT, first.kind, annotation=typer.Context)
    signature = inspect.Signature([of_context, *others, *options])
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    return call


def _in_panel(hint: Any) -> Any:
    """Return an annotated option that --help shows among the common options."""
    kind, option = get_args(hint)
    option = copy(option)
    option.rich_help_panel = "Common options"
    return Annotated[kind, option]
