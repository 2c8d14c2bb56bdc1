"""Programs over clip-retrieval's ClipClient work unchanged. The real client is used where it is installed
(`pip install --no-deps clip-retrieval`); what it sends is written down here for where it is not."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from react_ray import open_database
from tests.support.searchable import ANIMALS, many, png, write_index, write_searchable
from tests.support.serving import listening, serving_recipe

PATIENCE_S = 300  # as long as the server's own; httpx waits for 5 s


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_searchable(f"{folder}/database", [ANIMALS + many(120)], png(folder))
    write_index(f"{folder}/database", num_shards=1)
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with listening(serving_recipe(f"{folder}/database")) as url:
        yield url


def sent(url: str, route: str, **body: Any) -> Any:
    """Without a content type, as the client sends it."""
    answer = httpx.post(f"{url}/{route}", content=json.dumps(body).encode(), timeout=PATIENCE_S)
    return answer.status_code, answer.json()


ASKED: dict[str, Any] = {"text": None, "image": None, "image_url": None, "embedding_input": None}
ASKED |= {"use_safety_model": True, "use_violence_detector": True, "use_mclip": False, "aesthetic_score": 9}
ASKED |= {"aesthetic_weight": 0.5, "indice_name": "served", "deduplicate": False, "num_images": 4, "num_result_ids": 9}


def test_hits_have_id_similarity_url_and_caption(url: str, folder: Path) -> None:
    status, found = sent(url, "knn-service", **ASKED | {"text": "a horse", "modality": "text"})
    hits = open_database(f"{folder}/database").search("a horse", 9, "text")
    assert status == 200 and [(one["id"], one["similarity"]) for one in found] == [(h.pair_id, h.score) for h in hits]
    assert found[0] == {"id": 2, "similarity": hits[0].score, "url": "http://e.org/2.jpg", "caption": "a horse"}
    assert [set(one) for one in found[4:]] == [{"id", "similarity"}] * 5
    image = {"image": base64.b64encode(png(folder)).decode(), "modality": "image", "deduplicate": True}
    assert len(sent(url, "knn-service", **ASKED | image)[1]) == 9
    vector = open_database(f"{folder}/database").vectors([2], "text")[0].tolist()
    by_vector = sent(url, "knn-service", **ASKED | {"embedding_input": vector, "modality": "text"})[1]
    assert [one["id"] for one in by_vector] == [one["id"] for one in found]


def test_metadata_and_names_of_indices(url: str) -> None:
    status, found = sent(url, "metadata", ids=[2, 5], indice_name="served")
    assert status == 200 and [one["id"] for one in found] == [2, 5]
    assert found[0]["metadata"] == {"url": "http://e.org/2.jpg", "caption": "a horse", "width": 2}
    assert httpx.get(f"{url}/indices-list", timeout=PATIENCE_S).json() == ["served"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (ASKED, "give one"),
        (ASKED | {"text": "a", "indice_name": "laion"}, "there is no index 'laion' here; name served"),
        (ASKED | {"image_url": "http://e.org/1.jpg"}, "this server fetches no URLs"),
        (ASKED | {"text": "a", "num_images": 0}, "greater than or equal to 1"),
        (ASKED | {"text": "a", "num_images": 10**6}, "ask for fewer hits"),
        (["text"], "see /openapi.json"),
    ],
)
def test_what_cannot_be_meant_is_told_in_the_shape_of_all_errors(url: str, body: Any, said: str) -> None:
    answer = httpx.post(f"{url}/knn-service", content=json.dumps(body).encode(), timeout=PATIENCE_S)
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]


def test_the_real_client(url: str, folder: Path) -> None:
    spec = importlib.util.find_spec("clip_retrieval")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs clip-retrieval: pip install --no-deps clip-retrieval")
    path = Path(next(iter(spec.submodule_search_locations))) / "clip_client.py"
    file = importlib.util.spec_from_file_location("clip_client", path)  # without the rest
    assert file is not None and file.loader is not None
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    client = module.ClipClient(f"{url}/knn-service", "served", num_images=5, modality=module.Modality.TEXT)
    assert client.query(text="a horse")[0]["caption"] == "a horse"
    client = module.ClipClient(f"{url}/knn-service", "served", num_images=5)
    assert len(client.query(image=str(folder / "image.png"))) == 5
    vector = open_database(f"{folder}/database").vectors([5], "image")[0].tolist()
    assert client.query(embedding_input=vector)[0]["id"] == 5
