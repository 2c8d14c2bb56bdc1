"""Rows of a training: which retrieved pairs are of use, and what they weigh."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray.draft import create
from react_ray.gated.config import CustomizeConfig, needs_text_tower
from react_ray.kinds import IMAGES, RETRIEVED
from react_ray.pairs.source import IngestConfig
from react_ray.stages.training.rows import RetrievedRows, SourceRows
from react_ray.vectors import as_vectors


def retrieved_rows(folder: Path, needs_vectors: bool, facts: dict[str, int]) -> RetrievedRows:
    """Five pairs: whole; without a vector; without a caption, twice; whose image failed."""
    vectors = as_vectors(np.eye(4, dtype=np.float16)).take(pa.array([0, None, None, None, 3]))
    retrieved = create(str(folder / "retrieved"), RETRIEVED, {}, {}, 1)
    if not retrieved.sealed:
        captions = ["heron", "egret", None, " ", "stork"]
        table = pa.table({"pair_id": range(5), "caption": captions, "class_id": range(5), "text_embedding": vectors})
        retrieved.commit(0, table, 1.0, **facts)
    images = create(str(folder / "images"), IMAGES, {}, {}, 1)
    if not images.sealed:
        images.commit(
            0, pa.table({"image": [b"1", b"2", b"3", b"4", None], "status": ["ok", "ok", "ok", "ok", "failed"]}), 1.0
        )
    return RetrievedRows(retrieved.seal(), images.seal(), needs_vectors)


@pytest.mark.parametrize("facts", [{"trainable": 1}, {}])
def test_pairs_without_a_vector_train_where_the_text_tower_runs_and_no_others_do(
    tmp_path: Path, facts: dict[str, int]
) -> None:
    stored = retrieved_rows(tmp_path, True, facts)
    assert stored.block_sizes == [1]
    assert stored.read(0)["captions"].to_pylist() == [["heron"]] and "text_embedding" in stored.read(0).column_names
    assert stored.left_out == "4 of 5 retrieved pairs do not train: no image, or no vector of their caption"
    live = retrieved_rows(tmp_path, False, facts)
    assert live.block_sizes == [2] and live.block_bytes[0] > 0
    assert live.read(0)["captions"].to_pylist() == [["heron"], ["egret"]]
    assert live.read(0)["image"].to_pylist() == [b"1", b"2"] and "text_embedding" not in live.read(0).column_names


def test_the_text_tower_runs_where_it_trains_or_is_asked_to() -> None:
    runs = {"locked-text": False, "gated-image": False, "lora": False, "full": True, "locked-image": True}
    assert {name: needs_text_tower(CustomizeConfig.model_validate({"method": name})) for name in runs} == runs
    assert needs_text_tower(CustomizeConfig(live_text=True))


def test_images_of_a_source_that_do_not_train_are_counted(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "PNG")
    images, captions = [file.getvalue(), file.getvalue(), b"no image", None], [["a", "b"], [], ["c"], ["d"]]
    pq.write_table(pa.table({"image": images, "caption": captions}), tmp_path / "pool.parquet")
    config = IngestConfig(source=str(tmp_path / "pool.parquet"), max_unusable=1.0)
    drawn, every = SourceRows(config, False), SourceRows(config, True)
    assert (drawn.block_sizes, every.block_sizes) == ([2], [2])
    assert drawn.left_out.endswith("pool.parquet that do not train: 1 empty, 1 undecodable")
    assert every.left_out.endswith("pool.parquet that do not train: 1 empty, 1 no_caption, 1 undecodable")


def test_a_block_is_a_row_group_of_the_images_and_the_same_rows_of_the_pairs(tmp_path: Path) -> None:
    """64 images of a quarter of a MB: 4 groups of 16. The pairs' own groups are others."""
    images = [bytes([row]) * 260_000 for row in range(64)]
    status = ["failed" if row % 10 == 3 else "ok" for row in range(64)]
    vectors = as_vectors(np.eye(64, dtype=np.float16))
    pairs = {"pair_id": range(64), "caption": [f"heron {row}" for row in range(64)], "class_id": range(64)}
    for name, rows_per_group in (("even", 8), ("odd", 100)):
        made = create(str(tmp_path / name), RETRIEVED, {}, {}, 2)
        fetched = create(str(tmp_path / f"{name}_images"), IMAGES, {}, {}, 2)
        for part in range(2):
            made.commit(part, pa.table(pairs | {"text_embedding": vectors}), 1.0, rows_per_group=rows_per_group)
            fetched.commit(part, pa.table({"image": images, "status": status}), 1.0)
        rows = RetrievedRows(made.seal(), fetched.seal())
        assert rows.block_sizes == [14, 15, 14, 14] * 2 and min(rows.block_bytes) > 0
        for block in range(8):
            table = rows.read(block)
            assert table["pair_id"].to_pylist() == [
                row for row in range(block % 4 * 16, block % 4 * 16 + 16) if row % 10 != 3
            ]
            assert [image[0] for image in table["image"].to_pylist()] == table["pair_id"].to_pylist()


def test_a_block_of_a_source_is_some_chunks_of_one_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((600, 600), 80).save(file, "PNG", compress_level=0)  # 0.36 MB
    for name, rows_per_group in (("a", 4), ("b", 40)):
        table = pa.table({"image": [file.getvalue()] * 40, "caption": [f"{name} {row}" for row in range(40)]})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=rows_per_group, use_dictionary=False)
    rows = SourceRows(IngestConfig(source=str(tmp_path), max_rows=70, rows_per_part=16), False)
    assert sum(rows.block_sizes) == 70 and max(rows.block_sizes[:-1]) <= 16 and rows.block_sizes[-1] == 30
    captions = [text for block in range(len(rows.block_sizes)) for (text,) in rows.read(block)["captions"].to_pylist()]
    assert captions == [f"a {row}" for row in range(40)] + [f"b {row}" for row in range(30)]
