"""Exports for Embedding Atlas: one table with the facts, the picture and the vector of each pair; losses are said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray import schema
from react_ray.cli import main
from react_ray.draft import create
from react_ray.errors import ArtifactCorrupt, ArtifactMissing, ConfigError
from react_ray.kinds import EMBEDDINGS, IMAGES, PAIRS, RETRIEVED, EmbeddingsFacts, PairsFacts, RetrievedFacts
from react_ray.pair_id import pair_ids
from react_ray.pairs.export.atlas import export_atlas
from react_ray.storage import Storage, join, open_parquet
from react_ray.vectors import as_vectors, embeddings_table
from tests.support.retrieved import BACKBONE, DIM, EVIL, PER_PART, photo, write_images, write_queries, write_run

NOTHING = np.full(DIM, np.nan, np.float16)


def vectors(seed: int, num_rows: int = PER_PART) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_rows, DIM)).astype(np.float16)


def write_pairs(uri: str, num_parts: int = 2) -> None:
    """Pairs with a column that has the name of one of ours, and one with lists."""
    pairs = create(join(uri, "pairs"), PAIRS, {}, {}, num_parts)
    for part in range(num_parts):
        ids = pair_ids(part, PER_PART)
        columns = {
            "pair_id": ids,
            "url": [f"https://example.org/{pair}.jpg" for pair in ids],
            "caption": [f"a heron {pair}" for pair in ids],
            "captions": [["a heron", "a bird"]] * len(ids),
            "vector": ["hand-drawn"] * len(ids),
        }
        pairs.commit(part, pa.table(columns), 0.1)
    pairs.seal(PairsFacts())


def write_embeddings(uri: str, image: list[np.ndarray], text: list[np.ndarray], **config: bool) -> None:
    embeddings = create(join(uri, "embeddings"), EMBEDDINGS, config, {}, len(image))
    for part, (image_ND, text_ND) in enumerate(zip(image, text, strict=True)):
        status_N = np.array([schema.OK] * PER_PART, object)
        heads = {"safety": pa.array(np.arange(PER_PART), pa.float32())}
        table = embeddings_table(pa.array(pair_ids(part, PER_PART)), image_ND, text_ND, status_N, heads)
        embeddings.commit(part, table, 0.1)
    embeddings.seal(EmbeddingsFacts(BACKBONE, DIM))


def exported(out: Path) -> pa.Table:
    assert [path.name for path in out.iterdir()] == ["pairs.parquet"]
    return pq.read_table(out / "pairs.parquet")


def test_retrieved_pairs_have_their_classes_score_picture_and_the_vector_of_the_caption(
    place: Storage, tmp_path: Path
) -> None:
    write_run(place)
    said = export_atlas(join(place.uri, "retrieved"), str(tmp_path / "out"))
    file = tmp_path / "out" / "pairs.parquet"
    assert said.splitlines() == [
        f"{file}: 12 pairs with the vectors of their captions; 2 pairs have no image (http_404 2)",
        f"embedding-atlas {file} --text caption --vector vector --image image",
    ]
    table = exported(tmp_path / "out")
    assert table.column_names == [
        "pair_id",
        "url",
        "caption",
        "class_name",
        "matched_classes",
        "score",
        "image",
        "vector",
    ]
    assert table.schema.field("vector").type == pa.list_(pa.float32())
    assert table.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = table.to_pylist()
    names = ["heron", EVIL, "crane (birds)", "crane (machines)"]
    assert [row["class_name"] for row in rows] == names * 3
    assert rows[0]["matched_classes"] == ["heron", EVIL] and rows[3]["matched_classes"] == [names[3], "heron"]
    assert rows[0]["caption"] == f"a heron 0 {EVIL}" and rows[1]["score"] == np.float32(0.89)
    assert [row["pair_id"] for row in rows] == [*pair_ids(0, PER_PART).tolist(), *pair_ids(1, PER_PART).tolist()]
    assert rows[0]["image"] == {"bytes": photo(0), "path": "0.jpg"}
    assert rows[1]["image"] is None and rows[2]["image"]["path"] == "2.bin"
    assert all(row["vector"] == [1.0] * DIM for row in rows)


def test_a_class_that_found_a_pair_twice_is_named_once_and_a_random_pair_names_none(
    disk_place: Storage, tmp_path: Path
) -> None:
    write_queries(disk_place.uri)
    retrieved = create(join(disk_place.uri, "retrieved"), RETRIEVED, {}, {}, 1)
    of = [[2, 0, 2], None, [], [4]]
    columns = {
        "pair_id": pair_ids(0, 4),
        "url": [None] * 4,
        "caption": [""] * 4,
        "class_id": [2, -1, None, 4],
        "score": [0.5, None, None, 0.1],
        "matches": [
            x if x is None else [{"class_id": i, "prompt": "", "score": 0.5, "key": "text"} for i in x] for x in of
        ],
        "text_embedding": as_vectors(vectors(0, 4)),
    }
    retrieved.commit(0, pa.table(columns, schema=schema.retrieved(DIM)), 0.1)
    uri = retrieved.seal(RetrievedFacts(BACKBONE, DIM, [])).uri
    said = export_atlas(uri, str(tmp_path / "out"))
    assert "4 pairs with the vectors of their captions; no images are stored beside them" in said
    table = exported(tmp_path / "out")
    assert table["class_name"].to_pylist() == ["crane (birds)", None, None, "accordion"]
    assert table["matched_classes"].to_pylist() == [["crane (birds)", "heron"], [], [], ["accordion"]]
    assert "image" not in table.column_names and "--image" not in said


def test_a_database_has_scores_and_the_vectors_of_its_images_and_counts_what_lacks_one(
    place: Storage, tmp_path: Path
) -> None:
    image, text = [vectors(0), vectors(1)], [vectors(2), vectors(3)]
    image[0][1] = image[1][5] = text[0][0] = NOTHING
    write_pairs(place.uri, num_parts=3)  # the third part was ingested after the others were embedded
    write_embeddings(place.uri, image, text)
    write_images(place.uri)
    out = join(place.uri, "atlas")
    said = export_atlas(place.uri, out)
    assert (
        ": 10 pairs with the vectors of their images; 8 without such a vector left out; 1 pairs have no image" in said
    )
    with open_parquet(join(out, "pairs.parquet")) as file:
        table = file.read()
    assert table.column_names == [
        *("pair_id", "url", "caption", "captions", "source_vector"),
        *("similarity", "safety", "image", "vector"),
    ]
    kept = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    ids = np.concatenate([pair_ids(0, PER_PART), pair_ids(1, PER_PART)])
    assert table["pair_id"].to_pylist() == ids[kept].tolist()
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), np.concatenate(image)[kept])
    assert table["similarity"].null_count == 1 and table["safety"].to_pylist()[:3] == [0.0, 2.0, 3.0]
    assert table["source_vector"].to_pylist() == ["hand-drawn"] * 10


def test_where_only_captions_are_embedded_the_vectors_are_theirs(disk_place: Storage, tmp_path: Path) -> None:
    text = [vectors(0)]
    write_pairs(disk_place.uri, num_parts=1)
    write_embeddings(disk_place.uri, [np.tile(NOTHING, (PER_PART, 1))], text, images=False, captions=True)
    assert "6 pairs with the vectors of their captions; no images" in export_atlas(
        disk_place.uri, str(tmp_path / "out")
    )
    assert np.array_equal(np.array(exported(tmp_path / "out")["vector"].to_pylist(), np.float32), text[0])


def test_a_part_without_images_yet_is_counted(disk_place: Storage, tmp_path: Path) -> None:
    write_pairs(disk_place.uri)
    write_embeddings(disk_place.uri, [vectors(0), vectors(1)], [vectors(2), vectors(3)])
    write_images(disk_place.uri, num_parts=1)
    said = export_atlas(disk_place.uri, str(tmp_path / "out"))
    assert "7 pairs have no image (no image yet 6, http_404 1)" in said
    assert exported(tmp_path / "out")["image"].null_count == 7


def test_what_cannot_be_exported_is_refused_and_leaves_no_file(disk_place: Storage, tmp_path: Path) -> None:
    root, out = disk_place.uri, tmp_path / "out"
    with pytest.raises(ArtifactMissing, match="no finished embeddings here; run `react-ray embed RECIPE` first"):
        export_atlas(root, str(out))
    write_run(disk_place, "run")
    with pytest.raises(ArtifactMissing, match=r"name .*/run/retrieved"):
        export_atlas(join(root, "run"), str(out))
    with pytest.raises(ConfigError, match="holds images; name <run>/retrieved or the database"):
        export_atlas(join(root, "run/images"), str(out))
    write_pairs(root)
    nothing = [np.tile(NOTHING, (PER_PART, 1))] * 2
    write_embeddings(root, nothing, nothing)
    with pytest.raises(ConfigError, match="no pair has a vector of its images; see `react-ray show"):
        export_atlas(root, str(out))
    write_images(root, done=[0])
    with pytest.raises(ArtifactMissing, match="no finished images here; run `react-ray download RECIPE` first"):
        export_atlas(root, str(out))
    assert not out.exists() or not list(out.iterdir())


def test_a_run_that_embedded_no_captions_is_told_to_export_its_database(disk_place: Storage, tmp_path: Path) -> None:
    retrieved = create(join(disk_place.uri, "retrieved"), RETRIEVED, {}, {}, 1)
    table = schema.retrieved(DIM).empty_table()
    columns = [pa.array(pair_ids(0, 2)), *(pa.nulls(2, field.type) for field in list(table.schema)[1:])]
    retrieved.commit(0, pa.table(columns, schema=table.schema), 0.1)
    uri = retrieved.seal(RetrievedFacts(BACKBONE, DIM, [])).uri
    with pytest.raises(ConfigError, match="no pair has a vector of its captions; name the database instead of the"):
        export_atlas(uri, str(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


def test_images_of_other_pairs_stop_it_without_half_a_file(disk_place: Storage, tmp_path: Path) -> None:
    write_pairs(disk_place.uri)
    write_embeddings(disk_place.uri, [vectors(0), vectors(1)], [vectors(2), vectors(3)])
    images = create(join(disk_place.uri, "images"), IMAGES, {}, {}, 2)
    for part in range(2):
        table = pa.table({"pair_id": pair_ids(0, PER_PART), "status": ["http_404"] * PER_PART})
        for field in list(schema.IMAGES)[1:]:
            if field.name != "status":
                table = table.append_column(field, pa.nulls(PER_PART, field.type))
        images.commit(part, schema.conform(table, schema.IMAGES), 0.1)
    images.seal()
    with pytest.raises(
        ArtifactCorrupt, match="has other pairs than those beside it in part 1; delete the images there"
    ):
        export_atlas(disk_place.uri, str(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


def test_the_command_line_writes_it_once_and_knows_no_shards(
    disk_place: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(disk_place)
    command = ["export", "embedding-atlas", join(disk_place.uri, "retrieved"), str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--rows-per-shard", "5"])
    assert ended.value.code == 2 and "one file without shards; leave --rows-per-shard out" in capsys.readouterr().err
    main(command)
    assert "12 pairs with the vectors of their captions" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2 and "is not empty" in capsys.readouterr().err
    main(["export", "--help"])
    assert "embedding-atlas" in capsys.readouterr().out
