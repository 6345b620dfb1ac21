"""hybridface: is this the same face? Asked between two organisations that do not show each other their data.

import hybridface as hf
model = hf.load_model("dlib-resnet29")
with hf.local_session(model) as session:
    result = session.verify("a.jpg", "b.jpg")   # result.match, result.cost
"""

from hybridface.errors import ImageError, ModelError
from hybridface.faces.images import face_chip, read_chip
from hybridface.local.gallery import Gallery
from hybridface.local.pure_he import LocalPureHeSession
from hybridface.local.session import LocalSession, local_session
from hybridface.models.model import Model, load_model
from hybridface.modes import Mode
from parties import CostReport, MatchResult, Progress, Template
from parties.session.pure_he import EncryptedTemplate, PureHeResult
from protocols.errors import HybridFaceError, ParameterError, PeerLostError, ProtocolError
from protocols.matching.distance import Reveal

__all__ = [
    "CostReport",
    "EncryptedTemplate",
    "Gallery",
    "HybridFaceError",
    "ImageError",
    "LocalPureHeSession",
    "LocalSession",
    "MatchResult",
    "Mode",
    "Model",
    "ModelError",
    "ParameterError",
    "PeerLostError",
    "Progress",
    "ProtocolError",
    "PureHeResult",
    "Reveal",
    "Template",
    "face_chip",
    "load_model",
    "local_session",
    "read_chip",
]
