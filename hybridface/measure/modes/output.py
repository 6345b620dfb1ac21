"""Where the report goes: report.html and report.json, checked before anything is measured, and written whole or not."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridface.output.documents import with_plain_keys
from parties.machine.durable import PUBLIC, replaced
from protocols.errors import ParameterError

__all__ = ["ReportPaths", "report_paths", "write_report"]

_PAGE = "report.html"


@dataclass(frozen=True)
class ReportPaths:
    """The two files of a report."""

    page: Path
    document: Path


def report_paths(output: Path) -> ReportPaths:
    """Return the files for a folder, which is made, or for the name of an .html file; its JSON lies beside it.

    Raises:
        ParameterError: they cannot be written.
    """
    page = output if output.suffix in (".html", ".htm") and not output.is_dir() else output / _PAGE
    paths = ReportPaths(page, page.with_suffix(".json"))
    try:
        if page is not output:
            output.mkdir(exist_ok=True)
        for path in (paths.page, paths.document):
            if path.is_dir():
                raise IsADirectoryError(0, "it is a folder")
        with tempfile.TemporaryFile(dir=page.parent):
            pass
    except OSError as error:
        raise ParameterError(f"expected a place for {page.name}, got {output}: {error.strerror}") from error
    return paths


def write_report(paths: ReportPaths, document: dict[str, Any], page: str) -> None:
    """Write both files, each at once: a reader sees the old one or the new one.

    Raises:
        ParameterError: they cannot be written any more.
    """
    data = json.dumps(with_plain_keys(document), indent=1)
    try:
        for path, text in ((paths.document, f"{data}\n"), (paths.page, page)):
            with replaced(path, PUBLIC) as file:
                file.write(text.encode())
    except OSError as error:
        raise ParameterError(f"expected to write {paths.page.name}: {error.strerror}") from error
