"""Lists the members of one tar in one pass, groups them to samples wherever they lie, and finds the bytes of its rows.

A row is a sample with an image, a caption or a .json; rows are in the order of their first members. While a tar is
planned, the names of its members are in memory. Chunks of a tar whose samples follow each other stay as small as those
of any other file; a sample whose members lie apart adds 16 bytes a member.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from react_ray.pairs.formats.chunk import Chunk
from react_ray.pairs.formats.json_rows import ObjectColumns, parse_object
from react_ray.pairs.formats.samples import CAPTION, IMAGE, JSON, OTHER, Suffixes, learn
from react_ray.pairs.formats.seen import Seen
from react_ray.pairs.formats.spans import NOT_ENCODED
from react_ray.pairs.formats.suffixes import (
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    SIGNATURE_BYTES,
    SNIFFED,
    caption_in,
    holds_image,
    is_caption,
    is_label,
    is_replaced,
    text_of,
)
from react_ray.pairs.formats.tar_headers import FILES, Member, TarHeaders
from react_ray.pairs.names_beside import NamesBeside

MAX_GAP = 1 << 20  # bytes of members that no row uses which are read rather than left out
MANY = 20  # suffixes that are reported one by one


@dataclass
class TarIndex:
    uri: str
    images: tuple[str, ...]
    caption: str
    seen: Seen
    encoding: str = ""  # that the recipe names
    stems: dict[str, int] = field(default_factory=dict)  # names without their last suffix
    kinds: dict[str, int] = field(default_factory=dict)  # last suffixes
    members: array[int] = field(default_factory=lambda: array("q"))  # stem, kind, start, end and bytes of each
    looked: dict[str, list[bool]] = field(default_factory=dict)  # by unknown suffix: which of its first are images
    objects: ObjectColumns = field(default_factory=ObjectColumns)  # the keys of all .json
    lists: bool = False  # some .json has several captions
    others: set[str] = field(default_factory=set)  # suffixes that no column takes
    names: NamesBeside = field(default_factory=NamesBeside)  # of the labels in .cls
    integers: bool = False  # a label in .cls is one
    json_captions: bool = False  # which go before labels

    def scan(self, file: BinaryIO) -> None:
        self.objects.uri = self.uri
        known = Suffixes()
        roles: dict[str, str] = {}
        headers = TarHeaders(file, self.uri, self.seen)
        for member in headers:
            if not self._is_file(member):
                continue
            stem, kind = known.divide(member.name)
            role = roles.get(kind) or roles.setdefault(kind, known.role(kind))
            at = self.stems.setdefault(stem, len(self.stems)), self.kinds.setdefault(kind, len(self.kinds))
            self.members.extend((*at, member.start, member.end, member.num_bytes))
            if role == JSON and member.num_bytes <= MAX_TEXT_BYTES:
                self._look_at_json(member.name, headers.content(member, MAX_TEXT_BYTES))
            elif role == CAPTION and member.num_bytes <= MAX_TEXT_BYTES:
                data = headers.content(member, MAX_TEXT_BYTES)
                text = text_of(data, self.encoding)
                self._check_encoding(member.name, data, text)
                self.integers |= is_label(kind) and text.strip().isdecimal()
            elif role == OTHER and len(found := self.looked.setdefault(kind, [])) < SNIFFED:
                found.append(holds_image(headers.content(member, SIGNATURE_BYTES)))
        self._divide()

    def json_columns(self) -> pa.Schema:
        return self.objects.schema()

    def _is_file(self, member: Member) -> bool:
        base = member.name.rstrip("/").rpartition("/")[2]
        if member.type in FILES and not base.startswith(".") and not member.name.endswith("/"):
            return True
        if member.type in FILES:
            self.seen.pass_over("hidden members", self._named(member.name))
        elif member.type != b"5":
            self.seen.pass_over("members that are links or no files", self._named(member.name))
        return False

    def _look_at_json(self, name: str, data: bytes) -> None:
        text = text_of(data, self.encoding)
        self._check_encoding(name, data, text)
        row = parse_object(text)
        if not row and data.strip() not in (b"{}", b""):
            self.seen.pass_over("members .json without a JSON object", self._named(name))
        caption = caption_in(row)
        if caption is not None and not is_caption(caption):
            self.seen.pass_over("captions in .json that are neither text nor a list of texts", self._named(name))
        self.lists |= isinstance(caption, list)
        self.json_captions |= caption is not None
        self.objects.add(row)

    def _check_encoding(self, name: str, data: bytes, text: str) -> None:
        if is_replaced(data, text):
            self.seen.tell(f"members {NOT_ENCODED}", self._named(name))

    def _divide(self) -> None:
        """Settles which suffixes the tar has, and which member belongs to which key."""
        self.table = np.frombuffer(self.members, np.int64).reshape(-1, 5)
        learnt = {kind: IMAGE for kind, found in self.looked.items() if found and 2 * sum(found) >= len(found)}
        named = tuple(suffix for suffix in (*self.images, self.caption) if "." in suffix)
        first = Suffixes(learnt=learnt)
        names = list(self.stems)
        if any("." in stem.rpartition("/")[2] for stem in names):
            patterns = _patterns(self.table[:, 0], self.table[:, 1], list(self.kinds))
            for suffix in learn({names[stem]: pattern for stem, pattern in patterns}, first):
                learnt[suffix] = first.kind(suffix.rpartition(".")[2])
        dotted = {suffix for suffix in (*learnt, *named) if "." in suffix}
        found = set(self.kinds) | dotted
        caption = self.caption if self.caption in found else ""
        self.suffixes = Suffixes(self.images, caption, learnt)
        if not dotted:
            self.key_names, self.suffix_names = names, list(self.kinds)
            self.key_N, self.suffix_N = self.table[:, 0], self.table[:, 1]
            return
        kinds = list(self.kinds)
        keys: dict[str, int] = {}
        suffixes: dict[str, int] = {}
        placed = array("q")
        for stem, kind in self.table[:, :2].tolist():
            key, suffix = self.suffixes.divide(f"{names[stem]}.{kinds[kind]}" if kinds[kind] else names[stem])
            placed.extend((keys.setdefault(key, len(keys)), suffixes.setdefault(suffix, len(suffixes))))
        self.key_names, self.suffix_names = list(keys), list(suffixes)
        self.key_N, self.suffix_N = np.frombuffer(placed, np.int64).reshape(-1, 2).T

    def chunks(self, row_start: int, rows_per_part: int) -> Iterator[Chunk]:
        roles = [self.suffixes.role(suffix) for suffix in self.suffix_names]
        limits = np.array([{IMAGE: MAX_IMAGE_BYTES, OTHER: -1}.get(role, MAX_TEXT_BYTES) for role in roles], np.int64)
        fits_N = self.table[:, 4] <= limits[self.suffix_N]
        self._count_unused(roles, fits_N)
        key_U, suffix_U = self.key_N[fits_N], self.suffix_N[fits_N]
        start_U, end_U = self.table[fits_N, 2], self.table[fits_N, 3]
        key_R, first_R, inverse_U = np.unique(key_U, return_index=True, return_inverse=True)
        by_first = np.argsort(first_R)
        rank = np.empty(len(key_R), np.int64)
        rank[by_first] = np.arange(len(key_R))
        key_R, row_U = key_R[by_first], rank[inverse_U]
        order = np.argsort(row_U, kind="stable")
        row_sorted = row_U[order]
        names = self.suffixes.encoded()
        row = 0
        while row < len(key_R):
            rows = min(len(key_R) - row, rows_per_part - (row_start + row) % rows_per_part)
            begin, end = np.searchsorted(row_sorted, (row, row + rows))
            members = order[begin:end]
            self._count_bad(key_R, row_U[members], suffix_U[members])
            members = np.sort(members)
            starts, ends = start_U[members], end_U[members]
            apart = (np.diff(members) != 1) | (starts[1:] - ends[:-1] > MAX_GAP)
            spans = np.stack([starts[np.r_[True, apart]], ends[np.r_[apart, True]]], axis=1)
            num_bytes = int((spans[:, 1] - spans[:, 0]).sum())
            packed = spans.tobytes() if len(spans) > 1 else b""
            yield Chunk(self.uri, row_start + row, rows, num_bytes, int(spans[0, 0]), names, packed)
            row += rows

    def _count_unused(self, roles: list[str], fits_N: np.ndarray) -> None:
        for at in np.flatnonzero(~fits_N).tolist():
            suffix, key = int(self.suffix_N[at]), int(self.key_N[at])
            name = self._named(f"{self.key_names[key]}.{self.suffix_names[suffix]}".rstrip("."))
            if roles[suffix] == OTHER:
                self._unused(self.suffix_names[suffix], name)
            else:
                self.seen.pass_over("members that are larger than is read", name)
        pair_N = self.key_N[fits_N] * len(self.suffix_names) + self.suffix_N[fits_N]
        pairs, counts = np.unique(pair_N, return_counts=True)
        for pair, count in zip(pairs[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
            key, suffix = divmod(pair, len(self.suffix_names))
            name = f"{self.key_names[key]}.{self.suffix_names[suffix]}"
            self.seen.pass_over(
                "members of which a later one has the name; the last is kept", self._named(name), count - 1
            )

    def _count_bad(self, key_R: np.ndarray, row_M: np.ndarray, suffix_M: np.ndarray) -> None:
        """Counts the rows without an image, and the images and captions that a sample has beside its own."""
        for row, pattern in _patterns(row_M, suffix_M, self.suffix_names):
            key = self.key_names[int(key_R[row])]
            image, caption = self.suffixes.image_of(pattern), self.suffixes.caption_of(pattern)
            if not image:
                wanted = f".{self.suffixes.images[0]}" if self.suffixes.images else "image"
                self.seen.bad_row(f"samples without {wanted}", self._named(key))
            for role, some in ((IMAGE, image), (CAPTION, caption)):
                if len(some) > 1:
                    listed = ", ".join(f".{suffix}" for suffix in some[:5])
                    self.seen.bad_row(
                        f"samples with several {role}s ({listed}), of which ingest.{role}_column names none",
                        self._named(key),
                    )
            if self.integers and not self.json_captions and caption and is_label(caption[0]):
                if self.names.uri:
                    self.seen.note(f"the labels in .{caption[0]} mean the names in {self.names.uri}")
                else:
                    what = "captions that are integers of a .cls (write their names into classes.txt beside the tars)"
                    self.seen.tell(what, self._named(key))
            taken = {*image, *caption}
            for suffix in pattern:
                if suffix not in taken and self.suffixes.role(suffix) != JSON:
                    self._unused(suffix, self._named(f"{key}.{suffix}"))

    def _unused(self, suffix: str, name: str) -> None:
        if len(self.others) < MANY:
            self.others.add(suffix)
        shown = f"the suffix .{suffix}" if suffix in self.others else "other suffixes"
        self.seen.pass_over(f"members with {shown if suffix else 'no suffix'}, which no column takes", name)

    def _named(self, name: str) -> str:
        return f"{self.uri.rpartition('/')[2]}: {name}"


def _patterns(group_M: np.ndarray, suffix_M: np.ndarray, names: list[str]) -> Iterator[tuple[int, frozenset[str]]]:
    """Yields each group with the suffixes of its members, as one object for all groups that have the same."""
    order = np.argsort(group_M, kind="stable")
    known: dict[frozenset[int], frozenset[str]] = {}
    pairs = zip(group_M[order].tolist(), suffix_M[order].tolist(), strict=True)
    for group, some in groupby(pairs, key=lambda pair: pair[0]):
        numbers = frozenset(number for _, number in some)
        if numbers not in known:
            known[numbers] = frozenset(names[number] for number in numbers)
        yield group, known[numbers]
