"""Every format of tables gives the same rows, and bad rows stay in their place."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from react_ray import schema
from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.source import IngestConfig, caption_statuses, open_source, to_images, to_pairs
from react_ray.storage import Storage, join
from tests.support.source_files import read_all, write

NUM_ROWS = 43
PAGE_URLS: list[str | None] = [f"http://127.0.0.1/{i % 20}.jpg" for i in range(NUM_ROWS)]  # some of them twice
CAPTIONS: list[str | None] = [f'a "heron", no. {i},\nby the Łódź' for i in range(NUM_ROWS)]
PAGE_URLS[5], PAGE_URLS[6], CAPTIONS[7], CAPTIONS[8] = None, "", "", "x" * 100_000
TABLE = pa.table({"url": PAGE_URLS, "caption": CAPTIONS, "license": [f"CC{i}" for i in range(NUM_ROWS)]})


def delimited(table: pa.Table, delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(table.column_names)
    writer.writerows(zip(*table.to_pydict().values(), strict=True))
    return text.getvalue().encode()


def arrow_file(table: pa.Table, compression: str = "uncompressed") -> bytes:
    sink = io.BytesIO()
    feather.write_feather(table, sink, compression=compression, chunksize=4)
    return sink.getvalue()


def arrow_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=4):
            writer.write_batch(batch)
    return sink.getvalue()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=4)
    return sink.getvalue()


def lines(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in table.to_pylist())


def array(table: pa.Table) -> bytes:
    return json.dumps(table.to_pylist(), indent=1, ensure_ascii=False).encode()


WRITERS: dict[str, tuple[str, Callable[[pa.Table], bytes]]] = {
    "parquet": ("parquet", parquet),
    "feather": ("feather", arrow_file),
    "compressed feather": ("feather", lambda table: arrow_file(table, "zstd")),
    "arrow stream": ("arrow", arrow_stream),
    "csv": ("csv", lambda table: delimited(table, ",")),
    "tsv": ("tsv", lambda table: delimited(table, "\t")),
    "jsonl": ("jsonl", lines),
    "json": ("json", array),
    "json of lines": ("json", lines),
}
GZIPPED = ("csv", "tsv", "jsonl", "json")
KINDS = [*((kind, "") for kind in WRITERS), *((kind, ".gz") for kind in GZIPPED)]


def expected(table: pa.Table = TABLE) -> dict[str, list[str | None]]:
    rows = table.to_pydict()
    return rows | {
        "url": [url or None for url in rows["url"]],
        "caption": [caption or "" for caption in rows["caption"]],
    }


def values(table: pa.Table) -> dict[str, list[str | None]]:
    return {name: table[name].to_pylist() for name in ("url", "caption", "license")}


@pytest.mark.parametrize(("kind", "gz"), KINDS)
@pytest.mark.parametrize("rows_per_part", [1, 7, 43, 100])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str, gz: str, rows_per_part: int) -> None:
    suffix, writer = WRITERS[kind]
    uri = write(tmp_path, f"list.{suffix}{gz}", writer(TABLE))
    pairs = read_all(IngestConfig(source=uri, rows_per_part=rows_per_part))
    assert pairs.column_names == [*schema.PAIRS.names, "license"]
    assert values(pairs) == expected()


@pytest.mark.parametrize(("kind", "gz"), KINDS)
def test_a_folder_and_a_glob_on_any_storage_are_one_table_in_the_order_of_names(
    place: Storage, kind: str, gz: str
) -> None:
    suffix, writer = WRITERS[kind]
    for name, start, stop in (("a", 0, 9), ("b/c", 9, 10), ("d", 10, NUM_ROWS)):
        write(place, f"{name}.{suffix}{gz}", writer(TABLE.slice(start, stop - start)))
    write(place, "_SUCCESS.txt", b"not\na\nlist\n")
    whole = read_all(IngestConfig(source=place.uri, rows_per_part=7))
    assert values(whole) == expected()
    glob = read_all(IngestConfig(source=join(place.uri, f"*.{suffix}{gz}"), rows_per_part=7))
    assert values(glob) == expected(pa.concat_tables([TABLE.slice(0, 9), TABLE.slice(10)]))


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_a_line_of_txt_is_a_url_and_an_empty_one_keeps_its_place(tmp_path: Path, gz: str) -> None:
    uri = write(tmp_path, f"list.txt{gz}", b"\xef\xbb\xbfhttp://a/1\r\n\nhttp://a/\xff\n \nhttp://a/1")
    pairs = read_all(IngestConfig(source=uri, rows_per_part=2, max_unusable=1))
    assert pairs["url"].to_pylist() == ["http://a/1", None, "http://a/\ufffd", None, "http://a/1"]
    assert pairs["caption"].to_pylist() == [""] * 5


@pytest.mark.parametrize("names", [("URL", "TEXT"), ("url", "text"), ("URL", "caption")])
def test_the_usual_names_of_columns_are_known(tmp_path: Path, names: tuple[str, str]) -> None:
    uri = write(tmp_path, "list.parquet", parquet(TABLE.rename_columns([*names, "license"])))
    assert values(read_all(IngestConfig(source=uri))) == expected()


def test_columns_and_a_format_are_named_where_they_are_not_usual(tmp_path: Path) -> None:
    uri = write(tmp_path, "part-0000", delimited(TABLE.rename_columns(["link", "alt", "license"]), "\t"))
    config = IngestConfig(source=uri, format="tsv", url_column="link", caption_column="alt")
    assert values(read_all(config)) == expected()
    assert values(read_all(config.model_copy(update={"source": str(tmp_path)}))) == expected()
    with pytest.raises(ConfigError, match=r"part-0000 is not known by its name; name it with ingest\.format"):
        open_source(IngestConfig(source=str(tmp_path)))


@pytest.mark.parametrize("name", ["list.csv", "list.csv.gz"])
def test_a_bad_row_of_csv_does_not_shift_another(tmp_path: Path, name: str) -> None:
    rows = [
        b'\xef\xbb\xbf"url",caption,size',
        b"http://a/0,zero,1",
        b"http://a/1,a comma, not quoted,1",  # more fields than names: which one is which?
        b"",
        b"http://a/2",
        b"http://a/3,\xff\x00\xe2,3\r",
        b"http://a/4,carriage\rreturn,4",
        b'http://a/5,"two\r\nlines, ""quoted""",5',
        b"http://a/6,six,6,,",
    ]
    uri = write(tmp_path, name, b"\n".join(rows))
    pairs = read_all(IngestConfig(source=uri, rows_per_part=3, max_unusable=1))
    assert pairs["url"].to_pylist() == [None if i == 1 else f"http://a/{i}" for i in range(7)]
    captions = ["zero", "", "", "\ufffd\ufffd", "carriage return", 'two\nlines, "quoted"', "six"]
    assert pairs["caption"].to_pylist() == captions
    assert pairs["size"].to_pylist() == ["1", None, None, "3", "4", "5", "6"]


def test_an_empty_line_is_a_row_of_a_csv_of_one_column(tmp_path: Path) -> None:
    uri = write(tmp_path, "list.csv", b"url\nhttp://a/0\n\nhttp://a/2\n")
    pairs = read_all(IngestConfig(source=uri, rows_per_part=2, max_unusable=1))
    assert pairs["url"].to_pylist() == ["http://a/0", None, "http://a/2"]


@pytest.mark.parametrize("kind", ["parquet", "feather", "csv", "jsonl", "json"])
def test_missing_columns_are_answered_with_those_that_exist(tmp_path: Path, kind: str) -> None:
    suffix, writer = WRITERS[kind]
    uri = write(tmp_path, f"list.{suffix}", writer(TABLE.rename_columns(["link", "alt", "license"])))
    with pytest.raises(
        ConfigError, match=r"link, alt, license: name one with ingest.image_column or ingest.url_column"
    ):
        open_source(IngestConfig(source=uri))
    with pytest.raises(ConfigError, match=r"link, alt, license: name one with ingest.caption_column"):
        open_source(IngestConfig(source=uri, url_column="link"))
    with pytest.raises(
        ConfigError, match=r"ingest.url_column: no column 'href' .*; name one of its columns: link, alt, license"
    ):
        open_source(IngestConfig(source=uri, url_column="href"))
    with pytest.raises(ConfigError, match="not image bytes; name a binary column"):
        open_source(IngestConfig(source=uri, url_column="link", caption_column="alt", image_column="license"))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.json", "a.txt", "a.feather", "a.arrow"])
def test_an_empty_list_is_refused(tmp_path: Path, name: str) -> None:
    none = TABLE.slice(0, 0)
    data = {"csv": delimited(none, ","), "json": b"[]", "feather": arrow_file(none), "arrow": arrow_stream(none)}
    uri = write(tmp_path, name, data.get(name.split(".")[1], b""))
    with pytest.raises(ConfigError, match=r"the pool is empty.*name a source with pairs in it"):
        open_source(IngestConfig(source=uri))


def test_an_empty_file_among_others_is_no_rows(tmp_path: Path) -> None:
    for name, data in (("a", b""), ("b", delimited(TABLE, ",")), ("c", b"url,caption,license\n")):
        write(tmp_path, f"{name}.csv", data)
    assert values(read_all(IngestConfig(source=str(tmp_path)))) == expected()


@pytest.mark.parametrize(
    ("kind", "gz"), [("csv", ".gz"), ("jsonl", ".gz"), ("json", ".gz"), ("feather", ""), ("arrow stream", "")]
)
def test_a_file_that_is_cut_off_is_a_storage_error(tmp_path: Path, kind: str, gz: str) -> None:
    suffix, writer = WRITERS[kind]
    data = writer(TABLE)
    data = gzip.compress(data) if gz else data
    (tmp_path / f"list.{suffix}{gz}").write_bytes(data[: len(data) // 2])
    with pytest.raises(StorageError, match=rf"cannot read .*list\.{suffix}.*; .*write it again"):
        open_source(IngestConfig(source=str(tmp_path)))


def test_a_file_that_shrank_after_it_was_planned_is_a_storage_error(tmp_path: Path) -> None:
    path = Path(write(tmp_path, "list.csv", delimited(TABLE, ",")))
    source = open_source(IngestConfig(source=str(path), rows_per_part=7))
    path.write_bytes(path.read_bytes()[:-10])
    assert len(source.read(0)) == 7
    with pytest.raises(StorageError, match="write it again"):
        source.read(6)


def test_files_of_two_headers_and_folders_of_two_formats_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", b"url,caption,size\nu,c,1\n")
    write(tmp_path, "b.csv", b"link,caption,size\nu,c,1\n")
    with pytest.raises(ConfigError, match=r"b.csv lacks the column 'url' that .*a.csv has; name files"):
        open_source(IngestConfig(source=str(tmp_path)))
    write(tmp_path, "b.jsonl", b'{"url": "u", "caption": "c"}\n')
    with pytest.raises(ConfigError, match=r"holds csv, jsonl; say which is meant with ingest\.format"):
        open_source(IngestConfig(source=str(tmp_path)))
    assert read_all(IngestConfig(source=str(tmp_path), format="jsonl")).num_rows == 1
    write(tmp_path, "c.csv", b"url,url\n1,2\n")
    with pytest.raises(ConfigError, match="several columns named url; rename"):
        open_source(IngestConfig(source=str(tmp_path / "c.csv")))


def test_a_quote_that_is_never_closed_is_an_error_and_not_a_caption(tmp_path: Path) -> None:
    uri = write(tmp_path, "list.csv", b'url,caption\nu,"' + b"x" * 99 + b"\n" + b"v,w\n" * (5 << 20))
    with pytest.raises(StorageError, match="is a quote not closed"):
        open_source(IngestConfig(source=uri))


def test_columns_of_another_order_or_kind_of_text_are_one_table(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 9), tmp_path / "a.parquet")
    other = TABLE.slice(9).select(["license", "url", "caption"])
    pq.write_table(
        other.cast(pa.schema([(name, pa.large_string()) for name in other.column_names])), tmp_path / "b.parquet"
    )
    assert values(read_all(IngestConfig(source=str(tmp_path), rows_per_part=10))) == expected()


def test_a_url_beside_an_image_is_kept_with_it(tmp_path: Path) -> None:
    table = TABLE.append_column("jpg", pa.array([b""] * NUM_ROWS, pa.binary()))
    config = IngestConfig(source=write(tmp_path, "list.feather", arrow_file(table)))
    source = open_source(config)
    assert source.has_images and values(to_pairs(source.read(0), 0, config)) == expected()
    assert set(to_images(source.read(0), 0, config)["status"].to_pylist()) == {schema.EMPTY}


def test_files_behind_the_rows_that_are_asked_for_are_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", delimited(TABLE, ","))
    write(tmp_path, "b.csv.gz", b"")
    (tmp_path / "c.csv.gz").write_bytes(b"no gzip at all")
    assert open_source(IngestConfig(source=str(tmp_path), rows_per_part=5, max_rows=6, max_unusable=1)).num_rows == 6
    with pytest.raises(StorageError, match=r"c.csv.gz: Not a gzipped file"):
        open_source(IngestConfig(source=str(tmp_path)))


def test_captions_that_are_missing_or_have_replaced_characters_are_counted_in_every_container(tmp_path: Path) -> None:
    made = pa.table({"url": ["http://a/1", "http://a/2", "http://a/3"], "caption": ["caf\ufffd", "café", None]})
    write(tmp_path, "a.parquet", parquet(made))
    write(tmp_path, "a.arrow", arrow_file(made))
    write(tmp_path, "a.jsonl", lines(made))
    write(tmp_path, "a.csv", "url,caption\nhttp://a/1,caf\xe9\nhttp://a/2,x\nhttp://a/3,\n".encode("latin-1"))
    for name in ("a.parquet", "a.arrow", "a.jsonl", "a.csv"):
        captions = read_all(IngestConfig(source=str(tmp_path / name)))["caption"]
        assert caption_statuses(captions) == {"no_caption": 1, "replaced_characters": 1}
    assert caption_statuses(pa.array(["a"])) == {}
