"""Correlations by transfers as users ask for them: sizes, limits, flights, and peers that break the protocol."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from parties.local import run_locally
from parties.session.correlations import Correlations
from protocols.arithmetic.randomness import KEY_BYTES
from protocols.channel import CLIENT, SERVER, Channel, tag_of
from protocols.correlations import (
    ArithmeticTriple,
    BinaryTriple,
    BorrowJoin,
    ComparisonMask,
    FixedMask,
    FixedNorms,
    FixedProduct,
    Request,
    SharedBit,
    SquarePair,
    TruncationMask,
    WrapCount,
)
from protocols.correlations.two_party import arithmetic, groups, word_products
from protocols.correlations.two_party.ends import PIECE, End
from protocols.correlations.two_party.source import TransferSource
from protocols.errors import ParameterError, PeerLostError, ProtocolError
from protocols.shares.comparison import relu_requests
from support.frames import Tampered, outcome, record
from support.transfer_parties import BROKEN, both, outcomes

pytestmark = pytest.mark.slow


def made(requests: list[Request], one_by_one: bool = False, correlations: Correlations = Correlations.OT_IKNP) -> Any:
    """Return both parties' shares of every request."""

    def side(party: Any) -> Any:
        if not one_by_one:
            party.correlations.prepare(requests)
        return [party.correlations.take(request) for request in requests]

    return list(zip(*run_locally(side, side, correlations=correlations), strict=True))


def assert_holds(request: Request, ours: Any, theirs: Any) -> None:
    """Test shapes, and that the derived fields are what their definition makes of the uniform ones."""
    fields = [*request.uniform, *request.derived]
    for shares in (ours, theirs):
        assert [share.shape for share in shares] == [field.shape for field in fields]
    start = len(request.uniform)
    came = [f.combine(a, b) for f, a, b in zip(fields, ours, theirs, strict=True)][start:]
    expected = request.derive(ours[:start], theirs[:start])
    assert len(came) == len(expected)
    if isinstance(request, ComparisonMask) and request.count % 64:  # what is above the last element does not matter
        for one, other, field in zip(came, expected, request.derived, strict=True):
            if field.xor:
                one[..., -1:] &= np.uint64(2 ** (request.count % 64) - 1)
                other[..., -1:] &= np.uint64(2 ** (request.count % 64) - 1)
    for field, one, other in zip(request.derived, came, expected, strict=True):
        assert (one.reshape(-1) == np.asarray(other).reshape(-1)).all(), field


NOTHING: list[Request] = [
    ComparisonMask(0),
    ComparisonMask(0, 64, select=False, signed=False),
    BorrowJoin(3, 2, 0),
    BinaryTriple((0,), (1,)),
    SquarePair((0,)),
    SharedBit((3, 0)),
    TruncationMask((0, 2), 16),
    WrapCount((0,)),
    ArithmeticTriple("mul", (0,), (1,)),
    ArithmeticTriple("matmul", (0, 3), (3, 4)),
    ArithmeticTriple("matmul", (3, 0), (0, 4)),
    ArithmeticTriple("matmul", (2, 3), (3, 0)),
]

FEW: list[Request] = [
    ComparisonMask(1),
    ComparisonMask(65, 64, select=False, signed=False),
    BorrowJoin(3, 2, 1),
    BorrowJoin(2, 1, 3),
    BinaryTriple((), (2, 1)),
    SquarePair((1,)),
    SharedBit((1, 1)),
    TruncationMask((1,), 61),
    WrapCount((67,)),
    ArithmeticTriple("mul", (), (3,)),
    ArithmeticTriple("matmul", (2, 3), (3,)),
    ArithmeticTriple("matmul", (1, 1), (1, 1)),
    ArithmeticTriple("matmul", (2, 2, 3), (2, 3, 2)),
]


@pytest.mark.parametrize("correlations", Correlations)
@pytest.mark.parametrize("one_by_one", [True, False])
def test_nothing_and_few(one_by_one: bool, correlations: Correlations) -> None:
    requests = [*NOTHING, *FEW, *NOTHING]
    for request, (ours, theirs) in zip(requests, made(requests, one_by_one, correlations), strict=True):
        assert_holds(request, ours, theirs)


def test_requests_of_one_kind_in_pieces_that_fit_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of one to three words, across requests of other sizes."""
    for module in (arithmetic, groups, word_products):
        monkeypatch.setattr(module, "PIECE", 64 * 80)
    sizes = [300, 1, 64, 0, 129, 700]
    requests: list[Request] = [
        *(ComparisonMask(size, 28) for size in sizes),
        *(BorrowJoin(3, 3, size // 60) for size in sizes),
        *(SquarePair((size,)) for size in sizes),
        *(TruncationMask((size, 1), 16) for size in sizes),
        *(TruncationMask((size,), 17) for size in sizes),
        BinaryTriple((130,), (130,)),
        ArithmeticTriple("mul", (150,), (150,)),
        ArithmeticTriple("matmul", (3, 70), (70, 2)),
    ]
    for request, (ours, theirs) in zip(requests, made(requests), strict=True):
        assert_holds(request, ours, theirs)


def test_millions_of_bits_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are small, and so is what is drawn between them."""
    draw, drawn = End.draw, list[int]()

    def watched(end: End, chooser: int, count: int, words: int = 1) -> Any:
        drawn.append(count * words)
        return draw(end, chooser, count, words)

    monkeypatch.setattr(End, "draw", watched)
    requests: list[Request] = [BinaryTriple((1 << 15,), (1 << 15,)), SharedBit((1_000_003,))]

    def side(party: Any) -> Any:
        frames = record(party.channel)
        before = party.channel.statistics.rounds
        party.correlations.prepare(requests)
        shares = [party.correlations.take(request) for request in requests]
        return shares, max(map(len, frames)), party.channel.statistics.rounds - before

    (ours, sent, flights), (theirs, received, _) = run_locally(side, side, correlations=Correlations.OT)
    for request, first, second in zip(requests, ours, theirs, strict=True):
        assert_holds(request, first, second)
    assert max(sent, received) < 6e6
    assert max(drawn) <= PIECE
    assert sum(drawn) > 10_000_000  # by both
    assert flights < 60


def test_a_flight_carries_what_all_kinds_have_to_say() -> None:
    """All that is asked for together takes little more than what takes most."""

    def flights(requests: list[Request]) -> int:
        def side(party: Any) -> int:
            party.correlations.transfers()
            before = party.channel.statistics.rounds
            party.correlations.prepare(requests)
            return int(party.channel.statistics.rounds - before)

        return int(run_locally(side, side, correlations=Correlations.OT)[0])

    alone = flights([ComparisonMask(1000, 64)])
    kinds = [
        *relu_requests(1000, 64),
        *relu_requests(1000, 28),
        SquarePair((128,)),
        TruncationMask((100,), 16),
        SharedBit((5,)),
    ]
    assert alone <= 6
    assert flights(kinds) <= alone + 2


@pytest.mark.parametrize("correlations", Correlations)
def test_norms_and_products_of_a_fixed_mask_are_numpys(correlations: Correlations) -> None:
    """Rows that need two runs, from one that is not the first."""
    dimension, first, rows = 4, 3, 600
    masks = [FixedMask((bytes([rank]) * KEY_BYTES,), dimension) for rank in (CLIENT, SERVER)]
    requests: list[Request] = [FixedNorms(first, rows, dimension), FixedProduct(first, rows, dimension)]

    def side(party: Any) -> Any:
        party.correlations.tell_mask(masks[party.rank])
        party.correlations.prepare(requests)
        return [party.correlations.take(request) for request in requests]

    (norms, (a, product)), (norms_, (a_, product_)) = run_locally(side, side, correlations=correlations)
    b = sum(np.vstack([mask.rows(0, 2 * rows)[first : first + rows]]) for mask in masks)
    assert (norms[0] + norms_[0] == (b * b).sum(axis=1, dtype=np.uint64)).all()
    assert (product + product_ == b @ (a + a_)).all()


@contextmanager
def refusal_before_a_byte(source: TransferSource, channel: Channel, message: str) -> Iterator[None]:
    before = channel.statistics.bytes_sent, channel.statistics.bytes_received
    with pytest.raises(ParameterError, match=message):
        yield
    assert (channel.statistics.bytes_sent, channel.statistics.bytes_received) == before


class Unknown(SquarePair):
    """A correlation that transfers cannot make."""


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ArithmeticTriple("mul", (2**13, 1), (1, 2**13)), "at most 16777216 products without a dealer, got 67108864"),
        (ArithmeticTriple("matmul", (2**9, 2**9), (2**9, 2**9)), "at most 16777216 products"),
        (ArithmeticTriple("conv2d", (1, 3, 300, 300), (8, 3, 3, 3)), "at most 16777216 products"),
        (FixedNorms(0, 3, 4), "a fixed mask of dimension 4 before"),
        (FixedProduct(0, 3, 6), "a fixed mask of dimension 6 before"),
        (Unknown((3,)), "a correlation that transfers can make"),
    ],
)
def test_what_cannot_be_made_is_refused_before_a_byte_and_others_still_can(request_: Request, message: str) -> None:
    pair = SquarePair((5,))

    def side(channel: Channel, rank: int) -> Any:
        source = TransferSource(rank, channel, "iknp")
        source.tell_mask(FixedMask((bytes(KEY_BYTES),), 8))
        for requests in ([pair, request_], [request_, pair]):
            with refusal_before_a_byte(source, channel, message):
                source.prepare(requests)
        with refusal_before_a_byte(source, channel, message):
            source.take(request_)
        return source.take(pair)

    assert_holds(pair, *both(lambda channel: side(channel, CLIENT), lambda channel: side(channel, SERVER)))


def with_one_dimension_more(frame: bytes) -> bytes:
    """The same data, as an array of a dimension of one more."""
    return frame[:8] + bytes([frame[8] + 1]) + frame[9:16] + (1).to_bytes(8, "little") + frame[16:]


MALFORMED = (*(change for change in BROKEN if change.__name__ != "of_other_shape"), with_one_dimension_more)

KINDS: list[Request] = [
    ComparisonMask(100, 28),
    ComparisonMask(100, 64),
    BorrowJoin(4, 2, 3),
    WrapCount((100,)),
    SquarePair((100,)),
    TruncationMask((64,), 16),
    SharedBit((70,)),
    BinaryTriple((3,), (3,)),
    ArithmeticTriple("mul", (4,), (4,)),
    ArithmeticTriple("matmul", (2, 3), (3, 2)),
]


class Liar(Tampered):
    """Changes one message that is not of transfers but made of them, after some others, and counts these messages."""

    def __init__(self, channel: Channel, change: Callable[[bytes], bytes], after: int) -> None:
        super().__init__(channel, change)
        self.count, self._after = 0, after

    def _changed(self, payload: bytes) -> bytes:
        if payload[4:8] not in TAGS_OF_TRANSFERS:
            self.armed = self.count == self._after
            self.count += 1
        return super()._changed(payload)


TAGS_OF_TRANSFERS = {
    tag_of(f"transfers/{who} chooses/iknp/extension {number}").to_bytes(4, "little")
    for who in ("client", "server")
    for number in range(1, 200)
}


def lied_to(request: Request, change: Callable[[bytes], bytes], liar: int, after: int) -> tuple[Any, Any, int]:
    """Make a correlation with one changed message; return the parties' sources and errors, and what the liar sent."""
    sources: dict[int, TransferSource] = {}
    liars: list[Liar] = []

    def side(channel: Channel, rank: int) -> None:
        source = sources[rank] = TransferSource(rank, channel, "iknp")
        source.transfers()
        if rank == liar:
            liars.append(Liar(channel, change, after))
        source.prepare([request])
        channel.receive("more", np.uint8, (1,)) if rank == liar else channel.send("more", np.zeros(1, dtype=np.uint8))

    _, errors = outcomes(lambda channel: side(channel, CLIENT), lambda channel: side(channel, SERVER))
    return sources, errors, liars[0].count


@pytest.mark.parametrize("liar", [CLIENT, SERVER])
@pytest.mark.parametrize("request_", KINDS, ids=lambda request: f"{request.kind} {getattr(request, 'bits', '')}")
def test_a_malformed_message_ends_both_sides_for_good(request_: Request, liar: int) -> None:
    """A party's first message, in each of the ways that break it, and others in one of them."""
    _, errors, count = lied_to(request_, lambda frame: frame, liar, 0)
    assert errors == (None, None)
    cases = [(0, change) for change in MALFORMED if count] + [
        (after, MALFORMED[0]) for after in range(1, min(count, 4))
    ]
    for after, change in cases:
        sources, errors, _ = lied_to(request_, change, liar, after)
        assert isinstance(errors[1 - liar], ProtocolError), f"{change.__name__} message {after}"
        assert isinstance(errors[liar], PeerLostError)
        assert_refuses(sources[1 - liar], request_)


def assert_refuses(source: TransferSource, request: Request) -> None:
    """A source that has failed says nothing more, whatever it is asked for."""
    channel = source._channel
    before = channel.statistics.bytes_sent, channel.statistics.bytes_received
    for ask in (lambda: source.prepare([request]), lambda: source.take(request), source.transfers):
        for _ in range(2):
            with pytest.raises(ProtocolError, match="failed before"):
                ask()
    assert (channel.statistics.bytes_sent, channel.statistics.bytes_received) == before


@pytest.mark.parametrize("begin", ["transfers", "prepare", "take"])
def test_a_failed_start_is_not_tried_again(begin: str) -> None:
    sources: dict[int, TransferSource] = {}
    pair = SquarePair((5,))

    def side(channel: Channel, rank: int) -> None:
        tampered = Tampered(channel, lambda frame: frame[:-1])
        tampered.armed = rank == SERVER
        source = sources[rank] = TransferSource(rank, channel)
        {"transfers": source.transfers, "prepare": lambda: source.prepare([pair]), "take": lambda: source.take(pair)}[
            begin
        ]()

    _, errors = outcomes(lambda channel: side(channel, CLIENT), lambda channel: side(channel, SERVER))
    assert isinstance(errors[CLIENT], ProtocolError)
    assert isinstance(errors[SERVER], PeerLostError)
    for source in sources.values():
        assert_refuses(source, pair)


def test_what_was_made_before_a_failure_can_still_be_used() -> None:
    pair = SquarePair((5,))

    def side(channel: Channel, rank: int) -> Any:
        source = TransferSource(rank, channel, "iknp")
        source.prepare([pair])
        if rank == SERVER:
            channel.close()
        else:
            assert "ended" in outcome(source.take, SharedBit((3,)))[1]
        return source.take(pair)

    assert_holds(pair, *both(lambda channel: side(channel, CLIENT), lambda channel: side(channel, SERVER)))
