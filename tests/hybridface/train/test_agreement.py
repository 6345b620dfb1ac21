"""Agreement with the teacher: a threshold without labels, and photos that are held out."""

import numpy as np
import pytest

from hybridface.errors import ImageError
from hybridface.train import agreement


def test_without_labels_the_teacher_fixes_the_threshold() -> None:
    random = np.random.default_rng(4)
    people = random.normal(size=(30, 8))
    teacher = np.concatenate([people + random.normal(scale=0.02, size=people.shape) for _ in range(3)])
    student_sees = 2 * teacher + random.normal(scale=0.02, size=teacher.shape)
    found = agreement.agree(student_sees, teacher, limit=0.6, unit=0.5, seed=1)
    assert (found.pairs, found.share) == (180, 1.0)
    assert 0.1 < found.threshold < 4 * 0.6**2 * 10
    alone = agreement.agree(2 * people, people, limit=0.6, unit=0.5, seed=1)
    assert alone == agreement.Agreement(pytest.approx(1.44), 0, 0.0)


def test_the_teachers_threshold_is_of_distances_that_are_not_squared() -> None:
    """Two photos of each person, as far apart as 0.5 or, of every other one, 0.7."""
    people = 10.0 * np.arange(40)
    apart = np.where(np.arange(40) % 2, 0.5, 0.7)
    teacher = np.concatenate([people, people + apart])[:, None]
    assert agreement.agree(teacher, teacher, limit=0.6, unit=1.0, seed=1).pairs == 2 * 20


def test_photos_are_held_out_by_folder_where_there_are_folders() -> None:
    photos = [f"{name}/{number}.jpg" for name in range(40) for number in range(3)]
    held_out = agreement.held_out_photos(photos, 0.1, seed=2)
    assert held_out.sum() == 12
    assert all(len(set(held_out[row : row + 3])) == 1 for row in range(0, 120, 3))
    assert agreement.held_out_photos([f"{number}.jpg" for number in range(50)], 0.1, seed=2).sum() == 5
    with pytest.raises(ImageError, match="expected photos to hold out a fraction of 0.1 of, got 3"):
        agreement.held_out_photos(["a.jpg", "b.jpg", "c.jpg"], 0.1, seed=2)
