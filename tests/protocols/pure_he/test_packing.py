"""Packing under encryption, in the clear: diagonals with baby and giant steps are matrix products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.errors import ParameterError
from protocols.pure_he.packing import AffinePlan, plan_affine, rotate

POWERS = st.sampled_from([1, 2, 4, 8, 16])


def apply(plan: AffinePlan, matrix: NDArray[np.float64], inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute as the evaluator does: inputs (ciphertexts, n)."""
    diagonals = dict(plan.diagonals(matrix))
    total = np.zeros(plan.slots)
    for giant in reversed(range(plan.giants)):
        total = rotate(total, plan.giant_rotation)
        for (c, g, baby), diagonal in diagonals.items():
            if g == giant:
                total = total + diagonal * rotate(inputs[c], baby * plan.baby_rotation)
    for step in plan.sum_rotations:
        total = total + rotate(total, step)
    return total


def dense(matrix: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("poi,pi->po", matrix, values)


@given(POWERS, st.sampled_from([16, 64, 256]), st.integers(1, 100), POWERS, st.integers(0, 2**32))
def test_arranged_inputs(lanes: int, positions: int, inputs: int, outputs: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix, values = random.normal(size=(lanes, outputs, inputs)), random.normal(size=(lanes, inputs))
    plan = plan_affine(lanes, lanes * positions, inputs, outputs, natural=False)
    result = apply(plan, matrix, plan.arrange(values))
    assert np.allclose(result, plan.vector(dense(matrix, values)))


@given(POWERS, POWERS, POWERS, st.sampled_from([None, 1, 2, 16]), st.integers(0, 2**32))
def test_inputs_of_natural_period(lanes: int, inputs: int, outputs: int, babies: int | None, seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix, values = random.normal(size=(lanes, outputs, inputs)), random.normal(size=(lanes, inputs))
    plan = plan_affine(lanes, lanes * 64, inputs, outputs, natural=True, babies=babies)
    before = plan_affine(lanes, lanes * 64, 1, inputs, natural=True).vector(values)
    assert np.allclose(apply(plan, matrix, before[None]), plan.vector(dense(matrix, values)))


def test_the_usual_network_takes_two_ciphertexts_and_few_rotations() -> None:
    first = plan_affine(16, 8192, 768, 64, natural=False)
    assert (len(first.sources), first.steps, first.rotations) == (2, (64, 32), 24)
    assert first.rotation_steps == {16, 128, 1024, 2048, 4096}
    middle = plan_affine(16, 8192, 64, 64, natural=True)
    assert (middle.rotations, middle.rotation_steps) == (14, {16, 128})
    join = plan_affine(1, 8192, 1024, 128, natural=True)
    assert (join.rotations, join.rotation_steps) == (25, {1, 16, 128, 256, 512})


def test_every_weight_is_used_exactly_once_a_feature() -> None:
    plan = plan_affine(2, 2 * 64, 90, 8, natural=False)
    ones = np.ones((2, 8, 90))
    assert sum(d.sum() for _, d in plan.diagonals(ones)) == ones.sum()
    assert np.array_equal(apply(plan, ones, plan.arrange(np.ones((2, 90)))), np.full(128, 90.0))


def test_zero_diagonals_are_left_out() -> None:
    plan = plan_affine(1, 8, 8, 8, natural=True)
    assert [key for key, _ in plan.diagonals(np.eye(8)[None])] == [(0, 0, 0)]
    assert not list(plan.diagonals(np.zeros((1, 8, 8))))


@pytest.mark.parametrize(
    ("lanes", "slots", "inputs", "outputs", "natural"),
    [(3, 64, 4, 4, True), (1, 64, 3, 4, True), (1, 64, 4, 3, False), (16, 64, 4, 8, False), (16, 64, 8, 4, True)],
)
def test_sizes_that_do_not_fit(lanes: int, slots: int, inputs: int, outputs: int, natural: bool) -> None:
    with pytest.raises(ParameterError, match="expected"):
        plan_affine(lanes, slots, inputs, outputs, natural)


def test_wrong_shapes() -> None:
    plan = plan_affine(2, 16, 4, 4, natural=False)
    with pytest.raises(ParameterError, match="matrix of shape"):
        list(plan.diagonals(np.ones((2, 4, 5))))
    with pytest.raises(ParameterError, match="values of shape"):
        plan.arrange(np.ones((1, 4)))
