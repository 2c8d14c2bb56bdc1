"""Weighs all classes that a retrieved pair matched: takes the column `matches` of `retrieved`, gives class -> weight.

A pair is retrieved for one class, but often matches others as well: two names of one thing, or a class of another task.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SHARPNESS = 100.0  # the logit scale of CLIP's models, and the most that CLIP's training allows
LEAST = 0.01  # lighter classes are left out: their cosine is 0.046 below the best
MATCHED = pa.map_(pa.int32(), pa.float32())


def soft_classes(class_id: pa.ChunkedArray, matches: pa.ChunkedArray) -> pa.Array:
    """Returns MATCHED, one map for each pair: the classes that it matched, with weights in (0, 1], in order of their
    ids.

    class_id: int32, the class that each pair was retrieved for; it weighs 1. matches: list<schema.MATCH>. Any other
    class weighs exp(100 * (its best cosine - the pair's best cosine)), as CLIP's softmax compares them: equal matches
    weigh the same, while equal shares for all matches would teach classes that a deep search found far away. Image and
    text vectors have cosines of different sizes, so each key is compared alone, and a class keeps its larger weight:
    where text and image name two classes, both weigh 1. A pair without a class or matches has an empty map.
    """
    own = pc.fill_null(class_id.combine_chunks(), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    lists = matches.combine_chunks()
    found = lists.flatten()
    pair = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    matched = pc.fill_null(pc.struct_field(found, "class_id"), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    score = pc.struct_field(found, "score").to_numpy(zero_copy_only=False).astype(np.float64)
    side = 2 * pair + pc.equal(pc.struct_field(found, "key"), "text").to_numpy(zero_copy_only=False)
    best = np.full(2 * len(own), -np.inf)
    np.maximum.at(best, side, score)
    weight = np.exp(SHARPNESS * (score - best[side]))
    weight[matched == own[pair]] = 1.0
    known = (weight >= LEAST) & (matched >= 0) & (own[pair] >= 0)
    pair, matched, weight = pair[known], matched[known], weight[known]
    order = np.lexsort((-weight, matched, pair))
    pair, matched, weight = pair[order], matched[order], weight[order]
    first = (np.diff(pair, prepend=-1) != 0) | (np.diff(matched, prepend=-1) != 0)
    pair, matched, weight = pair[first], matched[first], weight[first]
    ends = np.concatenate([[0], np.cumsum(np.bincount(pair, minlength=len(own)))])
    return pa.MapArray.from_arrays(
        pa.array(ends, pa.int32()), pa.array(matched, pa.int32()), pa.array(weight, pa.float32())
    )
