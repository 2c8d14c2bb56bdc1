"""What a csv or tsv may be, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.errors import ConfigError, StorageError
from react_ray.pairs.formats import delimited
from react_ray.pairs.source import IngestConfig, open_source
from tests.support.source_files import read_all, write

ROWS = [f"http://a/{i},caption {i}" for i in range(40)]
CAPTIONS = [f"caption {i}" for i in range(40)]


def table(*more: str, names: str = "url,caption") -> str:
    return "\n".join([names, *ROWS, *more]) + "\n"


def told(config: IngestConfig) -> str:
    return "\n".join(open_source(config).summary())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (table('http://b/0,"never closed', *ROWS), 42),  # the file ends
        (table('http://b/0,"never closed', *ROWS, 'http://b/1,"closed, well"'), 42),  # another quote seems to close it
        (table('http://b/0,"never closed', *ROWS * 5, 'http://b/1,x"'), 42),  # it would be closed, after 200 rows
        (table('http://b/0,"never closed').rstrip("\n"), 42),
        ('url,caption\nhttp://b/0,"x\ny', 2),
    ],
)
@pytest.mark.parametrize("name", ["list.csv", "list.csv.gz"])
def test_a_quote_that_is_not_closed_is_an_error_that_names_its_line(
    tmp_path: Path, text: str, line: int, name: str
) -> None:
    uri = write(tmp_path, name, text.encode())
    with pytest.raises(StorageError, match=rf"row that begins in line {line}: .*quote not closed\? correct that row"):
        open_source(IngestConfig(source=uri))


def test_a_caption_may_have_quotes_and_several_lines(tmp_path: Path) -> None:
    more = ('http://b/0,"two\nlines, ""quoted"""', 'http://b/1,"Bird" by the lake', 'http://b/2,a "fox"')
    config = IngestConfig(source=write(tmp_path, "list.csv", table(*more).encode()), rows_per_part=7)
    assert read_all(config)["caption"].to_pylist() == [
        *CAPTIONS,
        'two\nlines, "quoted"',
        '"Bird" by the lake',
        'a "fox"',
    ]
    assert "rows with quotes inside of a field: 1 (list.csv line 44)" in told(config)


@pytest.mark.parametrize(
    ("written", "read", "is_quoted"),
    [
        (['"Bird" by the lake', "x"], ['"Bird" by the lake', "x"], False),
        (['"never closed', "x"], ['"never closed', "x"], False),
        (['"all of it"', '"Bird" by'], ['"all of it"', '"Bird" by'], False),
        (['a "fox"', 'the 12" pipe'], ['a "fox"', 'the 12" pipe'], True),
        (['"a\ttab"', '"say ""hi"""', '"two\nlines"'], ["a\ttab", 'say "hi"', "two\nlines"], True),
    ],
)
def test_quotes_of_a_tsv_are_text_unless_they_enclose_fields(
    tmp_path: Path, written: list[str], read: list[str], is_quoted: bool
) -> None:
    rows = [f"http://b/{i}\t{caption}" for i, caption in enumerate(written)]
    config = IngestConfig(source=write(tmp_path, "list.tsv", "\n".join(["url\tcaption", *rows]).encode()))
    assert read_all(config)["caption"].to_pylist() == read
    assert ("files that are read without quoting: 1 (list.tsv)" in told(config)) is not is_quoted


def test_a_quote_behind_the_head_of_a_tsv_is_not_closed_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "QUOTES_BYTES", 300)
    text = table('http://b/0,"never closed', *ROWS).replace(",", "\t")
    with pytest.raises(StorageError, match="row that begins in line 42"):
        open_source(IngestConfig(source=write(tmp_path, "list.tsv", text.encode())))


def test_rows_of_another_width_are_counted_and_past_a_share_refused(tmp_path: Path) -> None:
    bad = write(tmp_path, "bad.csv", table(*(f"http://b/{i},one, two" for i in range(9))).encode())
    with pytest.raises(
        ConfigError, match=r"9 of the 49 rows .*more fields than names .*: 9 \(bad.csv line 42, .*ingest.max_unusable"
    ):
        open_source(IngestConfig(source=bad))
    config = IngestConfig(source=bad, max_unusable=0.2)
    assert read_all(config)["url"].to_pylist()[-9:] == [None] * 9
    few = IngestConfig(source=write(tmp_path, "few.csv", table("http://b/0,one, two", "http://b/1", ",x").encode()))
    with pytest.raises(ConfigError, match=r"rows without url: 1 \(few.csv line 44\)"):
        open_source(few.model_copy(update={"max_unusable": 0}))
    few = few.model_copy(update={"max_unusable": 0.05})
    assert "rows with fewer fields than names, whose last columns are null: 1 (few.csv line 43)" in told(few)


@pytest.mark.parametrize(
    ("names", "row", "extra"),
    [
        ("url,caption,,", "http://b/0,x,,", {}),
        (",url,caption", "7,http://b/0,x", {"unnamed_0": "7"}),
        ("url,,caption,", "http://b/0,7,x,", {"unnamed_1": "7"}),
        (" url , caption ", "http://b/0,x", {}),
    ],
)
def test_names_that_are_empty_are_no_columns_at_the_end_and_numbered_elsewhere(
    tmp_path: Path, names: str, row: str, extra: dict[str, str]
) -> None:
    pairs = read_all(IngestConfig(source=write(tmp_path, "list.csv", f"{names}\n{row}\n".encode())))
    assert pairs.drop_columns(["pair_id"]).to_pylist() == [{"url": "http://b/0", "caption": "x"} | extra]


def test_an_index_beside_urls_needs_no_captions(tmp_path: Path) -> None:
    uri = write(tmp_path, "list.csv", b",url\n0,http://a\n1,http://b\n")
    assert read_all(IngestConfig(source=uri))["url"].to_pylist() == ["http://a", "http://b"]


def test_two_columns_of_one_name_are_refused_by_name(tmp_path: Path) -> None:
    for names in ("url,caption,x,x", "url, url,caption"):
        uri = write(tmp_path, "list.csv", f"{names}\n1,2,3,4\n".encode())
        with pytest.raises(ConfigError, match=r"several columns named (x|url); rename"):
            open_source(IngestConfig(source=uri))


@pytest.mark.parametrize("suffix", ["csv.gz", "tsv.gz"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a" * (3 << 20), "names of its columns take more than 1 MiB"),
        (b"url,caption\nhttp://a,x\nhttp://a," + b"x" * (17 << 20), "line 3 is longer than 16 MiB"),
        (b",".join(b"c%d" % i for i in range(60_000)), r"more than 4,096 columns; put those"),
    ],
)
def test_a_line_or_a_header_without_end_is_refused(tmp_path: Path, suffix: str, text: bytes, message: str) -> None:
    text = text.replace(b",", b"\t") if suffix.startswith("tsv") else text
    with pytest.raises(StorageError, match=message):
        open_source(IngestConfig(source=write(tmp_path, f"list.{suffix}", text)))


@pytest.mark.parametrize("name", ["LIST.CSV.GZ", "List.Tsv.gz", "list.CSV"])
def test_suffixes_have_any_case(tmp_path: Path, name: str) -> None:
    text = table().replace(",", "\t") if "tsv" in name.lower() else table()
    uri = write(tmp_path, "plain.gz" if name.lower().endswith("gz") else "plain", text.encode())
    renamed = Path(uri).rename(tmp_path / name)
    assert read_all(IngestConfig(source=str(renamed)))["caption"].to_pylist() == CAPTIONS


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "\ufeff", "sep={}\r\n"])
def test_a_csv_of_another_delimiter_is_read_and_told(tmp_path: Path, delimiter: str, first: str) -> None:
    rows = [["url", "caption"], *([f"http://a/{i}", f'"1,5 kg{delimiter} heron {i}"'] for i in range(9))]
    text = first.format(delimiter) + "".join(delimiter.join(row) + "\r\n" for row in rows)
    config = IngestConfig(source=write(tmp_path, "list.csv", text.encode()), rows_per_part=4)
    read = read_all(config)
    assert read["url"].to_pylist() == [f"http://a/{i}" for i in range(9)]
    assert read["caption"].to_pylist() == [f"1,5 kg{delimiter} heron {i}" for i in range(9)]
    assert f"files that are read with the delimiter {delimiter!r}: 1 (list.csv)" in told(config)


def test_a_comma_in_the_line_of_names_settles_the_delimiter(tmp_path: Path) -> None:
    uri = write(tmp_path, "list.csv", b'url,caption,"a;b;c;d"\nhttp://a/1,one;two,3\n')
    assert read_all(IngestConfig(source=uri)).to_pylist()[0].items() >= {"caption": "one;two", "a;b;c;d": "3"}.items()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_line_of_names_that_is_repeated_is_counted(tmp_path: Path, mark: str) -> None:
    part = f"{mark}url,caption\nhttp://a/1,one\n"
    config = IngestConfig(source=write(tmp_path, "list.csv", (part * 2).encode()), max_unusable=1)
    assert "rows that repeat the names of the columns: 1 (list.csv line 3)" in told(config)
    assert len(read_all(config)) == 3


def test_nuls_are_left_out_and_counted(tmp_path: Path) -> None:
    config = IngestConfig(source=write(tmp_path, "list.csv", b"url,caption\nhttp://a/1,a\0b\nhttp://a/2,c\n"))
    assert read_all(config)["caption"].to_pylist() == ["ab", "c"]
    assert "rows with NULs, which are left out: 1 (list.csv line 2)" in told(config)


@pytest.mark.parametrize("name", ["list.csv", "list.tsv"])
def test_a_file_without_a_line_of_names_is_refused_or_read_by_position(tmp_path: Path, name: str) -> None:
    delimiter = "\t" if name.endswith("tsv") else ","
    rows = [["a heron", f"http://a/{i}.jpg", str(i)] for i in range(5)]
    uri = write(tmp_path, name, "\n".join(delimiter.join(row) for row in rows).encode())
    with pytest.raises(
        ConfigError, match=r"the first row of .* is data, such as 'http://a/0.jpg'.*ingest.url_column=0"
    ):
        open_source(IngestConfig(source=uri))
    config = IngestConfig(source=uri, url_column="1", caption_column="0")
    read = read_all(config)
    assert read["url"].to_pylist() == [row[1] for row in rows] and read["caption"].to_pylist() == ["a heron"] * 5
    assert read["2"].to_pylist() == list("01234")
    assert any("called by position, from 0: 1 (list." in line for line in open_source(config).summary())


def test_columns_that_are_called_by_numbers_are_names(tmp_path: Path) -> None:
    uri = write(tmp_path, "list.csv", b"0,1\nhttp://a/0,x\nhttp://a/1,y\n")
    read = read_all(IngestConfig(source=uri, url_column="0", caption_column="1"))
    assert read["url"].to_pylist() == ["http://a/0", "http://a/1"]


def test_blanks_around_bars_are_no_part_of_the_fields(tmp_path: Path) -> None:
    text = 'url | caption | n\nhttp://a/0 | "a | b" | 1\nhttp://a/1 |  two words  |\nhttp://a/2|x|3\n'
    read = read_all(IngestConfig(source=write(tmp_path, "list.csv", text.encode())))
    assert read["url"].to_pylist() == [f"http://a/{i}" for i in range(3)]
    assert read["caption"].to_pylist() == ["a | b", "two words", "x"] and read["n"].to_pylist() == ["1", "", "3"]
