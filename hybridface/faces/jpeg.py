"""Read from the markers of a JPEG file how it is decoded.

Most files are decoded in one pass, row after row. In other files, such as all progressive ones, the picture comes in
several passes. Such a picture is held in memory as a whole, with at most 6 bytes per pixel, and each pass costs time
again.
"""

__all__ = ["completed", "has_several_passes", "passes"]

_END = b"\xff\xd9"
_SCAN = b"\xff\xda"


def has_several_passes(data: bytes, channels: int) -> bool:
    """Return whether a JPEG file has several passes, even if all but the first are missing.

    Args:
        channels: of the picture. If there are several passes, the first has fewer channels or is progressive.
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
    """Return a file that breaks off, with an end marker; None if not even one pass over the picture is whole.

    Each pass makes the picture of a progressive file finer. So if a second pass begins, all rows are there.
    """
    place = _first_scan(data)
    if place is None or data.find(_SCAN, place + 2) < 0:
        return None
    return data + _END


def _first_scan(data: bytes) -> int | None:
    """Return where the first pass begins, after segments that may hold a small picture with its own passes."""
    place = 2
    while data[place : place + 2] != _SCAN:
        if data[place : place + 1] != b"\xff" or place + 4 > len(data):
            return None
        filled = data[place + 1 : place + 2] == b"\xff"  # any number of fill bytes may precede a marker
        place += 1 if filled else 2 + int.from_bytes(data[place + 2 : place + 4])
    return place
