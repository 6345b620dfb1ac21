"""The JSON objects that commands print on standard output with --json.

docs/JSON.md and answers.schema.json describe them. An answer is short: it holds what the user asked for, and nothing
else; --costs adds the cost. An error is an object as well.
"""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from hybridface.errors import told
from protocols.errors import HybridFaceError

__all__ = [
    "enrolment_document",
    "error_document",
    "identification_document",
    "print_json",
    "verification_document",
    "with_plain_keys",
]

_SYSTEM = "system"
_INTERNAL = "internal"
_ANSWER = ("identity", "model", "mode", "reveal", "was_prepared", "score")
_SPACES = re.compile(r"[\s,]+")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def verification_document(
    result: dict[str, Any], match: bool | None, costs: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the answer to a comparison.

    Args:
        result: what the client's rank has reported.
        match: the decision, from the party that learned it; None if that is a remote server.
        costs: the cost, if the user asked for it: phases, stages, the session's keys, and peak memory.
    """
    said = {name: result[name] for name in _ANSWER if name in result}
    return {"match": match, **said, **({"costs": costs} if costs else {})}


def identification_document(identities: Sequence[str | None], model: str, reveal: str) -> dict[str, Any]:
    """Return the people that an identification has found, nearest first; an empty list for nobody."""
    return {"identities": [name for name in identities if name is not None], "model": model, "reveal": reveal}


def enrolment_document(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the people who were enrolled, with one entry for each photo."""
    return {"enrolled": [{"identity": answer["identity"], "photo": answer["photo"]} for answer in answers]}


def error_document(error: Exception | str, kind: str = "") -> dict[str, Any]:
    """Return an error: its kind, its message on one line, and the seconds until a new attempt, if the error has them.

    Args:
        error: the exception that ended the command, or a message.
        kind: in snake case. By default it follows the error's type: "image" for an `ImageError`, "system" for an error
            of the operating system (such as a full disk), "internal" for a defect.
    """
    message = " ".join((told(error) if isinstance(error, Exception) else error).split())
    retry = getattr(error, "retry_after_seconds", None)
    said = {"kind": kind or _kind(error), "message": message}
    return {"error": said if retry is None else {**said, "retry_after_seconds": retry}}


def print_json(document: Any) -> None:
    """Print one JSON object on one line, with keys that have no spaces."""
    sys.stdout.write(json.dumps(with_plain_keys(document)) + "\n")


def _kind(error: Exception | str) -> str:
    if not isinstance(error, HybridFaceError):
        return _SYSTEM if isinstance(error, OSError) and error.strerror else _INTERNAL
    return _WORDS.sub("_", type(error).__name__.removesuffix("Error")).lower()


def with_plain_keys(value: Any) -> Any:
    """Return a document with "_" for spaces and commas in its keys: keys of measurements are titles of tables."""
    if isinstance(value, dict):
        return {_SPACES.sub("_", str(key)): with_plain_keys(one) for key, one in value.items()}
    return [with_plain_keys(one) for one in value] if isinstance(value, list | tuple) else value
