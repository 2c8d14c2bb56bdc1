"""Makes sources of text: csv and tsv, JSON lines and arrays, lists of URLs; valid in many forms, and hostile."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

from tests.campaign import hostile
from tests.campaign.source_truth import Made, Pair, made_pairs, some, write

BLOCK = 1 << 24
NUM_BLOCKS = 64  # of a gzip bomb: 1 GB
EMPTY_LINES = 100_000


def delimited(folder: Path, rng: random.Random) -> Made:
    kind = rng.choice(("csv", "tsv"))
    how = some(
        rng, utf16=0.15, mark=0.15, windows=0.2, gz=0.2, capitals=0.15, all_quoted=0.2, index=0.15, trailing=0.15
    )
    how |= some(rng, blank_lines=0.1, extra=0.4, reordered=0.3, two_files=0.2, no_last_newline=0.2, names=0.3)
    how |= {"unquoted"} if kind == "tsv" and rng.random() < 0.4 else set()
    pairs = made_pairs(rng, "urls", newlines="unquoted" not in how and "utf16" not in how)
    names = ["URL", "TEXT"] if "names" in how else ["url", "caption"]
    names += ["similarity", "license"] if "extra" in how else []
    if "reordered" in how:
        rng.shuffle(names)
    cut = rng.randrange(len(pairs) + 1) if "two_files" in how else len(pairs)
    for number, some_pairs in enumerate((pairs[:cut], pairs[cut:]) if "two_files" in how else (pairs,)):
        rows = [names, *([_field(pair, name) for name in names] for pair in some_pairs)]
        if "index" in how:
            rows = [["" if row is names else str(at - 1), *row] for at, row in enumerate(rows)]
        if "trailing" in how:
            rows = [[*row, ""] for row in rows]
        _write_text(folder, f"list{number}.{kind}", _delimited(rows, kind, how, rng), how)
    return Made(str(folder), f"{kind}: {', '.join(sorted(how))}", pairs)


def _field(pair: Pair, name: str) -> str:
    return {"url": pair.url, "caption": pair.caption, "text": pair.caption, "similarity": "0.3"}.get(
        name.lower()
    ) or "cc"


def _delimited(rows: list[list[str]], kind: str, how: set[str], rng: random.Random) -> str:
    sink = io.StringIO()
    quoting = csv.QUOTE_ALL if "all_quoted" in how else csv.QUOTE_MINIMAL
    end = "\r\n" if "windows" in how else "\n"
    separator = "," if kind == "csv" else "\t"
    writer = csv.writer(sink, delimiter=separator, quoting=quoting, lineterminator=end)
    for row in rows:
        if "unquoted" in how:
            sink.write(separator.join(row) + end)
        else:
            writer.writerow(row)
        if "blank_lines" in how and rng.random() < 0.2:
            sink.write(end)
    return sink.getvalue().removesuffix(end) if "no_last_newline" in how else sink.getvalue()


def rows_of_json(folder: Path, rng: random.Random) -> Made:
    form = rng.choice(("jsonl", "jsonl", "ndjson", "json", "json lines"))
    how = some(rng, mark=0.15, windows=0.15, gz=0.2, capitals=0.15, extra=0.4, shuffled_keys=0.3, lists=0.2)
    how |= some(rng, escaped=0.3, late_key=0.2, blank_lines=0.1, indent=0.2, no_last_newline=0.2, two_files=0.2)
    pairs = made_pairs(rng, "urls", newlines=True)
    rows = []
    for number, pair in enumerate(pairs):
        caption: Any = [pair.caption, "another"] if "lists" in how else pair.caption
        row = {"url": pair.url, "caption": caption}
        row |= {"width": number, "nested": {"a": [1, None]}, "license": None} if "extra" in how else {}
        row |= {"late": "here"} if "late_key" in how and number > len(pairs) // 2 else {}
        items = list(row.items())
        if "shuffled_keys" in how:
            rng.shuffle(items)
        rows.append(dict(items))
    cut = rng.randrange(1, len(pairs) + 1) if "two_files" in how else len(pairs)
    for number, some_rows in enumerate((rows[:cut], rows[cut:]) if cut < len(rows) else (rows,)):
        if form == "json":
            indent = 1 if "indent" in how else None
            text = json.dumps(some_rows, ensure_ascii="escaped" in how, indent=indent)
        else:
            lines = [json.dumps(row, ensure_ascii="escaped" in how) for row in some_rows]
            end = "\r\n" if "windows" in how else "\n"
            text = end.join(line + (end if "blank_lines" in how and rng.random() < 0.2 else "") for line in lines)
            text += "" if "no_last_newline" in how else end
        _write_text(folder, f"rows{number}.{form.split()[0]}", text, how)
    return Made(str(folder), f"{form}: {', '.join(sorted(how))}", pairs)


def urls(folder: Path, rng: random.Random) -> Made:
    how = some(rng, utf16=0.15, mark=0.15, windows=0.2, gz=0.2, capitals=0.15, no_last_newline=0.3, spaces=0.2)
    pairs = [Pair("", pair.url) for pair in made_pairs(rng, "urls")]
    end = "\r\n" if "windows" in how else "\n"
    lines = [f"  {pair.url}\t" if "spaces" in how else str(pair.url) for pair in pairs]
    text = end.join(lines) + ("" if "no_last_newline" in how else end)
    _write_text(folder, "urls.txt", text, how)
    return Made(str(folder), f"txt: {', '.join(sorted(how))}", pairs)


def hostile_text(folder: Path, rng: random.Random) -> Made:
    """A valid list with one thing that people and programs do to lists."""
    pairs = made_pairs(rng, "urls", most=60)
    make = rng.choice(
        (_quote, _widths, _many_columns, _bomb, _twice, _words, _empty, _json_lines, _json_document, _bytes)
    )
    name, data, how, num_left = make(pairs, rng)
    write(folder, name, data)
    return Made(str(folder), f"{name}: {how}", pairs[:num_left])


Hostile = tuple[str, bytes, str, int]  # name of the file, its bytes, what was done, pairs to account for


def _quote(pairs: list[Pair], rng: random.Random) -> Hostile:
    kind = rng.choice(("csv", "tsv"))
    lines = _delimited([["url", "caption"], *([str(p.url), p.caption] for p in pairs)], kind, set(), rng).split("\n")
    at = rng.randrange(1, len(lines))
    separator = "," if kind == "csv" else "\t"
    lines[at] = rng.choice((f'"{lines[at]}', f'https://h/x.jpg{separator}"never closed', lines[at] + '"', '"', '""",'))
    return f"list.{kind}", "\n".join(lines).encode(), "a quote", len(pairs)


def _widths(pairs: list[Pair], rng: random.Random) -> Hostile:
    share = rng.choice((0.02, 0.3, 1.0))
    lines = ["url,caption"]
    for pair in pairs:
        lines.append(f"{pair.url},a caption, with, commas" if rng.random() < share else f"https://h/1.jpg,{len(lines)}")
    return "list.csv", "\n".join(lines).encode(), f"{share:.0%} of the rows are wider", len(pairs)


def _many_columns(pairs: list[Pair], rng: random.Random) -> Hostile:
    num_columns = rng.choice((300, 5000, 60_000))
    names = [f"c{number}" for number in range(num_columns)]
    if rng.random() < 0.5:
        rows = [["url", "caption", *names], *(["https://h/1.jpg", "a", *names] for _ in range(3))]
        return "list.csv", "\n".join(",".join(row) for row in rows).encode(), f"{num_columns} columns", 3
    row = json.dumps({"url": "https://h/1.jpg", "caption": "a"} | dict.fromkeys(names, 1))
    return "list.jsonl", f"{row}\n{row}\n".encode(), f"{num_columns} keys", 2


def _bomb(pairs: list[Pair], rng: random.Random) -> Hostile:
    """1 GB of one line or of one field, in 1 MB of gzip."""
    head, name = rng.choice(
        [
            (b"url,caption\nhttps://h/1.jpg,", "list.csv.gz"),
            (b"", "list.csv.gz"),
            (b'{"url": "https://h/1.jpg", "caption": "', "list.jsonl.gz"),
            (b'[{"url": "', "list.json.gz"),
            (b"https://h/1.jpg\n", "urls.txt.gz"),
            (b"url\tcaption\n", "list.tsv.gz"),
        ]
    )
    filling = rng.choice((b"a", b"\n", b'"', b"[", b"\0"))
    if filling == b"\n":  # a billion empty lines are work like any other
        return name, gzip.compress(head + filling * EMPTY_LINES), "many empty lines", 0
    return name, gzip.compress(head) + gzip.compress(filling * BLOCK, 1) * NUM_BLOCKS, "1 GB in 1 MB", 0


def _twice(pairs: list[Pair], rng: random.Random) -> Hostile:
    names = rng.choice(
        (["url", "url"], ["url", "caption", "caption"], ["url", " caption", "caption "], ["url", "", ""])
    )
    lines = [",".join(names), *(",".join(["https://h/1.jpg"] * len(names)) for _ in pairs)]
    return "list.csv", "\n".join(lines).encode(), f"columns {names}", len(pairs)


def _words(pairs: list[Pair], rng: random.Random) -> Hostile:
    """Names of columns that the product uses itself, or that are no words."""
    odd = [
        "pair_id",
        "class_id",
        "score",
        "source_score",
        "matches",
        "text_embedding",
        "captions",
        "status",
        "\0",
        "é" * 300,
    ]
    names = ["url", "caption", *rng.sample(odd, 3)]
    rows = [dict(zip(names, [p.url, p.caption, "1", "2", "3"], strict=True)) for p in pairs]
    return "list.jsonl", "\n".join(map(json.dumps, rows)).encode(), f"columns {[n[:20] for n in names]}", len(pairs)


def _empty(pairs: list[Pair], rng: random.Random) -> Hostile:
    name = rng.choice(("list.csv", "list.tsv", "list.jsonl", "list.json", "urls.txt", "list.csv.gz"))
    data = rng.choice(
        (b"", b"\n\n", b"\xef\xbb\xbf", b"\xff\xfe", b"url,caption", b"[]", b"{}", b"null", b"\0" * 100, b" ")
    )
    return name, data, f"holds {data[:12]!r}", 0


def _json_lines(pairs: list[Pair], rng: random.Random) -> Hostile:
    """A line in ten is no object, or has other types."""
    lines = []
    for pair in pairs:
        odd = rng.choice(
            [
                hostile.text(rng),
                json.dumps(hostile.value(rng)),
                json.dumps({"url": hostile.value(rng), "caption": pair.caption}),
                json.dumps({"url": pair.url, "caption": hostile.value(rng)}),
                '{"url": "https://h/1.jpg", "url": 2, "caption": "\\ud800"}',
            ]
        )
        lines.append(
            odd.replace("\n", " ") if rng.random() < 0.1 else json.dumps({"url": pair.url, "caption": pair.caption})
        )
    left = sum(bool(line.strip()) for line in lines)
    return "list.jsonl", "\n".join(lines).encode("utf-8", "replace"), "odd lines", left


def _json_document(pairs: list[Pair], rng: random.Random) -> Hostile:
    rows = [{"url": p.url, "caption": p.caption} for p in pairs]
    columns = {
        "url": {str(n): p.url for n, p in enumerate(pairs)},
        "caption": {str(n): p.caption for n, p in enumerate(pairs)},
    }
    lists = {"url": [p.url for p in pairs], "caption": [p.caption for p in pairs]}
    table = {"columns": ["url", "caption"], "data": [[p.url, p.caption] for p in pairs]}
    document: Any = rng.choice(
        (columns, lists, table, {"data": rows}, {"0": rows[0]}, [rows], rows[0], [*rows, None, 1])
    )
    text = json.dumps(document)
    cut = rng.choice((len(text), len(text), rng.randrange(len(text))))
    return "list.json", text[:cut].encode(), f"a document of another form{' cut off' * (cut < len(text))}", 1


def _bytes(pairs: list[Pair], rng: random.Random) -> Hostile:
    """Text in an encoding that is neither UTF-8 nor UTF-16, or with bytes that are no text."""
    text = "url,caption\n" + "".join(f"https://h/{n}.jpg,caf\u00e9 {n}\n" for n in range(len(pairs)))
    encoding = rng.choice(("cp1252", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"))
    data = text.encode(encoding)
    if rng.random() < 0.3:
        data = text.encode() + rng.randbytes(50)
    return "list.csv", data, encoding, 0 if encoding in ("cp037", "utf-7", "utf-32") else len(pairs)


def _write_text(folder: Path, name: str, text: str, how: set[str]) -> None:
    encoding = "utf-16" if "utf16" in how else "utf-8-sig" if "mark" in how else "utf-8"
    data = text.encode(encoding)
    name += ".gz" if "gz" in how else ""
    write(folder, name.upper() if "capitals" in how else name, gzip.compress(data) if "gz" in how else data)
