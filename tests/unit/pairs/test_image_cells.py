"""Every form in which a table holds images gives the same bytes, and a cell without an image says why."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from react_ray import schema
from react_ray.pairs.image_cells import holds_bytes, image_cells
from react_ray.pairs.source import IngestConfig, open_source, to_images
from react_ray.storage import Storage


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8 + number, 6), (20 * number, 80, 200)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [picture(number) for number in range(3)]
STRUCTS = [{"bytes": data, "path": f"elsewhere/{i}.png"} for i, data in enumerate(IMAGES)]
HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    "column",
    [
        pa.array(IMAGES, pa.binary()),
        pa.array(IMAGES, pa.large_binary()),
        pa.array(IMAGES, pa.binary_view()),
        pa.array(STRUCTS, HUGGING_FACE),
        pa.array(STRUCTS, pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())])),
        pa.array([[data] for data in IMAGES], pa.list_(pa.binary())),
        pa.array([[cell] for cell in STRUCTS], pa.large_list(HUGGING_FACE)),
        pa.array([[cell] for cell in STRUCTS], pa.list_(HUGGING_FACE, 1)),
    ],
    ids=lambda column: str(column.type)[:40],
)
def test_a_column_of_any_form_gives_its_bytes(column: pa.Array) -> None:
    assert holds_bytes(column.type)
    cells = image_cells(pa.chunked_array([column]), "/nowhere/x.parquet")
    assert [cell.data for cell in cells] == IMAGES and not any(cell.problem for cell in cells)


def test_other_columns_hold_no_images() -> None:
    for kind in (pa.string(), pa.int64(), pa.struct([("path", pa.string())]), pa.list_(pa.float32()), pa.null()):
        assert not holds_bytes(kind)


def read_all(uri: str) -> pa.Table:
    config = IngestConfig(source=uri, rows_per_part=3)
    source = open_source(config)
    return pa.concat_tables([to_images(source.read(part.part), part.part, config) for part in source.parts])


def write(place: Storage, name: str, images: list[object], kind: pa.DataType) -> None:
    sink = io.BytesIO()
    table = pa.table({"image": pa.array(images, kind), "text": [f"plate {i}" for i in range(len(images))]})
    pq.write_table(table, sink)
    place.write(name, sink.getvalue())


@pytest.mark.parametrize("bytes_kind", [pa.binary(), pa.null()])
def test_a_path_without_bytes_is_read_beside_the_table(place: Storage, bytes_kind: pa.DataType) -> None:
    for number, data in enumerate(IMAGES):
        place.write(f"data/pics/{number}.png", data)
    paths = ["pics/0.png", "./pics/../pics/1.png", f"{place.uri}/data/pics/2.png", "pics/9.png"]
    kind = pa.struct([("bytes", bytes_kind), ("path", pa.string())])
    write(place, "data/a.parquet", [{"bytes": None, "path": path} for path in paths], kind)
    got = read_all(f"{place.uri}/data/a.parquet")
    assert got["image"].to_pylist() == [*IMAGES, None]
    assert got["status"].to_pylist() == [schema.OK] * 3 + [schema.EMPTY]
    assert got["error"][3].as_py() == "no file 'pics/9.png' of at most 256 MiB lies below the folder of the table"


def test_files_of_a_folder_read_their_own_neighbours(place: Storage) -> None:
    for number in range(2):
        place.write(f"{number}/one.png", IMAGES[number])
        write(place, f"{number}/train.parquet", [{"bytes": None, "path": "one.png"}], HUGGING_FACE)
    assert read_all(f"{place.uri}/*/train.parquet")["image"].to_pylist() == IMAGES[:2]


def test_a_path_that_leads_elsewhere_or_is_no_file_is_a_row_with_a_reason(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    (inside / "folder").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(IMAGES[0])
    os.mkfifo(inside / "pipe")
    (inside / "empty.png").write_bytes(b"")
    reasons = {
        "../secret.png": "does not lie below",
        str(tmp_path / "secret.png"): "does not lie below",
        f"{inside}/../secret.png": "does not lie below",
        "\0": "does not lie below",
        "x" * 5000: "does not lie below",
        "s3://other/1.jpg": "no file",
        "..": "does not lie below",
        ".": "does not lie below",
        "folder": "no file",
        "pipe": "no file",
        "empty.png": "no bytes",
        "http://example.org/1.png": "ingest.url_column",
        "": "no bytes",
    }
    images: list[object] = [{"bytes": None, "path": path} for path in reasons]
    write_to = inside / "a.parquet"
    pq.write_table(pa.table({"image": pa.array(images, HUGGING_FACE), "text": [""] * len(images)}), write_to)
    got = read_all(str(write_to))
    assert got["status"].to_pylist() == [schema.EMPTY] * len(reasons)
    for error, reason in zip(got["error"].to_pylist(), reasons.values(), strict=True):
        assert reason in error and len(error) < 200


def test_several_images_in_a_cell_are_refused_by_their_number() -> None:
    column = pa.chunked_array([pa.array([STRUCTS, [], None, STRUCTS[:1]], pa.list_(HUGGING_FACE))])
    cells = image_cells(column, "/nowhere/x.parquet")
    assert [cell.data for cell in cells] == [None, None, None, IMAGES[0]]
    assert cells[0].problem == "3 images in one cell; give each image a row of its own"
    assert cells[1].problem == cells[2].problem == "no bytes"
