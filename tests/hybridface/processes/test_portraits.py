"""Photos of a run, read before its ranks start."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.images import read_chip
from hybridface.faces.inputs import load_chips
from hybridface.photos import photo_path
from hybridface.processes.portraits import aligned_photos

SIZE = 150


def test_a_rank_reads_exactly_the_faces_that_were_found() -> None:
    photos = [photo_path(f"person_b_{i}.jpg") for i in (1, 2)]
    with aligned_photos(photos, SIZE) as chips:
        folder = chips[0].parent
        assert folder.stat().st_mode & 0o777 == 0o700, "biometric data, for its owner alone"
        given = [read_chip(chip, SIZE) for chip in chips]
    assert np.array_equal(given, load_chips(photos, SIZE))
    assert not folder.exists()


def test_chips_stay_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "chip.png")
    with aligned_photos([tmp_path / "chip.png"], 16, aligned=True) as chips:
        assert np.array_equal(read_chip(chips[0], 16), pixels)


def test_a_bad_photo_is_an_error_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(ImageError), aligned_photos([photo_path("person_b_1.jpg"), tmp_path / "text.jpg"], SIZE):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["text.jpg"]
