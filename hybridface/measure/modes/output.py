"""Write the report to report.html and report.json. Check before the measurement that both can be written."""

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
    """Return the report's files.

    Args:
        output: a folder, which is created if it does not exist, or the name of an .html file. The JSON file lies
            beside the page.

    Raises:
        ParameterError: the files cannot be written.
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
    """Write both files. A reader of a file sees either the old one or the new one, and never half a file.

    Raises:
        ParameterError: a file cannot be written.
    """
    data = json.dumps(with_plain_keys(document), indent=1)
    try:
        for path, text in ((paths.document, f"{data}\n"), (paths.page, page)):
            with replaced(path, PUBLIC) as file:
                file.write(text.encode())
    except OSError as error:
        raise ParameterError(f"cannot write {paths.page.name}: {error.strerror}") from error
