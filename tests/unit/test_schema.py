"""The data dictionary."""

from __future__ import annotations

import pyarrow as pa
import pytest

from react_ray import schema


def test_retrieved_pairs_keep_the_columns_of_their_source() -> None:
    source = schema.PAIRS.append(pa.field("licence", pa.string()))
    names = schema.retrieved(8, source).names
    assert names == [*source.names, "class_id", "score", "matches", "text_embedding"]


def test_conform_orders_and_casts_and_never_drops_silently() -> None:
    table = pa.table({"rank": [0], "key": ["text"], "pair_id": [5], "score": [0.5], "query_id": [1], "more": [None]})
    assert schema.conform(table, schema.HITS).schema == schema.HITS
    with pytest.raises(KeyError):
        schema.conform(table.drop_columns(["rank"]), schema.HITS)
    with pytest.raises(pa.ArrowInvalid):
        schema.conform(table.set_column(0, "rank", pa.array([2**40])), schema.HITS)
