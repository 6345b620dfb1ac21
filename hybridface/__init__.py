"""hybridface: is this the same face? Asked between two organisations that do not show each other their data.

import hybridface as hf
model = hf.load_model("dlib-resnet29")
with hf.local_session(model) as session:
    result = session.verify("a.jpg", "b.jpg")   # result.match, result.cost
"""

from hybridface.errors import ImageError, ModelError
from hybridface.images import face_chip, read_chip
from hybridface.models import Model, load_model
from hybridface.pure_he import LocalPureHeSession, local_pure_he_session
from hybridface.session import LocalSession, local_session
from parties import CostReport, MatchResult, Progress, Template
from parties.pure_he import PureHeResult
from protocols.errors import HybridFaceError, ParameterError, PeerLostError, ProtocolError
from protocols.matching import Reveal
from protocols.pure_he import PatchNetWeights

__all__ = [
    "CostReport",
    "HybridFaceError",
    "ImageError",
    "LocalPureHeSession",
    "LocalSession",
    "MatchResult",
    "Model",
    "ModelError",
    "ParameterError",
    "PatchNetWeights",
    "PeerLostError",
    "Progress",
    "ProtocolError",
    "PureHeResult",
    "Reveal",
    "Template",
    "face_chip",
    "load_model",
    "local_pure_he_session",
    "local_session",
    "read_chip",
]
