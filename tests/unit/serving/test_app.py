"""Bad input gets a 4xx in the one JSON shape, with one sentence that says what to do; each route answers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from react_ray.recipe import recipe_of
from tests.support.searchable import png
from tests.support.serving import Client, served, serving_recipe
from tests.support.web import Web

HERON = {"text": "a heron"}
SEARCH, CLASSES, RECIPE = "/v1/search", "/v1/classes", "/v1/recipe"


def asked(uri: str, work: Callable[[Client], Awaitable[Any]], **sections: Any) -> Any:
    async def once() -> Any:
        async with served(serving_recipe(uri, **sections)) as client:
            return await work(client)

    return asyncio.run(once())


BAD: list[tuple[str, Any, str | None, str]] = [
    (SEARCH, {"query": {"text": ""}}, "query.text", "write what to search for"),
    (SEARCH, {"query": {"text": "x" * 100_000}}, "query.text", "at most 4096 characters"),
    (SEARCH, {"query": HERON, "k": 0}, "k", "greater than or equal to 1"),
    (SEARCH, {"query": HERON, "k": 10_001}, "k", "ask for fewer hits"),
    (SEARCH, {"query": HERON, "k": "many"}, "k", "valid integer"),
    (SEARCH, {"query": {"embedding": [float("nan")] * 128}}, "query.embedding.0", "finite number"),
    (SEARCH, {"query": {"embedding": [0.0] * 128}}, "query.embedding", "null or not finite"),
    (SEARCH, {"query": {"embedding": [1.0] * 127}}, "query.embedding", "vectors of the same model"),
    (SEARCH, {"query": {"image": "no base64!"}}, "query.image", "encode its bytes"),
    (SEARCH, {"query": {"image": base64.b64encode(b"<html>").decode()}}, "query.image", "name another image"),
    (SEARCH, {"query": {"pair_id": 99_999}}, "query.pair_id", "take the pair_id of a hit"),
    (SEARCH, {"query": {"pair_id": 4, "side": "image"}}, "query.pair_id", "take another pair or side"),
    (SEARCH, {"query": {"pair_id": 2**60}}, "query.pair_id", "less than"),
    (SEARCH, {"query": {"url": "http://e.org/1.jpg"}}, "query.url", "send the image itself"),
    (SEARCH, {"query": {"text": "a", "pair_id": 1}}, "query", "give one"),
    (SEARCH, {"query": {"sum": [HERON, HERON | {"weight": -1}]}}, "query.sum", "change a weight"),
    (SEARCH, {"query": HERON, "queries": [HERON]}, "query", "give one of them"),
    (SEARCH, {}, "query", "give one of them"),
    (SEARCH, {"queries": []}, "queries", "split it"),
    (SEARCH, {"queries": [HERON] * 257}, "queries", "split it"),
    (SEARCH, {"query": HERON, "filters": ["colour == red"]}, "filters", "no column 'colour'"),
    (SEARCH, {"query": HERON, "filters": ["width"]}, "filters", "is no condition"),
    (SEARCH, {"query": HERON, "filters": ["width >= wide"]}, "filters", "write a number there"),
    (SEARCH, {"query": HERON, "filters": ["phash == 3"]}, "filters", "no column 'phash'"),
    (SEARCH, {"query": HERON, "filters": ["similarity in a, b"]}, "filters", "write a value of that type"),
    (SEARCH, {"query": HERON, "columns": ["colour"]}, "columns", "name one of"),
    (SEARCH, {"query": HERON, "key": "sound"}, "key", "'image', 'text'"),
    (SEARCH, {"query": HERON, "kk": 3}, "kk", "see /openapi.json"),
    (SEARCH, [1], None, "no JSON object; send one"),
    (CLASSES, {}, "classes", "give one of them"),
    (SEARCH, {"query": "a heron"}, "query", "a JSON object is meant; see /openapi.json"),
    (CLASSES, {"classes": []}, "classes", "name at least one class"),
    (CLASSES, {"classes": [{"name": " "}]}, "classes", "name it or remove it"),
    (CLASSES, {"task": "no such task"}, "task", "no task 'no such task' is built in"),
    (CLASSES, {"classes": [{"name": "a"}], "templates": ["a photo"]}, "classes", "put {} where the class name belongs"),
    (CLASSES, {"classes": [{"name": "a"}], "pairs_per_class": 10_001}, "pairs_per_class", "ask for fewer pairs"),
    (CLASSES, {"classes": [{"name": "a"}], "pool": 10}, "pool", "is named pairs_per_class"),
    (CLASSES, {"classes": [{"name": "a"}], "rejected": [1]}, "rejected", "is named exclude"),
    (RECIPE, {"classes": [{"name": "a"}], "filters": ["colour == red"]}, "filters", "no column 'colour'"),
]


def test_bad_requests_are_told_what_to_do(uri: str) -> None:
    async def all_of(client: Client) -> list[tuple[int, Any]]:
        found = []
        for path, body, _, _ in BAD:
            headers = {"content-type": "application/json"}
            answer = await client.http.post(path, content=json.dumps(body), headers=headers)
            found.append((answer.status_code, answer.json()))
        return found

    for (path, body, field, said), (status, answer) in zip(BAD, asked(uri, all_of), strict=True):
        assert 400 <= status < 500 and set(answer) == {"error"}, (path, str(body)[:200], status, answer)
        assert set(answer["error"]) == {"code", "message", "field"}
        assert answer["error"]["field"] == field and said in answer["error"]["message"], (str(body)[:200], answer)


def test_what_is_no_json_and_what_is_not_there_is_told_in_the_same_shape(uri: str) -> None:
    async def all_of(client: Client) -> list[tuple[int, str]]:
        found = [
            await client.http.post(SEARCH, content=data, headers={"content-type": "application/json"})
            for data in (b"", b"{", b"\xff", b"[" * 200_000, b'{"k": ' + b"9" * 5000 + b"}", b'{"\\ud800": 1}')
        ]
        found += [await client.http.get(path) for path in ("/v1/nothing", SEARCH, "/v1/pairs/x", "/v1/pairs/77777")]
        found.append(await client.http.post(SEARCH, content=json.dumps({"query": HERON})))
        paths = ("/v1/pairs/77777/image", "/v1/pairs/1/image", "/v1/recall?n=0", "/v1/recall?k=x")
        found += [await client.http.get(path) for path in paths]
        return [(one.status_code, one.json()["error"]["message"]) for one in found]

    said = asked(uri, all_of)
    assert [status for status, _ in said] == [400] * 6 + [404, 405, 400, 404, 400] + [404, 404, 400, 400]
    assert all(text.endswith("send one JSON object") for _, text in (said[1], *said[3:5]))
    assert said[10][1] == "the body: no JSON object; send one as Content-Type: application/json"
    assert said[12][1] == "pair 1 has no stored image; look at its url"


def test_limits_of_the_recipe_hold(uri: str) -> None:
    async def all_of(client: Client) -> list[tuple[int, str]]:
        bodies = [
            {"query": HERON, "k": 11},
            {"queries": [HERON] * 3},
            {"query": {"text": "x" * 4000, "image": "y" * 9000}},
        ]
        found = [await client.post(SEARCH, body) for body in bodies]
        return [(status, answer["error"]["code"]) for status, answer in found]

    limits = {"max_k": 10, "max_batch": 2, "max_body_mb": 0.01}
    assert asked(uri, all_of, serve=limits) == [(400, "bad_request"), (400, "bad_request"), (413, "too_large")]


def test_the_key_is_asked_for_below_v1_and_nowhere_else(uri: str) -> None:
    async def all_of() -> list[int]:
        async with served(serving_recipe(uri), key="s3cret") as client:
            found = [await client.get(path) for path in ("/v1/index", "/v1/pairs/1", "/healthz", "/readyz")]
            for headers in (
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Bearer s3cret"},
                {"X-Api-Key": "s3cret"},
            ):
                found.append(await client.get("/v1/index", **headers))
            return [status for status, _ in found]

    assert asyncio.run(all_of()) == [401, 401, 200, 200, 401, 200, 200]


def test_a_name_that_another_site_lets_point_here_is_refused(uri: str) -> None:
    async def all_of() -> list[int]:
        async with served(serving_recipe(uri), hosts=("localhost", "127.0.0.1")) as client:
            names = ("localhost", "localhost:8000", "127.0.0.1:8000", "evil.example", "localhost.evil.example:8000")
            return [(await client.get("/v1/index", Host=name))[0] for name in names]

    assert asyncio.run(all_of()) == [200, 200, 200, 421, 421]


def test_another_page_may_call_if_its_origin_is_named(uri: str) -> None:
    async def all_of(client: Client) -> list[str | None]:
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        found = [
            await client.http.options(SEARCH, headers={"Origin": origin, **ask})
            for origin in ("https://a.example", "https://b.example")
        ]
        return [one.headers.get("access-control-allow-origin") for one in found]

    assert asked(uri, all_of, serve={"cors_origins": ["https://a.example"]}) == ["https://a.example", None]


def test_pairs_images_index_and_tasks_are_described(uri: str, tmp_path: Path) -> None:
    async def all_of(client: Client) -> list[Any]:
        paths = ("/v1/pairs/2", "/v1/pairs/3", "/v1/index", "/v1/tasks", "/v1/recall?n=5&k=3&key=text", "/readyz")
        found = [(await client.get(path))[1] for path in paths]
        return [*found, await client.http.get("/v1/pairs/2/image"), await client.http.get("/openapi.json")]

    pair, other, index, tasks, recall, ready, image, described = asked(uri, all_of)
    assert pair["image"] == "/v1/pairs/2/image" and other["image"] is None
    assert pair["columns"] == {"url": "http://e.org/2.jpg", "caption": "a horse", "width": 2}
    assert image.content == png(tmp_path) and image.headers["content-type"] == "image/png"
    assert index["pairs"] == 251 and index["kind"] == "flat" and index["has_images"]
    assert index["keys"]["text"] == {"vectors": 251, "recall": 1.0}
    assert index["groups"] == [{"name": "group-0", "shards": 4, "bytes": index["groups"][0]["bytes"], "replicas": None}]
    assert tasks["own"] == ["animals"] and tasks["tasks"][-1]["classes"] == ["heron", "horse"]
    assert (recall["recall"], recall["low"], recall["high"], recall["n"]) == (1, 1, 1, 5)
    assert ready["status"] == "ready" and ready["index_version"] == index["index_version"]
    assert {SEARCH, CLASSES, RECIPE} <= set(described.json()["paths"])


def test_classes_have_their_own_pairs_best_first(uri: str) -> None:
    body = {
        "classes": [{"name": "heron"}, {"name": "horse", "synonyms": ["pony"]}, {"name": "quasar"}],
        "templates": ["a {}"],
        "key": "text",
        "per_class": 2,
        "pairs_per_class": 20,
    }
    status, found = asked(uri, lambda client: client.post(CLASSES, body))
    assert status == 200, found
    heron, horse, quasar = found["classes"]
    assert heron["hits"][0]["caption"] == "a heron" and heron["hits"][0]["prompt"] == "a heron"
    assert (horse["name"], horse["synonyms"]) == ("horse", ["pony"]) and horse["hits"][0]["caption"] == "a horse"
    assert len(heron["hits"]) == 2 and heron["num_selected"] <= min(20, len(heron["scores"]))
    assert heron["scores"] == sorted(heron["scores"], reverse=True) and not heron["flagged"]
    assert quasar["named"] == 0 and quasar["z"] == quasar["hits"][0]["z"]
    pairs = [hit["pair_id"] for one in found["classes"] for hit in one["hits"]]
    assert len(set(pairs)) == len(pairs)


def test_a_recipe_of_what_was_shown_loads_and_leaves_out_what_was_rejected(uri: str) -> None:
    body = {"name": "my birds", "classes": [{"name": "heron", "synonyms": ["egret"]}], "exclude": [7, 3, 3]}
    body |= {"filters": ["width >= 2"], "pairs_per_class": 9, "min_score": 0.25, "dedup": 0.98, "key": "text"}
    status, found = asked(uri, lambda client: client.post(RECIPE, body))
    assert status == 200 and found["command"] == "react-ray retrieve my_birds.yaml"
    recipe = recipe_of(found["yaml"].encode(), "it")
    assert recipe.database == uri and recipe.tasks.class_names == [["heron", "egret"]]
    assert recipe.tasks.templates == ["a {}"] and recipe.retrieve.exclude == [3, 7]
    assert (recipe.retrieve.pairs_per_class, recipe.retrieve.min_score, recipe.retrieve.keys) == (9, 0.25, ["text"])
    assert recipe.retrieve.dedup.cosine == 0.98 and recipe.retrieve.filters == ["width >= 2"]


def test_urls_are_fetched_if_the_recipe_says_so_and_never_from_a_private_network(uri: str, web: Web) -> None:
    download = {"allow_private_addresses": True}  # for the list of URLs of this user, not for what strangers name

    async def all_of(client: Client) -> list[tuple[int, Any]]:
        urls = (f"{web.http}/secret.jpg", "file:///etc/passwd", "http://169.254.169.254/latest/meta-data")
        return [await client.post(SEARCH, {"query": {"url": url}}) for url in urls]

    for status, answer in asked(uri, all_of, serve={"fetch_urls": True}, download=download):
        assert status == 400 and answer["error"]["message"].startswith("the URL gives no image (")
        assert answer["error"]["message"].endswith("send the image itself")
    assert web.num_requests("/secret.jpg") == 0
