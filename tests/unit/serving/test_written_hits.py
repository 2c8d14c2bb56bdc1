"""Hits as JSON say what the database holds, whatever characters its captions have."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pyarrow as pa
import pytest

from react_ray.serving.written_hits import quoted
from tests.support.searchable import write_searchable
from tests.support.serving import served, serving_recipe

ODD = ['say "heron" \\ twice', "tab\tand\nline\x00", "naïve 🦩 \u2028 \x7f", "", "</script>"]


@pytest.mark.parametrize("captions", [ODD[:1] + ODD[2:], ODD])
def test_captions_of_any_characters_come_as_they_are(tmp_path: Path, captions: list[str]) -> None:
    uri = str(tmp_path / "database")
    write_searchable(uri, [captions, captions[::-1]])

    async def found() -> list[str]:
        async with served(serving_recipe(uri)) as client:
            body = {"query": {"text": "a heron"}, "k": 100, "key": "text", "columns": ["caption"]}
            status, answer = await client.post("/v1/search", body)
            assert status == 200, answer
            [result] = answer["results"]
            assert all(hit["columns"] == {"caption": hit["caption"]} for hit in result["hits"])
            return [hit["caption"] for hit in result["hits"]]

    assert sorted(asyncio.run(found())) == sorted(2 * captions)


def test_bytes_that_are_no_text_and_what_is_missing_are_written_too() -> None:
    data = [b'caf\xe9 "x"', None, "é".encode(), b"\xed\xa0\x80"]
    column = pa.Array.from_buffers(pa.large_string(), 4, pa.array(data, pa.large_binary()).buffers())
    read = [json.loads(one) for one in quoted(column)[0].to_pylist()]
    assert read == ['caf\ufffd "x"', None, "é", "\ufffd\ufffd\ufffd"]
    assert quoted(pa.nulls(2)) == ["null"]
