"""hybridface: compare faces between two organisations that do not show each other their data.

import hybridface as hf
model = hf.load_model("dlib-resnet29")
with hf.local_session(model) as session:
    result = session.verify("a.jpg", "b.jpg")   # result.match, result.cost
with hf.connect("match.example.org") as session:  # a server of another organisation
    result = session.verify("a.jpg", "b.jpg")
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
    from hybridface.errors import ConfigurationError, ImageError, ModelError, RunError
    from hybridface.faces.images import face_chip, read_chip
    from hybridface.faces.options import PhotoOptions, PhotoWarning
    from hybridface.local.gallery import Gallery
    from hybridface.local.pure_he import LocalPureHeSession
    from hybridface.local.session import LocalSession, local_session
    from hybridface.models.model import Model, load_model
    from hybridface.modes import Mode
    from hybridface.remote.gallery import ServerGallery
    from hybridface.remote.pure_he import RemotePureHeSession
    from hybridface.remote.session import RemoteSession, connect
    from hybridface.version import __version__
    from parties import CostReport, MatchResult, Progress, Template
    from parties.gallery.errors import QueryRefusedError
    from parties.session.pure_he import EncryptedTemplate, PureHeResult
    from protocols.errors import HybridFaceError, ParameterError, PeerLostError, ProtocolError
    from protocols.matching.reveal import Reveal

__all__ = [
    "ConfigurationError",
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
    "QueryRefusedError",
    "RemotePureHeSession",
    "RemoteSession",
    "Reveal",
    "RunError",
    "ServerGallery",
    "Template",
    "__version__",
    "connect",
    "face_chip",
    "load_model",
    "local_session",
    "read_chip",
]

__getattr__ = hand_on(
    __name__,
    {
        "hybridface.errors": ["ConfigurationError", "ImageError", "ModelError", "RunError"],
        "hybridface.faces.images": ["face_chip", "read_chip"],
        "hybridface.faces.options": ["PhotoOptions", "PhotoWarning"],
        "hybridface.local.gallery": ["Gallery"],
        "hybridface.local.pure_he": ["LocalPureHeSession"],
        "hybridface.local.session": ["LocalSession", "local_session"],
        "hybridface.models.model": ["Model", "load_model"],
        "hybridface.modes": ["Mode"],
        "hybridface.remote.gallery": ["ServerGallery"],
        "hybridface.remote.pure_he": ["RemotePureHeSession"],
        "hybridface.remote.session": ["RemoteSession", "connect"],
        "hybridface.version": ["__version__"],
        "parties": ["CostReport", "MatchResult", "Progress", "Template"],
        "parties.gallery.errors": ["QueryRefusedError"],
        "parties.session.pure_he": ["EncryptedTemplate", "PureHeResult"],
        "protocols.errors": ["HybridFaceError", "ParameterError", "PeerLostError", "ProtocolError"],
        "protocols.matching.reveal": ["Reveal"],
    },
)
