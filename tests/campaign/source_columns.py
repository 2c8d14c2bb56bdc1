"""Makes sources of columns: Parquet, Arrow files and streams, published vectors; valid with many types, and hostile."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.campaign.case import numpy_rng
from tests.campaign.source_truth import Made, Pair, made_pairs, some, write

TEXTS = {"string": pa.string(), "large_string": pa.large_string(), "dictionary": pa.dictionary(pa.int32(), pa.string())}
ARROW_TEXTS = TEXTS | {"string_view": pa.string_view()}
BINARIES = {"binary": pa.binary(), "large_binary": pa.large_binary()}
LISTS: dict[str, Callable[[pa.DataType], pa.DataType]] = {"list": pa.list_, "large_list": pa.large_list}
DIM = 8
Columns = dict[str, pa.Array]


def columns(folder: Path, rng: random.Random) -> Made:
    """Parquet or Arrow, with images, URLs or both, in one or several files whose types may differ."""
    form = rng.choice(("parquet", "parquet", "arrow", "stream", "feather"))
    what = rng.choice(("images", "urls", "both"))
    how = some(rng, struct=0.3, lists=0.2, extra=0.4, two_files=0.4, differing=0.5, empty_first=0.15, nulls_first=0.15)
    how |= some(rng, reordered=0.2, compressed=0.3, groups=0.4, more_later=0.3)
    pairs = made_pairs(rng, what, newlines=True)
    cut = rng.randrange(1, len(pairs) + 1) if "two_files" in how else len(pairs)
    halves = [pairs[:cut], pairs[cut:]] if cut < len(pairs) else [pairs]
    if "nulls_first" in how:
        pairs = [Pair("", p.url, p.image, p.kind) if p in halves[0] else p for p in pairs]
    if "empty_first" in how:
        halves.insert(0, [])
    types = _types(form, rng)
    said = [form, what]
    for number, some_pairs in enumerate(halves):
        types = _types(form, rng) if "differing" in how else types
        said.append("/".join(types))
        no_captions = "nulls_first" in how and some_pairs is halves[1 if "empty_first" in how else 0]
        made = _columns(some_pairs, what, types, how, no_captions)
        if "extra" in how or ("more_later" in how and number):
            made["width"] = pa.array(range(len(some_pairs)), rng.choice((pa.int32(), pa.int64(), pa.float64())))
        if "empty_first" in how and not some_pairs:
            made = {name: pa.nulls(0) for name in made}
        items = list(made.items())
        if "reordered" in how:
            rng.shuffle(items)
        write(folder, f"part{number}.{'arrow' if form == 'stream' else form}", _file(pa.table(dict(items)), form, how))
    return Made(str(folder), f"{', '.join(said)}: {', '.join(sorted(how))}", pairs)


def _types(form: str, rng: random.Random) -> tuple[str, str, str]:
    texts = TEXTS if form == "parquet" else ARROW_TEXTS
    return rng.choice(list(texts)), rng.choice(list(BINARIES)), rng.choice(list(LISTS))


def _columns(pairs: list[Pair], what: str, types: tuple[str, str, str], how: set[str], no_captions: bool) -> Columns:
    text, binary = ARROW_TEXTS[types[0]], BINARIES[types[1]]
    made: Columns = {}
    if what != "images":
        made["url"] = pa.array([pair.url for pair in pairs], pa.string()).cast(text)
    if what != "urls":
        images = pa.array([pair.image for pair in pairs], binary)
        paths = pa.array([f"{number}.jpg" for number in range(len(pairs))])
        made["image"] = pa.StructArray.from_arrays([images, paths], ["bytes", "path"]) if "struct" in how else images
    captions = [pair.caption for pair in pairs]
    if no_captions:
        made["caption"] = pa.nulls(len(pairs))
    elif "lists" in how:
        made["caption"] = pa.array([[caption, "another"] for caption in captions], LISTS[types[2]](pa.string()))
    else:
        made["caption"] = pa.array(captions, pa.string()).cast(text)
    return made


def _file(table: pa.Table, form: str, how: set[str]) -> bytes:
    sink, rows = io.BytesIO(), 5 if "groups" in how else 1000
    if form == "parquet":
        pq.write_table(table, sink, row_group_size=rows, compression="zstd" if "compressed" in how else "none")
        return sink.getvalue()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if "compressed" in how else None, unify_dictionaries=True)
    if form == "stream":  # the product refuses streams with dictionaries, and says so
        plain = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
        table = table.cast(pa.schema(plain))
    new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with new(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def vectors(folder: Path, rng: random.Random) -> Made:
    """clip-retrieval's .npy files or DataComp's .npz, with their Parquet files."""
    form = rng.choice(("npy", "npz"))
    how = some(rng, metadata=0.8, both=0.7, two_shards=0.3, half=0.5, big_endian=0.1, compressed=0.3, more_arrays=0.3)
    urls = made_pairs(rng, "urls")
    random_vectors = numpy_rng(rng).random((len(urls), DIM))
    kind = ("f2" if "half" in how else "f4") if "big_endian" not in how else ">f4"
    pairs = [p if "metadata" in how else Pair("") for p in urls]
    cut = max(1, len(pairs) // 2) if "two_shards" in how else len(pairs)
    for number, rows in enumerate((slice(0, cut), slice(cut, None)) if cut < len(pairs) else (slice(0, None),)):
        image = random_vectors[rows].astype(kind)
        if "metadata" in how:
            some_pairs = pairs[rows]
            table = pa.table({"url": [p.url for p in some_pairs], "caption": [p.caption for p in some_pairs]})
            place = f"metadata/metadata_{number}.parquet" if form == "npy" else f"{number:08x}.parquet"
            write(folder, place, _file(table, "parquet", how))
        if form == "npy":
            write(folder, f"img_emb/img_emb_{number}.npy", npy_bytes(image))
            if "both" in how:
                write(folder, f"text_emb/text_emb_{number}.npy", npy_bytes(image))
        else:
            arrays = {"b32_img": image} | ({"b32_txt": image} if "both" in how else {})
            arrays |= {"names": np.array(["a", "b"])} if "more_arrays" in how else {}
            sink = io.BytesIO()
            (np.savez_compressed if "compressed" in how else np.savez)(sink, **arrays)
            write(folder, f"{number:08x}.npz", sink.getvalue())
    return Made(str(folder), f"{form}: {', '.join(sorted(how))}", pairs)


def npy_bytes(array: np.ndarray, header: str = "") -> bytes:
    """header: a text that stands in the place of the right one."""
    sink = io.BytesIO()
    np.save(sink, array)
    if not header:
        return sink.getvalue()
    padded = (header + " " * 200)[: 118 - len("\n")].encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + array.tobytes()


def hostile_columns(folder: Path, rng: random.Random) -> Made:
    pairs = made_pairs(rng, "both")
    make = rng.choice((_offsets, _offsets, _names, _odd_types, _text, _bomb, _npy, _npz, _rows))
    return Made(str(folder), make(folder, pairs, rng), pairs if make in (_odd_types, _text) else [])


def _offsets(folder: Path, pairs: list[Pair], rng: random.Random) -> str:
    """Writes a wrong offset, length or number into the body or the metadata of an Arrow file."""
    form = rng.choice(("arrow", "stream"))
    table = pa.table(_columns(pairs, "both", ("string", "binary", "list"), some(rng, struct=0.3, lists=0.3), False))
    data = bytearray(_file(table, form, set()))
    sizes = {0, 1, -1, 2**20, 2**31 - 1, -(2**31)}
    for _ in range(rng.randrange(1, 4)):
        at = 4 * rng.randrange(2, len(data) // 4)
        small = int.from_bytes(data[at : at + 4], "little") < 5000
        data[at : at + 4] = (
            (rng.choice(sorted(sizes)) & 0xFFFFFFFF).to_bytes(4, "little") if small else data[at : at + 4]
        )
    write(folder, "part0.arrow", bytes(data))
    return f"{form}: numbers out of range"


def _names(folder: Path, pairs: list[Pair], rng: random.Random) -> str:
    names = rng.choice(
        (["url", "url"], ["url", "caption", "caption"], ["score", "source_score", "url", "caption"], ["", "url"])
    )
    arrays: list[Any] = [pa.array(["https://h/1.jpg"] * 3)] * len(names)
    table = pa.Table.from_arrays(arrays, names=names)
    form = rng.choice(("parquet", "arrow", "stream"))
    write(folder, f"part0.{form.replace('stream', 'arrow')}", _file(table, form, set()))
    return f"{form}: columns {names}"


def _odd_types(folder: Path, pairs: list[Pair], rng: random.Random) -> str:
    """Extra columns of every kind of type beside plain captions and URLs."""
    rows, form = len(pairs), rng.choice(("parquet", "arrow", "stream"))
    odd: dict[str, Any] = {
        "fixed": pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32(), 2)),
        "map": pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int32())),
        "nested": pa.array([{"a": [{"b": None}]}] * rows),
        "decimal": pa.array([1] * rows).cast(pa.decimal128(38, 5)),
        "time": pa.array([2**50] * rows, pa.timestamp("us", tz="Europe/Berlin")),
        "duration": pa.array([1] * rows, pa.duration("ns")),
        "none": pa.nulls(rows),
        "flags": pa.array([True] * rows),
        "half": pa.array(np.ones(rows, np.float16)),
        "bytes3": pa.array([b"abc"] * rows, pa.binary(3)),
    }
    if form != "parquet":
        odd["runs"] = pa.RunEndEncodedArray.from_arrays([rows], ["a"])
        odd["list_view"] = pa.array([["a"]] * rows, pa.list_view(pa.string()))
        odd["union"] = pa.UnionArray.from_sparse(pa.array([0] * rows, pa.int8()), [pa.array(range(rows))])
        odd["view"] = pa.array(["a view that is longer than twelve bytes"] * rows, pa.string_view())
    chosen = rng.sample(list(odd), 3)
    made: dict[str, Any] = dict(_columns(pairs, "both", ("string", "binary", "list"), set(), False))
    table = pa.table(made | {name: odd[name] for name in chosen})
    write(folder, f"part0.{form.replace('stream', 'arrow')}", _file(table, form, set()))
    return f"{form}: columns of the types {', '.join(chosen)}"


def _text(folder: Path, pairs: list[Pair], rng: random.Random) -> str:
    """Text columns whose bytes are no UTF-8, and nulls where text is usual."""
    rows = [b"https://h/\xff\xfe.jpg" if rng.random() < 0.2 else (pair.url or "").encode() for pair in pairs]
    bad = pa.Array.from_buffers(pa.string(), len(rows), pa.array(rows, pa.binary()).buffers())
    which = rng.choice(("url", "caption"))
    made = _columns(pairs, "both", ("string", "binary", "list"), set(), False) | {which: bad}
    form = rng.choice(("parquet", "arrow", "stream"))
    write(folder, f"part0.{form.replace('stream', 'arrow')}", _file(pa.table(made), form, set()))
    return f"{form}: invalid UTF-8 in {which}"


def _bomb(folder: Path, pairs: list[Pair], rng: random.Random) -> str:
    """3 GB of text, or 20 million rows, in a few kB."""
    sink, rows = io.BytesIO(), 3000
    if rng.random() < 0.5:
        caption = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["a" * 2**20])
        table, how = pa.table({"url": ["https://h/1.jpg"] * rows, "caption": caption}), "3 GB of captions"
    else:
        nulls = pa.nulls(20_000_000, pa.string())
        table, how = pa.table({"url": nulls, "caption": nulls}), "20 million nulls"
    options = {"store_schema": False, "dictionary_pagesize_limit": 1 << 28, "row_group_size": 1 << 30}
    pq.write_table(table, sink, compression="zstd", **options)
    write(folder, "bomb.parquet", sink.getvalue())
    return f"parquet: {how} in {len(sink.getvalue())} bytes"


def _npy(folder: Path, pairs: list[Pair], rng: random.Random) -> str:
    header = rng.choice(
        [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999999), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 8), }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 8), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (3, 8), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 8), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (24, 0), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 8), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9" + "9" * 80 + ",), }",
            "{" * 100,
            "__import__('os')",
        ]
    )
    write(folder, "img_emb_0.npy", npy_bytes(np.ones((3, DIM), np.float32), header))
    return f"npy: {header[:60]}"


def _npz(folder: Path, pairs: list[Pair], rng: random.Random) -> str:
    """Marks a member as encrypted, or packed in an unknown way, or gives it another size."""
    sink = io.BytesIO()
    with zipfile.ZipFile(
        sink, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    ) as archive:
        archive.writestr(
            rng.choice(("b32_img.npy", "../b32_img.npy", "b32_img")), npy_bytes(np.ones((3, DIM), np.float32))
        )
    data = bytearray(sink.getvalue())
    central = data.rindex(b"PK\1\2")
    what, at, odd = rng.choice(
        [("flags", 6, b"\1\0"), ("method", 8, b"\x63\0"), ("size", 22, b"\xff" * 4), ("crc", 14, b"\0" * 4)]
    )
    data[at : at + len(odd)] = odd
    data[central + at + 2 : central + at + 2 + len(odd)] = odd
    write(folder, "00000000.npz", bytes(data))
    return f"npz: another {what}"


def _rows(folder: Path, pairs: list[Pair], rng: random.Random) -> str:
    """Vectors and metadata of different lengths."""
    write(folder, "img_emb/img_emb_0.npy", npy_bytes(np.ones((3, DIM), np.float32)))
    table = pa.table({"url": ["https://h/1.jpg"] * 4, "caption": ["a"] * 4})
    write(folder, "metadata/metadata_0.parquet", _file(table, "parquet", set()))
    return "npy: 3 vectors and 4 rows"
