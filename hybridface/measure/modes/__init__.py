"""Every way to compare two faces beside each other, on the same photos: `hybridface bench modes`, and its report.

ways: what is compared, and who learns what. sessions: how each way is started and measured. samples: what was measured,
and what is computed where a network cannot be simulated. measure: all of them, interleaved. document: medians as one
JSON object. accuracy, published: figures from elsewhere. charts, page: the report as one HTML file without external
resources.
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
