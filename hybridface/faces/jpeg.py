"""What the markers of a JPEG file say about how it is decoded.

Most files are decoded in one pass, row after row. A file whose picture comes in several passes, as in every progressive
one, is held in memory whole, with 6 bytes a pixel at most, and each pass costs time again.
"""

__all__ = ["completed", "has_several_passes", "passes"]

_END = b"\xff\xd9"
_SCAN = b"\xff\xda"


def has_several_passes(data: bytes, channels: int) -> bool:
    """Return whether a JPEG file has several passes, even if all but the first are missing.

    Args:
        channels: of the picture; the first pass has fewer where it is not the only one, or is progressive.
    """
    place = _first_scan(data)
    if place is None:
        return True
    end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
    return data[place + 4 : place + 5] != bytes([channels]) or data[end - 3 : end] != b"\0\x3f\0"


def passes(data: bytes) -> int:
    """Return an upper bound on the number of passes."""
    return data.count(_SCAN)


def completed(data: bytes) -> bytes | None:
    """Return a file that breaks off, with an end; None if not even one pass over the picture is whole.

    Passes make the picture of a progressive file finer, so the next one's begin tells that all rows are there.
    """
    place = _first_scan(data)
    if place is None or data.find(_SCAN, place + 2) < 0:
        return None
    return data + _END


def _first_scan(data: bytes) -> int | None:
    """Return where the first pass begins, after segments that may hold a small picture with passes of its own."""
    place = 2
    while data[place : place + 2] != _SCAN:
        if data[place : place + 1] != b"\xff" or place + 4 > len(data):
            return None
        filled = data[place + 1 : place + 2] == b"\xff"  # before a marker there may be any number of these
        place += 1 if filled else 2 + int.from_bytes(data[place + 2 : place + 4])
    return place
