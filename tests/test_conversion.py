"""Conversions between shares and ciphertexts: values, failure bounds, what the peer sees, and what is used up."""

from typing import Any

import numpy as np
import pytest
from helpers import assert_probability, assert_uniform, assert_uniform_bytes, record

from parties.local import local_channels
from protocols.ckks import CkksContext, ClientKeys, PublicKey, expand_seed
from protocols.conversion import (
    CiphertextsToSharesClient,
    CiphertextsToSharesServer,
    SharesToCiphertextsClient,
    SharesToCiphertextsServer,
    container_slices,
)
from protocols.errors import ProtocolError
from protocols.ring import CrtModulus, share

N = 4096
GUARD = 6
ALL = np.arange(N)


def upload(keys: ClientKeys, context: CkksContext, first: Any, second: Any, client: Any = None) -> Any:
    """Return what the server holds after shares to ciphertexts; the client only sends, so no threads are needed."""
    to_server, to_client = local_channels("client", "server", 5)
    (client or SharesToCiphertextsClient(keys)).run(to_server, "up", first)
    return SharesToCiphertextsServer(context).run(to_client, "up", first.shape[:2], second)


def receive_upload(channel: Any, items: int, groups: int) -> tuple[Any, Any]:
    """Return the seeds (items, groups, 32) and bodies (items, groups, 2, N) that the client sent."""
    seeds = channel.receive("up/seeds", np.uint8, (items, groups, 32))
    wire = channel.receive("up", np.uint8, (items, groups, 2, N, 6))
    padding = np.zeros((*wire.shape[:-1], 2), dtype=np.uint8)
    return seeds, np.concatenate([wire, padding], axis=-1).view(np.uint64)[..., 0]


def accumulate(server: CiphertextsToSharesServer, context: CkksContext, inputs: Any) -> Any:
    """Add fresh encryptions of zero, as a linear layer does."""
    totals = []
    for containers in inputs:
        totals.append([])
        for ciphertext in containers:
            total = server.encryption_of_zero(ciphertext.size() // 2)
            context.evaluator.add_inplace(total, ciphertext)
            totals[-1].append(total)
    return totals


def download(
    keys: ClientKeys, server: CiphertextsToSharesServer, ciphertexts: Any, items: int, indices: Any, shift: int = GUARD
) -> tuple[Any, Any]:
    to_server, to_client = local_channels("client", "server", 5)
    theirs = server.run(to_client, "down", ciphertexts, indices, shift)
    shape = (items, len(ciphertexts), len(indices))
    ours = CiphertextsToSharesClient(keys).run(to_server, "down", shape, shift, indices)
    return ours, theirs


def noiseless(keys: ClientKeys, values: Any) -> Any:
    """A container of encryptions without noise of signed values (items, N), or of residues (items, 2, N)."""
    context = keys.context
    residues = values if values.ndim == 3 else context.modulus.lift_signed(values)
    random = context.modulus.random((len(values), N))
    body = context.modulus.subtract(residues, keys.multiply_by_secret(random))
    return context.load(context.to_ntt(np.stack([body, random], axis=1).reshape(-1, 2, N)), ntt=True)


@pytest.mark.parametrize(("items", "groups"), [(1, 1), (2, 3), (8, 1), (11, 2)])
def test_there_and_back_is_off_by_at_most_one_last_bit(
    keys: ClientKeys, public_key: PublicKey, items: int, groups: int
) -> None:
    context = public_key.context
    values = np.random.default_rng(items).integers(-(2**40), 2**40, (items, groups, N))
    values[..., :6] = [0, 1, -1, 2**40, -(2**40), 2**39]
    first, second = share(values.view(np.uint64))
    inputs = upload(keys, context, first, second)
    assert [len(containers) for containers in inputs] == [-(-items // 8)] * groups
    server = CiphertextsToSharesServer(public_key)
    ours, theirs = download(keys, server, accumulate(server, context, inputs), items, ALL)
    error = (ours + theirs).view(np.int64) - values
    # Public-key noise of deviation about 60 is one unit at 6 guard bits; truncation is another.
    assert np.abs(error).max() <= 6
    indices = np.array([5, 0, 4095])
    ours, theirs = download(keys, server, inputs, items, indices)
    assert ours.shape == theirs.shape == (items, groups, 3)
    assert np.abs((ours + theirs).view(np.int64) - values[..., indices]).max() <= 1


def test_the_clients_own_values_need_no_share_of_the_server(keys: ClientKeys, context: CkksContext) -> None:
    values = np.random.default_rng(0).integers(0, 2**40, (2, 1, N))
    to_server, to_client = local_channels("client", "server", 5)
    SharesToCiphertextsClient(keys).run(to_server, "up", values.view(np.uint64))
    inputs = SharesToCiphertextsServer(context).run(to_client, "up", (2, 1), None)
    server = CiphertextsToSharesServer(PublicKey(context, keys.public_key()))
    ours, theirs = download(keys, server, inputs, 2, ALL)
    assert np.abs((ours + theirs).view(np.int64) - values).max() <= 1


def test_truncation_is_off_by_at_most_one_last_bit_at_every_shift(keys: ClientKeys, public_key: PublicKey) -> None:
    values = np.random.default_rng(1).integers(-(2**52), 2**52, (1, N))
    values[0, :4] = [0, -1, 2**52, -(2**52)]
    for shift in (1, 24, 51, 63):
        ours, theirs = download(keys, CiphertextsToSharesServer(public_key), [[noiseless(keys, values)]], 1, ALL, shift)
        error = (ours + theirs).view(np.int64)[0] - values / 2.0**shift
        assert np.abs(error).max() <= 1
        if shift == 24:
            assert error.std() > 0.3  # random truncation, not rounding: each side cut its own term


def test_the_clients_view_is_uniform_whatever_the_value(keys: ClientKeys, public_key: PublicKey) -> None:
    context = public_key.context
    modulus = context.modulus
    server = CiphertextsToSharesServer(public_key)
    for value in (0, 2**52, -1):
        to_server, to_client = local_channels("client", "server", 5)
        sent = record(to_client)
        containers = [[noiseless(keys, np.full((8, N), value, dtype=np.int64))]]
        theirs = server.run(to_client, "down", containers, ALL, 24)
        ours = CiphertextsToSharesClient(keys).run(to_server, "down", (8, 1, N), 24, ALL)
        wire = np.frombuffer(sent[1], dtype=np.uint8)[-8 * 2 * N * 6 :].reshape(8, 2, N, 6)
        masked = np.concatenate([wire, np.zeros((8, 2, N, 2), dtype=np.uint8)], axis=-1).view(np.uint64)[..., 0]
        for plane, prime in enumerate((modulus.p0, modulus.p1)):
            assert_uniform(masked[:, plane], prime, bins=128)
        bound = modulus.p0 * modulus.p1 >> 24
        assert bound > 2**64  # so that the share is uniform in all of its 64 bits, nearly
        assert_uniform_bytes(ours)
        assert_uniform_bytes(theirs)


def test_the_same_input_never_looks_the_same(keys: ClientKeys, public_key: PublicKey) -> None:
    context = public_key.context
    first, second = share(np.zeros((1, 1, N), dtype=np.uint64))
    frames = []
    for _ in range(2):
        to_server, to_client = local_channels("client", "server", 5)
        up, down = record(to_server), record(to_client)
        SharesToCiphertextsClient(keys).run(to_server, "up", first)
        inputs = SharesToCiphertextsServer(context).run(to_client, "up", (1, 1), second)
        server = CiphertextsToSharesServer(public_key)
        server.run(to_client, "down", accumulate(server, context, inputs), ALL, GUARD)
        assert len(up) == len(down) == 2
        frames.append([np.frombuffer(frame, dtype=np.uint8)[-40_000:] for frame in (up[1], *down)])
    for once, again in zip(*frames, strict=True):
        assert once.shape == again.shape
        # Equal bytes by chance only: 1 in 256, more for the top byte of a residue, which has fewer bits.
        assert (once == again).mean() < 0.02


def test_the_server_sees_uniform_polynomials(keys: ClientKeys) -> None:
    to_server, to_client = local_channels("client", "server", 5)
    SharesToCiphertextsClient(keys).run(to_server, "up", np.full((4, 1, N), 12345, dtype=np.uint64))
    seeds, bodies = receive_upload(to_client, 4, 1)
    assert len({seed.tobytes() for seed in seeds[:, 0]}) == 4
    modulus = keys.context.modulus
    randoms = np.stack([expand_seed(seed.tobytes(), modulus, N) for seed in seeds[:, 0]])
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        assert_uniform(bodies[:, 0, plane], prime, bins=128)
        assert_uniform(randoms[:, plane], prime, bins=128)


def test_prepared_zeros_of_the_client_are_used_once(keys: ClientKeys) -> None:
    client = SharesToCiphertextsClient(keys)
    client.prepare(5)
    prepared = [zero.c0.tobytes() for zero in client._zeros]
    assert len({zero.seed for zero in client._zeros}) == 5
    assert len(set(prepared)) == 5
    to_server, to_client = local_channels("client", "server", 5)
    came = []
    for _ in range(3):
        client.run(to_server, "up", np.zeros((1, 2, N), dtype=np.uint64))
        _, bodies = receive_upload(to_client, 1, 2)
        came += [bodies[0, group].tobytes() for group in range(2)]
    assert came[:5] == prepared  # a share of zero shows the encryption of zero as it is
    assert len(set(came)) == 6  # and one more was made when the pool was empty
    assert not client._zeros


def test_prepared_masks_and_zeros_of_the_server_are_used_once(public_key: PublicKey) -> None:
    server = CiphertextsToSharesServer(public_key)
    for _ in range(2):
        server.prepare((11, 2), 3)
    assert {size: len(pool) for size, pool in server._zeros.items()} == {8: 4, 3: 4}
    zeros = {size: list(pool) for size, pool in server._zeros.items()}
    taken = {size: [server.encryption_of_zero(size) for _ in range(5)] for size in (8, 3)}
    for size in (8, 3):
        assert all(a is b for a, b in zip(taken[size], zeros[size], strict=False))
        assert len({id(zero) for zero in taken[size]}) == 5
    masks = list(server._masks[11, 2, 3])
    came = [server._mask((11, 2, 3)) for _ in range(3)]
    assert came[0] is masks[0]
    assert came[1] is masks[1]
    assert len({mask.tobytes() for mask in came}) == 3
    assert not server._masks[11, 2, 3]


def test_after_prepare_a_run_draws_nothing(
    keys: ClientKeys, public_key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = public_key.context
    client, server = SharesToCiphertextsClient(keys), CiphertextsToSharesServer(public_key)
    client.prepare(2)
    server.prepare((2, 1), N)

    def refuse(*_: object) -> None:
        raise AssertionError("made online what was prepared")

    monkeypatch.setattr(keys, "encrypt_zeros", refuse)
    monkeypatch.setattr(public_key, "encrypt_zeros", refuse)
    monkeypatch.setattr(CrtModulus, "random", refuse)
    values = np.full((2, 1, N), 77, dtype=np.uint64)
    inputs = upload(keys, context, *share(values), client=client)
    ours, theirs = download(keys, server, accumulate(server, context, inputs), 2, ALL)
    assert np.abs((ours + theirs - values).view(np.int64)).max() <= 6


def test_a_mask_prepared_for_another_shape_is_left_for_it(keys: ClientKeys, public_key: PublicKey) -> None:
    server = CiphertextsToSharesServer(public_key)
    server.prepare((1, 1), 5)
    prepared = server._masks[1, 1, 5][0]
    ours, theirs = download(keys, server, [[public_key.encrypt_zeros(1)]], 1, np.arange(6), 24)
    assert np.abs((ours + theirs).view(np.int64)).max() <= 1
    assert server._masks[1, 1, 5][0] is prepared


@pytest.mark.parametrize("plane", [0, 1])
def test_a_residue_too_large_is_refused_by_both_sides(keys: ClientKeys, context: CkksContext, plane: int) -> None:
    prime = int(context.modulus.primes[plane, 0])
    too_large = np.frombuffer(prime.to_bytes(6, "little"), dtype=np.uint8)
    to_server, to_client = local_channels("client", "server", 5)
    wire = np.ones((1, 1, 2, N, 6), dtype=np.uint8)
    wire[0, 0, plane, 9] = too_large
    to_server.send("up/seeds", np.zeros((1, 1, 32), dtype=np.uint8))
    to_server.send("up", wire)
    with pytest.raises(ProtocolError, match="expected residues below"):
        SharesToCiphertextsServer(context).run(to_client, "up", (1, 1), None)
    for part in ("c1", "c0"):
        c1, c0 = np.ones((1, 1, 2, N, 6), dtype=np.uint8), np.ones((1, 1, 2, 3, 6), dtype=np.uint8)
        (c1 if part == "c1" else c0)[0, 0, plane, 2] = too_large
        to_client.send("down", c1)
        to_client.send("down/c0", c0)
        with pytest.raises(ProtocolError, match="expected residues below"):
            CiphertextsToSharesClient(keys).run(to_server, "down", (1, 1, 3), GUARD, np.arange(3))


def test_a_transparent_ciphertext_is_refused(keys: ClientKeys) -> None:
    to_server, to_client = local_channels("client", "server", 5)
    to_client.send("down", np.zeros((1, 1, 2, N, 6), dtype=np.uint8))
    to_client.send("down/c0", np.zeros((1, 1, 2, 3, 6), dtype=np.uint8))
    with pytest.raises(ProtocolError, match="random component"):
        CiphertextsToSharesClient(keys).run(to_server, "down", (1, 1, 3), GUARD, np.arange(3))


@pytest.mark.parametrize("secret", [2**62, -(2**62), 2**60])
def test_shares_wrap_with_the_stated_probability(context: CkksContext, secret: int) -> None:
    """Over Z_Q, u0 + u1 - 2^64 = x except with probability |x| / 2^64, seen at an x far too large to be used."""
    modulus, trials = context.modulus, 20_000
    first, second = share(np.full(trials, secret, dtype=np.int64).view(np.uint64))
    total = modulus.add(modulus.lift(first, GUARD), modulus.lift(second, GUARD, -(1 << 64)))
    right = modulus.lift_signed(np.full(trials, secret, dtype=np.int64), GUARD)
    wrong = int((total != right).any(axis=0).sum())
    assert_probability(wrong, trials, abs(secret) / 2**64)


@pytest.mark.parametrize("secret", [0, 1, -1, 5, 100, -100, 127, -128])
def test_shares_of_a_small_ring_wrap_exactly_as_often_as_stated(secret: int) -> None:
    """The same claim in Z_2^8, counted over every first share; within one of |x| since zero is not negative."""
    modulus = CrtModulus(2003, 1999)
    first = np.arange(256, dtype=np.uint64)
    second = (np.uint64(secret % 256) - first) % np.uint64(256)
    total = modulus.add(modulus.lift(first, 0), modulus.lift(second, 0, -256))
    wrong = int((total != modulus.lift_signed(np.full(256, secret, dtype=np.int64))).any(axis=0).sum())
    assert wrong == (secret + 1 if secret >= 0 else -secret - 1)


@pytest.mark.parametrize("message", [0, 50, -50, 6000, -6000, 30_000, -30_000])
def test_masks_wrap_with_the_stated_probability_in_a_small_modulus(message: int) -> None:
    """m = b - R over the integers except with probability |m| / Q; a wrap is an error of Q / 2^t."""
    modulus, trials, shift = CrtModulus(257, 251), 40_000, 4
    mask = modulus.random((trials,))
    masked = modulus.subtract(modulus.lift_signed(np.full(trials, message, dtype=np.int64)), mask)
    negated = modulus.subtract(np.zeros_like(mask), mask)
    value = (modulus.shift_right(masked, shift) - modulus.shift_right(negated, shift)).view(np.int64)
    error = np.abs(value - message / 2**shift)
    assert np.isin(np.rint(error), [0, 1, 257 * 251 // 2**shift, 257 * 251 // 2**shift + 1]).all()
    assert_probability(int((error > 1).sum()), trials, abs(message) / (257 * 251))


@pytest.mark.parametrize("sign", [1, -1])
def test_masks_wrap_with_the_stated_probability_in_the_protocol(
    keys: ClientKeys, public_key: PublicKey, sign: int
) -> None:
    context, shift = public_key.context, 40
    q = context.modulus.p0 * context.modulus.p1
    message = sign * (q // 5)
    residues = np.array([message % context.modulus.p0, message % context.modulus.p1], dtype=np.uint64)
    values = np.broadcast_to(residues[:, None], (4, 2, N))
    ours, theirs = download(keys, CiphertextsToSharesServer(public_key), [[noiseless(keys, values)]], 4, ALL, shift)
    right = (ours + theirs).view(np.int64) - (message >> shift)
    assert_probability(int((np.abs(right) > 1).sum()), 4 * N, 1 / 5)


@pytest.mark.parametrize(("items", "sizes"), [(0, []), (1, [1]), (8, [8]), (9, [8, 1]), (20, [8, 8, 4])])
def test_containers_of_at_most_eight(items: int, sizes: list[int]) -> None:
    slices = container_slices(items)
    assert [len(range(items)[part]) for part in slices] == sizes
    assert [i for part in slices for i in range(items)[part]] == list(range(items))
