"""Measure the network in the clear: torch, one thread, float32. No security: the row shows what privacy costs."""

import copy
import time

import numpy as np
import torch

from hybridface.measure.peers.measure import Peer, PeerTask, Run

__all__ = ["plaintext_peer"]

_SECURITY = "nothing: the computing party sees photo and weights"


def plaintext_peer(task: PeerTask) -> Peer:
    """Return the peer. It converts the network to float32 once."""
    module = copy.deepcopy(task.model.module).float()  # type: ignore[union-attr]
    image, template = (torch.from_numpy(values).float() for values in (task.image, task.template))

    def run() -> Run:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                module(image)  # warm up, as in every peer
                start = time.perf_counter()
                features = module(image)
                match = bool(torch.linalg.norm(features[0] - template) < task.model.threshold)
                seconds = time.perf_counter() - start
        finally:
            torch.set_num_threads(threads)
        return Run(seconds, match, task.error_of(features.numpy().astype(np.float64)))

    return Peer("plaintext torch", _SECURITY, run)
