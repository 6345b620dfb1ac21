"""Correlations: every type against its definition, each view uniform, each used once, junk requests refused."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.local import PartyThread
from parties.session.correlations import Correlations
from parties.transport.queues import local_channels
from protocols.arithmetic import randomness
from protocols.arithmetic.bitplanes import unpack_plane
from protocols.arithmetic.stream import Stream, new_seed
from protocols.correlations import (
    ArithmeticTriple,
    BinaryTriple,
    BorrowJoin,
    ComparisonMask,
    Dealer,
    DealerClient,
    DealerServer,
    FixedMask,
    Request,
    SharedBit,
    SquarePair,
    TruncationMask,
    WrapCount,
)
from protocols.correlations.types import request_from_document
from protocols.errors import ParameterError, ProtocolError
from support.frames import outcome, record
from support.shares import dealer_bytes, on_shares, pool_is_empty, run_locally
from support.statistics import assert_uniform, assert_uniform_bytes

CONV = ArithmeticTriple("conv2d", (2, 3, 8, 8), (4, 3, 3, 3), (("padding", 1), ("stride", (2, 1))))
REQUESTS = [
    ComparisonMask(20_001, 32, True),
    ComparisonMask(1_000, 64, False),
    ComparisonMask(65, 4, True),
    BinaryTriple((1, 40, 300), (2, 40, 300)),
    SquarePair((300, 200)),
    SharedBit((60_000,)),
    WrapCount((60_000,)),
    ArithmeticTriple("mul", (300, 1), (1, 300)),
    ArithmeticTriple("matmul", (15, 200), (200, 15)),
    ArithmeticTriple("conv1d", (2, 3, 40), (5, 3, 7)),
    CONV,
    TruncationMask((100, 300), 16),
    ComparisonMask(100, 64, False, False),
    BorrowJoin(4, 4, 300),
    BorrowJoin(4, 1, 900),
    BorrowJoin(2, 4, 900),
    BorrowJoin(2, 1, 2000),
    BorrowJoin(3, 3, 400),
    ComparisonMask(20_001, 28, True),
    ComparisonMask(20_001, 22, True),
    ComparisonMask(5_000, 19, False),
]


def take(
    requests: list[Request], prepare: bool = False, correlations: Correlations = Correlations.DEALER
) -> tuple[list[Any], list[Any]]:
    """Return both parties' shares of some correlations."""

    def side(party: Any) -> list[Any]:
        if prepare:
            party.correlations.prepare(requests)
        return [party.correlations.take(request) for request in requests]

    return run_locally(side, side, correlations=correlations)


MAKERS = [pytest.param(maker, marks=() if maker.needs_dealer else pytest.mark.slow) for maker in Correlations]


@pytest.fixture(scope="module", params=MAKERS)
def taken(request: pytest.FixtureRequest) -> dict[Request, tuple[Any, Any]]:
    """Every type, made by a dealer, and by transfers of either kind."""
    ours, theirs = take(REQUESTS, prepare=True, correlations=request.param)
    return dict(zip(REQUESTS, zip(ours, theirs, strict=True), strict=True))


def bit(words: Any, i: int, count: int) -> Any:
    """Bit i of every element."""
    return words[:count] >> np.uint64(i) & np.uint64(1)


def sets(items: list[int]) -> Any:
    """All non-empty sets, in the order of their numbers: an item more doubles them."""
    return [[x for i, x in enumerate(items) if number >> i & 1] for number in range(1, 2 ** len(items))]


@pytest.mark.parametrize("request_", [r for r in REQUESTS if isinstance(r, ComparisonMask)])
def test_comparison_masks(taken: Any, request_: ComparisonMask) -> None:
    (r, b, *ours), (r_, b_, *theirs) = taken[request_]
    r, b, count, bits = r + r_, b ^ b_, request_.count, request_.bits
    assert len(ours) == len(theirs) == 2 + request_.signed + 2 * request_.select
    size = 3 if bits in (19, 22, 28) else 4
    low = (bits - request_.signed) % size or size
    lowest, groups = (x ^ y for x, y in zip(ours[:2], theirs[:2], strict=True))
    further = (bits - request_.signed - low) // size
    assert (len(lowest), groups.shape[:2]) == (2**low - 1, (2**size - 1, further))
    for plane, members in zip(lowest, sets(list(range(low))), strict=True):
        assert (unpack_plane(plane, count) == np.prod([bit(r, i, count) for i in members], axis=0)).all()
    for j in range(further):
        for plane, members in zip(groups[:, j], sets([low + size * j + i for i in range(size)]), strict=True):
            assert max(members) < bits - request_.signed
            assert (unpack_plane(plane, count) == np.prod([bit(r, i, count) for i in members], axis=0)).all()
    if request_.signed:
        assert (unpack_plane(ours[2] ^ theirs[2], count) == bit(r, bits - 1, count)).all()
    if request_.select:
        choice = unpack_plane(b, count)
        assert (ours[-2] + theirs[-2] == choice).all()
        assert (ours[-1] + theirs[-1] == r * choice).all()
        assert abs(choice.mean() - 0.5) < 0.5 * 6 / np.sqrt(count)
    assert_uniform_bytes(r)


@pytest.mark.parametrize("request_", [r for r in REQUESTS if isinstance(r, BorrowJoin)])
def test_borrow_joins(taken: Any, request_: BorrowJoin) -> None:
    masks, *derived = (x ^ y for x, y in zip(*taken[request_], strict=True))
    m, nodes, words = request_.children, request_.nodes, request_.words
    assert masks.shape == (2 * (m - 1) * nodes + nodes - 1, words)
    tops = {i: masks[(i - 1) * nodes : i * nodes] for i in range(1, m)}  # of child i >= 1
    carries = {i: masks[(m - 1 + i) * nodes : (m + i) * nodes] for i in range(m - 1)}  # of child i < m - 1
    lowest = masks[2 * (m - 1) * nodes :]

    def times(single: Any, members: list[int], first: int = 0) -> Any:
        return np.bitwise_and.reduce([single, *(tops[i][first:] for i in members)])

    ones = np.full((nodes, words), 2**64 - 1, dtype=np.uint64)
    several = [times(ones, members) for members in sets([*tops]) if len(members) > 1]
    expected = [np.array(several).reshape(-1, nodes, words)]
    expected += [np.array([times(carries[i], s) for s in sets([j for j in tops if j > i])]) for i in carries]
    expected += [np.array([times(lowest, s, 1) for s in sets([*tops])])]
    assert [x.shape for x in derived] == [x.shape for x in expected]
    assert all((x == y).all() for x, y in zip(derived, expected, strict=True))


def test_binary_triples(taken: Any) -> None:
    a, b, c = (x ^ y for x, y in zip(*taken[REQUESTS[3]], strict=True))
    assert c.shape == (2, 40, 300)
    assert (c == a & b).all()


def test_square_pairs(taken: Any) -> None:
    r, square = (x + y for x, y in zip(*taken[REQUESTS[4]], strict=True))
    assert (square == r * r).all()


def test_truncation_masks(taken: Any) -> None:
    r, high, top = (x + y for x, y in zip(*taken[REQUESTS[11]], strict=True))
    assert (high == r % np.uint64(2**63) // np.uint64(2**16)).all()
    assert (top == r // np.uint64(2**63)).all()


def test_shared_bits(taken: Any) -> None:
    (ours, ours_sum), (theirs, theirs_sum) = taken[REQUESTS[5]]
    bits = ours ^ theirs
    assert max(ours.max(), theirs.max()) == 1
    assert (ours_sum + theirs_sum == bits).all()
    for view in (ours, theirs, bits):
        assert_uniform(view, 2)


def test_wrap_counts(taken: Any) -> None:
    (ours, ours_wraps), (theirs, theirs_wraps) = taken[REQUESTS[6]]
    totals = [int(a) + int(b) for a, b in zip(ours.view(np.int64), theirs.view(np.int64), strict=True)]
    wraps = [(total + 2**63) // 2**64 for total in totals]
    assert (ours_wraps + theirs_wraps).view(np.int64).tolist() == wraps
    assert set(wraps) == {-1, 0, 1}


def test_a_wrap_of_the_two_smallest_numbers() -> None:
    lowest = np.array([-(2**63), -(2**63), 2**63 - 1, 0], dtype=np.int64).view(np.uint64)
    other = np.array([-(2**63), -1, 1, -(2**63)], dtype=np.int64).view(np.uint64)
    assert WrapCount((4,)).derive([lowest], [other])[0].view(np.int64).tolist() == [-1, -1, 1, 0]


@pytest.mark.parametrize("request_", REQUESTS[7:11])
def test_arithmetic_triples(taken: Any, request_: ArithmeticTriple) -> None:
    a, b, c = (torch.from_numpy((x + y).view(np.int64)) for x, y in zip(*taken[request_], strict=True))
    expected = {
        "mul": lambda: a * b,
        "matmul": lambda: a @ b,
        "conv1d": lambda: torch.nn.functional.conv1d(a, b),
        "conv2d": lambda: torch.nn.functional.conv2d(a, b, stride=(2, 1), padding=1),
    }[request_.operation]()
    assert c.shape == expected.shape
    assert (c == expected).all()


@pytest.mark.parametrize("request_", REQUESTS)
def test_each_partys_view_is_uniform(taken: Any, request_: Request) -> None:
    for view in taken[request_]:
        words = [field.ravel() for field in view[1 if isinstance(request_, SharedBit) else 0 :]]
        assert_uniform_bytes(np.concatenate(words))


def test_both_ways_of_taking_one_give_fresh_ones_each_time() -> None:
    requests: list[Request] = [SquarePair((50,)), ComparisonMask(10), SquarePair((50,))]
    for prepare in (True, False):
        ours, theirs = take(requests, prepare)
        r = [(x[0] + y[0]).tobytes() for x, y in zip(ours, theirs, strict=True)]
        assert r[0] != r[2]
        assert not set(r) & {x[0].tobytes() for x in ours}


def test_prepared_ones_are_used_once_and_in_order() -> None:
    def side(party: Any) -> Any:
        source, pair = party.correlations, SquarePair((7,))
        source.prepare([pair, BinaryTriple((3,), (3,)), pair])
        before = dealer_bytes(party)
        prepared = [shares[0] for shares in source._pool[pair]]
        first, second = source.take(pair), source.take(pair)
        assert first[0] is prepared[0]
        assert second[0] is prepared[1]
        assert dealer_bytes(party) == before  # nothing was asked for
        assert not pool_is_empty(party)
        source.take(BinaryTriple((3,), (3,)))
        assert pool_is_empty(party)
        third = source.take(pair)
        assert dealer_bytes(party) > before
        return first, second, third

    for ours, theirs in zip(*run_locally(side, side), strict=True):
        r = ours[0] + theirs[0]
        assert (ours[1] + theirs[1] == r * r).all()


@pytest.mark.timeout(40)
@pytest.mark.parametrize("mistake", ["another request", "another index", "one more before"])
def test_parties_out_of_step_end_in_an_error(mistake: str) -> None:
    pair = SquarePair((7,))

    def server(party: Any) -> Any:
        if mistake == "another index":
            party.correlations._index += 1
        if mistake == "one more before":
            party.correlations.take(WrapCount((7,)))
        return party.correlations.take(SquarePair((7, 1)) if mistake == "another request" else pair)

    with pytest.raises(ProtocolError, match="out of step"):
        run_locally(lambda party: [party.correlations.take(pair) for _ in range(2)], server)


def test_the_dealer_gets_nothing_from_the_server_and_only_requests_from_the_client() -> None:
    (client_end, dealer_client), (server_end, dealer_server) = (local_channels(p, "dealer", 5) for p in ("c", "s"))
    to_client, to_server = record(dealer_client), record(dealer_server)
    thread = PartyThread("dealer", Dealer(dealer_client, dealer_server).serve, (dealer_client, dealer_server))
    thread.start()
    client, server = DealerClient(client_end), DealerServer(server_end)
    from_client = record(client_end)
    for source in (client, server):
        source.prepare([SquarePair((5000,))])
    client.end()
    thread.join()
    assert thread.error is None
    assert server_end.statistics.bytes_sent == dealer_server.statistics.bytes_received == 0
    assert json.loads(from_client[1][24:])["requests"] == [{"kind": "square-pair", "shape": [5000]}]
    assert [len(frame) for frame in to_client] == [24 + 32]  # the seed, and nothing more
    assert_uniform_bytes(np.frombuffer(to_server[1][24:], dtype=np.uint64))  # the correction


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_survives_the_wire(request_: Request) -> None:
    assert request_from_document(json.loads(json.dumps(request_.document()))) == request_


JUNK = [
    None,
    [],
    "square-pair",
    {},
    {"kind": "key", "shape": [1]},
    {"kind": [], "shape": [1]},
    {"kind": "square-pair"},
    {"kind": "square-pair", "shape": [1], "more": 1},
    {"kind": "square-pair", "shape": [-1]},
    {"kind": "square-pair", "shape": [-1, -1]},
    {"kind": "square-pair", "shape": [1.0]},
    {"kind": "square-pair", "shape": ["a"]},
    {"kind": "square-pair", "shape": 5},
    {"kind": "square-pair", "shape": [[1]]},
    {"kind": "square-pair", "shape": [2**28]},
    {"kind": "square-pair", "shape": [2**64, 2**64]},
    {"kind": "comparison-mask", "count": -1},
    {"kind": "comparison-mask", "count": 2**40},
    {"kind": "comparison-mask", "count": float("nan")},
    {"kind": "comparison-mask", "count": float("inf")},
    {"kind": "comparison-mask", "count": 10, "bits": 48},
    {"kind": "comparison-mask", "count": 10, "bits": 32, "signed": [[]], "x": 1},
    {"kind": "borrow-join", "children": 5, "nodes": 1, "words": 1},
    {"kind": "borrow-join", "children": 8, "nodes": 1, "words": 1},
    {"kind": "borrow-join", "children": True, "nodes": 1, "words": 1},
    {"kind": "borrow-join", "children": 4, "nodes": 0, "words": 1},
    {"kind": "borrow-join", "children": 4, "nodes": 17, "words": 1},
    {"kind": "borrow-join", "children": 4, "nodes": float("nan"), "words": 1},
    {"kind": "borrow-join", "children": 4, "nodes": 1, "words": -1},
    {"kind": "borrow-join", "children": 4, "nodes": 1, "words": 2**27},
    {"kind": "borrow-join", "children": 4, "nodes": 1, "words": [1]},
    {"kind": "borrow-join", "children": 4, "nodes": 1},
    {"kind": "truncation-mask", "shape": [2], "bits": 62},
    {"kind": "truncation-mask", "shape": [2], "bits": 0},
    {"kind": "binary-triple", "left": [2], "right": [3]},
    {"kind": "binary-triple", "left": [2**20, 1], "right": [1, 2**20]},
    {"kind": "binary-triple", "left": [10**30], "right": [1]},
    {"kind": "arithmetic-triple", "operation": "__class__", "left": [1], "right": [1]},
    {"kind": "arithmetic-triple", "operation": "matmul", "left": [2, 3], "right": [4, 5]},
    {"kind": "arithmetic-triple", "operation": "matmul", "left": [2**20, 1], "right": [1, 2**20]},
    {"kind": "arithmetic-triple", "operation": "mul", "left": [1], "right": [1], "options": [["rounding", 1]]},
    {"kind": "arithmetic-triple", "operation": "mul", "left": [1], "right": [1], "options": 3},
]


@pytest.mark.parametrize("document", JUNK, ids=lambda document: str(document)[:60])
def test_a_junk_request_is_refused(document: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        request_from_document(document)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "truncation-mask", "shape": [2], "bits": 1.5},
        {"kind": "square-pair", "shape": {}},
        {"kind": "square-pair", "shape": ""},
        {"kind": "square-pair", "shape": [0, 10**30]},
        {"kind": "square-pair", "shape": [0, False]},
        {"kind": "square-pair", "shape": [1] * 65},
        {"kind": "comparison-mask", "count": 10, "bits": 32.0},
        {"kind": "borrow-join", "children": 4.0, "nodes": 1, "words": 1},
        {"kind": "borrow-join", "children": 4, "nodes": 1.0, "words": 1},
        {"kind": "borrow-join", "children": 4, "nodes": True, "words": 1},
        {"kind": "borrow-join", "children": 4, "nodes": 1, "words": True},
    ],
)
def test_a_request_that_cannot_be_drawn_is_refused(document: Any) -> None:
    with pytest.raises(ProtocolError):
        request_from_document(document)


def test_a_peers_text_is_quoted_in_one_printable_line() -> None:
    with pytest.raises(ProtocolError) as caught:
        request_from_document("a\n\x1b[31mb")
    assert str(caught.value).isprintable()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=6)
fields = st.sampled_from(
    ["shape", "count", "bits", "select", "left", "right", "operation", "options", "children", "nodes", "words", "x"]
)
kinds = st.sampled_from(sorted({request.kind for request in REQUESTS})) | scalars
documents = st.dictionaries(fields, values | st.sampled_from(["mul", "conv2d"]), max_size=5)


@given(st.builds(lambda kind, rest: {"kind": kind, **rest}, kinds, documents) | values)
@settings(max_examples=400, deadline=None)
def test_random_requests_never_raise_anything_else(document: Any) -> None:
    request, error = outcome(request_from_document, document)
    assert error or all(n >= 0 for field in (*request.uniform, *request.derived) for n in field.shape)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "requests to be a list of at most 100000 objects, got nothing"),
        ({"requests": 3}, "requests to be a list of at most 100000 objects, got a number"),
        ({"requests": [{}] * 100_001}, "requests to be a list of at most 100000 objects, got a list of 100001"),
        ({"requests": [], "more": 1}, "no other fields, got 1 more"),
        ({"requests": [{}]}, "a correlation request"),
        ({"requests": [{"kind": "square-pair", "shape": [True]}]}, "a correlation request"),
        ({"requests": [{"kind": "truncation-mask", "shape": [3], "bits": True}]}, "a correlation request"),
    ],
)
def test_the_dealer_refuses_junk_from_the_client(document: Any, message: str) -> None:
    (client_end, dealer_client), (_, dealer_server) = (local_channels(p, "dealer", 5) for p in ("client", "server"))
    client_end.send_document("requests", document)
    with pytest.raises(ProtocolError, match=f"expected {message}"):
        Dealer(dealer_client, dealer_server).serve()


def tell_dimension(dimension: object) -> None:
    """Tell a dealer of a fixed mask of that dimension, and end."""
    (client, dealer_client), (server, dealer_server) = (local_channels(p, "dealer", 5) for p in ("client", "server"))
    client.send_document("requests", {"fixed mask": dimension})
    for end in (client, server):
        end.send("seed of the fixed mask", np.zeros(32, dtype=np.uint8))
    client.send_document("requests", {"requests": []})
    Dealer(dealer_client, dealer_server).serve()


@pytest.mark.parametrize("dimension", [1, -2, 2**12 + 2, 2**70, 16.0, "16", [16], True])
def test_the_dealer_refuses_a_fixed_mask_of_another_dimension(dimension: object) -> None:
    with pytest.raises(ProtocolError, match="expected fixed mask to be a whole number of 2 to 4096, got"):
        tell_dimension(dimension)


def test_the_dealer_takes_a_fixed_mask_of_an_even_dimension() -> None:
    for dimension in (2, 2**12):
        tell_dimension(dimension)
    with pytest.raises(ProtocolError, match="an even dimension, got 15"):
        tell_dimension(15)


def test_a_fixed_masks_seeds_are_not_printed() -> None:
    assert repr(FixedMask((bytes(32), bytes(32)), 8)) == "FixedMask(dimension=8)"


def test_no_two_seeds_of_dealers_are_alike() -> None:
    seeds = []
    for _ in range(2):
        (client, dealer_client), (server, dealer_server) = (
            local_channels(p, "dealer", 5) for p in ("client", "server")
        )
        client.send_document("requests", {"requests": []})
        Dealer(dealer_client, dealer_server).serve()
        seeds += [end.receive("seed", np.uint8, (32,)).tobytes() for end in (client, server)]
    assert len(set(seeds)) == 4


def ecb(key: bytes, block: int) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 (the definition of counter mode)
    return encryptor.update(block.to_bytes(16, "big"))


def test_the_stream_is_aes_256_in_counter_mode() -> None:
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    nist = int.from_bytes(bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"), "big")  # SP 800-38A, F.5.5
    assert ecb(key, nist).hex() == "0bdf7df1591716335e9a8b15c860c502"
    assert ecb(key, nist + 1).hex() == "5a6e699d536119065433863c8f657b94"
    index = 0xF0F1F2F3F4F5F6F7
    keystream = b"".join(ecb(key, (index << 64) + block) for block in range(50))
    counter = Cipher(algorithms.AES(key), modes.CTR(index.to_bytes(8, "big") + bytes(8))).encryptor()
    assert counter.update(bytes(800)) == keystream
    assert Stream(key, index).ring((4, 25)).tobytes() == keystream
    assert randomness.keystream(key, index.to_bytes(8, "big") + bytes(8), 100).tobytes() == keystream
    stream = Stream(key, index)  # in pieces, each of which starts with a block of its own
    for count, start in ((1, 0), (2, 1), (0, 2), (4, 2), (3, 4), (80, 6)):
        assert stream.ring((count,)).tobytes() == keystream[16 * start :][: 8 * count]


def test_indices_and_seeds_give_different_streams() -> None:
    seeds = [new_seed() for _ in range(3)]
    streams = {Stream(seed, index).ring((4,)).tobytes() for seed in seeds for index in (0, 1, 2, 2**63)}
    assert len(streams) == 12
    assert seeds[0].hex() not in repr(Stream(seeds[0], 0))


@pytest.mark.parametrize(("seed", "index"), [(bytes(31), 0), (bytes(33), 0), (bytes(32), -1), (bytes(32), 2**64)])
def test_other_seeds_and_indices_are_refused(seed: bytes, index: int) -> None:
    with pytest.raises(ParameterError):
        Stream(seed, index)


def test_shares_of_a_helper_are_the_parties() -> None:
    first, second = on_shares(lambda party, share: (party.rank, share), np.arange(4, dtype=np.uint64))
    assert (first[0], second[0]) == (0, 1)
    assert (first[1] + second[1]).tolist() == [0, 1, 2, 3]
