"""ClassColumns: the hits of all classes as columns, because a thousand classes have hundreds of thousands of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class ClassColumns:
    """One row per class and pair, [N] each, ordered by class; of a class the selected pairs come first, the best first.

    query: the place of the query that found the pair, among all. is_spare: the pair comes next, if others are rejected.
    """

    class_id: np.ndarray
    pair_ids: np.ndarray
    scores: np.ndarray
    query: np.ndarray
    is_text: np.ndarray
    is_spare: np.ndarray

    @classmethod
    def of(cls, chosen: pa.Table, spare: pa.Table, is_exclusive: bool) -> ClassColumns:
        """chosen, spare: select.MATCHED. is_exclusive: a pair counts for its class alone, not for all that matched."""
        pieces = [_columns(table, is_exclusive) for table in (chosen, spare)]
        is_spare = np.repeat([False, True], [len(piece[0]) for piece in pieces])
        columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
        class_id, pair_ids, scores = columns[:3]
        order = np.lexsort((pair_ids, -scores, is_spare, class_id))
        return cls(*(column[order] for column in (*columns, is_spare)))

    def of_class(self, class_id: int) -> np.ndarray:
        """The rows of a class."""
        return np.arange(*np.searchsorted(self.class_id, (class_id, class_id + 1)))


def _columns(table: pa.Table, is_exclusive: bool) -> tuple[np.ndarray, ...]:
    """(class_id, pair_id, score, query, is_text) of each class's best match with each pair."""
    lists = table["matches"].combine_chunks()
    match, row = lists.flatten(), pc.list_parent_indices(lists).to_numpy().astype(np.int64)
    class_id = match.field("class_id").to_numpy().astype(np.int64)
    mine = np.flatnonzero(class_id == table["class_id"].to_numpy()[row]) if is_exclusive else np.arange(len(row))
    place = row[mine] * (class_id.max(initial=0) + 1) + class_id[mine]
    best = mine[np.unique(place, return_index=True)[1]]  # the first of each pair and class
    query, is_text = (match.field(name).indices.to_numpy()[best] for name in ("prompt", "key"))
    score, pair_id = match.field("score").to_numpy()[best], table["pair_id"].to_numpy()[row[best]]
    return class_id[best], pair_id, score, query, is_text.astype(bool)
