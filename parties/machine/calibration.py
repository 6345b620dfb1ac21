"""Measure the planner's constants once on this machine, and keep them in a file.

`calibrate` times every operation of a private convolution's offline phase on the real objects, alone, on one core, and
takes the median of several runs. With the constants and a network's profile, the server chooses the plans of a session.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from parties.machine.durable import write_durably
from parties.machine.plain_files import read_plain
from protocols.arithmetic.fixed_point import random_ring
from protocols.encryption.ckks import CkksContext, ClientKeys, PublicKey
from protocols.errors import ParameterError
from protocols.linear.conversion import CiphertextsToSharesServer, Upload
from protocols.linear.planner import CostModel
from protocols.link import Link

__all__ = ["calibrate", "calibration_path", "load_calibration", "save_calibration"]

_COUNT = 32
_WEIGHTS = 512  # 32 MiB, more than caches hold
_RUNS = 7
_DIGEST = "sha256"
_MAX_BYTES = 1 << 16
_SHORTEST, _LONGEST = 1e-7, 1e5  # milliseconds of an operation on any machine
_TIMES = [field.name for field in fields(CostModel) if field.name != "link"]

OnStep = Callable[[str, int, int], None]
"""Called with a step's name, its index and the number of steps."""


def calibrate(on_step: OnStep | None = None) -> CostModel:
    """Measure the constants on this machine. This takes some seconds on one core."""
    context = CkksContext()
    modulus, degree = context.modulus, context.degree
    keys = ClientKeys(context)
    public_key = PublicKey(context, keys.public_key())
    download = CiphertextsToSharesServer(public_key)
    share = random_ring((_COUNT, degree))
    seed, bodies = keys.encrypt(modulus.lift(share, context.parameters.guard_bits))
    upload = Upload(np.frombuffer(seed, dtype=np.uint8), modulus.to_wire(bodies)[:, None], "upload")
    ciphertexts = modulus.random((_COUNT, 1, 2, degree))
    indices = np.arange(degree // 2)
    masked = download.mask(ciphertexts, indices)
    weights, groups = modulus.in_blocks(modulus.random((_WEIGHTS, degree))), np.arange(_WEIGHTS) % _COUNT
    bounds = np.arange(0, _WEIGHTS + 1, _COUNT)
    one, four = (modulus.random((_COUNT, 2 * items, degree)) for items in (1, 4))

    def encrypt() -> None:
        _, fresh = keys.encrypt(modulus.lift(share, context.parameters.guard_bits))
        modulus.to_wire(fresh)

    def decrypt() -> None:
        product = keys.multiply_by_secret(modulus.from_short_wire(masked.c1, "c1").reshape(-1, 2, degree))
        modulus.from_short_wire(masked.c0, "c0")
        modulus.shift_right(product, 1)

    steps: dict[str, tuple[Callable[[], object], int]] = {
        "client_upload": (encrypt, _COUNT),
        "server_upload": (lambda: upload.ciphertexts(context), _COUNT),
        "server_download": (lambda: download.mask(ciphertexts, indices), _COUNT),
        "client_download": (decrypt, _COUNT),
        "one": (lambda: modulus.multiply_accumulate(weights, groups, bounds, one), _WEIGHTS),
        "four": (lambda: modulus.multiply_accumulate(weights, groups, bounds, four), _WEIGHTS),
    }
    times: dict[str, Any] = {}
    for index, (name, (operation, count)) in enumerate(steps.items()):
        if on_step:
            on_step(name, index, len(steps))
        times[name] = _milliseconds(operation) / count
    four_items, one_item = times.pop("four"), times.pop("one")
    product = max((four_items - one_item) / 3, one_item / 100)
    return CostModel(**times, product=product, weight=max(one_item - product, one_item / 100))


def calibration_path(directory: Path) -> Path:
    """Return the file of this machine's constants in a cache folder."""
    return directory / "calibration.json"


def save_calibration(model: CostModel, path: Path) -> None:
    """Write the constants as JSON, without the network's profile.

    Raises:
        ParameterError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        times = {name: float(getattr(model, name)) for name in _TIMES}
        write_durably(path, json.dumps({**times, _DIGEST: _digest(times)}, indent=2).encode() + b"\n")
    except OSError as error:
        raise ParameterError(f"cannot write {path.name} to the cache folder: {error.strerror}") from error


def load_calibration(path: Path | None, link: Link) -> CostModel:
    """Return the constants in a file, with a network's profile.

    Args:
        path: the file. If it is None or there is no such file, the default constants are returned.
        link: the network's profile.

    Raises:
        ParameterError: the file is there, but does not hold the constants.
    """
    try:
        if path is None or not path.exists():
            return replace(CostModel(), link=link)
        document = json.loads(read_plain(path, _MAX_BYTES))
        times: dict[str, Any] = {name: float(document[name]) for name in _TIMES}
        if not all(type(document[name]) in (int, float) for name in _TIMES):
            raise TypeError("times that are no numbers")
        if not all(_SHORTEST <= time <= _LONGEST for time in times.values()):
            raise ValueError("times that no machine takes")
        if _DIGEST in document and document[_DIGEST] != _digest(times):  # older files have none
            raise ValueError("times of another digest")
        return CostModel(**times, link=link)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ParameterError("calibration.json: expected calibrated times; run hybridface calibrate again") from error


def _digest(times: dict[str, float]) -> str:
    return hashlib.sha256(json.dumps(times, sort_keys=True).encode()).hexdigest()


def _milliseconds(operation: Callable[[], object]) -> float:
    operation()
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        operation()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)
