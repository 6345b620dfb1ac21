"""Encode a model's weight polynomials once, and keep them in a file that every process of the machine maps read-only.

- Secrecy: the polynomials hold the server's weights. Only its owner can read the file (mode 0600), and only the server
  and its workers open it.
- Name: the file's name is a hash of everything that the file depends on (weights, plans, parameters of the encryption).
  So another model or plan gets another file. Nothing in the file depends on a client.
- Integrity: a file appears complete or not at all. The process that opens it checks its content against the digest in
  its header.
- Disk: the folder keeps the four files that were used last.
- Memory: a process maps one layer at a time, while it uses the layer. So the resident memory is that of the largest
  layer.
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
"""For each layer's name, the offset of its polynomials in the file, and their shape."""


class EncodedWeights:
    """The weight polynomials of all layers, in a mapped file.

    Args:
        path: a file that `load` made; not a link.
        key: the hash of everything that the file's content depends on.

    Raises:
        ParameterError: the file is of another kind, is damaged, has another key, or belongs to another user.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path, key: str) -> None:
        with open_plain(path, follow_links=False) as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                raise ParameterError("the weights' cache: expected a file of this user, got another user's")
            self._layers, digest = _read_header(file)
            if _digest(file, key, self._layers) != digest:
                raise ParameterError(
                    "the weights' cache: expected content that fits the header's digest, but the file is damaged"
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
        """Open the file of these weights and plans. Encode them first if there is no such file, or it is damaged.

        Raises:
            OSError: the directory cannot be written, or another process held its lock for a minute (`TimeoutError`).
        """
        key = weights_key(context, plans, weights)
        path = directory / f"{key}{_SUFFIX}"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(directory, "the weights' cache"):  # so that workers that start together encode once
            with contextlib.suppress(OSError):  # the disk may be read-only
                _forget_left(directory)
            try:
                encoded = cls(path, key)
            except (OSError, ParameterError):
                _encode(path, key, context, plans, weights, on_layer)
                encoded = cls(path, key)
            with contextlib.suppress(OSError):  # the disk may be read-only
                os.utime(encoded._descriptor)
                _forget_old(directory)
        return encoded

    def polynomials(self, name: str) -> RingArray:
        """Map the polynomials that `encode_weights` returned for a layer, read-only, until the array is freed."""
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
    """Write the file layer by layer, and give it its name when it is complete."""
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
    """Remove the secret weights that crashes left. Nobody is writing a file now, since the caller holds the lock."""
    for file in entries_of(directory):
        if (_SUFFIX in file.suffixes and file.suffix == PART) or file.name.startswith(_OLD_PART):
            file.unlink(missing_ok=True)


def _forget_old(directory: Path) -> None:
    """Remove all but the files that were used last. A process that has one open can still use it."""
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
        raise ParameterError("the weights' cache: expected a file of encoded weights, got another") from error


def _digest(file: BufferedReader, key: str, layers: _Layers) -> str:
    """Hash the content after the header, the key, and the places of the layers."""
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
    """Return a function from a layer's name to a function that returns the layer's weight polynomials.

    The polynomials come from the cache, or are encoded into memory now.

    Args:
        directory: the cache's folder; None to hold the polynomials in memory. If the folder cannot be written or stays
            locked, a warning says so, and the polynomials are held in memory too.
    """
    if directory is not None:
        try:
            encoded = EncodedWeights.load(directory, context, plans, weights, on_layer)
        except (OSError, ParameterError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            warnings.warn(f"the weights' cache cannot be used ({reason}): encoding the weights anew", stacklevel=2)
            return layer_polynomials(None, context, plans, weights, on_layer)
        return lambda name: lambda: encoded.polynomials(name)
    held = {}
    for name, plan in plans.items():
        if on_layer:
            on_layer(name)
        held[name] = encode_weights(context, plan, layer_weights(weights, name, plan.shape)[0])
    return lambda name: lambda: held[name]
