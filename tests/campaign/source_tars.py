"""Makes WebDataset tars, valid in the forms that tools write, and hostile."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

from tests.campaign import hostile
from tests.campaign.source_truth import Made, Pair, made_pairs, some, write

Members = list[tuple[str, bytes]]
BLOCK = tarfile.BLOCKSIZE
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
OTHER_NAMES = {"jpg": ("jpeg", "jfif", "jpe", "img", "input.jpg"), "tiff": ("tif",), "bmp": ("dib",), "png": ("apng",)}


def tar(folder: Path, rng: random.Random) -> Made:
    """Shards with any order, names, captions and packing of their members that a WebDataset reader takes."""
    how = some(rng, by_kind=0.2, shuffled=0.15, dots=0.2, capitals=0.15, gz=0.2, concatenated=0.15, folders=0.2)
    how |= some(rng, json=0.4, extra_keys=0.3, late_keys=0.2, twice=0.1, long_names=0.15, junk=0.15, other_kinds=0.25)
    how |= some(rng, two_shards=0.2, directories=0.2)
    caption = rng.choice(("txt", "txt", "json", "caption", "text", "cap", "json:TEXT", "json:text", "json:list"))
    shape = rng.choice(list(FORMATS))
    pairs = made_pairs(rng, "images")
    samples = [_sample(number, pair, caption, how, rng) for number, pair in enumerate(pairs)]
    members = [member for sample in samples for member in sample]
    if "by_kind" in how:
        members.sort(key=lambda member: member[0].rpartition(".")[2])
    if "shuffled" in how:
        rng.shuffle(members)
    is_ordered = not how & {"by_kind", "shuffled"}
    if "two_shards" in how and is_ordered and len(samples) > 1:
        first = [member for sample in samples[: len(samples) // 2] for member in sample]
        shards = [first, members[len(first) :]]
    else:
        shards = [members]
    for number, shard in enumerate(shards):
        _write_tar(folder, f"{number:05d}.tar", shard, how, shape, rng)
    return Made(str(folder), f"tar: {shape}, captions in {caption}, {', '.join(sorted(how))}", pairs, is_ordered)


def _sample(number: int, pair: Pair, caption: str, how: set[str], rng: random.Random) -> Members:
    key = f"{number:06d}"
    key = f"trail.v2.{key}" if "dots" in how else key
    key = f"{'n' * 150}/{key}" if "long_names" in how else f"part{number // 7}/{key}" if "folders" in how else key
    kind = rng.choice(OTHER_NAMES.get(pair.kind, (pair.kind,))) if "other_kinds" in how else pair.kind
    about: dict[str, Any] = {"width": number} if "extra_keys" in how else {}
    about |= {"late": "here"} if "late_keys" in how and number > 20 else {}
    if caption.startswith("json"):
        name = caption.partition(":")[2]
        about |= {"caption": [pair.caption, "another"]} if name == "list" else {name or "caption": pair.caption}
    members = [(f"{key}.{kind}", pair.image or b"")]
    if about or "json" in how:
        members.append((f"{key}.json", json.dumps(about, ensure_ascii=rng.random() < 0.5).encode()))
    if not caption.startswith("json"):
        members.append((f"{key}.{caption}", pair.caption.encode()))
    if "twice" in how:
        members.append(members[0])
    return members


def _write_tar(folder: Path, name: str, members: Members, how: set[str], shape: str, rng: random.Random) -> None:
    if "capitals" in how:
        members = [
            (f"{key}.{kind.upper()}", data) for key, _, kind, data in ((*m[0].rpartition("."), m[1]) for m in members)
        ]
        name = name.upper()
    if "junk" in how:
        members = [("README.md", b"a set"), *members, ("__MACOSX/._000000.jpg", b"\0\5\26\7"), (".DS_Store", b"\0")]
    cut = len(members) // 2 if "concatenated" in how else len(members)
    data = b"".join(
        tar_bytes(some_members, shape, "directories" in how) for some_members in (members[:cut], members[cut:])
    )
    if "concatenated" not in how:
        data = tar_bytes(members, shape, "directories" in how)
    if "gz" in how:
        data, name = gzip.compress(data, 1), name + rng.choice((".gz", ".GZ"))
    write(folder, name, data)


def tar_bytes(members: Members, shape: str = "gnu", directories: bool = False) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=FORMATS[shape]) as archive:
        known = set()
        for name, data in members:
            above = name.rpartition("/")[0]
            if directories and above and above not in known:
                known.add(above)
                info = tarfile.TarInfo(above)
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            info = tarfile.TarInfo(f"./{name}" if directories else name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def hostile_tar(folder: Path, rng: random.Random) -> Made:
    pairs = made_pairs(rng, "images")
    members = [member for number, pair in enumerate(pairs) for member in _sample(number, pair, "txt", set(), rng)]
    change = rng.choice((_unknown, _lacking, _links, _sizes, _chains, _names, _json, _packed, _broken))
    data, how, num_left, suffix = change(members, pairs, rng)
    write(folder, f"00000.tar{suffix}", data)
    return Made(str(folder), f"tar: {how}", pairs[:num_left])


Hostile = tuple[bytes, str, int, str]  # the file, what was done, pairs to account for, what its name ends with


def _unknown(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    """Images with a suffix that means nothing, or none, in some or all samples."""
    share, kind = rng.choice((0.1, 1.0)), rng.choice(("foo", "", "jpg.bak", "heic", "mp4", "npy"))
    renamed = [
        (
            name.rpartition(".")[0] + f".{kind}" * bool(kind)
            if not name.endswith(".txt") and rng.random() < share
            else name,
            d,
        )
        for name, d in members
    ]
    return tar_bytes(renamed), f"images named .{kind} in {share:.0%}", len(pairs), ""


def _lacking(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    lacks = rng.choice((".txt", "image"))
    kept = [m for m in members if m[0].endswith(".txt") == (lacks == "image") or rng.random() < 0.5]
    return tar_bytes(kept), f"half of the samples lack {lacks}", len({name.partition(".")[0] for name, _ in kept}), ""


def _links(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    kind = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S", b"V", b"z"))
    data, at = bytearray(tar_bytes(members, "ustar")), 0
    data[156:157] = kind
    data[at + 148 : at + 156] = _checksum(bytes(data[:BLOCK]))
    return bytes(data), f"a member of type {kind!r}", len(pairs) - 1, ""


def _sizes(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    """Writes a size that is not that of the first member."""
    data = bytearray(tar_bytes(members, "ustar"))
    odd = (
        b"77777777777\0",
        b"-0000000001\0",
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"\x80" + bytes(11),
        b"99999999999\0",
        b" " * 12,
    )
    data[124:136] = size = rng.choice(odd)
    data[148:156] = _checksum(bytes(data[:BLOCK]))
    return bytes(data), f"the size {size!r}", 0, ""


def _chains(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    """Thousands of headers that each say something about the next."""
    number, kind = rng.choice((10, 3000)), rng.choice((b"L", b"K", b"x", b"g"))
    body = (
        b"n.jpg\0"
        if kind in b"LK"
        else rng.choice((b"13 path=a.jpg\n", b"x", b"999 path=a\n", b"-1 a=b\n", b"0 a=b\n", b"19 size=1000000000\n"))
    )
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, len(body)
    header = info.tobuf(tarfile.USTAR_FORMAT) + body.ljust(BLOCK, b"\0")
    return header * number + tar_bytes(members), f"{number} headers of type {kind!r}", 0, ""


def _names(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    odd = rng.choice(
        (
            "../../{}",
            "/abs/{}",
            "{}" + "k" * 20_000 + ".jpg",
            "a\\{}",
            "\udcff\udcfe{}",
            ".{}",
            "..{}",
            "{}.",
            "é/{}",
            " {}",
        )
    )
    renamed = [(odd.format(name), data) for name, data in members]
    return tar_bytes(renamed), f"names such as {odd[:20]!r}", 0 if odd == ".{}" else 1, ""


def _json(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    made = []
    for name, data in members:
        if name.endswith(".txt"):
            odd = rng.choice(
                (hostile.text(rng), json.dumps(hostile.value(rng)), json.dumps({"caption": hostile.value(rng)}))
            )
            made.append((name.replace(".txt", ".json"), odd.encode("utf-8", "replace")))
        else:
            made.append((name, data))
    return tar_bytes(made), "odd json", len(pairs), ""


def _packed(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    data = gzip.compress(tar_bytes(members), 1)
    how = rng.choice(("cut", "junk behind", "two members", "not gzip", "zeros behind", "bomb"))
    if how == "cut":
        return data[: rng.randrange(len(data))], how, 0, ".gz"
    if how == "junk behind":
        return data + rng.randbytes(20), how, 0, ".gz"
    if how == "zeros behind":
        return data + bytes(512), how, len(pairs), ".gz"
    if how == "not gzip":
        return tar_bytes(members), how, 0, ".gz"
    if how == "two members":
        plain = tar_bytes(members)
        return gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]), how, len(pairs), ".gz"
    info = tarfile.TarInfo("0.jpg")
    info.size = 1 << 30
    return gzip.compress(info.tobuf()) + gzip.compress(bytes(1 << 24), 1) * 65, "1 GB in 1 MB", 0, ".gz"


def _broken(members: Members, pairs: list[Pair], rng: random.Random) -> Hostile:
    data = tar_bytes(members)
    how = rng.choice(("cut", "zero block", "checksum", "text", "another archive", "no end"))
    if how == "cut":
        return data[: rng.randrange(len(data))], how, 0, ""
    if how == "no end":
        return data.rstrip(b"\0"), how, 0, ""
    if how == "zero block":
        at = BLOCK * rng.randrange(2, 12)
        return data[:at] + bytes(BLOCK) + data[at:], how, 0, ""
    if how == "checksum":
        at = BLOCK * (2 * rng.randrange(2) + 2)
        return data[: at + 148] + b"0000000\0" + data[at + 156 :], how, 0, ""
    return (b"not a tar\n" * 200 if how == "text" else b"PK\3\4" + rng.randbytes(5000)), how, 0, ""


def _checksum(header: bytes) -> bytes:
    return b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
