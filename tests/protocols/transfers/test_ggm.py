"""Correlated trees against a recursive reference on integers; what the receiver has, and what it lacks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ParameterError
from protocols.transfers.ggm import TreeGrower
from support.transfer_parties import as_integer, random_blocks, reference_hash

SEED = bytes(range(1, 33))
DELTA = random_blocks(1, seed=3)[0] | np.array([1, 0], dtype=np.uint64)
EVEN = 2**128 - 2


def reference_leaves(root: int, depth: int, tree: int, trees: int, first: int = 0) -> dict[tuple[int, ...], int]:
    """The leaves of one tree by their paths, top first, from the definition.

    Nodes of a level are hashed in the order of their reversed paths, all trees of a node together.
    """
    leaves = {}

    def grow(node: int, path: tuple[int, ...]) -> None:
        level = len(path)
        if level == depth:
            leaves[path] = node & EVEN
            return
        place = sum(bit << i for i, bit in enumerate(path))
        number = first + trees * (2**level - 2) + place * trees + tree
        left = reference_hash(SEED, number, node)
        grow(left, (*path, 0))
        grow(node ^ left, (*path, 1))

    grow(root, (0,))
    grow(root ^ as_integer(DELTA), (1,))
    return leaves


def place_of(path: tuple[int, ...]) -> int:
    return sum(bit << i for i, bit in enumerate(path))


def corrected(sums: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The sums of the sides that the receiver knows: what it gets by the transfers."""
    return sums ^ sides[..., np.newaxis].astype(np.uint64) * DELTA


def random_sides(depth: int, trees: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (depth, trees), dtype=np.uint8)


@pytest.mark.parametrize(("depth", "trees"), [(2, 1), (3, 2), (5, 7), (10, 5)])
def test_the_senders_leaves_are_those_of_the_recursion(depth: int, trees: int) -> None:
    """The last case has 5110 hashes, so that it crosses to a second key."""
    roots = random_blocks(trees)
    leaves, sums = TreeGrower(depth, trees, SEED).grow(roots, DELTA)
    by_place = leaves.reshape(-1, trees, 2)
    for tree in range(trees):
        expected = reference_leaves(as_integer(roots[tree]), depth, tree, trees)
        assert len(expected) == 2**depth
        for path, leaf in expected.items():
            assert as_integer(by_place[place_of(path), tree]) == leaf
        left = 0
        for path, leaf in expected.items():
            left ^= leaf * (path[-1] == 0)
        assert as_integer(sums[-1, tree]) == left
        assert as_integer(sums[0, tree]) == as_integer(roots[tree])


@given(st.integers(2, 9), st.integers(1, 9), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_the_receiver_has_all_leaves_but_one_and_that_plus_delta(depth: int, trees: int, seed: int) -> None:
    sides = random_sides(depth, trees, seed)
    leaves, sums = TreeGrower(depth, trees, SEED).grow(random_blocks(trees, seed), DELTA)
    found = TreeGrower(depth, trees, SEED).regrow(corrected(sums, sides), sides)
    ends = [place_of(tuple(1 - side for side in column)) * trees + tree for tree, column in enumerate(sides.T.tolist())]
    expected = leaves.copy()
    expected[ends] ^= DELTA
    assert (found == expected).all()
    assert (found[:, 0] & np.uint64(1)).sum() == trees
    assert not (leaves[:, 0] & np.uint64(1)).any()


def test_the_receiver_has_neither_delta_nor_any_node_of_its_path() -> None:
    depth, trees = 6, 4
    sides, roots = random_sides(depth, trees), random_blocks(trees)
    leaves, sums = TreeGrower(depth, trees, SEED).grow(roots, DELTA)
    receiver = TreeGrower(depth, trees, SEED)
    keys = corrected(sums, sides)
    memory = []
    expand = receiver._expand

    def watched(*arguments: Any) -> Any:
        memory.append(receiver._nodes.copy())
        result = expand(*arguments)
        memory.append(receiver._scratch.copy())
        return result

    receiver._expand = watched  # type: ignore[method-assign]
    found = receiver.regrow(keys, sides)
    seen = {as_integer(block) for array in (*memory, found, keys.reshape(-1, 2)) for block in array}
    for tree in range(trees):
        path = tuple(1 - side for side in sides[:, tree].tolist())
        unknown = as_integer(roots[tree]) ^ as_integer(DELTA) * path[0]
        on_path = [unknown]
        for level in range(1, depth):
            number = trees * (2**level - 2) + place_of(path[:level]) * trees + tree
            left = reference_hash(SEED, number, unknown)
            unknown = unknown ^ left if path[level] else left
            on_path.append(unknown)
        assert as_integer(leaves[place_of(path) * trees + tree]) == on_path[-1] & EVEN
        assert not {*on_path, on_path[-1] & EVEN} & seen
    assert as_integer(DELTA) not in seen


def test_every_level_adds_up_to_delta() -> None:
    leaves, _ = TreeGrower(7, 3, SEED).grow(random_blocks(3), DELTA)
    total = np.bitwise_xor.reduce(leaves.reshape(-1, 3, 2), axis=0)
    assert (total == DELTA & np.array([2**64 - 2, 2**64 - 1], dtype=np.uint64)).all()


def test_batches_follow_each_other_and_hash_differently() -> None:
    """Both sides count hashes alike, for batches of all sizes; with other keys the same roots have other leaves."""
    depth = 10
    sender, receiver = TreeGrower(depth, 5, SEED), TreeGrower(depth, 5, SEED)
    results = []
    for trees in (5, 2, 5):
        sides = random_sides(depth, trees)
        leaves, sums = sender.grow(random_blocks(5)[:trees], DELTA)
        found = receiver.regrow(corrected(sums, sides), sides)
        assert (found != leaves).any(axis=1).sum() == trees
        results.append(leaves.copy())
    assert not {as_integer(b) for b in results[0]} & {as_integer(b) for b in results[2]}


@pytest.mark.parametrize("level", [0, 1, 5])
def test_a_wrong_correction_makes_wrong_leaves_and_no_error(level: int) -> None:
    sides = random_sides(6, 3)
    leaves, sums = TreeGrower(6, 3, SEED).grow(random_blocks(3), DELTA)
    keys = corrected(sums, sides)
    keys[level, 1, 1] ^= np.uint64(1 << 17)
    found = TreeGrower(6, 3, SEED).regrow(keys, sides).reshape(-1, 3, 2)
    wrong = (found != leaves.reshape(-1, 3, 2)).any(axis=2).sum(axis=0)
    assert wrong[0] == wrong[2] == 1
    assert wrong[1] == 2 ** (6 - level)  # all below the last node of the path that is still right


def test_parameters_are_checked() -> None:
    for depth, most in ((1, 1), (25, 1), (5, 0)):
        with pytest.raises(ParameterError, match="depth of 2 to 24"):
            TreeGrower(depth, most, SEED)
