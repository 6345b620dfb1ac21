"""The bundled portraits as a small set of faces: four people, in a folder and a tar file, with two folds of pairs."""

import tarfile
from pathlib import Path

from PIL import Image

from hybridface.photos import photo_path

__all__ = ["PAIRS", "PORTRAITS", "portrait", "save_portraits", "two_people"]

PORTRAITS = {
    "Ann/Ann_0001.jpg": "person_a_1.jpg",
    "Ann/Ann_0002.jpg": "person_a_2.jpg",
    "Bea/Bea_0001.jpg": "person_b_1.jpg",
    "Bea/Bea_0002.jpg": "person_b_2.jpg",
    "Cay/Cay_0001.jpg": "impostor_1.jpg",
    "Dov/Dov_0001.jpg": "impostor_2.jpg",
}
"""The photos by their names in the set."""

PAIRS = "2\t1\nAnn\t1\t2\nAnn\t1\tCay\t1\nBea\t1\t2\nBea\t1\tDov\t1\n"
"""Two folds of one pair of each kind, as in LFW's pairs.txt."""


def save_portraits(root: Path) -> Path:
    """Save faces, faces.tar and pairs.txt in a folder, and return it."""
    for name, portrait in PORTRAITS.items():
        (root / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        photo = Image.open(photo_path(portrait)).convert("RGB")
        photo.thumbnail((360, 360))  # in which faces are found sooner
        photo.save(root / "faces" / name)
    with tarfile.open(root / "faces.tar", "w") as archive:
        archive.add(root / "faces", "faces")
    (root / "pairs.txt").write_text(PAIRS)
    return root


def portrait(number: int) -> Image.Image:
    """Return a bundled photo of one face: 1 or 2."""
    return Image.open(photo_path(f"impostor_{number}.jpg")).convert("RGB")


def two_people() -> Image.Image:
    """Return a photo of both: the larger face on the left, the other in the middle."""
    left, middle = portrait(2), portrait(1)
    image = Image.new("RGB", (2 * left.width + middle.width, max(left.height, middle.height)), (128, 128, 128))
    image.paste(left, (0, 0))
    image.paste(middle, (left.width, 0))
    return image
