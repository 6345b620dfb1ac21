"""`create-key` and `create-gallery`: files that client and server make before they first meet between machines.

On one machine, `enroll` makes both files. Between machines, each side makes its own file, without the other side.
"""

from dataclasses import dataclass

from hybridface.commands.gallery_options import FileSettings, KindOption
from hybridface.commands.options import JsonOption, KeyOption
from hybridface.commands.places import key_path
from hybridface.output.answers import say
from parties.gallery.kind import GalleryKind
from parties.machine.durable import make_folder
from protocols.errors import ParameterError

__all__ = ["make_gallery", "make_key"]


@dataclass(frozen=True)
class KeySettings:
    """Options of a command about a key alone."""

    key: KeyOption = None
    as_json: JsonOption = False


def make_key(settings: KeySettings) -> None:
    """Make the client's key for private galleries: 32 random bytes in a new file that only you can read.

    Keep a copy: without the key, nobody can use the templates that are enrolled under it.
    """
    from parties.gallery.key import create_key

    path = key_path(settings.key)
    make_folder(path.parent)
    create_key(path)
    text = f"made a new key, {path}: keep a copy, nothing can be read without it"
    say({"key": str(path)}, text, settings.as_json)


def make_gallery(settings: FileSettings, kind: KindOption = None) -> None:
    """Make the server's file of a new gallery, in which nobody is enrolled yet.

    A gallery is for one network (--model).
    """
    path, kind = settings.path, kind or GalleryKind.PRIVATE
    if path.exists():
        raise ParameterError(f"cannot make the gallery {path}: there is a file already; choose another --gallery")
    from hybridface.galleries.file import GalleryFile
    from hybridface.models.model import load_model

    GalleryFile(path, load_model(settings.model, weights=False), kind).close()
    text = f"made a new {kind.value} gallery, {path}, for {settings.model}"
    say({"gallery": str(path), "kind": kind.value, "model": settings.model}, text, settings.as_json)
