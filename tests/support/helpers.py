"""What several test files need: statistics, SEAL as a reference, a recorder of frames, a walk of an object's graph."""

import dataclasses
import functools
import gc
import struct
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tenseal.sealapi as seal
import torch
import zstandard
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from hybridface.models.model import Model, load_model
from parties import local
from parties.local import PartyThread
from parties.session.client import ClientSession
from parties.session.correlations import Correlations
from parties.session.progress import OnProgress
from parties.session.server import ServerSession
from parties.session.terms import Terms
from protocols import CkksContext, ClientKeys, MpcParty, share
from protocols.arithmetic.residues import CrtModulus
from protocols.channel import Channel
from protocols.errors import PeerLostError, ProtocolError
from protocols.linear.packing import ConvPlan, ConvShape

CHANCE = 1e-7
"""The chance that a statistical test fails although the code is right."""

GUARD_SECONDS = 30.0
"""How long a session may take to notice that a peer is lost; far below its own timeout of 300 s."""

Chip = NDArray[np.uint8]

Done = tuple[int, str, str]
"""How a command ended: its exit status, standard output, standard error."""


def assert_uniform(values: Any, bound: int, bins: int | None = None) -> None:
    """Chi-squared test that `values` are uniform on [0, bound), in equal `bins` (by default one per value)."""
    bins = bins or bound
    edges = [-(-bound * i // bins) for i in range(bins + 1)]
    counts = np.histogram(np.asarray(values).ravel().astype(np.float64), bins=np.array(edges, dtype=np.float64))[0]
    assert counts.sum() == np.size(values), f"values outside [0, {bound})"
    expected = np.diff(edges) / bound * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > CHANCE


def assert_uniform_bytes(words: Any) -> None:
    """Chi-squared test of every byte position of 64-bit words, all positions together."""
    assert_uniform(np.ascontiguousarray(words).view(np.uint8), 256)


def assert_probability(hits: int, trials: int, probability: float) -> None:
    """Exact binomial test that `hits` of `trials` came with that probability."""
    assert stats.binomtest(hits, trials, probability).pvalue > CHANCE


class Recorder:
    """A transport that keeps every frame that goes out."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.sent: list[bytes] = []

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        self.sent.append(payload)
        self._transport.send(payload, timeout)

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        self.sent.append(payload)
        return self._transport.exchange(payload, max_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def record(channel: Any) -> list[bytes]:
    """Return a list that every frame sent over the channel from now on is added to."""
    channel.transport = Recorder(channel.transport)
    return channel.transport.sent


run_locally = functools.partial(local.run_locally, correlations=Correlations.DEALER)
"""With a dealer, which starts at once: tests of what uses correlations do not care who makes them."""


def on_shares(function: Callable[..., Any], *secrets: Any) -> Any:
    """Run `function(party, *shares)` as both parties on fresh shares of uint64 arrays; return both results."""
    shares = [share(np.asarray(secret)) for secret in secrets]
    sides = [functools.partial(_call, function, [pair[rank] for pair in shares]) for rank in (0, 1)]
    return run_locally(*sides)


def _call(function: Callable[..., Any], shares: list[Any], party: MpcParty) -> Any:
    return function(party, *shares)


def opened(function: Callable[..., Any], *secrets: Any) -> Any:
    """Run `function` as both parties and return the value that their two results share, as signed integers."""
    first, second = on_shares(function, *secrets)
    return (first + second).view(np.int64)


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Return a result and "", or None and the message of the two errors that a peer's bytes may cause."""
    try:
        return function(*arguments), ""
    except (ProtocolError, PeerLostError) as error:
        return None, str(error)


def pool_is_empty(party: MpcParty) -> bool:
    """Whether the party has used up every correlation that it prepared."""
    return not any(party.correlations._pool.values())  # type: ignore[attr-defined]


def dealer_bytes(party: MpcParty) -> int:
    """What the party has exchanged with the dealer so far."""
    statistics = party.correlations._channel.statistics  # type: ignore[attr-defined]
    return statistics.bytes_sent + statistics.bytes_received


def reachable(*roots: Any) -> Iterator[Any]:
    """Yield every object that can be reached from `roots` through attributes, containers, closures and arguments."""
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, type | types.ModuleType):
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, types.FunctionType):  # not its globals: they hold the whole program
            todo += [value.__closure__, value.__defaults__, value.__kwdefaults__]
        else:
            todo += gc.get_referents(value)
        todo.append(getattr(value, "__dict__", None))


def integers(modulus: CrtModulus, residues: Any) -> list[int]:
    """Compose residues (2, n) to integers in [0, Q), by Python's arithmetic."""
    inverse = pow(modulus.p0, -1, modulus.p1)
    return [
        r0 + modulus.p0 * ((r1 - r0) * inverse % modulus.p1)
        for r0, r1 in zip(*np.asarray(residues).tolist(), strict=True)
    ]


def centred(modulus: CrtModulus, residues: Any) -> NDArray[np.int64]:
    """Compose residues (2, n) to integers between -Q/2 and Q/2, which must be small enough for int64."""
    q = modulus.p0 * modulus.p1
    return np.array([v - q if v > q // 2 else v for v in integers(modulus, residues)], dtype=np.int64)


class SealReference:
    """SEAL's own evaluator, encryptor and decryptor, on the same parameters, and if asked on the same keys.

    Polynomials move in and out by SEAL's documented serialisation, through files.
    """

    _HEADER = struct.Struct("<HBBBBHQ")
    _CIPHERTEXT = struct.Struct("<32sBQQQ16s")  # parms_id, NTT form, size, N, primes, scale and correction
    _PLAINTEXT = struct.Struct("<32sQd")

    def __init__(self, context: CkksContext, folder: Path, generator: Any = None) -> None:
        self.context, self._path = context, str(folder / "seal")
        self.evaluator = seal.Evaluator(context.seal)
        empty = seal.Ciphertext(context.seal, context.seal.first_parms_id(), 2)
        empty.resize(2)
        self._magic, self._template = b"", b""
        self._template = self._save(empty)
        if generator is not None:
            public = seal.PublicKey()
            generator.create_public_key(public)
            secret = generator.secret_key()
            self._encryptor = seal.Encryptor(context.seal, public, secret)
            self._decryptor = seal.Decryptor(context.seal, secret)

    def load(self, polynomials: Any, ntt: bool = True) -> Any:
        """Build a ciphertext of 2 to 16 polynomials (count, 2, N)."""
        parms_id, _, _, degree, primes, tail = self._CIPHERTEXT.unpack_from(self._template)
        fields = self._CIPHERTEXT.pack(parms_id, ntt, len(polynomials), degree, primes, tail)
        return self._load(seal.Ciphertext(), fields, polynomials)

    def plaintext(self, polynomial: Any) -> Any:
        """Build a plaintext in NTT form from a polynomial (2, N) in NTT form."""
        return self._load(seal.Plaintext(), self._PLAINTEXT.pack(self._template[:32], polynomial.size, 1.0), polynomial)

    def read(self, value: Any) -> NDArray[np.uint64]:
        """Return the polynomials (count, 2, N) of a ciphertext or plaintext."""
        fields = self._PLAINTEXT if isinstance(value, seal.Plaintext) else self._CIPHERTEXT
        words = np.frombuffer(self._save(value), dtype=np.uint64, offset=fields.size + self._HEADER.size + 8)
        return words.reshape(-1, 2, self.context.degree)

    def transform(self, polynomials: Any, inverse: bool = False) -> NDArray[np.uint64]:
        """Transform 2 to 16 polynomials (count, 2, N)."""
        ciphertext = self.load(polynomials, ntt=inverse)
        to_ntt, from_ntt = self.evaluator.transform_to_ntt_inplace, self.evaluator.transform_from_ntt_inplace
        (from_ntt if inverse else to_ntt)(ciphertext)
        return self.read(ciphertext)

    def encrypt_zero(self, symmetric: bool) -> NDArray[np.uint64]:
        """Return SEAL's encryption of zero (2, 2, N), in NTT form."""
        ciphertext = seal.Ciphertext()
        (self._encryptor.encrypt_zero_symmetric if symmetric else self._encryptor.encrypt_zero)(ciphertext)
        return self.read(ciphertext)

    def decrypt(self, ciphertext: Any) -> NDArray[np.uint64]:
        """Decrypt (2, 2, N) in NTT form to a polynomial (2, N) of coefficients."""
        opened = seal.Plaintext()
        self._decryptor.decrypt(self.load(ciphertext), opened)
        return self.transform(np.repeat(self.read(opened), 2, axis=0), inverse=True)[0]

    def multiply_accumulate(self, weights: Any, ciphertexts: Any) -> NDArray[np.uint64]:
        """Return the sum of ciphertexts (terms, 2, 2, N) times plaintexts (terms, 2, N), by SEAL's products."""
        total = None
        for weight, polynomials in zip(weights, ciphertexts, strict=True):
            product = self.load(polynomials)
            self.evaluator.multiply_plain_inplace(product, self.plaintext(weight))
            if total is None:
                total = product
            else:
                self.evaluator.add_inplace(total, product)
        return self.read(total)

    def _save(self, value: Any) -> bytes:
        value.save(self._path)
        raw = Path(self._path).read_bytes()
        self._magic = raw[:5]  # magic, header size, version
        body = raw[self._HEADER.size :]
        compressed = self._HEADER.unpack_from(raw)[4] != 0
        return zstandard.ZstdDecompressor().decompressobj().decompress(body) if compressed else body

    def _load(self, target: Any, fields: bytes, data: Any) -> Any:
        words = np.ascontiguousarray(data, dtype=np.uint64).tobytes()
        array = self._framed(struct.pack("<Q", len(words) // 8) + words)
        Path(self._path).write_bytes(self._framed(fields + array))
        target.load(self.context.seal, self._path)
        return target

    def _framed(self, body: bytes) -> bytes:
        return self._magic + struct.pack("<BHQ", 0, 0, self._HEADER.size + len(body)) + body


def keys_and_generator(context: CkksContext) -> tuple[ClientKeys, Any]:
    """Make a client's keys, and return SEAL's generator that made them."""
    made = []

    class Recording(seal.KeyGenerator):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    with mock.patch.object(seal, "KeyGenerator", Recording):
        keys = ClientKeys(context)
    return keys, made[0]


small = st.integers(1, 4)
pairs = st.tuples(small, small)


@st.composite
def shapes(draw: st.DrawFn) -> ConvShape:
    """A random convolution, possibly grouped, strided and padded."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel, stride = draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    height, width = (draw(st.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, padding, strict=True))
    return ConvShape(groups * draw(small), height, width, groups * draw(small), kernel, stride, padding, groups)


@st.composite
def plans(draw: st.DrawFn, degrees: tuple[int, ...] = (256, 512)) -> ConvPlan:
    """A random valid plan, which the planner need not choose: nothing need divide, and blocks may exceed the layer."""
    shape, degree = draw(shapes()), draw(st.sampled_from(degrees))
    tile = draw(st.integers(1, shape.height_out)), draw(st.integers(1, shape.width_out))
    area = (tile[0] + shape.phase_kernel[0] - 1) * (tile[1] + shape.phase_kernel[1] - 1)
    block_in = draw(st.integers(1, max(1, min(shape.phase_channels + 1, degree // area))))
    block_out = draw(st.integers(1, max(1, min(shape.channels_out + 1, degree // (area * block_in)))))
    assume(block_in * block_out * area <= degree)
    return ConvPlan(shape, block_in, block_out, tile, degree)


def plaintext(model: Model, chips: Any) -> NDArray[np.float64]:
    assert model.module is not None
    with torch.inference_mode():
        images = np.stack([model.normalise(chip) for chip in chips])
        return np.asarray(model.module(torch.from_numpy(images)).numpy())


def pair_of(model: Model, chips: Chip) -> NDArray[np.float64]:
    """Return the first two chips as a client's input."""
    return np.stack([model.normalise(chip) for chip in chips[:2]])


def terms_of(model: Model, **changes: Any) -> Terms:
    return dataclasses.replace(Terms(model.graph, model.threshold, correlations=Correlations.DEALER), **changes)


@dataclasses.dataclass
class Ends:
    """The channels of a session by hand: the client's ends, and the server and dealer in threads."""

    server: Channel
    dealer: Channel
    at_server: Channel
    server_thread: PartyThread
    opened: "Future[ServerSession]"

    @property
    def session(self) -> ServerSession:
        """The server's session, once it is open."""
        return self.opened.result(GUARD_SECONDS)

    def run(self, terms: Terms, work: Callable[[ClientSession], Any], on_progress: OnProgress | None = None) -> None:
        """Open the client's session, do some work in it, and end it."""
        with ClientSession(self.server, self.dealer, terms, on_progress=on_progress) as session:
            work(session)

    def server_error(self) -> BaseException | None:
        """Return why the server ended, once it has."""
        self.server_thread.join(GUARD_SECONDS)
        assert not self.server_thread.is_alive(), "the server hangs"
        return self.server_thread.error


class Tampered:
    """A transport that changes one message, once armed."""

    def __init__(self, channel: Channel, change: Callable[[bytes], bytes]) -> None:
        self._transport, self._change = channel.transport, change
        self.armed = False
        channel.transport = self

    def send(self, payload: bytes, timeout: float | None = None) -> None:
        self._transport.send(self._changed(payload), timeout)

    def exchange(self, payload: bytes, max_bytes: int) -> bytes:
        return self._transport.exchange(self._changed(payload), max_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _changed(self, payload: bytes) -> bytes:
        if not self.armed:
            return payload
        self.armed = False
        return self._change(payload)


def save_chips(folder: Path, seed: int, name: str = "{}.png") -> dict[str, str]:
    """Save aligned random chips for the tiny network: "a" and "same" match, "a" and "different" do not.

    Args:
        seed: of the chips; not every seed has such a pair among its 16.
        name: of a file, with {} for the chip's.

    Returns:
        The files' paths by name.
    """
    model = load_model("tiny-test")
    chips = np.random.default_rng(seed).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    features = plaintext(model, chips)
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    first, same = next((i, j) for i, j in combinations(range(16), 2) if distance[i, j] < 0.5)
    different = next(j for j in range(16) if distance[first, j] > 0.75)
    paths = {}
    for label, index in {"a": first, "same": same, "different": different}.items():
        paths[label] = str(folder / name.format(label))
        Image.fromarray(chips[index]).save(paths[label])
    return paths
