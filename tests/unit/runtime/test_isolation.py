"""How the stages mark a row that kills its process. tests/cluster/test_killers.py has the processes that die."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image
from ray import cloudpickle

from react_ray.clip.config import BackboneConfig, EmbedConfig
from react_ray.draft import Draft, create
from react_ray.kinds import EMBEDDINGS, IMAGES, PAIRS, PairsFacts
from react_ray.manifest import Receipt
from react_ray.pairs.download import DownloadConfig
from react_ray.pairs.source import IngestConfig
from react_ray.runtime.isolation import CRASHED, LoneProcess
from react_ray.runtime.map_parts import MapStage, Step
from react_ray.stages.downloading.download_part import DownloadPart
from react_ray.stages.embedding.embed_part import EmbedPart
from react_ray.stages.embedding.read_rows import FetchImages
from react_ray.stages.ingest import CommitPairs
from tests.support.tiny_clip import tiny_config
from tests.support.url_list import QUICK
from tests.support.web import Web

DOWNLOAD = DownloadConfig(**QUICK, image_size=32)
KILLER, ROWS = 2, 5


class Given:
    """Reads a table that it was given."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __call__(self, part: int) -> pa.Table:
        return self.table


def drafts(folder: Path) -> dict[str, Draft[Any]]:
    facts = PairsFacts({"ends": [ROWS], "files": ""}, [])
    return {
        "pairs": create(str(folder / "pairs"), PAIRS, {}, {}, 1, facts=facts),
        "images": create(str(folder / "images"), IMAGES, {}, {}, 1),
        "embeddings": create(str(folder / "embeddings"), EMBEDDINGS, {}, {}, 1),
    }


def committed(stage: MapStage, killers: list[int]) -> Receipt:
    process = LoneProcess(cloudpickle.dumps(stage), 0, None)
    assert process.num_rows() == ROWS
    assert process.rehearse(range(KILLER, KILLER + 1)) is True
    receipt = process.commit(killers)
    assert isinstance(receipt, Receipt), receipt
    return receipt


def assert_marked(marked: pa.Table, undisturbed: pa.Table, kept: set[str]) -> None:
    """One row has lost all but what is kept, and has its status; no other row has changed."""
    assert marked.schema == undisturbed.schema
    for row, (found, expected) in enumerate(zip(marked.to_pylist(), undisturbed.to_pylist(), strict=True)):
        if row != KILLER:
            assert found == expected
        else:
            lost = {name: None for name in expected if name not in kept}
            assert found == expected | lost | {"status": "crashed"} | (
                {"error": CRASHED} if "error" in expected else {}
            )


def both(folder: Path, stage_of: Any) -> list[dict[str, Draft[Any]]]:
    """The artifacts with a killer, and without."""
    made = []
    for name, killers in (("marked", [KILLER]), ("undisturbed", [])):
        made.append(drafts(folder / name))
        committed(stage_of(made[-1]), killers)
    return made


def table(draft: Draft[Any]) -> pa.Table:
    found = draft.written(0)
    assert found is not None
    return found


def pairs_of(web: Web) -> pa.Table:
    urls = [f"{web.http}/image/{row}.jpg?side=50" for row in range(ROWS)]
    return pa.table({"pair_id": range(ROWS), "url": urls, "caption": [f"c {row}" for row in range(ROWS)]})


def test_ingest_marks_the_image_and_keeps_its_pair(tmp_path: Path) -> None:
    images = []
    for row in range(ROWS):
        file = io.BytesIO()
        Image.new("RGB", (9 + row, 9)).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": f"{row}.png"})
    given = pa.table({"image": images, "caption": [f"c {row}" for row in range(ROWS)]})

    def stage(made: dict[str, Draft[Any]]) -> MapStage:
        kinds = {kind: made[kind] for kind in ("pairs", "images")}
        return MapStage("ingest", Given(given), CommitPairs(IngestConfig(source="a.parquet"), kinds, {}, 0))

    marked, undisturbed = both(tmp_path, stage)
    assert table(marked["pairs"]) == table(undisturbed["pairs"])
    assert marked["pairs"].receipt(0).files == undisturbed["pairs"].receipt(0).files
    assert_marked(table(marked["images"]), table(undisturbed["images"]), {"pair_id", "caption"})
    assert marked["images"].receipt(0).statuses == {"ok": ROWS - 1, "crashed": 1}


def test_download_marks_the_row_and_another_download_may_try_it_again(web: Web, tmp_path: Path) -> None:
    def stage(made: dict[str, Draft[Any]]) -> MapStage:
        return MapStage("download", Given(pairs_of(web)), DownloadPart(DOWNLOAD, made["images"], False))

    marked, undisturbed = both(tmp_path, stage)
    assert_marked(table(marked["images"]), table(undisturbed["images"]), {"pair_id", "caption"})
    again = MapStage("download", Given(pairs_of(web)), DownloadPart(DOWNLOAD, marked["images"], True))
    committed(again, [])
    assert table(marked["images"]) == table(undisturbed["images"])


def test_an_image_that_is_fetched_and_embedded_in_one_pipeline_is_marked_in_both_artifacts(
    web: Web, tmp_path: Path
) -> None:
    backbone = BackboneConfig(name=tiny_config(tmp_path), pretrained="random")

    def stage(made: dict[str, Draft[Any]]) -> MapStage:
        work = EmbedPart(backbone, EmbedConfig(batch_size=2), 0, 1, made["embeddings"])
        return MapStage("embed", Given(pairs_of(web)), work, steps=(Step(FetchImages(DOWNLOAD, made["images"])),))

    marked, undisturbed = both(tmp_path, stage)
    assert_marked(table(marked["images"]), table(undisturbed["images"]), {"pair_id", "caption"})
    assert_marked(table(marked["embeddings"]), table(undisturbed["embeddings"]), {"pair_id"})
