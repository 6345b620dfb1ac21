"""hybridface: compare faces between two organisations that do not show each other their data.

import hybridface as hf
model = hf.load_model("dlib-resnet29")
with hf.local_session(model) as session:
    result = session.verify("a.jpg", "b.jpg")   # result.match, result.cost
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from hybridface.errors import ImageError, ModelError
    from hybridface.faces.images import face_chip, read_chip
    from hybridface.faces.options import PhotoOptions, PhotoWarning
    from hybridface.local.gallery import Gallery
    from hybridface.local.pure_he import LocalPureHeSession
    from hybridface.local.session import LocalSession, local_session
    from hybridface.models.model import Model, load_model
    from hybridface.modes import Mode
    from hybridface.version import __version__
    from parties import CostReport, MatchResult, Progress, Template
    from parties.session.pure_he import EncryptedTemplate, PureHeResult
    from protocols.errors import HybridFaceError, ParameterError, PeerLostError, ProtocolError
    from protocols.matching.reveal import Reveal

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
    "PhotoOptions",
    "PhotoWarning",
    "Progress",
    "ProtocolError",
    "PureHeResult",
    "Reveal",
    "Template",
    "__version__",
    "face_chip",
    "load_model",
    "local_session",
    "read_chip",
]

__getattr__ = hand_on(
    __name__,
    {
        "hybridface.errors": ["ImageError", "ModelError"],
        "hybridface.faces.images": ["face_chip", "read_chip"],
        "hybridface.faces.options": ["PhotoOptions", "PhotoWarning"],
        "hybridface.local.gallery": ["Gallery"],
        "hybridface.local.pure_he": ["LocalPureHeSession"],
        "hybridface.local.session": ["LocalSession", "local_session"],
        "hybridface.models.model": ["Model", "load_model"],
        "hybridface.modes": ["Mode"],
        "hybridface.version": ["__version__"],
        "parties": ["CostReport", "MatchResult", "Progress", "Template"],
        "parties.session.pure_he": ["EncryptedTemplate", "PureHeResult"],
        "protocols.errors": ["HybridFaceError", "ParameterError", "PeerLostError", "ProtocolError"],
        "protocols.matching.reveal": ["Reveal"],
    },
)
