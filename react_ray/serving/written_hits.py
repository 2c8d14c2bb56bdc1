"""Hits as JSON text, written column by column: ten thousand of them as objects would keep the garbage collector busy
for longer than the search takes."""

from __future__ import annotations

from collections.abc import Sequence
from json.encoder import encode_basestring_ascii

import numpy as np
from pydantic_core import to_json

from react_ray.serving.ranked import Ranked
from react_ray.serving.view import View


def written_hits(view: View, found: Sequence[Ranked], columns: Sequence[str]) -> list[str]:
    """Returns a JSON array for each query, of objects as api.Hit describes them."""
    ids = np.concatenate([np.empty(0, np.int64), *(hits.pair_ids for hits in found)])
    values = view.records.columns_of(ids, ["caption", "url", *columns])
    captions, urls = (list(map(_text, values[name])) for name in ("caption", "url"))
    stored = view.records.stored(ids).tolist()
    more = (
        [
            to_json(dict(zip(columns, row, strict=True)), inf_nan_mode="null").decode()
            for row in zip(*(values[name] for name in columns), strict=True)
        ]
        if columns
        else ["{}"] * len(ids)
    )
    out, first = [], 0
    for hits in found:
        some = slice(first, first := first + len(hits.pair_ids))
        out.append(f"[{','.join(_objects(hits, captions[some], urls[some], stored[some], more[some]))}]")
    return out


def _objects(hits: Ranked, captions: list[str], urls: list[str], stored: list[bool], more: list[str]) -> list[str]:
    ids, scores, keys = hits.pair_ids.tolist(), hits.scores.tolist(), hits.keys
    above = ["null" if z != z else repr(z) for z in hits.z.astype(np.float64).round(3).tolist()]
    images = [f'"/v1/pairs/{pair}/image"' if there else "null" for pair, there in zip(ids, stored, strict=True)]
    folded = [str(hits.same.get(pair, [])) for pair in ids] if hits.same else ["[]"] * len(ids)
    return [
        f'{{"pair_id":{pair},"score":{score!r},"z":{z},"key":"{key}","caption":{caption},"url":{url},"image":{image},'
        f'"columns":{of_pair},"folded":{same}}}'
        for pair, score, z, key, caption, url, image, of_pair, same in zip(
            ids, scores, above, keys, captions, urls, images, more, folded, strict=True
        )
    ]


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring_ascii(value)
