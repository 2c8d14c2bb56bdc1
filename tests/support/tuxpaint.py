"""213 photos of animals, food and plants with a caption each, from Debian's package tuxpaint-stamps-default (GPL-2).

Objects are cut out: behind them the PNGs are transparent. Labels are the folders of the package, which are kept for
children and not for taxonomists: a lobster lies in `fish`, a woodlouse in `insects`.

    python -m tests.support.tuxpaint runs/photos

writes two halves of a labelled set, `first/CLASS/NAME.png` and `second/CLASS/NAME.png`, and `captions/NAME.png` with
NAME.txt beside it.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.support import debian_package

PACKAGE = "tuxpaint-stamps-default"
DRAWINGS = ("cartoon", "toys", "plastic", "hedgehog.png", "pizza.png")  # the last two lie among the photos
CLASSES = {"birds": "bird", "fish": "fish", "flowers": "flower", "fruit": "fruit", "insects": "insect"}
CLASSES |= {"mammals": "mammal", "vegetables": "vegetable"}  # folders of 8 photos or more; the rest have captions only
SPLIT = ("first", "second")


class Photo(NamedTuple):
    file: Path
    name: str  # unlike any other
    label: str  # "" = of no class
    caption: str  # the English one

    @property
    def series(self) -> str:
        """Photos that the names tell to be of one thing: gnu-baby and gnu-stand, lion and lion-2."""
        return re.split(r"[-_\d]", self.file.stem)[0]


def fetch(folder: Path) -> str:
    """Downloads and unpacks the package; returns why that was not possible, or ""."""
    return debian_package.fetch(PACKAGE, folder)


def photos(folder: Path) -> list[Photo]:
    """folder: as given to `fetch`."""
    root = folder / "usr/share/tuxpaint/stamps"
    files = sorted(file for part in ("animals", "food", "plants") for file in (root / part).rglob("*.png"))
    found = []
    for file in files:
        parts = file.relative_to(root).parts
        if not set(parts) & set(DRAWINGS):
            label = next((CLASSES[part] for part in parts if part in CLASSES), "")
            caption = file.with_suffix(".txt").read_text("utf-8").splitlines()[0].strip()
            found.append(Photo(file, "-".join(parts).removesuffix(".png"), label, caption))
    return found


def halves(of: list[Photo]) -> list[list[Photo]]:
    """Each class in two halves; photos of one series stay together, so that none is learned from and tested on."""
    out: list[list[Photo]] = [[], []]
    for label in sorted(set(CLASSES.values())):
        series: dict[str, list[Photo]] = {}
        for photo in (one for one in of if one.label == label):
            series.setdefault(photo.series, []).append(photo)
        sizes = [0, 0]
        for some in sorted(series.values(), key=len, reverse=True):
            half = sizes.index(min(sizes))
            out[half] += some
            sizes[half] += len(some)
    return out


def write_sets(of: list[Photo], out: Path) -> None:
    for part, some in zip(SPLIT, halves(of), strict=True):
        for photo in some:
            _copy(photo, out / part / photo.label)
    for photo in of:
        _copy(photo, out / "captions")
        (out / "captions" / f"{photo.name}.txt").write_text(photo.caption, "utf-8")


def _copy(photo: Photo, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(photo.file, folder / f"{photo.name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if problem := fetch(Path(folder)):
            sys.exit(problem)
        found = photos(Path(folder))
        write_sets(found, Path(sys.argv[1]))
    print(f"{sys.argv[1]}: {len(found)} photos, {sum(bool(photo.label) for photo in found)} of a class")


if __name__ == "__main__":
    main()
