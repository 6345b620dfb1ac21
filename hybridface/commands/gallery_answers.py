"""What all gallery commands do with answers: raise a refusal as an error."""

from collections.abc import Sequence
from typing import Any

from parties.gallery.errors import QueryRefusedError

__all__ = ["refuse"]


def refuse(answers: Sequence[dict[str, Any]]) -> None:
    """Raise `QueryRefusedError` if the server has refused something."""
    for answer in answers:
        if "refused" in answer:
            raise QueryRefusedError(answer["refused"].removeprefix("the server refuses: "), answer.get("retry_after"))
