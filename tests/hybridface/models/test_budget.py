"""The budget of levels: room that the modulus leaves, and what does not fit."""

import pytest

from hybridface.errors import ModelError
from hybridface.models import budget


def test_levels_have_the_room_that_the_modulus_leaves() -> None:
    ranges = budget.Ranges((4.0, 8.0, 16.0), 0.5, 2.0)
    levels = {level.name: level for level in budget.check_budget(ranges)}
    assert list(levels) == ["affine 1", "square 1", "affine 2", "square 2", "affine 3", "square 3", "join", "distance"]
    assert [level.primes for level in levels.values()] == [9, 8, 7, 6, 5, 4, 3, 2]
    distance = levels["distance"]
    assert (distance.room_bits, distance.headroom_bits) == (15, 13)  # 2^(56 - 40 - 1) over 2^2
    assert levels["square 3"].headroom_bits == 56 + 40 + 40 - 40 - 1 - 8
    assert levels["square 2"].headroom_bits == 56 + 3 * 40 + 38 - 40 - 1 - 6


@pytest.mark.parametrize(
    ("ranges", "where"),
    [
        (budget.Ranges((4.0, 4.0, 4.0), 25.0, 50.0), "distance: values up to 2.5e.03, room for 2\\^15"),
        (budget.Ranges((2.0**40, 4.0, float("inf")), 1.0, 1.0), "affine 3: values up to inf"),
        (budget.Ranges((4.0, 4.0, 4.0), 1.0, float("nan")), "distance: values up to nan"),
    ],
    ids=["distance", "square", "nan"],
)
def test_values_without_room_are_refused(ranges: budget.Ranges, where: str) -> None:
    with pytest.raises(ModelError, match=f"expected 4 bits of headroom at every level, got .* at {where}"):
        budget.check_budget(ranges)


def test_a_square_wraps_where_its_room_ends() -> None:
    """The room that is promised for the distance is the one that the encryption has."""
    room = {level.name: level.room_bits for level in budget.check_budget(budget.Ranges((1.0,), 1.0, 1.0))}
    parameters = budget.PureHeParameters.for_squares(1)
    assert room["distance"] == parameters.first_bits - parameters.scale_bits - 1
