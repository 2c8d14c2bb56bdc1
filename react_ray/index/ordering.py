"""Sorts tens of millions of hits.

Sorting 64-bit numbers by value is several times faster than an argsort, so keys and positions are packed into one
number wherever they fit.
"""

from __future__ import annotations

import numpy as np

from react_ray.pair_id import ROW_BITS, part_of, row_of

WORD = 64


def order_by(*keys: np.ndarray) -> np.ndarray:
    """Returns int64 [N], the stable order of rows by keys, the first key first. keys: non-negative integers, [N]
    each."""
    count = len(keys[0])
    widths = [int(key.max(initial=0)).bit_length() for key in keys]
    place = max(count - 1, 0).bit_length()
    if sum(widths) + place > WORD:
        return np.lexsort(keys[::-1])
    packed = np.zeros(count, dtype=np.uint64)  # all in place: rows are tens of millions
    for key, width in zip([*keys, np.arange(count)], [*widths, place], strict=True):
        packed <<= np.uint64(width)
        packed |= key.astype(np.uint64)
    packed.sort()
    packed &= np.uint64((1 << place) - 1)
    return packed.view(np.int64)


def order_by_pair(pair_ids: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Returns order_by(pair_ids, *keys), fast also where these numbers are too wide to be packed."""
    widths = sum(int(key.max(initial=0)).bit_length() for key in (pair_ids, *keys))
    fits = pair_ids.min(initial=0) >= 0 and widths + max(len(pair_ids) - 1, 0).bit_length() <= WORD
    return order_by(pair_ids if fits else distinct_pairs(pair_ids)[1], *keys)


def order_within(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Returns int64 [N], the order by group, then score (best first), then position. group: integers [N], already
    ascending."""
    if not len(group):
        return np.empty(0, dtype=np.int64)
    start = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(start, append=len(group))
    segment = np.repeat(np.arange(len(start)), sizes)
    place = np.arange(len(group)) - np.repeat(start, sizes)
    widths = [int(sizes.max() - 1).bit_length(), WORD // 2, int(len(start) - 1).bit_length()]
    if sum(widths) > WORD:
        return np.lexsort((place, descending(score), segment))
    packed = segment.astype(np.uint64) << np.uint64(WORD // 2) | descending(score)
    packed = packed << np.uint64(widths[0]) | place.astype(np.uint64)
    packed.sort()  # a group's rows stay where the group lies, so `segment` still names it
    return start[segment] + (packed & np.uint64((1 << widths[0]) - 1)).astype(np.int64)


def descending(score: np.ndarray) -> np.ndarray:
    """Maps float32 scores to uint32 numbers in the reverse order; -0.0 equals 0.0."""
    bits = (score.astype(np.float32) + np.float32(0)).view(np.uint32)
    return ~np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def distinct_pairs(pair_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns np.unique and its inverse: by marking rows if there are many hits in few parts, otherwise by sorting."""
    part, row = part_of(pair_ids), row_of(pair_ids)
    parts, width = int(part.max(initial=-1)) + 1, int(row.max(initial=-1)) + 1
    if pair_ids.min(initial=0) < 0 or parts * width > 8 * len(pair_ids):
        distinct, inverse = np.unique(pair_ids, return_inverse=True)
        return distinct, inverse
    cell = part * width + row
    marked = np.zeros(parts * width, dtype=bool)
    marked[cell] = True
    cells = np.flatnonzero(marked)
    number = np.cumsum(marked) - 1
    return (cells // max(width, 1)) << ROW_BITS | cells % max(width, 1), number[cell]


def distinct(values: np.ndarray) -> np.ndarray:
    """Returns each value once, ascending: np.unique by sorting. Since version 2.3 NumPy's own hashes integers, which
    takes 20 times as long for ten million ids."""
    ordered = np.sort(values, axis=None)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
