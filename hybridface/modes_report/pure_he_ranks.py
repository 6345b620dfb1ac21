"""Client and server under encryption from end to end, as two MPI ranks, with the photos of a task.

    python -m hybridface.modes_report.pure_he_ranks client VERIFICATIONS NETWORK SECONDS FIRST SECOND
    python -m hybridface.modes_report.pure_he_ranks server VERIFICATIONS NETWORK SECONDS

Each rank writes one JSON object under its role; the client's has `results`, each with match and cost, and `setup`.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hybridface.memory import peak_bytes
from hybridface.models import load_model
from hybridface.models.patchnet import PATCHNET_PATH, read_patchnet, read_shape
from hybridface.session import load_images
from protocols.channel import Channel
from protocols.errors import HybridFaceError
from protocols.network_profile import network_named
from protocols.pure_he import PatchNetShape, PatchNetWeights

__all__ = ["main"]

_CLIENT = "client"


def _terms(verifications: int) -> Any:
    from parties.pure_he import PureHeTerms

    public = read_shape(PATCHNET_PATH)
    shape = PatchNetShape(len(public.patches), public.inputs, public.widths, public.outputs)
    return PureHeTerms(shape, float(np.sqrt(public.threshold)), max_answers=verifications)


def _be_client(channel: Channel, photos: tuple[str, ...], verifications: int) -> dict[str, Any]:
    from parties.pure_he import PureHeClientSession

    terms = _terms(verifications)
    images = load_images(load_model("patchnet", weights=False), [Path(photo) for photo in photos])
    photo, other = images.reshape(2, terms.shape.patches, terms.shape.inputs)
    with PureHeClientSession(channel, terms) as session:
        setup = session.enroll("enrolled", other).offline
        results = [session.verify(photo, "enrolled") for _ in range(verifications)]
    return {
        "results": [{"match": result.match, "cost": result.cost.document()} for result in results],
        "setup": asdict(setup),
    }


def _be_server(channel: Channel, verifications: int) -> dict[str, Any]:
    from parties.pure_he import PureHeServerSession

    _, weights = read_patchnet(PATCHNET_PATH)
    matrices, biases = zip(*weights.maps, strict=True)
    join, constant = weights.join
    joined = join.reshape(len(join), len(matrices[0]), -1)
    PureHeServerSession(channel, _terms(verifications), PatchNetWeights(matrices, biases, joined, constant)).serve()
    return {}


def main(role: str, verifications: str, network: str, timeout: str, *photos: str) -> int:
    """Be one rank."""
    from parties.mpi import join
    from parties.roles import Role
    from parties.tuning import tune_process

    tune_process()
    roles = (Role.CLIENT, Role.SERVER)
    own, peer = roles if role == _CLIENT else roles[::-1]
    world = join(own, float(timeout), network_named(network), required=roles)
    try:
        channel = world.channel(peer)
        count = int(verifications)
        result = _be_client(channel, photos, count) if role == _CLIENT else _be_server(channel, count)
        channel.close()
        result["peak_bytes"] = peak_bytes()
        sys.stdout.write(json.dumps({role: result}) + "\n")
    except HybridFaceError as error:
        sys.stderr.write(f"{role}: {error}\n")
        world.abort(2)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
