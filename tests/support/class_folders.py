"""A labelled set of the classes of retrieved.py, as folders."""

from __future__ import annotations

from pathlib import Path

from tests.support.retrieved import photo

BY_TASK = {"birds": ["heron", "crane"], "machines": ["crane", "accordion"]}  # folders; the class EVIL has none


def class_folders(folder: Path, images: int = 3) -> None:
    """Class folders, with one image of each class that is broken."""
    for task, names in BY_TASK.items():
        for place, name in enumerate(names):
            (folder / task / name).mkdir(parents=True)
            for number in range(images):
                data = photo(1000 + 100 * place + number + 7 * len(task), 64)
                (folder / task / name / f"{number}.jpg").write_bytes(data)
            (folder / task / name / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
