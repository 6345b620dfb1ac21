"""Compare all ways to verify a face, on the same photos: `hybridface bench modes`, and its report.

A *way* is one mode on one network.

- ways: the modes that are compared, and who learns what in each.
- sessions: start each way, and measure it.
- samples: the measured values, and the computed ones for ways that cannot simulate a link.
- measure: measure all ways, interleaved.
- document: the medians as one JSON object.
- accuracy, published: figures that this command does not measure.
- charts, page: the report as one HTML file without external resources.
- output: write the report.
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from hybridface.measure.modes.document import modes_document, modes_table
    from hybridface.measure.modes.measure import Settings, measure_modes
    from hybridface.measure.modes.output import ReportPaths, report_paths, write_report

__all__ = [
    "ReportPaths",
    "Settings",
    "measure_modes",
    "modes_document",
    "modes_table",
    "report_paths",
    "write_report",
]

__getattr__ = hand_on(
    __name__,
    {
        "hybridface.measure.modes.document": ["modes_document", "modes_table"],
        "hybridface.measure.modes.measure": ["Settings", "measure_modes"],
        "hybridface.measure.modes.output": ["ReportPaths", "report_paths", "write_report"],
    },
)
