"""Embeddings of a list's photos, in the clear: the server owns both photos and network, and nobody else takes part.

They are computed on the protocol's integers (`protocols.network.emulator`), not in floating point. So a list holds what
a private enrolment of the same photo would share. Only the protocol's random truncation makes a difference: it moves a
number by a few last bits.
"""

from hybridface.errors import ImageError, ModelError
from hybridface.faces.inputs import Photo, load_images
from hybridface.faces.opening import photo_name
from hybridface.faces.options import AS_GIVEN, PhotoOptions
from hybridface.models.model import Model
from parties.gallery.sessions.list_content import list_share
from protocols.arithmetic.fixed_point import RingArray
from protocols.errors import ParameterError
from protocols.network.emulator import Emulator

__all__ = ["ClearEmbedding"]


class ClearEmbedding:
    """Embed photos, one at a time.

    Args:
        model: a model with weights.

    Raises:
        ModelError: the model has no weights.
    """

    def __init__(self, model: Model) -> None:
        if model.weights is None:
            raise ModelError(f"expected a model with weights, got {model.name} without")
        self._model, self._emulator = model, Emulator(model.graph, model.weights)

    def __call__(self, photo: Photo, aligned: bool | None = None, options: PhotoOptions = AS_GIVEN) -> RingArray:
        """Return a photo's embedding, uint64 (d,), at 16 fractional bits.

        Args:
            aligned, options: as for `load_images`.

        Raises:
            ImageError: the photo is unreadable, does not show exactly one face, or has no useful embedding.
        """
        embedding = self._emulator.run(load_images(self._model, [photo], aligned, options))[0]
        try:
            return list_share(embedding)
        except ParameterError as error:
            raise ImageError(f"{photo_name(photo)}: {error}") from error
