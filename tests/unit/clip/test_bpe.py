"""The tokenizer without torch gives the ids of open_clip's."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest

from react_ray.clip.bpe import Tokenizer
from react_ray.storage import open_parquet

ODD = [
    "",
    "   ",
    "naïve café — 東京 😀 it's 12% &amp;amp; <b>",
    "<end_of_text> within <START_OF_TEXT>",
    "I'LL GO, you're late: they've 1,234.5",
    "a" * 400,
    "ﬁne “quotes” and Ã© that was UTF-8 once",
    "\u200bzero width, tab\tand\nline",
    "x_y-z... !!!???",
    "ÀÉÎ ß İ ǅ",
    "word " * 100,
    "mixed日本語and русский текст",
]


@pytest.mark.parametrize("length", [8, 16, 77])
def test_its_ids_are_those_of_open_clip(length: int) -> None:
    captions = open_parquet("sample://pool.parquet").read(["caption"])["caption"].to_pylist()
    texts = [*sorted(set(captions))[::15], *ODD]
    expected = open_clip.SimpleTokenizer(context_length=length)(texts).numpy()
    found = Tokenizer(length)(texts)
    assert len(texts) > 1500 and found.dtype == np.int64
    differing = [
        text for text, one, other in zip(texts, found, expected, strict=True) if not np.array_equal(one, other)
    ]
    assert differing == []
