"""Make base oblivious transfers by elliptic curves. A few of them start the extension, which makes millions.

The sender puts in nothing and gets pairs of random 32-byte keys. The receiver puts in choice bits and gets one key of
every pair. This is the "simplest" transfer (Chou and Orlandi, ePrint 2015/267) with random keys, for semi-honest
parties. The group is the subgroup of prime order of edwards25519, which Ristretto255 encodes. libsodium does all
arithmetic on curves, in constant time, through PyNaCl.

    sender     A = a G                            -> receiver
    receiver   B_i = b_i G + c_i A                -> sender
    sender     key_{i,0} = H(session, i, A, B_i, a B_i), key_{i,1} = H(session, i, A, B_i, a (B_i - A))
    receiver   key_{i,c_i} = H(session, i, A, B_i, b_i A)

H is SHA-256. `session` is the hash of a label and of all points, so the keys of two sessions have nothing in common.

What the sender sees: B_i, which is uniform in the group for either c_i. So the sender learns nothing, even with
unlimited computing power.

What the receiver sees: A. The key that it does not get is the hash of a point. That point differs from the receiver's
own by a A, the Diffie-Hellman value of A with itself. The receiver must find the point to tell this key from a random
one. This is the computational Diffie-Hellman problem in this group, in the random oracle model: about 126 bits.

A peer's points must be canonical encodings in the subgroup, and not of small order. This needs PyNaCl 1.6.2 or newer:
the libsodium of older ones lets some points outside the subgroup pass (CVE-2025-69277).
"""

import hashlib
import secrets

import numpy as np
from nacl import bindings, exceptions
from numpy.typing import NDArray

from protocols.channel import Channel
from protocols.errors import ParameterError, ProtocolError

__all__ = ["BASE_KEY_BYTES", "receive_base_transfers", "send_base_transfers"]

BASE_KEY_BYTES = 32
"""Bytes of a key, and also of a session's hash."""

_POINT_BYTES = bindings.crypto_core_ed25519_BYTES
_MAX_TRANSFERS = 1 << 16
_DOMAIN = b"hybridface base transfers 1"

Bytes = NDArray[np.uint8]


def send_base_transfers(channel: Channel, label: str, count: int) -> tuple[Bytes, bytes]:
    """Make `count` transfers as the sender.

    Args:
        label: the session's name, the same on both sides.

    Returns:
        The keys, uint8 (count, 2, 32), and the session's hash: 32 bytes, public, the same on both sides.

    Raises:
        ProtocolError: a point of the peer is invalid. ParameterError: `count` is not in 1 to 65536.
    """
    _check_count(count)
    scalar = _random_scalar()
    ours = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)
    channel.send(f"{label}/base sender", np.frombuffer(ours, dtype=np.uint8))
    received = channel.receive(f"{label}/base receiver", np.uint8, (count, _POINT_BYTES))
    points = [_checked(row.tobytes(), channel.peer) for row in received]
    session = _session(label, ours, points)
    keys = np.empty((count, 2, BASE_KEY_BYTES), dtype=np.uint8)
    for i, point in enumerate(points):
        if point == ours:  # their difference is the neutral element; an honest receiver causes this once in 2^252
            raise ProtocolError(f"expected points from {channel.peer} that differ from the sender's, got the same")
        for choice, base in enumerate((point, bindings.crypto_core_ed25519_sub(point, ours))):
            shared = bindings.crypto_scalarmult_ed25519_noclamp(scalar, base)
            keys[i, choice] = _key(session, i, ours, point, shared)
    return keys, session


def receive_base_transfers(channel: Channel, label: str, choices: Bytes) -> tuple[Bytes, bytes]:
    """Make transfers as the receiver.

    Args:
        label: the session's name, the same on both sides.
        choices: (count,), each 0 or 1.

    Returns:
        The chosen keys, uint8 (count, 32), and the session's hash: 32 bytes, public, the same on both sides.

    Raises:
        ProtocolError: the peer's point is invalid. ParameterError: there are not 1 to 65536 choices.
    """
    _check_count(choices.size)
    theirs = channel.receive(f"{label}/base sender", np.uint8, (_POINT_BYTES,)).tobytes()
    _checked(theirs, channel.peer)
    scalars = [_random_scalar() for _ in range(choices.size)]
    points = []
    for scalar, choice in zip(scalars, choices.tolist(), strict=True):
        own = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)
        points.append((own, bindings.crypto_core_ed25519_add(own, theirs))[choice])  # both: same time for either choice
    channel.send(f"{label}/base receiver", np.frombuffer(b"".join(points), dtype=np.uint8).reshape(-1, _POINT_BYTES))
    session = _session(label, theirs, points)
    keys = np.empty((choices.size, BASE_KEY_BYTES), dtype=np.uint8)
    for i, (scalar, point) in enumerate(zip(scalars, points, strict=True)):
        keys[i] = _key(session, i, theirs, point, bindings.crypto_scalarmult_ed25519_noclamp(scalar, theirs))
    return keys, session


def _check_count(count: int) -> None:
    if not 0 < count <= _MAX_TRANSFERS:
        raise ParameterError(f"expected 1 to {_MAX_TRANSFERS} base transfers, got {count}")


def _random_scalar() -> bytes:
    """Return a uniform scalar. It is a reduction of 512 bits, which is off from uniform by less than 2^-256."""
    return bindings.crypto_core_ed25519_scalar_reduce(secrets.token_bytes(64))


def _checked(point: bytes, peer: str) -> bytes:
    try:
        valid = bindings.crypto_core_ed25519_is_valid_point(point)
    except exceptions.CryptoError:
        valid = False
    if not valid:
        raise ProtocolError(f"expected points of prime order from {peer}, got {point.hex()}")
    return point


def _session(label: str, sender: bytes, receiver: list[bytes]) -> bytes:
    """Return the hash of the label and all points. The label's length comes first, so the encoding is unambiguous."""
    name = label.encode()
    transcript = [_DOMAIN, len(name).to_bytes(8, "little"), name, sender, *receiver]
    return hashlib.sha256(b"".join(transcript)).digest()


def _key(session: bytes, index: int, sender: bytes, receiver: bytes, shared: bytes) -> Bytes:
    fields = [_DOMAIN, session, index.to_bytes(8, "little"), sender, receiver, shared]
    return np.frombuffer(hashlib.sha256(b"".join(fields)).digest(), dtype=np.uint8)
