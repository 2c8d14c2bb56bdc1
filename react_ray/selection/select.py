"""Selects the training set: which of the pairs that were hit are kept, and for which class.

Takes hits (query, pair, score) and queries (the class that each asks for); gives one row per pair with its best class
and all its matches. A target number of unique pairs per class replaces a fixed k per query, whose yield differs by
three orders of magnitude between datasets. The result does not depend on the order of the input rows.

`select` does it at once. A large search keeps the claims that may be chosen (kept_claims.py), chooses among them, and
reads the matches of the chosen pairs from the parts of its hits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.index.ordering import order_by, order_within
from react_ray.selection.claims import (
    Claims,
    Scales,
    best_of_each_class,
    best_of_each_host,
    best_of_each_pair,
    claims_of,
    in_turns,
)
from react_ray.selection.config import RetrieveConfig as RetrieveConfig
from react_ray.selection.hit_columns import AskedClasses, HitColumns, counted, first_of_name
from react_ray.selection.image_agreement import ImageAgreement
from react_ray.selection.screen import Screen

CHOSEN = pa.schema([schema.retrieved(1).field(name) for name in ("pair_id", "class_id", "score")])
SELECTED = CHOSEN.append(schema.retrieved(1).field("matches"))  # as it is stored
MATCH = pa.struct(  # schema.MATCH in memory, where a prompt takes 4 bytes
    [
        ("class_id", pa.int32()),
        ("prompt", pa.dictionary(pa.int32(), pa.string())),
        ("score", pa.float32()),
        ("key", pa.dictionary(pa.int8(), pa.string())),
    ]
)
MATCHES_AT_ONCE = 1 << 22  # that are sorted at a time
MATCHED = CHOSEN.append(pa.field("matches", pa.list_(MATCH)))


def select(
    hits: pa.Table,
    queries: pa.Table,
    config: RetrieveConfig,
    screen: Screen | None = None,
    scales: Scales | None = None,
    agreement: ImageAgreement | None = None,
) -> pa.Table:
    """hits: schema.HITS; queries: at least query_id, class_id (over all tasks), prompt, task, class_name.

    Returns one row per pair (MATCHED), ordered by pair_id: pair_id, class_id and score of its best class, and all its
    matches, best first. Pairs are chosen by `fusion`; `score` is always a cosine. Classes of one task that share a name
    count as the first of them. screen: the candidates that may be chosen; None = all. scales: as in claims_of.
    agreement: None = images need not agree.
    """
    asked = AskedClasses(queries)
    claims = claims_of(HitColumns.read(hits, asked, config), asked, config, scales)
    return with_matches(chosen_pairs(choose(claims, config, screen, agreement), config), [hits], asked, config)


def choose(
    claims: Claims, config: RetrieveConfig, screen: Screen | None = None, agreement: ImageAgreement | None = None
) -> Claims:
    """Returns the claims that each class keeps, whatever max_pairs leaves of all."""
    if screen is not None:
        claims = claims.take(np.flatnonzero(screen.kept[screen.at(claims.pair_id)]))
    if config.exclusive:
        claims = claims.take(best_of_each_pair(claims))
    if agreement is not None:  # a pair whose image does not agree with its best class goes to no other
        claims = claims.take(np.flatnonzero(agreement(claims.pair_id, claims.class_id)))
    if screen is not None and config.max_per_domain:
        claims = claims.take(best_of_each_host(claims, screen.host[screen.at(claims.pair_id)], config.max_per_domain))
    return claims.take(best_of_each_class(_in_order(claims, config), config.pairs_per_class))


def chosen_pairs(claims: Claims, config: RetrieveConfig) -> pa.Table:
    """Returns what `select` chooses, without matches (CHOSEN). claims: of `choose`."""
    if config.max_pairs:
        claims = claims.take(best_of_each_class(_in_order(claims, config), 0, config.max_pairs))
    best = claims.take(best_of_each_pair(claims))
    return pa.table({"pair_id": best.pair_id, "class_id": best.class_id, "score": best.score}, schema=CHOSEN)


def _in_order(claims: Claims, config: RetrieveConfig) -> Claims:
    return claims if claims.of_key is None else in_turns(claims, config.image_share)


def choose_screened(
    claims: Claims,
    config: RetrieveConfig,
    screening: Callable[[np.ndarray, np.ndarray], Screen] | None,
    agreement: ImageAgreement | None,
) -> tuple[Claims, dict[str, int]]:
    """As `choose`. screening: takes the claimed pairs, int64 [N] ascending, and the score of the best hit of each;
    None = all may be chosen. Also returns how many pairs there were, and why some may not be chosen."""
    pair_ids, score = claims.best_scores()
    counts, screen = {"distinct pairs above the floor": len(pair_ids)}, None
    if screening is not None:
        screen = screening(pair_ids, score)
        counts |= screen.dropped
    chosen = choose(claims, config, screen, agreement)
    if agreement is not None:
        counts["claims below min_image_score"] = agreement.dropped
    return chosen, counts


def with_matches(chosen: pa.Table, hits: Iterable[pa.Table], asked: AskedClasses, config: RetrieveConfig) -> pa.Table:
    """Returns `chosen` with the matches of each pair (MATCHED): best score first, then by class, query and key.

    chosen: CHOSEN, ordered by pair_id. hits: tables of schema.HITS, of which only those of chosen pairs are kept.
    """
    pair_ids = chosen["pair_id"].to_numpy()
    pieces = [_matched(pair_ids, table, asked, config) for table in hits]
    ends = np.zeros(len(pair_ids), np.int64)
    for row, *_ in pieces:
        ends += np.bincount(row, minlength=len(ends))
    starts = np.concatenate([[0], np.cumsum(ends, out=ends)])
    columns = [np.empty(starts[-1], dtype) for dtype in (np.int32, np.bool_, np.float32)]
    first = 0
    while first < len(pair_ids):  # so many pairs at a time as have MATCHES_AT_ONCE
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + MATCHES_AT_ONCE, side="right")))
        some = [[column[slice(*np.searchsorted(one[0], (first, last)))] for column in one] for one in pieces]
        row, query, text, score = (np.concatenate(column) for column in zip(*some, strict=True))
        order = order_by(row, asked.by_class[query], text)
        order = order[order_within(row[order], score[order])]
        for column, found in zip(columns, (query, text, score), strict=True):
            column[starts[first] : starts[last]] = found[order]
        first = last
    query, text, score = columns
    match = pa.StructArray.from_arrays(
        [
            pa.array(asked.class_id.astype(np.int32)[query]),
            pa.DictionaryArray.from_arrays(pa.array(query), asked.prompts),
            pa.array(score),
            pa.DictionaryArray.from_arrays(pa.array(text.view(np.int8)), pa.array(["image", "text"])),
        ],
        fields=list(MATCH),
    )
    matches = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), match, type=pa.list_(MATCH))
    return chosen.append_column(MATCHED.field("matches"), matches)


def _matched(
    pair_ids: np.ndarray, hits: pa.Table, asked: AskedClasses, config: RetrieveConfig
) -> tuple[np.ndarray, ...]:
    """Returns (row of pair_ids int32, query int32, text bool, score float32) of the hits of these pairs, by row."""
    rows = np.flatnonzero(counted(hits, config))
    pair_id = hits["pair_id"].to_numpy()[rows]
    order = np.argsort(pair_id)  # a search for ascending numbers stays in the cache
    rows, pair_id = rows[order], pair_id[order]
    at = np.minimum(np.searchsorted(pair_ids, pair_id), max(len(pair_ids) - 1, 0)).astype(np.int32)
    kept = pair_ids[at] == pair_id if len(pair_ids) else np.zeros(len(at), bool)
    rows, at = rows[kept], at[kept]
    query = asked.positions(hits["query_id"].to_numpy()[rows])
    return at, query, pc.equal(hits["key"], "text").to_numpy()[rows], hits["score"].to_numpy()[rows]


def coverage(selected: pa.Table, queries: pa.Table, exclusive: bool = True) -> list[tuple[int, str, int]]:
    """Returns (class_id, class_name, number of pairs) for every class, including classes without any pair.

    exclusive: a pair counts for its best class only; otherwise for every class that hit it. Classes of one task that
    share a name share their pairs.
    """
    class_id, first = np.unique(queries["class_id"].to_numpy(), return_index=True)
    names = queries["class_name"].take(pa.array(first)).to_pylist()
    of_pairs = selected["class_id"].to_numpy()
    if not exclusive:
        row, match = (
            pc.list_parent_indices(selected["matches"]),
            pc.struct_field(pc.list_flatten(selected["matches"]), "class_id"),
        )
        of_pairs = np.unique(np.stack([match.to_numpy(), row.to_numpy()]), axis=1)[0]
    counts = np.bincount(np.searchsorted(class_id, _known(of_pairs, class_id)), minlength=len(names))
    shared = counts[np.searchsorted(class_id, first_of_name(queries)[first])]
    return list(zip(class_id.tolist(), names, shared.tolist(), strict=True))


def _known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    return values[np.isin(values, known)]
