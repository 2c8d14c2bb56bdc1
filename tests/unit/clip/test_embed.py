"""Embedding a table of pairs: rows keep their places, whatever they contain."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import EmbedConfig
from react_ray.clip.embed import embed
from react_ray.clip.embedder import Embedder
from react_ray.clip.heads import load_heads
from react_ray.clip.identity import published, same_image_tower, same_text_tower
from react_ray.errors import BackboneError, ConfigError
from react_ray.pairs.image import decode_rgb
from react_ray.vectors import from_vectors
from tests.support.tiny_clip import tiny_backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as threads:
        yield threads


def drawing(number: int, mode: str = "RGB", format: str = "PNG", size: tuple[int, int] = (40, 50)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    file = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(file, format)
    return file.getvalue()


def table(images: list[bytes | None], captions: list[str | None], statuses: list[str] | None = None) -> pa.Table:
    return pa.table(
        {
            "pair_id": range(len(images)),
            "caption": pa.array(captions, pa.string()),
            "image": pa.array(images, pa.binary()),
            "status": statuses or ["ok"] * len(images),
        }
    )


def test_whatever_comes_from_the_web_keeps_its_place(backbone: Backbone, pool: ThreadPoolExecutor) -> None:
    images: list[bytes | None] = [
        drawing(0),
        drawing(1)[:80],  # cut off
        drawing(2, "CMYK", "JPEG"),
        drawing(3, size=(1, 1)),
        drawing(4, "P"),
        drawing(5, "I;16"),
        None,
        drawing(7, "L"),
    ]
    captions = ["heron", "egret", "", None, "word " * 10_000, "heron", "a heron by the water", "x"]
    statuses = ["ok"] * 6 + ["http_404", "ok"]
    embedder = Embedder(backbone, 3, "cpu")
    made = embed(table(images, captions, statuses), embedder, EmbedConfig(), [], pool)
    assert made["pair_id"].to_pylist() == list(range(8))
    assert made["status"].to_pylist() == ["ok", "undecodable", "ok", "ok", "ok", "ok", "http_404", "ok"]
    image_ND, text_ND = from_vectors(made["image"]), from_vectors(made["text"])
    assert np.isnan(image_ND).all(axis=1).tolist() == [False, True, False, False, False, False, True, False]
    assert np.isnan(text_ND).all(axis=1).tolist() == [False, False, True, True, False, False, False, False]
    assert np.array_equal(text_ND[0], text_ND[5])
    alone = embedder.embed_images(decode_rgb(images[5], 32)[None])  # not the row that a failed one would have shifted
    np.testing.assert_allclose(image_ND[5], alone[0], atol=2e-3)
    expected = (image_ND[7].astype(np.float32) * text_ND[7].astype(np.float32)).sum()
    assert made["similarity"].to_pylist()[7] == pytest.approx(expected, abs=1e-6)
    assert [score is None for score in made["similarity"].to_pylist()] == [
        False,
        True,
        True,
        True,
        False,
        False,
        True,
        False,
    ]


def test_modes_leave_the_other_side_null(backbone: Backbone, pool: ThreadPoolExecutor) -> None:
    rows = table([drawing(0), drawing(1)], ["heron", ""])
    embedder = Embedder(backbone, 4, "cpu")
    both = embed(rows, embedder, EmbedConfig(), [], pool)
    image = embed(rows, embedder, EmbedConfig(captions=False), [], pool)
    text = embed(rows, embedder, EmbedConfig(images=False), [], pool)
    assert image["image"].equals(both["image"]) and image["text"].null_count == 2
    assert text["text"].equals(both["text"]) and text["image"].null_count == 2
    assert (image["status"].to_pylist(), text["status"].to_pylist()) == (["ok", "ok"], ["ok", "no_caption"])
    empty = embed(rows.slice(0, 0), embedder, EmbedConfig(), [], pool)
    assert empty.schema.equals(both.schema) and empty.num_rows == 0


def test_a_vector_is_never_nan_and_never_without_length(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    broken = tiny_backbone(tmp_path)
    broken.model.text_projection.data.zero_()  # type: ignore[union-attr,operator]
    made = embed(table([drawing(0)], ["heron"]), Embedder(broken, 4, "cpu"), EmbedConfig(), [], pool)
    assert made["text"].null_count == 1 and made["status"].to_pylist() == ["not_finite"]
    broken.model.visual.proj.data.fill_(torch.nan)  # type: ignore[union-attr]
    made = embed(table([drawing(0)], [""]), Embedder(broken, 4, "cpu"), EmbedConfig(), [], pool)
    assert made["image"].null_count == 1 and made["status"].to_pylist() == ["not_finite"]


def test_the_batch_is_halved_when_memory_runs_out_and_the_rows_are_all_there(backbone: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 3, 32, 32), dtype=np.uint8)
    texts = [f"heron {i}" for i in range(21)]
    whole = Embedder(backbone, 21, "cpu")
    image_ND, text_ND = whole.image_vectors(pixels), whole.text_vectors(texts)
    seen: list[int] = []

    def five_fit(_: Any, arguments: tuple[Any, ...]) -> None:
        seen.append(len(arguments[0]))
        if seen[-1] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    threads = torch.get_num_threads()  # among which a batch is shared
    torch.set_num_threads(1)
    small = Embedder(backbone, 16, "cpu")
    blocks = [backbone.model.visual.conv1, backbone.model.transformer]  # type: ignore[union-attr]
    hooks = [block.register_forward_pre_hook(five_fit) for block in blocks]  # type: ignore[union-attr,operator,arg-type]
    try:
        found = small.image_vectors(pixels)
        assert seen == [16, 8, 4, 4, 4, 4, 4, 1] and small.batch_size == 4
        found_text = Embedder(backbone, 16, "cpu").text_vectors(texts)
    finally:
        torch.set_num_threads(threads)
        for hook in hooks:
            hook.remove()
    np.testing.assert_allclose(found, image_ND, atol=1e-5)
    np.testing.assert_allclose(found_text, text_ND, atol=1e-5)


def test_other_errors_of_the_model_are_not_taken_for_a_lack_of_memory(backbone: Backbone) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    hook = backbone.model.visual.conv1.register_forward_pre_hook(fail)  # type: ignore[union-attr,operator]
    try:
        with pytest.raises(RuntimeError, match="shapes do not match"):
            Embedder(backbone, 4, "cpu").embed_images(np.zeros((2, 3, 32, 32), np.uint8))
    finally:
        hook.remove()


def test_identical_captions_pass_the_model_once_in_batches_cut_at_their_longest(backbone: Backbone) -> None:
    shapes: list[tuple[int, int]] = []
    hook = backbone.model.transformer.register_forward_pre_hook(  # type: ignore[union-attr,operator]
        lambda _, arguments: shapes.append(tuple(arguments[0].shape[:2]))
    )
    try:
        Embedder(backbone, 4, "cpu").embed_texts(["a heron"] * 500 + ["x " * 40] * 3 + ["an egret", "a bird"])
    finally:
        hook.remove()
    assert shapes == [(3, 4), (1, 16)] or shapes == [(4, 16)]
    assert sum(rows for rows, _ in shapes) == 4


def test_a_batch_of_short_captions_has_the_tokens_of_a_batch_of_long_ones(backbone: Backbone) -> None:
    shapes: list[tuple[int, int]] = []
    hook = backbone.model.transformer.register_forward_pre_hook(  # type: ignore[union-attr,operator]
        lambda _, arguments: shapes.append(tuple(arguments[0].shape[:2]))
    )
    try:
        Embedder(backbone, 4, "cpu").embed_texts([str(i) for i in range(60)])
    finally:
        hook.remove()
    assert sum(rows for rows, _ in shapes) == 60 and max(rows for rows, _ in shapes) > 4
    assert all(rows <= 4 or rows * length <= 4 * 16 for rows, length in shapes)


def test_the_tokenizer_forgets_words_before_they_are_too_many(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("react_ray.clip.embedder.MOST_WORDS", 50)
    embedder = Embedder(backbone, 64, "cpu")
    expected = embedder.embed_texts(["heron"])
    words = ["".join(letters) for letters in itertools.product("abcdefg", repeat=3)]
    sizes = []
    for first in range(0, len(words), 30):
        embedder.embed_texts(words[first : first + 30])
        sizes.append(len(backbone.tokenizer.cache))  # type: ignore[attr-defined]
    assert 50 < max(sizes) <= 50 + 30 and len(sizes) > 10
    assert np.array_equal(embedder.embed_texts(["heron"]), expected)


def test_threads_share_one_embedder(backbone: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    embedder = Embedder(backbone, 4, "cpu")
    expected = embedder.embed_images(pixels)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(embedder.embed_images, [pixels] * 8):
            assert np.array_equal(found, expected)


def head(path: Path, metadata: dict[str, str] | None = None, **tensors: Any) -> str:
    save_file({name: np.asarray(value, np.float32) for name, value in tensors.items()}, path, metadata)
    return str(path)


def test_linear_heads_score_the_side_that_they_are_for(
    backbone: Backbone, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    weight = np.random.default_rng(0).normal(size=16).astype(np.float32)
    uris = {
        "safety": head(tmp_path / "a.safetensors", {"activation": "sigmoid"}, weight=weight[None], bias=[1]),
        "language": head(tmp_path / "b.safetensors", {"key": "text"}, weight=weight),
    }
    made = embed(
        table([drawing(0), None], ["heron", "egret"], ["ok", "empty"]),
        Embedder(backbone, 4, "cpu"),
        EmbedConfig(),
        load_heads(uris, 16),
        pool,
    )
    image_ND, text_ND = (from_vectors(made[key]).astype(np.float32) for key in ("image", "text"))
    assert made.column_names == ["pair_id", "image", "text", "status", "similarity", "language", "safety"]
    np.testing.assert_allclose(made["language"].to_pylist(), text_ND @ weight, atol=1e-5)
    assert made["safety"].to_pylist()[0] == pytest.approx(1 / (1 + np.exp(-(image_ND[0] @ weight + 1))), abs=1e-5)
    assert made["safety"].to_pylist()[1] is None


def test_heads_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good = head(tmp_path / "good.safetensors", weight=np.ones(16))
    with pytest.raises(ConfigError, match=r"embed\.heads\.similarity: every database has such a column"):
        load_heads({"similarity": good}, 16)
    with pytest.raises(BackboneError, match=r"no linear head on 32 dimensions: it holds \{'weight': \[16\]\}"):
        load_heads({"safety": good}, 32)
    with pytest.raises(BackboneError, match="key is image or text"):
        load_heads({"safety": head(tmp_path / "key.safetensors", {"key": "sound"}, weight=np.ones(16))}, 16)
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(BackboneError, match="not a safetensors file"):
        load_heads({"safety": str(tmp_path / "bad.safetensors")}, 16)


def test_queries_meet_vectors_of_their_own_text_tower_only(tmp_path: Path, backbone: Backbone) -> None:
    base = backbone.describe()
    gated = tiny_backbone(tmp_path, last_k_layers=2).describe()
    assert (
        base["weights_sha256"] != gated["weights_sha256"]
        and same_text_tower(base, gated)
        and not same_image_tower(base, gated)
    )
    assert not same_text_tower(base, tiny_backbone(tmp_path, seed=1).describe())
    config = backbone.config.model_copy(update={"name": "ViT-B-32", "pretrained": "openai"})
    theirs = published(config, 512)
    mine = base | {"name": "ViT-B-32-quickgelu", "tag": "openai", "dim": 512}
    assert same_text_tower(theirs, mine)
    assert same_image_tower(theirs, mine) and same_image_tower(base, base)
    assert not same_text_tower(theirs, mine | {"tag": "laion400m_e32"})
    assert not same_text_tower(theirs, mine | {"dim": 768})


@pytest.mark.slow
def test_a_compiled_image_tower_gives_the_same_vectors(backbone: Backbone) -> None:
    size = backbone.image_size
    images = np.random.default_rng(3).integers(0, 256, (11, 3, size, size), dtype=np.uint8)
    plain = Embedder(copy.deepcopy(backbone), 4, "cpu").image_vectors(images)
    fast = Embedder(copy.deepcopy(backbone), 4, "cpu", compile=True).image_vectors(images)
    np.testing.assert_allclose(fast, plain, atol=1e-5)


def test_a_caption_on_which_the_tokenizer_fails_is_an_internal_error_and_its_image_is_embedded(
    backbone: Backbone, pool: ThreadPoolExecutor
) -> None:
    def fails(texts: list[str]) -> torch.Tensor:
        if "cursed" in texts:
            raise KeyError("cursed")
        return backbone.tokenizer(texts)

    rows = table([drawing(0), None, drawing(1)], ["one", "cursed", "cursed"], ["ok", "http_404", "ok"])
    expected = embed(rows, Embedder(backbone, 2, "cpu"), EmbedConfig(), [], pool)
    found = embed(rows, Embedder(replace(backbone, tokenizer=fails), 2, "cpu"), EmbedConfig(), [], pool)
    assert found["status"].to_pylist() == ["ok", "http_404", "internal_error"]
    assert found["image"] == expected["image"] and found["text"][0] == expected["text"][0]
    assert found["text"].to_pylist()[1:] == [None, None]
