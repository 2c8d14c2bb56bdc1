"""Images that sets share are counted, however their files are named; none may choose a weight and be scored too."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.comparison.labelled_set import Classes, labelled_sets
from react_ray.comparison.shared_images import check_images
from react_ray.errors import ConfigError
from tests.support.compared import class_folders, noise


def test_images_in_other_files_are_known_by_their_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = class_folders(tmp_path / "test", ["heron", "magpie"], each=2)
    (tmp_path / "test/magpie/copy.png").write_bytes(noise(0))
    val = class_folders(tmp_path / "val", ["heron"], each=3)
    (tmp_path / "val/magpie").mkdir()
    (tmp_path / "val/magpie/renamed.png").write_bytes(noise(1001))
    sets = labelled_sets({"test": test}, {}, Classes({}, {}), (), {"val": val})
    capsys.readouterr()
    check_images(sets)
    assert capsys.readouterr().err.splitlines() == [
        "compare    --on test: 1 of 5 images is a copy of another one, and 1 image has copies of another label; "
        "they count as often as they are there",
        "compare    --validation val: 3 of its images are images of --on test too",
    ]
    (tmp_path / "val/heron/2.png").unlink()
    with pytest.raises(ConfigError, match="--validation val: these are the images of --on test; choose the weight on"):
        check_images(labelled_sets({"test": test}, {}, Classes({}, {}), (), {"val": val}))
