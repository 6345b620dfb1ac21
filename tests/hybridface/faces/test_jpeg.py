"""Markers of JPEG files: how many passes there are, and what an end does to a file that breaks off."""

from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces import decoding
from hybridface.faces.decoding import decode
from hybridface.faces.jpeg import completed, has_several_passes, passes
from hybridface.faces.options import AS_GIVEN
from support.pictures import difference, encoded, picture

THUMBNAIL = b"Exif\0\0" + encoded(picture().resize((16, 12)), "JPEG", progressive=True)


@pytest.mark.parametrize("options", [{}, {"exif": THUMBNAIL}, {"optimize": True}, {"subsampling": 0}])
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("CMYK", 4)])
def test_one_pass(mode: str, channels: int, options: dict[str, Any]) -> None:
    image = picture().convert(mode)
    assert not has_several_passes(encoded(image, "JPEG", **options), channels)
    assert has_several_passes(encoded(image, "JPEG", progressive=True, **options), channels)


def test_a_pass_for_each_channel() -> None:
    data = encoded(picture(), "JPEG")
    place = data.rindex(b"\xff\xda")
    one = data[: place + 2] + b"\0\x08\1\1\0\0\x3f\0" + data[place + 14 :]
    assert has_several_passes(one, 3)
    assert not has_several_passes(one, 1)


def test_passes_are_counted() -> None:
    assert passes(encoded(picture(), "JPEG")) == 1
    assert passes(encoded(picture(), "JPEG", progressive=True)) == 10


def test_a_file_that_breaks_off_gets_an_end() -> None:
    data = encoded(picture(), "JPEG", progressive=True, exif=THUMBNAIL)
    ended = completed(data[:-40])
    assert ended is not None
    assert difference(Image.open(BytesIO(ended)), picture()) < 5
    first = data.index(b"\xff\xda", len(THUMBNAIL))
    assert completed(data[: first + 20]) is None
    for length in range(0, first, 7):
        assert completed(data[:length]) is None
        assert has_several_passes(data[:length], 3)


def test_bytes_before_a_marker_may_be_filled() -> None:
    data = encoded(picture(), "JPEG")
    assert not has_several_passes(data[:2] + b"\xff\xff\xff" + data[2:], 3)


def test_many_passes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_PASSED_PIXELS", 9 * 160 * 120)
    with pytest.raises(ImageError, match="^the photo: expected a JPEG file of a few passes, got 10 of them"):
        decode(encoded(picture(), "JPEG", progressive=True), AS_GIVEN)
    assert decode(encoded(picture(), "JPEG") + b"\xff\xda" * 20, AS_GIVEN).size == (160, 120)  # with a film behind it
