"""What correlations by transfers send is uniform, and independent, given all that the receiver has.

Every secret of the sender is constant here, and so is all that the receiver knows. See `ot_parties`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from protocols.channel import CLIENT, SERVER
from protocols.correlations import BorrowJoin, ComparisonMask, SharedBit, SquarePair, TruncationMask, WrapCount
from protocols.correlations.two_party import arithmetic, bit_products, comparison_masks
from protocols.correlations.two_party.bit_products import ProductPlan, random_products
from protocols.correlations.two_party.word_products import number_products, vector_products
from support.ot_parties import Transfers, Wire, assert_uniform_and_independent, of_planes, of_words, run_makers

WORDS = 64
"""4096 elements."""


@pytest.fixture(params=range(3))
def random(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> np.random.Generator:
    """Secrets that are constant over all elements: numbers of zeros or of ones, so that their bit planes are, too."""
    random = np.random.default_rng(request.param)

    def constant(count: int) -> Any:
        return np.zeros(count, dtype=np.uint64) - np.uint64(random.integers(2))

    for module in (arithmetic, bit_products, comparison_masks):
        monkeypatch.setattr(module, "random_words", constant)
    return random


def sent_with_unknown_pads(make: Callable[..., Any], random: np.random.Generator, chooser: int) -> Wire:
    return run_makers(make, Transfers(random, "pads", chooser))[1]


def sent_with_unknown_choices(make: Callable[..., Any], random: np.random.Generator) -> Wire:
    return run_makers(make, Transfers(random, "choices", CLIENT))[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        ComparisonMask(0, 19),
        ComparisonMask(0, 28),
        ComparisonMask(0, 32, select=False, signed=False),
        ComparisonMask(0, 32),
        ComparisonMask(0, 64),
    ],
)
def test_masks_of_comparisons(kind: ComparisonMask, random: np.random.Generator) -> None:
    def make(end: Any) -> Any:
        return comparison_masks.comparison_masks(end, "masks", kind, WORDS)

    wire = sent_with_unknown_pads(make, random, CLIENT)
    sums = of_words(wire.sent(SERVER, "sums"), [*range(kind.bits - 1, 0, -1)][: kind.bits - 1])
    planes = [message for (rank, label), message in wire.messages.items() if rank == SERVER and "leaves" in label]
    chosen = range(0, len(sums), 1 if kind.bits < 30 else 5)  # of the bits of a, else there are too many to compare
    parts = [*(sums[i] for i in chosen), *map(of_planes, planes)]
    if kind.select:
        parts += [*of_words(wire.sent(SERVER, "bit"), [63]), *of_words(wire.sent(SERVER, "from server"), [64])]
    assert_uniform_and_independent(np.hstack(parts))
    wire = sent_with_unknown_pads(make, random, SERVER)
    planes = [message for (rank, label), message in wire.messages.items() if rank == CLIENT and "leaves" in label]
    parts = [of_planes(message) for message in planes]
    if kind.select:
        parts += of_words(wire.sent(CLIENT, "from client"), [64])
    assert_uniform_and_independent(np.hstack(parts))


@pytest.mark.parametrize("kind", [BorrowJoin(2, 3, 0), BorrowJoin(3, 3, 0), BorrowJoin(4, 1, 0), BorrowJoin(4, 2, 0)])
def test_masks_of_joins(kind: BorrowJoin, random: np.random.Generator) -> None:
    def make(end: Any) -> Any:
        return comparison_masks.join_masks(end, "masks", kind, WORDS)

    for sender, chooser in ((SERVER, CLIENT), (CLIENT, SERVER)):
        wire = sent_with_unknown_pads(make, random, chooser)
        sent: dict[int, list[Any]] = {}
        for (rank, label), message in wire.messages.items():
            if rank == sender:
                sent.setdefault(int(label.split("/")[1]), []).append(of_planes(message))
        for parts in sent.values():  # of the lowest nodes, and of the others
            assert_uniform_and_independent(np.hstack(parts))


def test_products_of_many_bits(random: np.random.Generator) -> None:
    """One choice has all terms that a pad has bits for."""
    plan = ProductPlan(33, tuple(1 << 32 | 1 << i for i in range(32)))

    def make(end: Any) -> Any:
        return random_products(end, "products", plan, WORDS)

    assert max(plan.counts(CLIENT)) == bit_products.PLANE_BITS
    assert_uniform_and_independent(of_planes(sent_with_unknown_pads(make, random, CLIENT).sent(SERVER, "1")))


def test_shared_bits(random: np.random.Generator) -> None:
    wire = sent_with_unknown_pads(lambda end: arithmetic.shared_bit(end, "bit", SharedBit((0,)), WORDS), random, CLIENT)
    assert_uniform_and_independent(*of_words(wire.sent(SERVER, ""), [63]))


def test_squares(random: np.random.Generator) -> None:
    def make(end: Any) -> Any:
        return arithmetic.square_pair(end, "square", SquarePair((0,)), WORDS)

    sent = of_words(sent_with_unknown_pads(make, random, CLIENT).sent(SERVER, ""), [*range(64, 0, -1)])
    assert_uniform_and_independent(np.hstack(sent[::6]))


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 16, 61])
def test_masks_of_truncations(bits: int, random: np.random.Generator) -> None:
    """Both words of a pad are used."""

    def make(end: Any) -> Any:
        return arithmetic.truncation_mask(end, "mask", TruncationMask((0,), bits), WORDS)

    wire = sent_with_unknown_pads(make, random, CLIENT)
    r = of_words(wire.sent(SERVER, "r"), [*range(63, 0, -1)])
    shifted = of_words(wire.sent(SERVER, "shifted"), [63 + bits - i for i in range(bits, 63)])
    (top,) = of_words(wire.sent(SERVER, "top"), [63])
    chosen = [*range(bits, 63, 7), 62]
    assert_uniform_and_independent(np.hstack([top, *(r[i] for i in chosen), *(shifted[i - bits] for i in chosen)]))


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 40])
def test_counts_of_wraps(first: int, random: np.random.Generator) -> None:
    """An adder's carries, and numbers from two bits: from the server, and the client's bits under its choices."""

    def make(end: Any) -> Any:
        return arithmetic.wrap_count(end, "wraps", WrapCount((0,)), WORDS)

    names = [f"carry {i}" for i in range(first, first + 24)]
    wire = sent_with_unknown_pads(make, random, CLIENT)
    parts = [of_planes(wire.sent(SERVER, f"{name}/1")) for name in names]
    parts += [*of_words(wire.sent(SERVER, "numbers/0"), [63]), *of_words(wire.sent(SERVER, "numbers/1"), [63])]
    assert_uniform_and_independent(np.hstack(parts))
    wire = sent_with_unknown_choices(make, random)
    parts = [of_planes(wire.sent(CLIENT, f"{name}/choices")) for name in [*names, "numbers"]]
    assert_uniform_and_independent(np.hstack(parts))


def test_products_of_numbers_that_are_there_already(random: np.random.Generator) -> None:
    numbers = np.full(64 * WORDS, 0x0123456789ABCDEF, dtype=np.uint64)

    def make(end: Any) -> Any:
        return number_products(end, "products", numbers, told=True)

    sent = of_words(sent_with_unknown_pads(make, random, CLIENT).sent(SERVER, "words"), [*range(64, 0, -1)])
    assert_uniform_and_independent(np.hstack(sent[::6]))
    assert_uniform_and_independent(of_planes(sent_with_unknown_choices(make, random).sent(CLIENT, "choices")))


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2, 3])
def test_products_with_vectors(width: int, random: np.random.Generator) -> None:
    """The entries of a vector are masked independently."""
    count = 1024
    vector = random.integers(0, 2**64, width, dtype=np.uint64)

    def make(end: Any) -> Any:
        return vector_products(end, "products", count, width, lambda places: np.tile(vector, (len(places), 1)))

    for sender, chooser in ((SERVER, CLIENT), (CLIENT, SERVER)):
        wire = sent_with_unknown_pads(make, random, chooser)
        sent = of_words(wire.sent(sender, f"for {chooser}"), [*range(64, 0, -1)])
        parts = [sent[i].reshape(count, -1) for i in (0, 1, 40, 62, 63)]
        assert_uniform_and_independent(np.hstack(parts))
