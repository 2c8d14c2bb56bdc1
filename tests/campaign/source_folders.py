"""Makes folders of images with captions beside them, by class or in a table; valid in many forms, and hostile."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import socket
from pathlib import Path

from tests.campaign.source_truth import Made, Pair, made_pairs, small_image, some, write

OTHER_NAMES = {
    "jpg": ("jpeg", "JPG", "jfif", "jpe"),
    "tiff": ("tif", "TIFF"),
    "bmp": ("dib", "BMP"),
    "png": ("PNG", "apng"),
}


def folder_of_images(folder: Path, rng: random.Random) -> Made:
    how = some(rng, other_kinds=0.3, junk=0.3, below=0.3, linked=0.2, unicode=0.2, one_kind=0.2, dots=0.2)
    layout = rng.choice(("beside", "beside", "classes", "metadata.csv", "metadata.jsonl", "metadata.tsv"))
    place = folder / "set"
    pairs = made_pairs(rng, "images")
    if "one_kind" in how:
        pairs = [Pair(pair.caption, None, small_image("avif", n % 12), "avif") for n, pair in enumerate(pairs)]
    if layout == "classes":
        pairs = [Pair(("heron", "egret", "grey owl")[n % 3], None, p.image, p.kind) for n, p in enumerate(pairs)]
    beside, rows = rng.choice((".txt", ".txt", ".TXT", ".caption", ".text", "both")), []
    for number, pair in enumerate(pairs):
        stem = f"{'é鷺 ' if 'unicode' in how else ''}{'e.v2.' if 'dots' in how else ''}{number:04d}"
        stem = f"d{number % 3}/{stem}" if "below" in how and layout != "classes" else stem
        stem = f"{pair.caption}/{stem}" if layout == "classes" else stem
        kind = rng.choice(OTHER_NAMES.get(pair.kind, (pair.kind,))) if "other_kinds" in how else pair.kind
        write(place, f"{stem}.{kind}", pair.image or b"")
        rows.append({"file_name": f"{stem}.{kind}", "caption": pair.caption})
        if layout == "beside":
            write(place, f"{stem}.{kind}.txt" if beside == "both" else stem + beside, f"{pair.caption}\n".encode())
    if layout.startswith("metadata"):
        write(place, layout, _table(rows, layout))
    if "linked" in how:
        _link_folders(place, folder / "elsewhere")
    if "junk" in how:
        for name in (".DS_Store", "Thumbs.db", "README.md", "__MACOSX/._a.jpg"):
            write(place, name, b"\0junk")
    said = f"{layout}, {beside}" if layout == "beside" else layout
    return Made(str(place), f"folder: {said}, {', '.join(sorted(how))}", pairs, is_ordered=False)


def _table(rows: list[dict[str, str]], name: str) -> bytes:
    if name.endswith("jsonl"):
        return "\n".join(map(json.dumps, rows)).encode()
    sink = io.StringIO()
    writer = csv.DictWriter(sink, ["file_name", "caption"], delimiter="," if name.endswith("csv") else "\t")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


def _link_folders(place: Path, elsewhere: Path) -> None:
    """Moves each folder away and puts a link in its place."""
    elsewhere.mkdir()
    for below in sorted(place.iterdir()):
        if below.is_dir():
            below.rename(elsewhere / below.name)
            below.symlink_to(elsewhere / below.name)


def hostile_folder(folder: Path, rng: random.Random) -> Made:
    place = folder / "set"
    pairs = made_pairs(rng, "images", most=20)
    rows = [{"file_name": f"{n:04d}.{p.kind}", "caption": p.caption} for n, p in enumerate(pairs)]
    for row, pair in zip(rows, pairs, strict=True):
        write(place, row["file_name"], pair.image or b"")
    if rng.random() < 0.5:
        how, num_left = _odd_paths(place, rows, rng), len(rows)
    else:
        for row in rows:
            write(place, row["file_name"].rpartition(".")[0] + ".txt", row["caption"].encode())
        how, num_left = _odd_files(place, rng), len(pairs)
    return Made(str(place), f"folder: {how}", pairs[:num_left], is_ordered=False)


def _odd_paths(place: Path, rows: list[dict[str, str]], rng: random.Random) -> str:
    """One to three rows of the table name something that is no image of this folder."""
    os.mkfifo(place / "fifo.jpg")
    (place / "folder.jpg").mkdir()
    (place / "broken.jpg").symlink_to(place / "nowhere")
    (place / "device.jpg").symlink_to("/dev/zero")
    odd = [
        "a" * 5000 + ".jpg", "a/" * 3000 + "b.jpg", "../outside.jpg", "/etc/passwd", "fifo.jpg", "folder.jpg",
        "broken.jpg", "device.jpg", "", " ", "nul\0.jpg", "line\nbreak.jpg", "é" * 200 + ".jpg", "https://h/1.jpg", "s3://b/1.jpg",
        "file:///etc/passwd", "./0000.png", "d//x.jpg", "~/x.jpg", "0000.png/x.jpg",
    ]  # fmt: skip
    chosen = rng.sample(odd, rng.randrange(1, 4))
    for path in chosen:
        rows.insert(rng.randrange(len(rows) + 1), {"file_name": path, "caption": "odd"})
    name = rng.choice(("metadata.csv", "metadata.jsonl"))
    write(place, name, _table(rows, name))
    return f"{name} names {[path[:20] for path in chosen]}"


def _odd_files(place: Path, rng: random.Random) -> str:
    """The folder holds something beside its images that is no plain file, or has an odd name."""
    how = rng.choice(
        ("fifo", "socket", "loop", "broken", "folder", "device", "empty", "bytes", "longest", "captions", "list")
    )
    if how == "fifo":
        os.mkfifo(place / "x.jpg")
        os.mkfifo(place / "x.txt")
    elif how == "socket":
        path = os.path.relpath(place / "x.jpg")  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as made:
            if len(path) < 100:
                made.bind(path)
    elif how == "loop":
        (place / "below").mkdir()
        (place / "below" / "again").symlink_to(place)
    elif how == "broken":
        (place / "x.jpg").symlink_to(place / "nowhere")
    elif how == "folder":
        (place / "x.jpg").mkdir()
    elif how == "device":
        (place / "x.jpg").symlink_to("/dev/zero")
    elif how == "empty":
        write(place, "x.jpg", b"")
    elif how == "bytes":
        (Path(os.fsdecode(os.fsencode(place) + b"/\xff\xfe.jpg"))).write_bytes(small_image("jpg", 0))
    elif how == "longest":
        write(place, "x" * 251 + ".jpg", small_image("jpg", 0))
    elif how == "captions":
        write(place, "0000.txt", b"\xff\xfe\0\xd8" * 100)
    else:
        write(place, "list.csv", b"url,caption\nhttps://h/1.jpg,a\n")
    return how
