"""The accuracy of the shipped models as it was measured, for reports that cannot measure it anew."""

import json
from importlib import resources
from typing import Any

__all__ = ["measured_accuracy"]


def measured_accuracy() -> list[dict[str, Any]]:
    """Return the shipped `result.json` documents of `hybridface eval lfw`, each with the command that gave it."""
    text = resources.files("hybridface.measure.accuracy").joinpath("measured.json").read_text(encoding="utf-8")
    return [dict(document) for document in json.loads(text)]
