"""Published vectors are read in the exact layouts of their publishers, and misaligned ones are refused with both
counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.published import check_dimensions, to_vectors
from react_ray.pairs.source import IngestConfig, Source, open_source, to_pairs

DIM = 24
Vectors = tuple[np.ndarray, np.ndarray, np.ndarray]


def unit(seed: int, num_rows: int, dtype: type = np.float16) -> np.ndarray:
    vector_ND = np.random.default_rng(seed).normal(size=(num_rows, DIM))
    return (vector_ND / np.linalg.norm(vector_ND, axis=1, keepdims=True)).astype(dtype)


def metadata(image_ND: np.ndarray, text_ND: np.ndarray, first: int, name: str = "similarity") -> pa.Table:
    """As LAION-400M's: what img2dataset says of each row, and the similarity of its vectors."""
    rows = range(first, first + len(image_ND))
    return pa.table(
        {
            "image_path": [f"{row:09d}" for row in rows],
            "caption": [f"picture {row}" for row in rows],
            "NSFW": ["UNLIKELY"] * len(rows),
            name: (image_ND.astype(np.float64) * text_ND.astype(np.float64)).sum(axis=1),
            "url": [f"http://example.org/{row}.jpg" for row in rows],
            "key": [f"{row:09d}" for row in rows],
        }
    )


def clip_retrieval(folder: Path, counts: list[int], dtype: type = np.float16) -> Vectors:
    """img_emb/img_emb_0.npy, text_emb/text_emb_0.npy, metadata/metadata_0.parquet. Shards of these numbers of rows."""
    images, texts = unit(0, sum(counts), dtype), unit(1, sum(counts), dtype)
    first = 0
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, count in enumerate(counts):
        rows = slice(first, first + count)
        np.save(folder / f"img_emb/img_emb_{number}.npy", images[rows])
        np.save(folder / f"text_emb/text_emb_{number}.npy", texts[rows])
        table = metadata(images[rows], texts[rows], first)
        pq.write_table(table, folder / f"metadata/metadata_{number}.parquet", row_group_size=700)
        first += count
    return images, texts, np.arange(sum(counts))


def datacomp(folder: Path, counts: list[int], compressed: bool = False) -> Vectors:
    """{shard}.npz with b32_img, b32_txt, l14_img, l14_txt, and {shard}.parquet."""
    folder.mkdir(parents=True)
    images, texts = unit(0, sum(counts)), unit(1, sum(counts))
    first = 0
    for number, count in enumerate(counts):
        rows = slice(first, first + count)
        arrays = {"b32_img": images[rows], "b32_txt": texts[rows], "l14_img": texts[rows], "l14_txt": images[rows]}
        (np.savez_compressed if compressed else np.savez)(folder / f"{number:032x}.npz", **arrays)
        table = metadata(images[rows], texts[rows], first, "clip_b32_similarity_score").rename_columns(
            {"caption": "text", "key": "uid"}
        )
        pq.write_table(table, folder / f"{number:032x}.parquet")
        first += count
    return images, texts, np.arange(sum(counts))


def read(source: Source, dim: int = DIM) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """(image, text, captions, statuses) of all parts, as ingest makes them."""
    images, texts, captions, statuses = [], [], [], []
    for part in source.parts:
        table = source.read(part.part)
        image_ND, text_ND, status_N = to_vectors(table, part.part, source.config, dim)
        images.append(image_ND)
        texts.append(text_ND)
        statuses += list(status_N)
        captions += to_pairs(table, part.part, source.config)["caption"].to_pylist()
    return np.concatenate(images), np.concatenate(texts), captions, statuses


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_clip_retrievals_layout_gives_every_row_once_and_in_order(tmp_path: Path, dtype: type) -> None:
    # 11 shards: number 10 comes after 9, not after 1.
    images, texts, rows = clip_retrieval(tmp_path, [700, 301, *[100] * 9], dtype)
    source = open_source(IngestConfig(source=str(tmp_path), rows_per_part=256))
    assert source.has_vectors and not source.has_images and source.num_rows == 1901
    image_ND, text_ND, captions, statuses = read(source)
    close(image_ND, images)
    close(text_ND, texts)
    assert captions == [f"picture {row}" for row in rows] and set(statuses) == {"ok"}
    pairs = to_pairs(source.read(0), 0, source.config)
    assert pairs.column_names[:3] == ["pair_id", "url", "caption"] and {"similarity", "NSFW"} < set(pairs.column_names)
    assert "image_vector" not in pairs.column_names


@pytest.mark.parametrize("compressed", [False, True])
def test_datacomps_layout_gives_the_vectors_of_the_model_that_was_asked_for(tmp_path: Path, compressed: bool) -> None:
    images, texts, rows = datacomp(tmp_path / "pool", [1000, 500, 1], compressed)
    source = open_source(IngestConfig(source=str(tmp_path / "pool"), rows_per_part=300, vector_prefix="b32"))
    image_ND, text_ND, captions, _ = read(source)
    close(image_ND, images)
    close(text_ND, texts)
    assert captions == [f"picture {row}" for row in rows]
    with pytest.raises(ConfigError, match=r"has b32, l14; name one"):
        open_source(IngestConfig(source=str(tmp_path / "pool")))


@pytest.mark.parametrize("fixed", [False, True])
def test_vectors_in_a_parquet_file_are_normalised_and_what_is_none_keeps_its_place(tmp_path: Path, fixed: bool) -> None:
    vector_ND = 3 * unit(0, 2000, np.float64)
    vector_ND[5], vector_ND[6, 3] = 0, np.nan
    rows: list[list[float] | None] = vector_ND.tolist()
    rows[7] = None
    kind = pa.list_(pa.float64(), DIM) if fixed else pa.list_(pa.float64())
    pq.write_table(
        pa.table({"TEXT": ["x"] * 2000, "clip": pa.array(rows, kind)}), tmp_path / "a.parquet", row_group_size=300
    )
    source = open_source(IngestConfig(source=str(tmp_path), image_vector_column="clip", rows_per_part=700))
    image_ND, text_ND, _, statuses = read(source)
    norm_N = np.linalg.norm(image_ND.astype(np.float32), axis=1)
    assert np.flatnonzero(np.isnan(norm_N)).tolist() == [5, 6, 7] and np.isnan(text_ND).all()
    np.testing.assert_allclose(np.delete(norm_N, [5, 6, 7]), 1, atol=1e-3)
    assert statuses[4:9] == ["ok", "not_finite", "not_finite", "empty", "ok"]
    with pytest.raises(ConfigError, match="24 dimensions, those of the recipe's backbone 512"):
        read(source, dim=512)


def test_files_of_different_lengths_are_refused_with_both_counts(tmp_path: Path) -> None:
    clip_retrieval(tmp_path, [1000, 800])
    np.save(tmp_path / "img_emb/img_emb_1.npy", unit(0, 799))
    with pytest.raises(
        ConfigError, match=r"img_emb_1\.npy has 799 rows, .*text_emb_1\.npy has 800 rows.*take the shard away"
    ):
        open_source(IngestConfig(source=str(tmp_path)))
    datacomp(tmp_path / "npz", [10])
    pq.write_table(
        pq.read_table(next((tmp_path / "npz").glob("*.parquet"))).slice(1), next((tmp_path / "npz").glob("*.parquet"))
    )
    with pytest.raises(ConfigError, match=r"has 10 rows, .*\.parquet has 9 rows"):
        open_source(IngestConfig(source=str(tmp_path / "npz"), vector_prefix="b32"))


def test_rows_that_are_shifted_are_found_by_their_published_similarity(tmp_path: Path) -> None:
    images, _, _ = clip_retrieval(tmp_path, [2000])
    shifted = np.roll(images, 1, axis=0)
    np.save(tmp_path / "img_emb/img_emb_0.npy", shifted)
    with pytest.raises(
        ConfigError,
        match=r"rows of part 0 are not where their vectors are: similarity of pair \d+ is .*fetch the files again",
    ):
        read(open_source(IngestConfig(source=str(tmp_path))))
    close(read(open_source(IngestConfig(source=str(tmp_path), similarity_column="none")))[0], shifted)


def test_a_shard_that_is_missing_or_cut_off_is_named(tmp_path: Path) -> None:
    clip_retrieval(tmp_path, [100, 100, 100])
    (tmp_path / "text_emb/text_emb_1.npy").unlink()
    with pytest.raises(ConfigError, match="text_emb lacks number 1 that img_emb and metadata have"):
        open_source(IngestConfig(source=str(tmp_path)))
    (tmp_path / "img_emb/img_emb_1.npy").unlink()
    (tmp_path / "metadata/metadata_1.parquet").unlink()
    assert open_source(IngestConfig(source=str(tmp_path))).num_rows == 200
    cut = tmp_path / "img_emb/img_emb_2.npy"
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"img_emb_2\.npy: \d+ bytes where its header says \d+; it is cut off"):
        open_source(IngestConfig(source=str(tmp_path)))
    np.save(cut, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(StorageError, match=r"it holds object \[1\]; vectors are floats"):
        open_source(IngestConfig(source=str(tmp_path)))
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    with pytest.raises(StorageError, match=r"no \.npz file"):
        open_source(IngestConfig(source=str(tmp_path / "bad.npz")))


@pytest.mark.parametrize("fixed", [False, True])
def test_dimensions_of_another_model_are_found_in_the_first_row(tmp_path: Path, fixed: bool) -> None:
    kind = pa.list_(pa.float32(), DIM) if fixed else pa.list_(pa.float32())
    vectors = pa.array(unit(0, 4).tolist(), kind)
    pq.write_table(pa.table({"caption": list("abcd"), "image_vector": vectors}), tmp_path / "a.parquet")
    source = open_source(IngestConfig(source=str(tmp_path), max_rows=1))
    check_dimensions(source.read(0), source.config, DIM)
    with pytest.raises(ConfigError, match=rf"image_vector have {DIM} dimensions, those of the recipe's backbone 512"):
        check_dimensions(source.read(0), source.config, 512)
