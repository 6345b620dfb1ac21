"""Convert pixels of any kind to RGB with 8 bits: deep greys, palettes, transparency, print colours, and arrays.

Values of more than 8 bits are scaled by the value of white. Neither the mode nor the type of a picture gives that value
for certain: 12-bit cameras write 16-bit files, and 32-bit files hold values of all depths. So white is the top of the
smallest usual range that holds the brightest pixel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridface.errors import ImageError

__all__ = ["array_to_image", "rgb"]

_WHITES = (255, 4095, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**64 - 1)
_ROWS_AT_ONCE = 512
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339
"""Tags of TIFF files: whether 0 is white, bits per value, and whether values have a sign."""


def rgb(name: str, image: Image.Image) -> Image.Image:
    """Return a picture as RGB; transparent pixels become white.

    Args:
        name: the picture's name in messages.

    Raises:
        ImageError: the whole picture is transparent.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image).convert("RGB")
    if image.mode == "La":  # Pillow converts this mode to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        return _on_white(name, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def array_to_image(array: NDArray[Any]) -> Image.Image:
    """Return an array as a picture.

    Args:
        array: (H, W), or (H, W, C) with C = 1 for grey, 3 for RGB, or 4 for RGB and opacity; uint8, any other integers
            or booleans, or floats from 0 to 1 (or to 255).

    Raises:
        ImageError: the array has another shape or type, is empty, or has negative or infinite values.
    """
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or not array.size:
        raise ImageError(f"the photo: expected an array (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    if array.dtype.kind not in "buif":
        raise ImageError(f"the photo: expected an array of integers or floats, got {array.dtype}")
    if not np.isfinite(array).all() or array.min() < 0:
        raise ImageError("the photo: expected an array of values that are finite and not negative, got others")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    pixels = array if array.dtype == np.uint8 else _to_bytes(array)
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 and array.ndim == 3 else pixels))


def _on_white(name: str, image: Image.Image) -> Image.Image:
    opacity = image.getchannel("A")
    if opacity.getextrema() == (0, 0):
        raise ImageError(
            f"{name}: expected a picture, got one that is wholly transparent; save it without transparency"
        )
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=opacity)
    return white


def _from_deep_grey(image: Image.Image) -> Image.Image:
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1 and tags.get(_BITS, (0,))[0] == 32:
        values = values.view(np.uint32)  # Pillow's mode cannot hold unsigned values
    if image.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 2 and tags.get(_BITS, (0,))[0] == 16:
        values = values.astype(np.int16)
    grey = _to_bytes(values)
    return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey)


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale values so that white is 255; NaN values become black."""
    factor = np.float32(255 / _white(values))
    scaled = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = values[start : start + _ROWS_AT_ONCE].astype(np.float32) * factor
        scaled[start : start + _ROWS_AT_ONCE] = np.rint(np.nan_to_num(rows, posinf=255).clip(0, 255))
    return scaled


def _white(values: NDArray[Any]) -> float:
    """Return the value of white; floats may exceed it, as they do after a picture was scaled."""
    if values.dtype == np.int16:
        return next(white for white in (255, 4095, 2**15 - 1) if white >= values.max())
    if values.dtype.kind != "f":
        return next(white for white in _WHITES if white >= values.max())
    finite = values[np.isfinite(values)]
    top = float(finite.max()) if finite.size else 0.0
    return next((float(white) for white in (1, *_WHITES) if 2 * white > top), top)
