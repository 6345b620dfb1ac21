"""Compare embeddings under encryption as CipherFace does, as one of two MPI ranks (see `features_only`).

    MODULE=hybridface.measure.peers.features_only_party
    python -m $MODULE client MODEL ALIGNED VERIFICATIONS LINK SECONDS FIRST SECOND
    python -m $MODULE server MODEL ALIGNED VERIFICATIONS LINK SECONDS

**Encryption** is CKKS by TenSEAL with CipherFace's parameters for 128 bits of security: N = 8192, primes of 60, 40, 40
and 60 bits, scale 2^40.

1. The client sends a context without the secret key, once. The context has TenSEAL's rotation keys for all powers of
   two; the sum of 128 products needs seven of them.
2. The client sends an encrypted template, once.
3. For every photo, the client sends an encrypted embedding.
4. The server returns the encrypted sum of squared differences.

The server sees only ciphertexts. The client sees the squared distance. Messages are the libraries' own bytes in a
`Channel`'s frames. Their sizes are announced and bounded, and nothing is unpickled.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tenseal
import torch
from numpy.typing import NDArray

from hybridface.errors import ModelError
from hybridface.faces.inputs import load_images
from hybridface.models.model import Model, load_model
from parties.session.cost import OFFLINE, ONLINE, Recorder, merge, server_report
from parties.transport.roles import Role
from protocols.channel import Channel
from protocols.errors import ProtocolError
from protocols.link import link_named

__all__ = ["EMBEDDING", "KEYS", "NETWORK_STAGE", "FeaturesOnlyClient", "FeaturesOnlyServer", "main"]

KEYS, NETWORK_STAGE, EMBEDDING, DISTANCE = "keys", "network in the clear", "upload", "distance"
"""The names of the stages."""

_DEGREE, _PRIME_BITS, _SCALE = 8192, (60, 40, 40, 60), 2.0**40
_MOST_KEY_BYTES, _MOST_CIPHERTEXT_BYTES = 1 << 26, 1 << 20
_CLIENT, _SERVER = "client", "server"


class FeaturesOnlyClient:
    """The client. Only the client holds the secret key.

    Args:
        channel: the channel to the server.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, _DEGREE, coeff_mod_bit_sizes=list(_PRIME_BITS))
        self._context.global_scale = _SCALE
        self._context.generate_galois_keys()

    def send_keys(self) -> None:
        """Send all keys except the secret key. Call this once."""
        public = self._context.serialize(
            save_public_key=True, save_secret_key=False, save_galois_keys=True, save_relin_keys=True
        )
        _send_bytes(self._channel, "keys", public)
        self._channel.receive("ready", np.uint8, (1,))

    def send_embedding(self, embedding: NDArray[np.float64]) -> None:
        """Encrypt and send an embedding (d,). The first one is the template; later ones are compared with it."""
        _send_bytes(self._channel, "embedding", tenseal.ckks_vector(self._context, embedding.tolist()).serialize())

    def receive_distance(self) -> float:
        """Return the squared distance of the last embedding to the template. It is a score: keep it secret."""
        answer = tenseal.ckks_vector_from(self._context, _receive_bytes(self._channel, "distance"))
        return float(answer.decrypt()[0])


class FeaturesOnlyServer:
    """The server. It holds a template that it cannot read, and no network.

    Args:
        channel: the channel to the client.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._context: Any = None
        self._template: Any = None

    def receive_keys(self) -> None:
        """Receive the client's keys.

        Raises:
            ProtocolError: the keys include a secret key, or the message has no keys.
        """
        self._context = _parsed("keys", tenseal.context_from, _receive_bytes(self._channel, "keys", _MOST_KEY_BYTES))
        if self._context.has_secret_key():
            raise ProtocolError("expected keys without a secret key, got one with it")
        self._channel.send("ready", np.ones(1, dtype=np.uint8))

    def receive_template(self) -> None:
        """Receive the encrypted template."""
        self._template = self._receive_embedding()

    def answer(self) -> None:
        """Receive an encrypted embedding, and send its encrypted squared distance to the template."""
        difference = self._receive_embedding() - self._template
        _send_bytes(self._channel, "distance", difference.dot(difference).serialize())

    def _receive_embedding(self) -> Any:
        received = _receive_bytes(self._channel, "embedding")
        return _parsed("an encrypted embedding", lambda data: tenseal.ckks_vector_from(self._context, data), received)


def _send_bytes(channel: Channel, label: str, data: bytes) -> None:
    channel.send(f"{label}/size", np.array([len(data)], dtype=np.uint64))
    channel.send(label, np.frombuffer(data, dtype=np.uint8))


def _receive_bytes(channel: Channel, label: str, most: int = _MOST_CIPHERTEXT_BYTES) -> bytes:
    size = int(channel.receive(f"{label}/size", np.uint64, (1,))[0])
    if not 0 < size <= most:
        raise ProtocolError(f"{label} from {channel.peer}: expected 1 to {most} bytes, got {size}")
    return channel.receive(label, np.uint8, (size,)).tobytes()


def _parsed(what: str, parse: Any, data: bytes) -> Any:
    try:
        return parse(data)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ProtocolError(f"expected {what}, got {len(data)} bytes that are none") from error


def _embed(model: Model, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the features (d,) of one image (C, H, W), computed by the network in float32."""
    with torch.inference_mode():
        features = model.module(torch.from_numpy(image[None]).float())  # type: ignore[misc]
    return np.asarray(features[0].double().numpy(), dtype=np.float64)


def _be_client(channel: Channel, model: Model, images: NDArray[np.float64], verifications: int) -> dict[str, Any]:
    if model.module is None:
        raise ModelError(f"expected a model with weights, got {model.name} without")
    model.module.float()
    recorder = Recorder(channel)
    with recorder.recording(OFFLINE, KEYS):
        client = FeaturesOnlyClient(channel)
        client.send_keys()
    client.send_embedding(_embed(model, images[1]))
    (setup,) = merge(recorder.take(), channel.receive_document("cost")).stages
    results, features = [], np.zeros(0)
    for _ in range(verifications):
        with recorder.recording(ONLINE, NETWORK_STAGE):
            features = _embed(model, images[0])
        with recorder.recording(ONLINE, EMBEDDING):
            client.send_embedding(features)
        with recorder.recording(ONLINE, DISTANCE):
            distance = client.receive_distance()
        cost = merge(recorder.take(), channel.receive_document("cost"))
        match = distance < model.threshold**2
        results.append({"match": match, "squared_distance": distance, "cost": cost.document()})
    return {"results": results, "setup": asdict(setup), "features": features.tolist()}


def _be_server(channel: Channel, verifications: int) -> dict[str, Any]:
    recorder = Recorder(channel)
    server = FeaturesOnlyServer(channel)
    with recorder.recording(OFFLINE, KEYS):
        server.receive_keys()
    server.receive_template()
    channel.send_document("cost", server_report(recorder.take()))
    for _ in range(verifications):
        with recorder.recording(ONLINE, DISTANCE):
            server.answer()
        channel.send_document("cost", server_report(recorder.take()))
    return {}


def main(name: str, model: str, aligned: str, verifications: str, link: str, timeout: str, *photos: str) -> int:
    """Run one rank, and return its exit status."""
    from hybridface.measure.cost.rank_main import rank_main

    torch.set_num_threads(1)
    roles = (Role.CLIENT, Role.SERVER)
    own, peer = roles if name == _CLIENT else roles[::-1]

    def work(world: Any) -> dict[str, Any]:
        channel = world.channel(peer)
        if own is Role.SERVER:
            return _be_server(channel, int(verifications))
        loaded = load_model(model)
        images = load_images(loaded, [Path(photo) for photo in photos], aligned == "1")
        return _be_client(channel, loaded, images, int(verifications))

    return rank_main(own, work, roles, float(timeout), link_named(link))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
