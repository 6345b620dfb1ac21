"""The measurement of a server: its figures, with the smallest network and few sessions."""

import pytest
from rich.console import Console

from hybridface.measure.cost.service import ServiceMeasurement, measure_service, service_table
from hybridface.photos import photo_path

pytestmark = pytest.mark.slow


def test_a_server_is_measured() -> None:
    photos = photo_path("person_b_1.jpg"), photo_path("person_b_2.jpg")
    wanted = ServiceMeasurement("tiny-test", photos, runs=1, repeat=2, clients=2, sessions=2)
    parts: list[str] = []
    document = measure_service(wanted, parts.append)
    assert (document["verifications_each"], document["sessions"], document["failures"]) == (2, 4, 0)
    assert document["left"] == 0
    figures = ("online_ratio", "bulk_mb_per_second", "throughput_ratio", "session_mib", "start_to_answer_seconds")
    assert all(document[name] > 0 for name in figures)
    console = Console(width=120, record=True)
    console.print(service_table(document))
    assert "TLS / MPI" in console.export_text()
    assert len(parts) == 5
