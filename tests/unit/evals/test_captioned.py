"""Images with captions, in Karpathy's JSON and in the forms of pairs; what is wrong with a set is said in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ConfigError
from react_ray.evals.captioned import check_captioned, open_captioned
from tests.support.scored_run import png

NAME = "evaluate.captions.test"


def karpathy(folder: Path, filepath: str = "", below: str = "", **changes: Any) -> Path:
    """Writes five images, two of them of another split, with two captions each; returns the path of the JSON."""
    images = []
    for number in range(5):
        place = folder / below / filepath / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(number))
        sentences = [{"raw": f"picture {number}", "tokens": []}, {"raw": f"a red of {number}", "tokens": []}]
        split = "val" if number % 2 else "test"
        images.append({"filename": f"{number}.png", "split": split, "sentences": sentences, "imgid": number} | changes)
        images[-1] |= {"filepath": filepath} if filepath else {}
    path = folder / "dataset_small.json"
    path.write_text(json.dumps({"images": images, "dataset": "small"}))
    return path


@pytest.mark.parametrize(("filepath", "below"), [("", ""), ("", "flickr30k-images"), ("val2014", ""), ("val2014", "a")])
def test_the_test_split_of_karpathys_json_is_read_wherever_its_images_lie(
    tmp_path: Path, filepath: str, below: str
) -> None:
    path = karpathy(tmp_path, filepath, below)
    check_captioned(str(path), NAME)
    found = pickle.loads(pickle.dumps(open_captioned(str(path), NAME)))
    assert found.num_images == 3
    assert found.read(1, 1024).to_pydict() == {
        "image": [png(2), png(4)],
        "captions": [["picture 2", "a red of 2"], ["picture 4", "a red of 4"]],
    }


def test_another_split_is_named_behind_the_file(tmp_path: Path) -> None:
    path = karpathy(tmp_path)
    assert open_captioned(f"{path}#val", NAME).read(0, 9)["image"].to_pylist() == [png(1), png(3)]
    with pytest.raises(ConfigError, match=r"no images of the split 'dev', but of test \(3\), val \(2\); name a split"):
        open_captioned(f"{path}#dev", NAME)


def test_missing_images_and_double_names_are_refused(tmp_path: Path) -> None:
    path = karpathy(tmp_path, below="images")
    (tmp_path / "images/0.png").unlink()
    with pytest.raises(ConfigError, match=r"1 of 3 images do not lie below .*, such as '0.png'; put the images"):
        check_captioned(str(path), NAME)
    for folder in ("images", "more"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "0.png").write_bytes(png(0))
    with pytest.raises(ConfigError, match=r"0.png may be images/0.png or more/0.png below .*; keep one of them"):
        check_captioned(str(path), NAME)


def test_captions_must_be_there_and_not_blank(tmp_path: Path) -> None:
    for sentences, what in (([], "no"), ([{"raw": " "}], "a blank")):
        path = karpathy(tmp_path, sentences=sentences)
        with pytest.raises(ConfigError, match=f"0.png of .* has {what} caption; write one, or leave the image out"):
            open_captioned(str(path), f"{NAME}{what}")
    path.write_text('{"images": [{"filename": "0.png", "split": "test"}]}')
    with pytest.raises(ConfigError, match=r"images.0.sentences is missing; name a dataset_\*.json in Karpathy's"):
        check_captioned(str(path), f"{NAME}.missing")


def test_a_table_has_one_caption_per_image_or_a_list(tmp_path: Path) -> None:
    images = [png(number) for number in range(3)]
    lists = pa.array([["a", "b"], ["c"], ["d", "e", "f"]], pa.list_(pa.string()))
    for name, captions in (("one", pa.array(["a", "b", "c"])), ("lists", lists)):
        pq.write_table(pa.table({"image": images, "caption": captions}), tmp_path / f"{name}.parquet")
        found = open_captioned(str(tmp_path / f"{name}.parquet"), NAME)
        wanted = [one if isinstance(one, list) else [one] for one in captions.to_pylist()]
        assert found.read(1, 5).to_pydict() == {"image": images[1:], "captions": wanted[1:]}


def test_captions_of_several_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(
        pa.table({"image": [png(i) for i in range(4)], "caption": ["a", "b", "a", "c"]}), tmp_path / "set.parquet"
    )
    open_captioned(str(tmp_path / "set.parquet"), NAME)
    assert f"{NAME}: 2 of 4 captions are those of several images" in capsys.readouterr().err


def test_a_set_without_captions_or_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table({"image": [png(0)], "name": ["a"]}), path)
    with pytest.raises(ConfigError, match=rf"^{NAME}: .* has no column of captions .* rename the column$"):
        check_captioned(str(path), NAME)
    pq.write_table(pa.table({"url": ["http://a/b.png"], "caption": ["a"]}), path)
    with pytest.raises(ConfigError, match="has no column of images, only url, caption; name a set"):
        check_captioned(str(path), NAME)
    pq.write_table(pa.table({"image": [b"no image"], "caption": ["a"]}), path)
    with pytest.raises(ConfigError, match=r"none of the first 1 images of .* can be decoded"):
        check_captioned(str(path), NAME)


def test_a_set_that_was_replaced_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    digests = set()
    for caption, number in (("a", 0), ("b", 0), ("a", 1), ("a", 0)):
        pq.write_table(pa.table({"image": [png(number)], "caption": [caption]}), path)
        digests.add(open_captioned(str(path), NAME).digest)
    assert len(digests) == 3
