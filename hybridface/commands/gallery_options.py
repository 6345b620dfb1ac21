"""What most commands about galleries are told: settings, a dataclass whose fields are options, but for the context."""

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

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

IdOption = Annotated[str, typer.Option("--id", help="Who it is: any text up to 10,000 characters.")]
KindOption = Annotated[
    GalleryKind | None,
    typer.Option(
        "--kind",
        help="Of a new gallery. private: the server stores noise, only the client's key makes templates of it. "
        "list: the server's own list, which it knows; it has no key.",
        show_default="private, or what the gallery is",
    ),
]


_CONTEXT = "context"
OF_SESSIONS = "cache", "timeout", "correlations", "prepared"
"""Options of a command that starts client and server, which do nothing where it starts none."""


@dataclass(frozen=True)
class GallerySettings:
    """Of every command about a gallery."""

    gallery: GalleryOption = None
    as_json: JsonOption = False

    @property
    def path(self) -> Path:
        """Of the gallery's file."""
        return self.gallery or data_directory() / "gallery.db"

    @property
    def existing_path(self) -> Path:
        """Of the gallery's file, which must be there.

        Raises:
            ParameterError: it is not.
        """
        if not self.path.exists():
            raise ParameterError(f"expected a gallery, found no {self.path}: enrol somebody first")
        return self.path


@dataclass(frozen=True)
class FileSettings(GallerySettings):
    """Of a command about what is in a gallery's file."""

    model: ModelOption = DEFAULT_MODEL


@dataclass(frozen=True)
class SessionSettings(FileSettings):
    """Of a command that starts client and server, and perhaps a dealer."""

    key: KeyOption = None
    cache: CacheOption = ""
    timeout: TimeoutOption = 300.0
    quiet: QuietOption = False
    correlations: CorrelationsOption = Correlations.OT
    prepared: PreparedOption = ""
    context: typer.Context | None = field(default=None, repr=False, compare=False)  # of the command; no option

    @property
    def key_path(self) -> Path:
        """Of the client's key, for a private gallery."""
        return key_path(self.key)

    def kind(self, wanted: GalleryKind | None = None, new: bool = False, alone: bool = False) -> GalleryKind:
        """Return the gallery's kind, as `kind_for_use`; refuse what does nothing for a list: a key.

        Args:
            alone: the command changes a list without a session, so that options of one do nothing either.

        Raises:
            ParameterError: it is another kind, or is not there, or an option does nothing.
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
    """Of a command that reads photos."""

    aligned: AlignedOption = False
    face: FaceOption = FaceChoice.ONLY
    accept_damaged: AcceptDamagedOption = False

    @property
    def reading(self) -> PhotoOptions:
        """How photos are read."""
        return PhotoOptions(self.face, self.accept_damaged, say_warning)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that has, for its first parameter, the fields of that one's class of settings, as options."""
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
    """Return an annotated option that help shows among the common ones."""
    kind, option = get_args(hint)
    option = copy(option)
    option.rich_help_panel = "Common options"
    return Annotated[kind, option]
