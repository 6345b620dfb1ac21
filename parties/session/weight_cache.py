"""A model's weight polynomials, encoded once and kept in a file that every process of the machine maps read-only.

The polynomials hold the server's weights: the file is readable by its owner alone (mode 0600), and only the server and
its workers open it. Its name is a hash of everything that it depends on (weights, plans, parameters of the
encryption), so another model or plan finds another file; nothing in it depends on a client. A file appears complete or
not at all, and its content is checked against the digest in its header when it is opened.

The folder keeps the four files that were used last.

Layers are mapped one at a time, while they are used, so that the resident memory is that of the largest layer.
"""

import contextlib
import hashlib
import json
import mmap
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path

import numpy as np

from parties.machine.durable import PART, replaced
from parties.machine.locks import locked
from parties.machine.plain_files import open_plain
from parties.machine.walks import changed_at, entries_of
from protocols.arithmetic.fixed_point import RingArray
from protocols.encryption.ckks import CkksContext
from protocols.errors import ParameterError
from protocols.linear.convolution import encode_weights
from protocols.linear.packing import ConvPlan
from protocols.network.graph import OnLayer, Weights, layer_weights

__all__ = ["EncodedWeights", "layer_polynomials", "weights_key"]

_MAGIC = b"hybridface weights 3\n"
_HEADER_BYTES = 1 << 16
_SUFFIX = ".weights"
_OLD_PART = ".encoding-"
"""How earlier versions named a file while they wrote it."""

_KEPT_FILES = 4
_ALIGNMENT = mmap.ALLOCATIONGRANULARITY

_Layers = dict[str, tuple[int, tuple[int, ...]]]
"""Where a layer's polynomials are in the file, and their shape, by name."""


class EncodedWeights:
    """The weight polynomials of all layers, in a mapped file.

    Args:
        path: of a file that `load` made; not a link.
        key: the hash of all that its content depends on.

    Raises:
        ParameterError: the file is not such a file, is damaged, is of another key, or is another user's.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, key: str) -> None:
        with open_plain(path, follow_links=False) as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                raise ParameterError("the weights' cache: expected a file of this user's own, got another's")
            self._layers, digest = _read_header(file)
            if _digest(file, key, self._layers) != digest:
                raise ParameterError(
                    "the weights' cache: expected the content of the header's digest, the file is damaged"
                )
            self._descriptor = os.dup(file.fileno())
        self.path = path

    @classmethod
    def load(
        cls,
        directory: Path,
        context: CkksContext,
        plans: Mapping[str, ConvPlan],
        weights: Weights,
        on_layer: OnLayer | None = None,
    ) -> "EncodedWeights":
        """Open the file of these weights and plans; encode them first if there is none, or a damaged one.

        Raises:
            OSError: the directory cannot be written, or another process held its lock for a minute (`TimeoutError`).
        """
        key = weights_key(context, plans, weights)
        path = directory / f"{key}{_SUFFIX}"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(directory, "the weights' cache"):  # so that workers that start together encode once
            with contextlib.suppress(OSError):  # of a disk that is read-only
                _forget_left(directory)
            try:
                encoded = cls(path, key)
            except (OSError, ParameterError):
                _encode(path, key, context, plans, weights, on_layer)
                encoded = cls(path, key)
            with contextlib.suppress(OSError):  # of a disk that is read-only
                os.utime(encoded._descriptor)
                _forget_old(directory)
        return encoded

    def polynomials(self, name: str) -> RingArray:
        """Map a layer's polynomials: what `encode_weights` returned, read-only, unmapped when forgotten."""
        offset, shape = self._layers[name]
        size = 8 * int(np.prod(shape))
        mapped = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ, offset=offset)
        return np.frombuffer(mapped, dtype=np.uint64).reshape(shape)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def weights_key(context: CkksContext, plans: Mapping[str, ConvPlan], weights: Weights) -> str:
    """Hash everything that the polynomials depend on."""
    described = {
        "primes": [context.modulus.p0, context.modulus.p1],
        "degree": context.degree,
        "weight bits": context.parameters.weight_bits,
        "plans": {name: asdict(plan) for name, plan in plans.items()},
    }
    digest = hashlib.sha256(_MAGIC + json.dumps(described, sort_keys=True).encode())
    for name, plan in plans.items():
        digest.update(np.ascontiguousarray(layer_weights(weights, name, plan.shape)[0]).data.cast("B"))
    return digest.hexdigest()


def _encode(
    path: Path,
    key: str,
    context: CkksContext,
    plans: Mapping[str, ConvPlan],
    weights: Weights,
    on_layer: OnLayer | None,
) -> None:
    """Write the file, layer by layer, under a temporary name, and give it its own when it is complete."""
    layers: _Layers = {}
    with replaced(path) as file:
        digest = hashlib.sha256()
        file.seek(_HEADER_BYTES)
        for name, plan in plans.items():
            if on_layer:
                on_layer(name)
            polynomials = encode_weights(context, plan, layer_weights(weights, name, plan.shape)[0])
            layers[name] = (file.tell(), polynomials.shape)
            padding = bytes(-polynomials.nbytes % _ALIGNMENT)
            for part in (polynomials.data.cast("B"), padding):
                file.write(part)
                digest.update(part)
        digest.update(_described(key, layers))
        header = _MAGIC + json.dumps({"layers": layers, "digest": digest.hexdigest()}).encode()
        if len(header) > _HEADER_BYTES:
            raise ParameterError(f"expected a header of at most {_HEADER_BYTES} bytes, got {len(header)}")
        file.seek(0)
        file.write(header)


def _forget_left(directory: Path) -> None:
    """Remove what crashes left, which are secret weights; nobody writes a file now: whoever does has the lock."""
    for file in entries_of(directory):
        if (_SUFFIX in file.suffixes and file.suffix == PART) or file.name.startswith(_OLD_PART):
            file.unlink(missing_ok=True)


def _forget_old(directory: Path) -> None:
    """Remove all but the files that were used last; who has one open keeps it."""
    files = [file for file in entries_of(directory) if file.suffix == _SUFFIX]
    for file in sorted(files, key=changed_at, reverse=True)[_KEPT_FILES:]:
        file.unlink(missing_ok=True)


def _read_header(file: BufferedReader) -> tuple[_Layers, str]:
    raw = file.read(_HEADER_BYTES)
    try:
        if not raw.startswith(_MAGIC):
            raise ValueError("another kind of file")
        header = json.loads(raw[len(_MAGIC) :].rstrip(b"\0"))
        layers = {name: (int(offset), tuple(map(int, shape))) for name, (offset, shape) in header["layers"].items()}
        return layers, str(header["digest"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ParameterError("the weights' cache: expected a file of these weights, encoded, got another") from error


def _digest(file: BufferedReader, key: str, layers: _Layers) -> str:
    """Hash what follows the header, the key, and where the layers are."""
    file.seek(_HEADER_BYTES)
    digest = hashlib.file_digest(file, "sha256")
    digest.update(_described(key, layers))
    return digest.hexdigest()


def _described(key: str, layers: _Layers) -> bytes:
    return json.dumps([key, layers]).encode()


def layer_polynomials(
    directory: Path | None,
    context: CkksContext,
    plans: Mapping[str, ConvPlan],
    weights: Weights,
    on_layer: OnLayer | None = None,
) -> Callable[[str], Callable[[], RingArray]]:
    """Return, for a layer's name, what returns its weight polynomials: from the cache, or encoded into memory now.

    Args:
        directory: of the cache; None to hold the polynomials in memory, as happens with a warning if it cannot be
            written or stays locked.
    """
    if directory is not None:
        try:
            encoded = EncodedWeights.load(directory, context, plans, weights, on_layer)
        except (OSError, ParameterError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            warnings.warn(f"the weights' cache cannot be used ({reason}): they are encoded anew", stacklevel=2)
            return layer_polynomials(None, context, plans, weights, on_layer)
        return lambda name: lambda: encoded.polynomials(name)
    held = {}
    for name, plan in plans.items():
        if on_layer:
            on_layer(name)
        held[name] = encode_weights(context, plan, layer_weights(weights, name, plan.shape)[0])
    return lambda name: lambda: held[name]
