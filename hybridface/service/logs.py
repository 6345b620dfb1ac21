"""The service's log: one JSON object a line, on standard error."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from protocols.errors import ParameterError

__all__ = ["LEVELS", "ServiceLog"]

LEVELS = "debug", "info", "warning", "error"
"""The levels of an event, the least first."""

_NAME = "hybridface.service"


class _JsonLines(logging.Formatter):
    """Format a record as one JSON object: time, level, event, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. All that is not printable ASCII is escaped, so a peer's text stays within its string."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        own = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        fields: dict[str, Any] = getattr(record, "fields", {})
        return json.dumps({**own, **fields, **own}, default=str).replace("\x7f", "\\u007f")


class ServiceLog:
    """Write events.

    A field named `time`, `level` or `event` cannot take the place of the event's own.

    Args:
        level: the least level that is written, of LEVELS.

    Raises:
        ParameterError: there is no such level.
    """

    def __init__(self, level: str) -> None:
        self._logger = logging.Logger(_NAME)
        self._handler = logging.StreamHandler()
        self._handler.setFormatter(_JsonLines())
        self._logger.addHandler(self._handler)
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Change the least level that is written, also while other threads write.

        Raises:
            ParameterError: there is no such level; the level stays.
        """
        if level not in LEVELS:
            raise ParameterError(f"expected a level of {', '.join(LEVELS)}, got {level[:80]!r}")
        self._handler.setLevel(level.upper())  # the logger would remember what it has decided before

    def debug(self, event: str, **fields: Any) -> None:
        """Write what interests only somebody who looks for a fault."""
        self._logger.debug("%s", event, extra={"fields": fields})

    def info(self, event: str, **fields: Any) -> None:
        """Write what happens in the normal course."""
        self._logger.info("%s", event, extra={"fields": fields})

    def warning(self, event: str, **fields: Any) -> None:
        """Write what somebody should look at."""
        self._logger.warning("%s", event, extra={"fields": fields})

    def error(self, event: str, **fields: Any) -> None:
        """Write what somebody must look at."""
        self._logger.error("%s", event, extra={"fields": fields})
