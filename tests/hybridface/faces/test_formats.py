"""What kind of file a photo is: by its bytes, and in words if it is none."""

import pillow_heif
import pytest
from PIL import Image

from hybridface.errors import ImageError
from hybridface.faces.formats import SUFFIXES, TAKEN, UNREAD_SUFFIXES, format_of
from support.pictures import encoded, picture

KINDS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")

OTHERS = [
    (b"%PDF-1.7\n", "a PDF document"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript (EPS) document"),
    (b"\xd7\xcd\xc6\x9a\0\0", "a Windows metafile (WMF)"),
    (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    (b"<!DOCTYPE html><title>Not found</title>", "an HTML page"),
    (b"\0\0\1\0\1\0", "a Windows icon (ICO)"),
    (b"8BPS\0\1", "a Photoshop document (PSD)"),
    (b"\xff\x0a\xfa\x1f", "a JPEG XL picture"),
    (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video (MP4, QuickTime)"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file"),
    (b"\x1aE\xdf\xa3\1\0", "a video (Matroska, WebM)"),
    (b"RIFF\0\0\0\0AVI LIST", "a video"),
    (b"PK\3\4\x14\0", "a ZIP archive or an office document"),
    (b"\x1f\x8b\x08\0", "a compressed file (gzip)"),
    (b"\x7fELF\2\1", "a program"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer instead of the file that it stands for"),
    ("not a photo, but prose: \u00e9".encode(), "a text file"),
    (b"BMW and other makers of cars\n", "a text file"),
    (b"P5 is the fifth point\n", "a text file"),
    ("prose".encode("utf-16"), "a text file"),
    (("x" * 4095 + "\u00e9").encode(), "a text file"),
    (bytes(1000), "a file of zeros"),
    (b"\x0a\x05\x01\x08" + bytes([200]) * 200, "a picture in the format PCX"),
    (bytes(range(128, 256)), "a file of no known kind"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_formats_are_known_by_their_bytes(kind: str) -> None:
    assert format_of("photo.txt", encoded(picture(), kind)) == kind


def test_heic() -> None:
    pillow_heif.register_heif_opener()
    assert format_of("photo", encoded(picture(), "HEIF")) == "HEIF"


def test_a_targa_file_without_a_footer_is_known_by_its_name() -> None:
    bare = encoded(picture(), "TGA")[:-26]
    assert format_of("photo.TGA", bare) == "TGA"
    with pytest.raises(ImageError, match=r"^photo: expected a photo, got "):
        format_of("photo", bare)


@pytest.mark.parametrize(("data", "words"), OTHERS, ids=lambda value: value if isinstance(value, str) else "")
def test_other_files_are_named(data: bytes, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        format_of("photo.jpg", data)
    assert str(caught.value) == f"photo.jpg: expected a photo, got {words}; the formats that are read are {TAKEN}"


def test_every_usual_name_of_a_format_that_is_read_is_known() -> None:
    Image.init()
    usual = {suffix for suffix, kind in Image.EXTENSION.items() if kind in (*KINDS, "MPO")}
    assert usual <= SUFFIXES
    assert {".heic", ".jif", ".pjpeg"} < SUFFIXES
    known = SUFFIXES | UNREAD_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in known)
    assert not SUFFIXES & UNREAD_SUFFIXES
