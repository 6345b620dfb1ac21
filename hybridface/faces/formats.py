"""Recognise the kind of a photo's file by its first bytes: a format that can be read, or another kind by its name.

File names do not count, because photos are often named after another format. Every reader is code that an untrusted
file can attack. So some formats are not read: those whose readers run interpreters or other programs (PostScript, PDF,
Windows metafiles), and those that no camera, phone or browser writes. Icons (ICO) are not read because Pillow's reader
decodes them before it says a size.
"""

import codecs
import re

from PIL import Image

from hybridface.errors import ImageError

__all__ = ["HEAD_BYTES", "SUFFIXES", "TAIL_BYTES", "TAKEN", "UNREAD_SUFFIXES", "format_of", "known_format"]

TAKEN = "AVIF, BMP, GIF, HEIC, JPEG, JPEG 2000, PNG, PPM, TGA, TIFF and WebP"
"""The formats that are read, in words."""

_SUFFIXES = {
    "AVIF": ".avif .avifs",
    "BMP": ".bmp .dib",
    "GIF": ".gif",
    "HEIF": ".heic .heics .heif .heifs .hif",
    "JPEG": ".jfi .jfif .jif .jpe .jpeg .jpg .mpo .pjp .pjpeg",
    "JPEG2000": ".j2c .j2k .jp2 .jpc .jpf .jpx",
    "PNG": ".apng .png",
    "PPM": ".pbm .pfm .pgm .pnm .ppm",
    "TGA": ".icb .tga .vda .vst",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
}

SUFFIXES = frozenset(" ".join(_SUFFIXES.values()).split())
"""Endings of photos' names, in lower case: files of a folder with such a name count as photos."""

UNREAD_SUFFIXES = frozenset([".arw", ".cr2", ".cr3", ".dng", ".jxl", ".nef", ".orf", ".psd", ".raf", ".rw2", ".svg"])
"""Endings of pictures' names that are not read, though somebody who looks for photos counts them as photos."""

HEAD_BYTES, TAIL_BYTES = 4096, 18
"""Bytes at the beginning and at the end of a file that determine its format."""

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_PPM = re.compile(rb"P[1-7fF]\s+[\d#W]")
_TGA_END = b"TRUEVISION-XFILE.\0"
_TGA_SUFFIXES = tuple(_SUFFIXES["TGA"].split())

_OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"%!", "a PostScript (EPS) document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript (EPS) document"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
    (b"\0\0\x01\0", "a Windows icon (ICO)"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"gimp xcf", "a GIMP document (XCF)"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"II\xbc\x01", "a JPEG XR picture"),
    (b"BPG\xfb", "a BPG picture"),
    (b"qoif", "a QOI picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance (HDR) picture"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"IIU\0", "a camera's raw file"),
    (b"IIRO", "a camera's raw file"),
    (b"IIRS", "a camera's raw file"),
    (b"\x1aE\xdf\xa3", "a video (Matroska, WebM)"),
    (b"\0\0\x01\xba", "a video (MPEG)"),
    (b"\0\0\x01\xb3", "a video (MPEG)"),
    (b"FLV", "a video (Flash)"),
    (b"0&\xb2u\x8ef\xcf\x11", "a video (Windows Media)"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a compressed file (gzip)"),
    (b"BZh", "a compressed file (bzip2)"),
    (b"\xfd7zXZ", "a compressed file (xz)"),
    (b"(\xb5/\xfd", "a compressed file (Zstandard)"),
    (b"7z\xbc\xaf", "an archive (7-Zip)"),
    (b"Rar!", "an archive (RAR)"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3", "a database (SQLite)"),
    (b"\x93NUMPY", "an array (NumPy)"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file that it stands for"),
)


def format_of(name: str, data: bytes) -> str:
    """Return Pillow's name of a photo's format.

    Args:
        name: the file's name, the only mark of a Targa file without a footer.

    Raises:
        ImageError: the format is not one that is read; the message says what the file is.
    """
    head = data[:HEAD_BYTES]
    found = known_format(name, head, data[-TAIL_BYTES:])
    if found is None:
        raise ImageError(f"{name}: expected a photo, got {_other(head, data)}; the formats that are read are {TAKEN}")
    return found


def known_format(name: str, head: bytes, tail: bytes) -> str | None:
    """Return Pillow's name of a photo's format; None if the format is not one that is read.

    Args:
        name: the file's name, the only mark of a Targa file without a footer.
        head, tail: the file's first `HEAD_BYTES` and last `TAIL_BYTES` bytes, or all bytes of a shorter file.
    """
    found = next((kind for start, kind in _STARTS if head.startswith(start)), None) or _by_structure(head)
    if found is None and (tail == _TGA_END or name.lower().endswith(_TGA_SUFFIXES)):
        return "TGA"
    return found


def _by_structure(head: bytes) -> str | None:
    """Return the format of a container, or a format whose first bytes vary."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if _PPM.match(head):
        return "PPM"
    if head[:2] == b"BM" and head[15:18] == bytes(3):  # upper bytes of a length, never 0 in a text
        return "BMP"
    if head[:4] == b"(\0\0\0" and head[12:14] == b"\1\0":
        return "DIB"
    if head[4:8] != b"ftyp":
        return None
    brands = _brands(head)
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


def _brands(head: bytes) -> set[bytes]:
    """Return the brands that a file in ISO's container format names for itself."""
    end = min(int.from_bytes(head[:4]), 256)
    return {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}


def _other(head: bytes, data: bytes) -> str:
    """Say what kind of file it is, if it is not read."""
    found = next((words for start, words in _OTHERS if head.startswith(start)), None)
    if found:
        return found
    if head[4:8] == b"ftyp":
        return "a camera's raw file" if b"crx " in _brands(head) else "a video (MP4, QuickTime)"
    if head[4:8] in (b"moov", b"mdat", b"wide") or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "a video"
    if head[257:262] == b"ustar":
        return "an archive (tar)"
    if not any(data):
        return "a file of zeros"
    return _text(head) or _known_to_pillow(head) or "a file of no known kind"


def _text(head: bytes) -> str | None:
    """Say what kind of text it is; None if it is no text."""
    encoding = "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)  # accepts a letter that is cut off at the end
    except UnicodeDecodeError:
        return None
    start = text.lstrip().lower()
    if "\0" in text:
        return None
    if start.startswith("<") and "<svg" in start:
        return "an SVG drawing"
    return "an HTML page" if start.startswith(("<!doctype html", "<html")) else "a text file"


def _known_to_pillow(head: bytes) -> str | None:
    """Return the name of a format that Pillow could read, without opening the file as such."""
    Image.init()
    for kind, (_, accept) in Image.OPEN.items():
        if accept and kind not in ("TGA", "MPEG") and accept(head[:16]):
            return f"a picture in the format {kind}"
    return None
