"""Distances to private templates: exact modulo 2^64, in any number of indexings; D and e are uniform."""

from typing import Any

import numpy as np
import pytest

from protocols.arithmetic.fixed_point import encode
from protocols.correlations import FixedMask, FixedNorms, FixedProduct
from protocols.errors import HybridFaceError, ParameterError
from protocols.matching.private_templates import (
    TemplateIndex,
    distance_requests,
    distances,
    index_requests,
    index_templates,
)
from support.frames import record
from support.shares import on_shares, pool_is_empty, run_locally
from support.statistics import assert_uniform_bytes

SEEDS = bytes(32), bytes(range(32))
DIMENSION = 16
FIRST = 2**52 - 3


def mask_of(rank: int) -> FixedMask:
    return FixedMask((SEEDS[rank],), DIMENSION)


def indexed(party: Any, templates: Any, parts: list[int]) -> TemplateIndex:
    """Index templates some at a time."""
    mask = mask_of(party.rank)
    party.correlations.tell_mask(mask)
    done = []
    for first, last in zip([0, *parts], [*parts, len(templates)], strict=True):
        rows = np.arange(FIRST + first, FIRST + last)
        party.correlations.prepare(index_requests(rows, DIMENSION))
        done.append(index_templates(party, mask, templates[first:last], rows))
    return TemplateIndex(mask, FIRST, *(np.concatenate(arrays) for arrays in zip(*done, strict=True)))


@pytest.mark.parametrize(("count", "parts"), [(1, []), (5, [2, 3]), (5000, [1, 2100])])
def test_distances_are_exact(count: int, parts: list[int]) -> None:
    random = np.random.default_rng(count)
    templates = encode(random.normal(0, 0.3, (count, DIMENSION)))
    probes = encode(random.normal(0, 0.3, (2, DIMENSION)))

    def side(party: Any, templates: Any, probes: Any) -> Any:
        index = indexed(party, templates, parts)
        party.correlations.prepare(distance_requests(FIRST, count, DIMENSION) * 2)
        result = [distances(party, index, probe) for probe in probes]
        assert pool_is_empty(party)
        return index.opened, np.stack(result)

    (opened, first), (same, second) = on_shares(side, templates, probes)
    assert np.array_equal(opened, same)
    expected = ((probes[:, None] - templates) ** 2).sum(axis=-1)
    assert np.array_equal(first + second, expected)


def test_rows_between_are_not_opened() -> None:
    rows = np.array([2, 3, 9])
    templates = encode(np.random.default_rng(0).normal(0, 0.3, (3, DIMENSION)))
    probe = templates[1]

    def side(party: Any, templates: Any, probe: Any) -> Any:
        mask = mask_of(party.rank)
        party.correlations.tell_mask(mask)
        sent = record(party.channel)
        opened, norms = index_templates(party, mask, templates, rows)
        assert sum(map(len, sent)) < 8 * DIMENSION * len(rows) + 100
        index = TemplateIndex(mask, 0, np.zeros((10, DIMENSION), dtype=np.uint64), np.zeros(10, dtype=np.uint64))
        index.opened[rows], index.norms[rows] = opened, norms
        return distances(party, index, probe)[rows]

    first, second = on_shares(side, templates, probe)
    assert np.array_equal(first + second, ((probe - templates) ** 2).sum(axis=-1))


def test_rows_of_the_mask_do_not_depend_on_where_one_begins() -> None:
    mask = mask_of(1)
    assert np.array_equal(mask.rows(0, 9)[4:], mask.rows(4, 5))
    both = FixedMask(SEEDS, DIMENSION)
    assert np.array_equal(both.rows(3, 2), mask_of(0).rows(3, 2) + mask.rows(3, 2))
    a = both.rows(77, 1)[0]
    assert np.array_equal(both.product(a, 5, 3000), (both.rows(5, 3000) * a).sum(axis=1))
    assert_uniform_bytes(mask.rows(0, 4000))


@pytest.mark.slow
def test_what_is_opened_is_uniform() -> None:
    frames: list[Any] = []

    def side(party: Any, templates: Any, probe: Any) -> None:
        sent = record(party.channel)
        index = indexed(party, templates, [])
        for _ in range(300):
            distances(party, index, probe)
        frames.append([np.frombuffer(f[-(len(f) // 8 * 8 - 64) :], dtype=np.uint64) for f in sent if len(f) > 120])

    on_shares(side, np.zeros((3000, DIMENSION), dtype=np.uint64), np.zeros(DIMENSION, dtype=np.uint64))
    for sent in frames:
        assert_uniform_bytes(np.concatenate(sent[1:]))
        openings = np.stack([words for words in sent if words.size == sent[-1].size])
        assert len(np.unique(openings)) == openings.size, "a mask was used twice"


def test_what_is_refused() -> None:
    for options in ((b"short",), 16), (SEEDS, 15), (SEEDS, 0):
        with pytest.raises(ParameterError, match="even dimension"):
            FixedMask(*options)  # type: ignore[arg-type]
    for first, rows in ((0, 0), (-1, 3), (0, 2**27 + 1), (2**56, 1)):
        with pytest.raises(ParameterError, match="rows"):
            FixedNorms(first, rows, DIMENSION)

    def side(party: Any) -> None:
        with pytest.raises(ParameterError, match=r"templates \(2, 16\)"):
            index_templates(party, mask_of(0), np.zeros((2, 8), dtype=np.uint64), np.arange(2))
        with pytest.raises(ParameterError, match="ascending"):
            index_templates(party, mask_of(0), np.zeros((2, 16), dtype=np.uint64), np.array([3, 3]))

    run_locally(side, side)
    with pytest.raises(HybridFaceError, match="fixed mask of dimension 16 before"):
        run_locally(*[lambda party: party.correlations.take(FixedProduct(0, 3, DIMENSION))] * 2)
