"""The tree of a comparison: joins against their definition, and the schedule."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from protocols.arithmetic.fixed_point import random_ring
from protocols.correlations import BorrowJoin
from protocols.shares.borrow_tree import _join, borrow_requests
from support.shares import pool_is_empty, run_locally

GROUPS = [1, 2, 4, 6, 7, 8, 9, 16]


@pytest.mark.parametrize("nodes", [1, 2, 4])
@pytest.mark.parametrize("rest", [0, 1])
@pytest.mark.parametrize("children", [2, 3, 4])
def test_a_join_is_what_the_definition_says_for_all_pairs(children: int, nodes: int, rest: int) -> None:
    """Node 0 and the rest see every combination of bits, also those with g and p both 1."""
    words = 4 ** (children - 1)
    joined = children * nodes
    count = joined + rest
    g, p = random_ring((count, words)), random_ring((count, words))
    patterns = np.array(list(product((0, 1), repeat=2 * children)), dtype=np.uint64).T  # 16, 64 or 256 columns
    spread = np.packbits(np.tile(patterns.astype(np.uint8), 64 * words // patterns.shape[1]), axis=1).view(np.uint64)
    for node in (0, nodes - 1):
        rows = slice(node * children, (node + 1) * children)
        g[rows], p[rows] = spread[:children], spread[children:]
    masks = random_ring(g.shape), random_ring(p.shape)

    def side(party: Any) -> Any:
        own = masks if party.rank else (masks[0] ^ g, masks[1] ^ p)
        request = BorrowJoin(children, nodes, words)
        party.correlations.prepare([request])
        result = _join(party, request, own[0], own[1][1:])
        assert pool_is_empty(party)
        assert party.channel.statistics.rounds == 1
        return result

    (g_first, p_first), (g_second, p_second) = run_locally(side, side)
    carry, passed = np.zeros((nodes, words), dtype=np.uint64), np.full((nodes, words), 2**64 - 1, dtype=np.uint64)
    for i in range(children):  # from the lowest up
        carry = g[i:joined:children] ^ p[i:joined:children] & carry
        passed = passed & p[i:joined:children]
    assert (g_first ^ g_second == np.concatenate([carry, g[joined:]])).all()
    assert (p_first ^ p_second == np.concatenate([passed[1:], p[joined:]])).all()


def schedules(groups: int) -> Any:
    """Every way to join so many groups by twos, threes and fours."""
    if groups == 1:
        return [[]]
    found = ((m, *divmod(groups, m)) for m in (2, 3, 4) if m <= groups)
    return [[m, *later] for m, nodes, rest in found for later in schedules(nodes + rest)]


def products(groups: int, schedule: Any) -> int:
    """Products of masks: per node those of several t, of u with sets of t, and, but for the lowest, of z with them."""
    total = 0
    for children in schedule:
        nodes, rest = divmod(groups, children)
        tops = children - 1
        each = 2**tops - 1 - tops + sum(2 ** (tops - i) - 1 for i in range(tops))
        total += nodes * each + (nodes - 1) * (2**tops - 1)
        groups = nodes + rest
    return total


@pytest.mark.parametrize("groups", GROUPS)
def test_the_schedule_has_the_fewest_rounds_and_then_the_fewest_products(groups: int) -> None:
    requests = borrow_requests(groups, 7)
    chosen = [request.children for request in requests]
    costs = [(len(schedule), products(groups, schedule)) for schedule in schedules(groups)]
    assert (len(chosen), products(groups, chosen)) == min(costs)
    assert sum(field.shape[0] * field.shape[1] for r in requests for field in r.derived) == min(costs)[1]
    assert [request.nodes for request in requests][-1:] == [1] * bool(requests)
    assert {request.words for request in requests} <= {7}
