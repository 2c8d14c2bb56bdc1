"""Search in bulk: vectors come as Arrow IPC, and so do the hits. POST /v1/search.arrow."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from react_ray.serving.api import Searching
from react_ray.serving.finding import Finder
from react_ray.serving.plain_stream import check_plain
from react_ray.serving.refusal import Refused
from react_ray.serving.service import Service
from react_ray.serving.view import View

TYPE = "application/vnd.apache.arrow.stream"
MOST_HITS = 1 << 24  # of one request: 340 MB of Arrow
QUERIES_AT_ONCE = 1024
ANSWER = pa.schema(
    [("query", pa.int32()), ("rank", pa.int32()), ("pair_id", pa.int64()), ("score", pa.float32())],
)


async def arrow_search(service: Service, view: View, body: bytes, k: int, asked: Searching) -> bytes:
    """body: an IPC stream with a column `vector`, fixed_size_list<float16 or float32, dim>. Returns an IPC stream of
    ANSWER, ordered by query and rank from 0; recall, coverage and index_version are in the metadata of its schema."""
    if not 1 <= k <= service.config.max_k:
        raise Refused(f"k is {k}; ask for 1 to {service.config.max_k:,} hits of each query", field="k")
    if asked.key == "both":
        raise Refused("one key is searched at a time here; name image or text", field="key")
    finder = Finder(service, view, asked)
    await finder.check()
    [key] = view.database.keys_of(asked.key)
    queries_QD = await service.in_thread(read_vectors, body, view.database.embeddings.facts.dim)
    if len(queries_QD) * k > MOST_HITS:
        raise Refused(f"{len(queries_QD):,} queries of {k:,} hits are more than {MOST_HITS:,} hits; send fewer at once")
    tables = [ANSWER.empty_table()]
    for start in range(0, len(queries_QD), QUERIES_AT_ONCE):
        hits = await finder.search(key, queries_QD[start : start + QUERIES_AT_ONCE], k)
        query, pair_id, score, rank = hits.rows()
        tables.append(pa.table([query + np.int32(start), rank, pair_id, score], schema=ANSWER))
    said = finder.answer()
    metadata = {name: "" if said[name] is None else str(said[name]) for name in ("recall", "coverage", "index_version")}
    return await service.in_thread(_written, tables, metadata)


def read_vectors(body: bytes, dim: int) -> np.ndarray:
    """float32 [Q, dim], unit norm. Refused for anything that is no stream of such vectors."""
    try:
        check_plain(body)
        table = pa.ipc.open_stream(io.BytesIO(body)).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise Refused(f"the body is no Arrow IPC stream ({said}); write one with pyarrow.ipc.new_stream") from error
    wanted = f"fixed_size_list<float32, {dim}>"
    if "vector" not in table.column_names:
        raise Refused(f"the stream has no column `vector`; send one of type {wanted}", field="vector")
    column = table["vector"].combine_chunks()
    kind = column.type
    if not (pa.types.is_fixed_size_list(kind) and kind.list_size == dim and pa.types.is_floating(kind.value_type)):
        raise Refused(f"`vector` has type {kind}; send {wanted}", field="vector")
    values = column.flatten()
    if column.null_count or values.null_count:
        raise Refused("a vector is null; leave it out", field="vector")
    vectors_QD = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, dim)
    with np.errstate(over="ignore", invalid="ignore"):
        norm_Q1 = np.linalg.norm(vectors_QD, axis=1, keepdims=True)
    if len(bad := np.flatnonzero(~(np.isfinite(norm_Q1[:, 0]) & (norm_Q1[:, 0] > 1e-12)))):
        raise Refused(f"vector {bad[0]} is null or not finite; leave it out", field="vector")
    return vectors_QD / norm_Q1


def _written(tables: Sequence[pa.Table], metadata: dict[str, str]) -> bytes:
    found, sink = pa.concat_tables(tables).replace_schema_metadata(metadata), io.BytesIO()
    with pa.ipc.new_stream(sink, found.schema) as writer:
        writer.write_table(found)
    return sink.getvalue()
