"""Divide the server's products among workers: extra ranks of the server that multiply ciphertexts by weights.

Each worker computes some of the output channels. The server passes every upload of the client on to its workers, and
joins their answers. The client's messages are the same with and without workers.

A worker holds the weights and the client's public key. It sees the client's ciphertexts and makes masks, as the server
would. So it must be trusted like the server, and its channel to the server must not leave the organisation unprotected.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from parties.prepared.shape import MAX_BATCH
from parties.session.terms import Terms, agree, receive_plans, send_plans
from parties.session.weight_cache import layer_polynomials
from protocols.arithmetic.residues import SHORT_BYTES
from protocols.channel import IDLE_SECONDS, Channel, send_to_all
from protocols.document import integer, optional, word
from protocols.encryption.ckks import CkksContext, PublicKey, check_residues
from protocols.linear.conversion import MaskedCiphertexts, Upload
from protocols.linear.convolution import MaskedProducts, Multiply
from protocols.linear.packing import ConvPlan
from protocols.network.graph import OnLayer, Weights

__all__ = ["Worker", "WorkerPool"]


class WorkerPool:
    """The server's end. It divides the output ciphertexts of a layer among the workers, and takes a part itself.

    Args:
        channels: the channels to the workers.
        terms, plans: the session's terms and plans.
        public_key: the client's public key.

    Raises:
        ProtocolError: a worker has other terms.
        PeerLostError: a worker is gone, or could not read its weights.
    """

    def __init__(
        self, channels: Sequence[Channel], terms: Terms, plans: Mapping[str, ConvPlan], public_key: PublicKey
    ) -> None:
        self._channels, self._plans = channels, plans
        self._own: Mapping[str, MaskedProducts] | None = None
        self._context = public_key.context
        for channel in channels:
            agree(channel, terms)
            send_plans(channel, plans)
            channel.send("public key", public_key.polynomials)
        for channel in channels:
            channel.receive("ready", np.uint8, (1,))

    def share(self, own: Mapping[str, MaskedProducts]) -> None:
        """Take a part of every layer from now on. `own` holds the layers' products on this rank."""
        self._own = own

    def multiply(self, name: str) -> Multiply:
        """Return the function that multiplies an upload by a layer's weights, on the workers and on this rank."""

        def begin(upload: Upload) -> Callable[[], MaskedCiphertexts]:
            own, busy = self._share_out(name, upload)
            return lambda: self._collect(name, upload, own, busy)

        return begin

    def end(self) -> None:
        """Tell the workers to end."""
        for channel in self._channels:
            channel.send_document("job", {"layer": None})

    def _share_out(self, name: str, upload: Upload) -> tuple[slice | None, list[tuple[Channel, slice]]]:
        """Send a layer's upload to the workers; return which output ciphertexts this rank and each worker make."""
        groups, items = self._plans[name].groups_out, upload.c0.shape[1]
        ranks = len(self._channels) + (self._own is not None)
        split = np.array_split(np.arange(groups), min(ranks, groups))
        parts = [slice(int(part[0]), int(part[-1]) + 1) for part in split]
        own = parts.pop(0) if self._own else None
        busy = list(zip(self._channels, parts, strict=False))
        for channel, part in busy:
            channel.send_document("job", {"layer": name, "items": items, "first": part.start, "last": part.stop})
        peers = [channel for channel, _ in busy]
        send_to_all(peers, "upload/seed", upload.seed)
        send_to_all(peers, "upload", upload.c0)
        return own, busy

    def _collect(
        self, name: str, upload: Upload, own: slice | None, busy: Sequence[tuple[Channel, slice]]
    ) -> MaskedCiphertexts:
        """Compute this rank's part, receive the others, and join them."""
        plan, items = self._plans[name], upload.c0.shape[1]
        answers = [self._own[name].run(upload, own)] if self._own and own else []
        answers += [self._receive(channel, plan, items, part.stop - part.start) for channel, part in busy]
        return MaskedCiphertexts(
            np.concatenate([answer.c1 for answer in answers]),
            np.concatenate([answer.c0 for answer in answers]),
            np.concatenate([answer.mask for answer in answers]),
        )

    def _receive(self, channel: Channel, plan: ConvPlan, items: int, groups: int) -> MaskedCiphertexts:
        count, degree = len(plan.output_indices), self._context.degree
        c1 = channel.receive("c1", np.uint8, (groups, items, SHORT_BYTES * degree))
        c0 = channel.receive("c0", np.uint8, (groups, items, SHORT_BYTES * count))
        mask = channel.receive("mask", np.uint64, (groups, items, 2, count))
        return MaskedCiphertexts(c1, c0, check_residues(mask, self._context.modulus, f"mask from {channel.peer}"))


class Worker:
    """A worker's end.

    Args:
        server: channel to the server.
        terms: the terms that the worker expects.
        weights: the network's weights.
        cache: folder of encoded weights; None to encode them into memory.
        on_layer: called before a layer's weights are encoded.
        on_stage: called when a stage of a layer's products begins (see `MaskedProducts`).
    """

    def __init__(
        self,
        server: Channel,
        terms: Terms,
        weights: Weights,
        cache: Path | None,
        on_layer: OnLayer | None = None,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        context = CkksContext(terms.parameters)
        self._channel, self._degree = server, context.degree
        agree(server, terms)
        self._plans = receive_plans(server, terms.graph, context.degree)
        key = PublicKey(context, server.receive("public key", np.uint64, (2, 2, context.degree)))
        source = layer_polynomials(cache, context, self._plans, weights, on_layer)
        self._products = {name: MaskedProducts(plan, key, source(name), on_stage) for name, plan in self._plans.items()}
        server.send("ready", np.ones(1, dtype=np.uint8))

    def serve(self) -> None:
        """Multiply until the server tells the worker to end.

        Raises:
            ProtocolError: a job is malformed.
            PeerLostError: the server is gone.
        """
        while (job := self._channel.receive_document("job", IDLE_SECONDS)).has("layer"):
            name = job.take("layer", word(*self._plans))
            plan = self._plans[name]
            items = job.take("items", integer(1, MAX_BATCH * plan.tile_count))
            first = job.take("first", integer(0, plan.groups_out - 1))
            last = job.take("last", integer(first + 1, plan.groups_out))
            job.end()
            self._multiply(name, items, slice(first, last))
        job.take("layer", optional(word()))
        job.end()

    def _multiply(self, name: str, items: int, groups_out: slice) -> None:
        channel = self._channel
        upload = Upload.receive(channel, "upload", items, self._plans[name].groups_in, self._degree)
        answer = self._products[name].run(upload, groups_out)
        channel.send("c1", answer.c1)
        channel.send("c0", answer.c0)
        channel.send("mask", answer.mask)
