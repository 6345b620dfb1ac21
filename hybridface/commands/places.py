"""Folders and files that options name: caches, prepared runs, and what a measurement is written to."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parties.session.weight_cache import cache_directory
from protocols.errors import ParameterError

__all__ = ["cache_options", "cache_path", "check_writable", "existing_prepared_path", "faces_cache", "prepared_path"]


def cache_options(cache: str) -> list[str]:
    """Return the server's options for a cache folder: the given one, the user's own for "", no cache for "none"."""
    return ["--cache", cache] if cache else []


def cache_path(cache: str) -> Path | None:
    """Return the cache folder that `--cache` names; None for "none"."""
    if cache == "none":
        return None
    return Path(cache).expanduser() if cache else cache_directory()


def prepared_path(prepared: str) -> Path | None:
    """Return the folder of prepared runs that `--prepared` names; None for "none"."""
    if prepared == "none":
        return None
    base = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    return (Path(prepared) if prepared else base / "hybridface" / "prepared").expanduser()


def existing_prepared_path(prepared: str) -> Path | None:
    """Return that folder, if anything was ever kept there."""
    folder = prepared_path(prepared)
    return folder if folder and folder.exists() else None


@contextmanager
def faces_cache(cache: str, name: str) -> Iterator[Path]:
    """Give the folder `name` of the cache that `--cache` names; for "none" one that is gone afterwards."""
    folder = cache_path(cache)
    if folder is not None:
        yield folder / name
        return
    with tempfile.TemporaryDirectory(prefix="hybridface-") as temporary:
        yield Path(temporary)


def check_writable(path: Path) -> None:
    """Raise `ParameterError` now, rather than after a long measurement."""
    try:
        path.open("a").close()
    except OSError as error:
        raise ParameterError(f"expected a file to write to, got {path}: {error.strerror}") from error
