"""Give the measured accuracy of the shipped models, for reports that do not measure it themselves."""

import json
from importlib import resources
from typing import Any

__all__ = ["measured_accuracy"]


def measured_accuracy() -> list[dict[str, Any]]:
    """Return the shipped `result.json` documents of `hybridface eval lfw`, each with the command that wrote it."""
    text = resources.files("hybridface.measure.accuracy").joinpath("measured.json").read_text(encoding="utf-8")
    return [dict(document) for document in json.loads(text)]
