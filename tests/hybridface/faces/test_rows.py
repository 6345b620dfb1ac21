"""Photos in folders and tar files, faces aligned once, and rows that survive a run that is killed."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridface.errors import ImageError, RunError
from hybridface.faces import alignment
from hybridface.faces.alignment import align
from hybridface.faces.choice import FaceChoice
from hybridface.faces.images import central_crop, face_chips
from hybridface.faces.options import PhotoOptions
from hybridface.faces.rows import RowField, Rows, fill
from hybridface.faces.sources import open_photos
from hybridface.photos import photo_path
from protocols.errors import ParameterError
from support.paths import ROOT

GUARD_SECONDS = 60.0
FIELDS = {"square": RowField("float64"), "pair": RowField("int32", (2,))}


def square(item: int) -> dict[str, Any]:
    return {"square": float(item) ** 2, "pair": [item, item + 1]}


def die(item: int) -> dict[str, Any]:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(item)


def refuse(item: int) -> dict[str, Any]:
    if item == 3:
        raise ImageError("no third photo")
    return square(item)


# Where photos are


def write_photos(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


@pytest.mark.parametrize("around", ["", "lfw/", "data/lfw/"])
@pytest.mark.parametrize("kind", ["folder", "tar", "tgz"])
def test_photos_are_found_at_any_depth(tmp_path: Path, around: str, kind: str) -> None:
    names = ["Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg"]
    write_photos(tmp_path / "in", *(around + name for name in names), "readme.txt")
    path = tmp_path / "in"
    if kind != "folder":
        path = tmp_path / f"photos.{kind}"
        with tarfile.open(path, "w:gz" if kind == "tgz" else "w") as archive:
            archive.add(tmp_path / "in", ".")
    source = open_photos(path)
    assert source.sizes == {name: len(around + name) for name in names}
    source.check(names)
    with source.folder(names[1:]) as folder:
        assert (folder / names[1]).read_bytes() == (around + names[1]).encode()
        assert (folder / names[0]).exists() == (kind == "folder"), "only what is wanted is unpacked"
    assert folder.exists() == (kind == "folder")


def test_one_person_keeps_a_folder(tmp_path: Path) -> None:
    write_photos(tmp_path, "lfw/Ann/Ann_0001.jpg", "lfw/Ann/Ann_0002.jpg")
    assert list(open_photos(tmp_path).sizes) == ["Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg"]


def test_what_is_no_collection_of_photos(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tar")
    for name in ("none", "text"):
        with pytest.raises(ImageError, match=f"{name}: expected a tar file or folder of photos, got "):
            open_photos(tmp_path / name)
    with pytest.raises(ImageError, match="expected photos, found none"):
        open_photos(tmp_path)
    write_photos(tmp_path, "Ann/Ann_0001.jpg")
    with pytest.raises(ImageError, match=r"expected every photo of the pairs, found no Bob/Bob_0001\.jpg"):
        open_photos(tmp_path).check(["Ann/Ann_0001.jpg", "Bob/Bob_0001.jpg"])


def test_a_tar_file_writes_nowhere_else(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        for name in ("lfw/Ann/Ann_0001.jpg", "../outside/x.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"face"))
    with pytest.raises(ImageError, match="expected a tar file or folder of photos, got .*whose name leads elsewhere"):
        open_photos(tmp_path / "bad.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


# Rows


def test_rows_are_made_once(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows", 30, FIELDS)
    fill(rows, [3, 1, 7], int, square, 1, "rows", shown=False)
    assert rows.missing(range(8)).tolist() == [0, 2, 4, 5, 6]
    again = Rows(tmp_path / "rows", 30, FIELDS)
    made: list[int] = []
    fill(again, range(30), lambda row: made.append(row) or row, square, 1, "rows", shown=False)
    assert made == [row for row in range(30) if row not in (1, 3, 7)]
    assert again["square"].tolist() == [row**2 for row in range(30)]
    assert again["pair"].tolist() == [[row, row + 1] for row in range(30)]
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
@pytest.mark.parametrize(("work", "workers", "error"), [(refuse, 1, ImageError), (die, 2, RunError)])
def test_what_was_done_before_an_error_stays(tmp_path: Path, work: Any, workers: int, error: type) -> None:
    with pytest.raises(error, match="no third photo|worker process has died"):
        fill(Rows(tmp_path, 8, FIELDS), range(8), int, work, workers, "rows", shown=False)
    again = Rows(tmp_path, 8, FIELDS)
    done = np.flatnonzero(again.done).tolist()
    assert 3 not in done
    assert again["square"][done].tolist() == [row**2 for row in done]
    if error is ImageError:
        assert done == [0, 1, 2]


def spoil_shape(folder: Path) -> None:
    np.save(folder / "pair.npy", np.zeros((4, 2), np.int32))


def truncate(folder: Path) -> None:
    path = folder / "square.npy"
    path.write_bytes(path.read_bytes()[:-8])


def put_a_pipe(folder: Path) -> None:
    for path in list(folder.glob("*.npy")):
        path.unlink()
        os.mkfifo(path)


def empty_done(folder: Path) -> None:
    (folder / "done.npy").write_bytes(b"")


@pytest.mark.parametrize("damage", [spoil_shape, truncate, put_a_pipe, empty_done])
def test_damaged_files_are_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    fill(Rows(tmp_path, 6, FIELDS), range(6), int, square, 1, "rows", shown=False)
    damage(tmp_path)
    rows = Rows(tmp_path, 6, FIELDS)
    assert not rows.done.any()
    fill(rows, range(6), int, square, 1, "rows", shown=False)
    assert Rows(tmp_path, 6, FIELDS)["square"].tolist() == [0, 1, 4, 9, 16, 25]


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    fill(Rows(tmp_path, 2, FIELDS), range(2), int, square, 1, "rows", shown=False)
    np.save(tmp_path / "done.npy", np.array([object(), None]), allow_pickle=True)
    assert not Rows(tmp_path, 2, FIELDS).done.any()


def test_two_runs_do_not_write_at_once(tmp_path: Path) -> None:
    first, second = Rows(tmp_path, 2, FIELDS), Rows(tmp_path, 2, FIELDS)
    with first.writing() as put:
        put(0, square(0))
        with pytest.raises(ParameterError, match="one run at a time"), second.writing():
            pass
    with second.writing() as put:
        put(1, square(1))
    assert Rows(tmp_path, 2, FIELDS).done.all(), "the second run knows what the first has done"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="expected a folder to write to, got "):
        Rows(tmp_path / "file" / "rows", 2, FIELDS)


KILLED = """
import sys
from pathlib import Path
from hybridface.faces import rows
from hybridface.faces.options import PhotoOptions
from hybridface.faces.rows import RowField, Rows, fill
rows._SAVE_SECONDS = 0.0
sys.path.insert(0, "tests/hybridface/faces")
from test_rows import FIELDS, slow
if __name__ == "__main__":
    fill(Rows(Path(sys.argv[1]), 1000, FIELDS), range(1000), int, slow, 2, "rows", shown=False)
"""


def slow(item: int) -> dict[str, Any]:
    time.sleep(0.05)
    return {**square(item), "pair": [item, os.getpid()]}


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "rows")]
    run = subprocess.Popen(command, cwd=ROOT, env=environment)
    deadline = time.monotonic() + GUARD_SECONDS
    while Rows(tmp_path / "rows", 1000, FIELDS).done.sum() < 5:
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.kill()
    run.wait(GUARD_SECONDS)
    rows = Rows(tmp_path / "rows", 1000, FIELDS)
    done = np.flatnonzero(rows.done)
    assert 5 <= len(done) < 1000
    assert rows["square"][done].tolist() == [row**2 for row in done.tolist()]
    while any(is_alive(int(process)) for process in np.unique(rows["pair"][done, 1])):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)
    fill(rows, range(len(done) + 3), int, square, 1, "rows", shown=False)
    assert rows["square"][: len(done) + 3].tolist() == [row**2 for row in range(len(done) + 3)]


# Alignment


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two portraits, a photo of both, and one without a face."""
    root = tmp_path_factory.mktemp("lfw")
    (root / "Ann").mkdir()
    shutil.copy(photo_path("impostor_1.jpg"), root / "Ann/Ann_0001.jpg")
    portraits = [Image.open(photo_path(f"impostor_{i}.jpg")).convert("RGB").resize((400, 400)) for i in (1, 2)]
    both = Image.new("RGB", (1000, 400))
    both.paste(portraits[0].resize((300, 300)), (350, 50))
    both.paste(portraits[1], (650, 0))
    both.save(root / "Ann/Ann_0002.png")
    pixels = np.add.outer(np.arange(100), np.arange(120))[..., None] + np.array([0, 10, 20])
    Image.fromarray(pixels.astype(np.uint8)).save(root / "Ann/Ann_0003.png")
    return root


PHOTOS = ["Ann/Ann_0001.jpg", "Ann/Ann_0002.png", "Ann/Ann_0003.png"]
CUTS = ((48, 0.25), (60, 0.45))


def test_faces_are_aligned_once(lfw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_photos(lfw)
    first = align(source, PHOTOS, tmp_path, CUTS, wanted=PHOTOS[:1], workers=1, shown=False)
    assert first.folder.stat().st_mode & 0o777 == 0o700
    everything = align(source, PHOTOS, tmp_path, CUTS, workers=1, shown=False)
    assert everything.folder == first.folder
    assert everything.detected.tolist() == [True, True, False]
    assert everything.rows(PHOTOS[::-1]).tolist() == [2, 1, 0]
    for chip, expected in zip(everything.chips, face_chips(lfw / PHOTOS[0], CUTS), strict=True):
        assert np.array_equal(chip[0], expected)
    assert np.array_equal(everything.chips[0][2], central_crop(lfw / PHOTOS[2], 48))
    assert np.array_equal(everything.chips[1][2], central_crop(lfw / PHOTOS[2], 60, 0.76))
    monkeypatch.setattr(alignment, "face_chips", lambda *_, **__: pytest.fail("faces were aligned twice"))
    again = align(source, PHOTOS, tmp_path, CUTS, workers=1, shown=False)
    assert np.array_equal(again.chips[0], everything.chips[0])


def test_what_a_face_depends_on_has_a_place_of_its_own(lfw: Path, tmp_path: Path) -> None:
    source = open_photos(lfw)

    def folder(source: Any = source, photos: Any = PHOTOS, cuts: Any = CUTS, choose: Any = FaceChoice.CENTRE) -> Path:
        return align(source, photos, tmp_path / "cache", cuts, choose, [], 1, False).folder

    shutil.copytree(lfw, tmp_path / "other")
    with (tmp_path / "other" / PHOTOS[0]).open("ab") as file:
        file.write(b"\0")
    others = [
        folder(open_photos(tmp_path / "other")),
        folder(photos=PHOTOS[:2]),
        folder(cuts=CUTS[:1]),
        folder(choose=FaceChoice.LARGEST),
    ]
    assert len({*others, folder()}) == 5


def test_which_of_several_faces_counts(lfw: Path) -> None:
    path = lfw / PHOTOS[1]
    alone = [face_chips(photo_path(f"impostor_{i}.jpg"), CUTS[:1])[0].astype(float) for i in (1, 2)]
    for choose, expected in ((FaceChoice.CENTRE, 0), (FaceChoice.LARGEST, 1)):
        chip = face_chips(path, CUTS[:1], PhotoOptions(choose))[0].astype(float)
        assert int(np.argmin([np.abs(chip - face).mean() for face in alone])) == expected
    with pytest.raises(ImageError, match="expected one face, found 2"):
        face_chips(path, CUTS[:1])


def test_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", "Ann/Ann_0001.jpg", "Bob/Bob_0001.jpg")
    source = open_photos(tmp_path / "in")
    with pytest.raises(ImageError, match=r"^Ann_0001\.jpg: expected a photo, got a text file"):
        align(source, list(source.sizes), tmp_path / "cache", CUTS, workers=1, shown=False)
