"""Conversions between shares and ciphertexts: values, error budget, failure bounds, what the peer sees."""

from typing import Any

import numpy as np
import pytest

from parties.transport.queues import local_channels
from protocols.arithmetic.fixed_point import share
from protocols.arithmetic.residues import DROPPED_BITS, CrtModulus
from protocols.encryption.ckks import CkksContext, ClientKeys, PublicKey, expand_seed
from protocols.errors import PeerLostError, ProtocolError
from protocols.linear.conversion import (
    CiphertextsToSharesClient,
    CiphertextsToSharesServer,
    SharesToCiphertextsClient,
    SharesToCiphertextsServer,
    Upload,
    server_share,
)
from support.frames import record
from support.residues import centred, integers
from support.statistics import assert_probability, assert_uniform, assert_uniform_bytes

N = 4096
GUARD = 6
SHIFT = 24
ALL = np.arange(N)


def upload(keys: ClientKeys, context: CkksContext, first: Any, second: Any) -> Any:
    """Return what the server holds after shares to ciphertexts; the client only sends, so no threads are needed."""
    to_server, to_client = local_channels("client", "server", 5)
    SharesToCiphertextsClient(keys).run(to_server, "up", first)
    return SharesToCiphertextsServer(context).run(to_client, "up", first.shape[:2], second)


def receive_upload(channel: Any, items: int, groups: int) -> tuple[Any, Any]:
    """Return the seed (32,) and the bodies (groups, items, 2, N) that the client sent."""
    seed = channel.receive("up/seed", np.uint8, (32,))
    wire = channel.receive("up", np.uint8, (groups, items, 2, N, 6))
    padding = np.zeros((*wire.shape[:-1], 2), dtype=np.uint8)
    return seed, np.concatenate([wire, padding], axis=-1).view(np.uint64)[..., 0]


def scaled(context: CkksContext, inputs: Any, factor: int = 1 << (SHIFT - GUARD)) -> Any:
    """Return ciphertexts (groups, items, 2, 2, N) times a number: as a layer does."""
    weight = np.zeros((1, N), dtype=np.int64)
    weight[0, 0] = factor
    return context.modulus.multiply(inputs, context.encode(weight)[0])


def download(
    keys: ClientKeys, server: CiphertextsToSharesServer, ciphertexts: Any, indices: Any, shift: int = SHIFT
) -> tuple[Any, Any]:
    to_server, to_client = local_channels("client", "server", 5)
    groups, items = ciphertexts.shape[:2]
    theirs = server.run(to_client, "down", ciphertexts, indices, shift)
    shape = (items, groups, len(indices))
    ours = CiphertextsToSharesClient(keys).run(to_server, "down", shape, shift, indices)
    assert ours.shape == theirs.shape == shape
    return ours, theirs


def noiseless(keys: ClientKeys, values: Any) -> Any:
    """Encryptions (1, items, 2, 2, N) without noise of signed values (items, N), or of residues (items, 2, N)."""
    context = keys.context
    residues = values if values.ndim == 3 else context.modulus.lift_signed(values)
    random = context.modulus.random((len(values), N))
    body = context.modulus.subtract(residues, keys.multiply_by_secret(random))
    pairs = np.stack([body, random], axis=1)
    return context.transform.forward(pairs.reshape(-1, 2, N)).reshape(1, len(values), 2, 2, N)


def short_integers(wire: Any) -> list[int]:
    """The integers of rows (..., 10 n): of each the low words, then the high ones."""
    values = []
    for row in wire.reshape(-1, wire.shape[-1]):
        n = len(row) // 10
        low, high = np.frombuffer(row[: 8 * n].tobytes(), "<u8"), np.frombuffer(row[8 * n :].tobytes(), "<u2")
        values += [a + (b << 64) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    return values


def short_wire(values: list[int]) -> Any:
    """Integers below 2^80 as one row of bytes."""
    low, high = (b"".join((v >> s).to_bytes(10, "little")[:k] for v in values) for s, k in ((0, 8), (64, 2)))
    return np.frombuffer(low + high, dtype=np.uint8)


@pytest.mark.parametrize(("items", "groups"), [(1, 1), (2, 3), (9, 1)])
def test_there_and_back_is_off_by_at_most_one_last_bit_and_its_noise(
    keys: ClientKeys, public_key: PublicKey, items: int, groups: int
) -> None:
    context = public_key.context
    values = np.random.default_rng(items).integers(-(2**40), 2**40, (items, groups, N))
    values[..., :6] = [0, 1, -1, 2**40, -(2**40), 2**39]
    first, second = share(values.view(np.uint64))
    inputs = upload(keys, context, first, second)
    assert inputs.shape == (groups, items, 2, 2, N)
    server = CiphertextsToSharesServer(public_key)
    ours, theirs = download(keys, server, scaled(context, inputs), ALL)
    # Noise of deviation 3.24 is 1/20 of a unit at 6 guard bits; truncation is another unit.
    assert np.abs((ours + theirs).view(np.int64) - values).max() <= 1
    indices = np.array([5, 0, 4095])
    ours, theirs = download(keys, server, scaled(context, inputs), indices)
    assert np.abs((ours + theirs).view(np.int64) - values[..., indices]).max() <= 1


def test_the_clients_own_values_need_no_share_of_the_server(keys: ClientKeys, public_key: PublicKey) -> None:
    values = np.random.default_rng(0).integers(0, 2**40, (2, 1, N))
    inputs = upload(keys, public_key.context, values.view(np.uint64), None)
    ours, theirs = download(keys, CiphertextsToSharesServer(public_key), scaled(public_key.context, inputs), ALL)
    assert np.abs((ours + theirs).view(np.int64) - values).max() <= 1


@pytest.mark.parametrize("shift", [1, 10, 17, 20, 24, 40, 51, 63])
def test_truncation_is_off_by_a_last_bit_and_the_dropped_bits(
    keys: ClientKeys, public_key: PublicKey, shift: int
) -> None:
    values = np.random.default_rng(1).integers(-(2**52), 2**52, (1, N))
    values[0, :4] = [0, -1, 2**52, -(2**52)]
    ours, theirs = download(keys, CiphertextsToSharesServer(public_key), noiseless(keys, values), ALL, shift)
    error = (ours + theirs).view(np.int64)[0, 0] - values / 2.0**shift
    assert np.abs(error).max() <= 1 + 2.0 ** (20.5 - shift)  # six deviations
    if shift == SHIFT:
        assert error.std() > 0.3  # random truncation, not rounding: each side cut its own term


def test_the_dropped_bits_err_as_stated(keys: ClientKeys, public_key: PublicKey) -> None:
    """Below 2^13 from c0; from c1 of deviation 2^13 / sqrt(3) times the root of the secret's nonzero coefficients."""
    modulus, items = keys.context.modulus, 12
    masked = CiphertextsToSharesServer(public_key).mask(np.zeros((1, items, 2, 2, N), dtype=np.uint64), ALL)
    server_sent = modulus.from_short_wire(masked.c0, "test"), modulus.from_short_wire(masked.c1, "test")
    opened = modulus.add(server_sent[0][0], keys.multiply_by_secret(server_sent[1][0]))
    total = modulus.add(opened, masked.mask[0])
    errors = np.stack([centred(modulus, polynomial) for polynomial in total]).astype(np.float64)
    one = np.zeros((1, 2, N), dtype=np.uint64)
    one[0, :, 0] = 1
    secret = centred(modulus, keys.multiply_by_secret(one)[0])
    nonzero = np.count_nonzero(secret)
    assert abs(nonzero - 2 * N / 3) < 6 * (N * 2 / 9) ** 0.5
    # The part that does not depend on c1's bits: minus 2^12 times the secret's signed partial sums, less c0's 2^12.
    partial = np.array([secret[: i + 1].sum() - secret[i + 1 :].sum() for i in range(N)])
    fixed = -(2.0**12) * (1 + partial)
    spread = (errors - fixed).std()
    assert abs(spread / (2**13 / 12**0.5 * nonzero**0.5) - 1) < 0.05
    assert abs((errors - fixed).mean()) < 6 * spread
    stated = 2**17.9
    assert abs(2**13 / 3**0.5 * (2 * N / 3) ** 0.5 / stated - 1) < 0.02
    # `partial` is a random walk over the key, so its mean square may be far from its expectation of `nonzero`.
    assert np.sqrt((errors**2).mean()) < 4 * stated
    assert np.sqrt((errors**2).mean()) > 0.4 * stated


def test_only_the_low_bits_are_dropped(keys: ClientKeys, public_key: PublicKey) -> None:
    modulus = keys.context.modulus
    message = modulus.random((2, 1, N))
    ciphertexts = noiseless(keys, message[:, 0])
    server = CiphertextsToSharesServer(public_key)
    server._key = type("Fixed", (), {"rerandomise": lambda self, c: keys_coefficients(keys, c)})()
    masked = server.mask(ciphertexts.copy(), ALL)
    fixed = keys_coefficients(keys, ciphertexts)
    for item in range(2):
        c1 = integers(modulus, fixed[0, item, 1])
        assert short_integers(masked.c1[0, item]) == [v >> DROPPED_BITS for v in c1]
        c0 = integers(modulus, modulus.subtract(fixed[0, item, 0], masked.mask[0, item]))
        assert short_integers(masked.c0[0, item]) == [v >> DROPPED_BITS for v in c0]


def keys_coefficients(keys: ClientKeys, ciphertexts: Any) -> Any:
    return keys.context.transform.inverse(ciphertexts.reshape(-1, 2, N)).reshape(ciphertexts.shape)


def test_the_clients_view_is_uniform_whatever_the_value(keys: ClientKeys, public_key: PublicKey) -> None:
    modulus = public_key.context.modulus
    server, q = CiphertextsToSharesServer(public_key), modulus.p0 * modulus.p1
    for value in (0, 2**52, -1):
        to_server, to_client = local_channels("client", "server", 5)
        sent = record(to_client)
        ciphertexts = noiseless(keys, np.full((8, N), value, dtype=np.int64))
        theirs = server.run(to_client, "down", ciphertexts, ALL, SHIFT)
        ours = CiphertextsToSharesClient(keys).run(to_server, "down", (8, 1, N), SHIFT, ALL)
        assert len(sent) == 2
        for frame in sent:  # c1, then the masked c0
            wire = short_integers(np.frombuffer(frame, dtype=np.uint8)[-8 * N * 10 :].reshape(8, -1))
            assert_uniform([v * 2**33 // q for v in wire], 2**20, bins=128)
            assert_uniform([v % 2**16 for v in wire], 2**16, bins=256)
        assert q >> SHIFT > 2**64  # so that the share is uniform in all of its 64 bits, nearly
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
        CiphertextsToSharesServer(public_key).run(to_client, "down", scaled(context, inputs), ALL, SHIFT)
        assert len(up) == len(down) == 2
        frames.append([np.frombuffer(frame, dtype=np.uint8)[-40_000:] for frame in (up[1], *down)])
        frames[-1].append(np.frombuffer(up[0], dtype=np.uint8)[-32:])
    for once, again in zip(*frames, strict=True):
        assert once.shape == again.shape
        # Equal bytes by chance only: 1 in 256, more for the top byte of a residue, which has fewer bits.
        assert (once == again).mean() < (0.02 if once.size > 32 else 0.2)


def test_the_same_ciphertexts_are_answered_afresh(keys: ClientKeys, public_key: PublicKey) -> None:
    """Every mask and every encryption of zero is drawn when it is used, and kept nowhere."""
    server = CiphertextsToSharesServer(public_key)
    ciphertexts = noiseless(keys, np.zeros((4, N), dtype=np.int64)).reshape(2, 2, 2, 2, N)  # groups, items
    answers = [server.mask(ciphertexts.copy(), ALL) for _ in range(2)]
    for part in ("c1", "c0", "mask"):
        rows = [row for answer in answers for group in getattr(answer, part) for row in group]
        values = rows if part == "mask" else [np.array(short_integers(row), dtype=object) for row in rows]
        assert len(values) == 8
        for i in range(8):
            for j in range(i):
                assert not (values[i] == values[j]).any()
    assert set(vars(server)) == {"_key", "_context"}
    assert set(vars(public_key)) == {"_key", "context"}


def test_masks_are_uniform_modulo_both_primes(keys: ClientKeys, public_key: PublicKey) -> None:
    """Not only the integers below Q: numbers in half of every prime's range would look as even there."""
    masked = CiphertextsToSharesServer(public_key).mask(noiseless(keys, np.zeros((8, N), dtype=np.int64)), ALL)
    for plane, prime in enumerate((keys.context.modulus.p0, keys.context.modulus.p1)):
        assert_uniform(masked.mask[:, :, plane], prime, bins=128)


def test_the_server_sees_uniform_polynomials(keys: ClientKeys) -> None:
    to_server, to_client = local_channels("client", "server", 5)
    SharesToCiphertextsClient(keys).run(to_server, "up", np.full((4, 1, N), 12345, dtype=np.uint64))
    seed, bodies = receive_upload(to_client, 4, 1)
    modulus = keys.context.modulus
    randoms = expand_seed(seed.tobytes(), modulus, N, 4)
    for plane, prime in enumerate((modulus.p0, modulus.p1)):
        assert_uniform(bodies[0, :, plane], prime, bins=128)
        assert_uniform(randoms[:, plane], prime, bins=128)


def test_the_upload_is_an_encryption_of_the_share_in_ntt_form(keys: ClientKeys, context: CkksContext) -> None:
    """And the server's share is added to it over the integers, less 2^64."""
    values = np.random.default_rng(4).integers(0, 2**63, (2, 3, N)).astype(np.uint64) * np.uint64(2)
    for second in (None, values[::-1].copy()):
        inputs = upload(keys, context, values, second)
        for item, group in np.ndindex(2, 3):
            c0, c1 = keys_coefficients(keys, inputs[group, item])
            opened = integers(context.modulus, context.modulus.add(c0, keys.multiply_by_secret(c1[None])[0]))
            q = context.modulus.p0 * context.modulus.p1
            for j in range(0, N, 37):
                total = int(values[item, group, j])
                total += 0 if second is None else int(second[item, group, j]) - 2**64
                noise = (opened[j] - total * 2**GUARD) % q
                assert min(noise, q - noise) <= 21


@pytest.mark.parametrize("plane", [0, 1])
def test_a_residue_too_large_is_refused_by_the_server(context: CkksContext, plane: int) -> None:
    prime = int(context.modulus.primes[plane])
    to_server, to_client = local_channels("client", "server", 5)
    for value in (prime - 1, prime, 2**48 - 1):
        wire = np.ones((1, 1, 2, N, 6), dtype=np.uint8)
        wire[0, 0, plane, 9] = np.frombuffer(value.to_bytes(6, "little"), dtype=np.uint8)
        to_server.send("up/seed", np.zeros(32, dtype=np.uint8))
        to_server.send("up", wire)
        if value < prime:
            SharesToCiphertextsServer(context).run(to_client, "up", (1, 1), None)
            continue
        with pytest.raises(ProtocolError, match="up from client: expected residues below"):
            SharesToCiphertextsServer(context).run(to_client, "up", (1, 1), None)


@pytest.mark.parametrize(
    ("seed", "wire"),
    [
        ((1, 32), (2, 3, 2, N, 6)),
        ((31,), (2, 3, 2, N, 6)),
        ((32,), (3, 2, 2, N, 6)),
        ((32,), (2, 3, 2, N, 8)),
        ((32,), (2, 3, 2, N // 2, 6)),
        ((32,), (2, 3, 12 * N)),
    ],
)
def test_uploads_of_another_shape_are_refused(context: CkksContext, seed: Any, wire: tuple[int, ...]) -> None:
    to_server, to_client = local_channels("client", "server", 5)
    to_server.send("up/seed", np.zeros(seed, dtype=np.uint8))
    to_server.send("up", np.zeros(wire, dtype=np.uint8))
    with pytest.raises(ProtocolError, match=r"from client: expected uint8|expected at most \d+ bytes from client"):
        SharesToCiphertextsServer(context).run(to_client, "up", (3, 2), None)


def test_an_upload_has_one_seed_which_is_never_used_again(keys: ClientKeys) -> None:
    """Its polynomials are the seed's in the order of the wire: first by group."""
    to_server, to_client = local_channels("client", "server", 5)
    uploads = []
    for _ in range(3):
        SharesToCiphertextsClient(keys).run(to_server, "up", np.zeros((2, 3, N), dtype=np.uint64))
        uploads.append(Upload.receive(to_client, "up", 2, 3, N))
    assert len({upload.seed.tobytes() for upload in uploads}) == 3
    ciphertexts = uploads[0].ciphertexts(keys.context)
    assert ciphertexts.shape == (3, 2, 2, 2, N)
    expanded = expand_seed(uploads[0].seed.tobytes(), keys.context.modulus, N, 6)
    assert (ciphertexts[:, :, 1].reshape(6, 2, N) == expanded).all()
    assert (keys.context.modulus.to_wire(ciphertexts[:, :, 0]) == uploads[0].c0).all()


def test_masking_overwrites_what_it_is_given(keys: ClientKeys, public_key: PublicKey) -> None:
    ciphertexts = noiseless(keys, np.zeros((2, N), dtype=np.int64))
    before = ciphertexts.copy()
    masked = CiphertextsToSharesServer(public_key).mask(ciphertexts, np.arange(3))
    assert (masked.c1.shape, masked.c0.shape, masked.mask.shape) == ((1, 2, 10 * N), (1, 2, 30), (1, 2, 2, 3))
    assert not (ciphertexts == before).all(axis=-1).any()


@pytest.mark.parametrize("part", ["c1", "c0"])
def test_an_integer_too_large_is_refused_by_the_client(keys: ClientKeys, part: str) -> None:
    bound = (keys.context.modulus.p0 * keys.context.modulus.p1 - 1) >> DROPPED_BITS
    to_server, to_client = local_channels("client", "server", 5)
    for value in (bound, bound + 1, 2**80 - 1):
        values = {"c1": [1] * N, "c0": [1] * 3}
        values[part][2] = value
        to_client.send("down", short_wire(values["c1"])[None, None])
        to_client.send("down/c0", short_wire(values["c0"])[None, None])
        client = CiphertextsToSharesClient(keys)
        if value == bound:
            client.run(to_server, "down", (1, 1, 3), SHIFT, np.arange(3))
            continue
        with pytest.raises(ProtocolError, match="down from server: expected integers below Q"):
            client.run(to_server, "down", (1, 1, 3), SHIFT, np.arange(3))


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        (np.uint8, (1, 1, 9 * N)),
        (np.uint8, (1, 1, 12 * N)),
        (np.uint8, (1, 1, 10 * N - 10)),
        (np.uint8, (1, 1, N, 10)),
        (np.uint8, (2, 1, 10 * N)),
        (np.uint8, (1, 2, 10 * N)),
        (np.uint8, (1, 10 * N)),
        (np.uint8, (1, 1, 2, N, 6)),
        (np.uint64, (1, 1, 10 * N)),
    ],
)
def test_messages_of_another_shape_or_type_are_refused(keys: ClientKeys, dtype: Any, shape: tuple[int, ...]) -> None:
    to_server, to_client = local_channels("client", "server", 5)
    to_client.send("down", np.zeros(shape, dtype=dtype))
    with pytest.raises((ProtocolError, PeerLostError)):
        CiphertextsToSharesClient(keys).run(to_server, "down", (1, 1, 3), SHIFT, np.arange(3))


def test_a_hostile_ciphertext_without_a_random_component_gives_a_share_of_it(keys: ClientKeys) -> None:
    """Nothing to refuse: the client keeps what it opens, and what it opens is then the sender's own choice."""
    to_server, to_client = local_channels("client", "server", 5)
    to_client.send("down", np.zeros((1, 1, 10 * N), dtype=np.uint8))
    to_client.send("down/c0", np.full((1, 1, 3 * 10), 1, dtype=np.uint8))
    ours = CiphertextsToSharesClient(keys).run(to_server, "down", (1, 1, 3), SHIFT, np.arange(3))
    ones = int.from_bytes(bytes([1] * 10), "little")
    assert ours.ravel().tolist() == [(ones << DROPPED_BITS >> SHIFT) % 2**64] * 3


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
    modulus = CrtModulus(140737488273409, 70368743669761)
    first = np.arange(256, dtype=np.uint64)
    second = (np.uint64(secret % 256) - first) % np.uint64(256)
    total = modulus.add(modulus.lift(first, 0), modulus.lift(second, 0, -256))
    wrong = int((total != modulus.lift_signed(np.full(256, secret, dtype=np.int64))).any(axis=0).sum())
    assert wrong == (secret + 1 if secret >= 0 else -secret - 1)


@pytest.mark.parametrize("fraction", [0, 0.001, 0.1, -0.1, 0.45, -0.45])
def test_masks_wrap_with_the_stated_probability(context: CkksContext, fraction: float) -> None:
    """m = b - R over the integers except with probability |m| / Q; a wrap is an error of Q / 2^t."""
    modulus, trials, shift = context.modulus, 40_000, 40
    q = modulus.p0 * modulus.p1
    message = int(fraction * q)
    mask = modulus.random((trials,))
    element = np.array([[message % modulus.p0], [message % modulus.p1]], dtype=np.uint64)
    masked = modulus.subtract(np.repeat(element, trials, axis=1), mask)
    value = (modulus.shift_right(masked, shift) + server_share(modulus, mask, shift)).view(np.int64)
    error = np.abs(value - (message >> shift))
    assert np.isin(error, [0, 1, q >> shift, (q >> shift) + 1, (q >> shift) - 1]).all()
    assert_probability(int((error > 1).sum()), trials, abs(message) / q)


@pytest.mark.parametrize("sign", [1, -1])
def test_masks_wrap_with_the_stated_probability_in_the_protocol(
    keys: ClientKeys, public_key: PublicKey, sign: int
) -> None:
    context, shift = public_key.context, 40
    q = context.modulus.p0 * context.modulus.p1
    message = sign * (q // 5)
    residues = np.array([message % context.modulus.p0, message % context.modulus.p1], dtype=np.uint64)
    values = np.broadcast_to(residues[:, None], (4, 2, N))
    ours, theirs = download(keys, CiphertextsToSharesServer(public_key), noiseless(keys, values), ALL, shift)
    right = (ours + theirs).view(np.int64) - (message >> shift)
    assert_probability(int((np.abs(right) > 1).sum()), 4 * N, 1 / 5)
