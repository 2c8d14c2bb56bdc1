"""TextTower: the text side of a CLIP in NumPy, which embeds a sentence without torch.

A search embeds one sentence, which takes milliseconds; torch and open_clip take seconds to import. `read_text_tower`
reads the text weights of a model in a .safetensors file, or the tower that `keep_text_tower` kept on this machine after
the whole model was loaded once. Both give None for a tower that is built otherwise, which torch then runs. The vectors
are those of `Embedder.embed_texts` up to the rounding of float16 (tests/unit/clip/test_text_tower.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from react_ray.clip.bpe import Tokenizer
from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.identity import WEIGHT_FILES
from react_ray.clip.model_folder import find_config, find_folder, read_config, weights_beside, weights_in
from react_ray.errors import BackboneError, StorageError
from react_ray.metadata import shaped
from react_ray.section import digest
from react_ray.storage import local_file

PLAIN = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}  # what may differ from tower to tower
BLOCK = (
    *("ln_1.weight", "ln_1.bias", "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight"),
    *("attn.out_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias"),
    *("mlp.c_proj.weight", "mlp.c_proj.bias"),
)
ENDS = ("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection")
WITHIN = "text."  # begins the names where the text tower is a module of its own
LAYER_NORM_EPS = 1e-5
AT_ONCE = 64  # texts that pass the tower together
PADDED = 1.3  # times the tokens of the shortest of them that the longest may have
AGREES = 4e-3  # of a vector's element: the most by which two float16 vectors of the same text may differ
PROBE = "a photo of two herons by the water, 1998"
KEY = "react_ray"


@dataclass(frozen=True)
class Shape:
    """What the weights do not say of the tower."""

    layers: int
    heads: int
    context_length: int
    quick_gelu: bool
    prefix: str = ""  # of the names of the weights in the model

    def names(self) -> list[str]:
        blocks = [f"transformer.resblocks.{number}.{name}" for number in range(self.layers) for name in BLOCK]
        return [f"{self.prefix}{name}" for name in (*ENDS, *blocks)]


class TextTower:
    """weights: float32, by the names that the model gives them."""

    def __init__(self, shape: Shape, weights: dict[str, np.ndarray]) -> None:
        self.shape = shape
        self.weights = weights

    @cached_property
    def sha256(self) -> str:
        """The `text_sha256` that manifests keep of the model (clip/weights.py: weights_sha256)."""
        sha = hashlib.sha256()
        for name in sorted(self.weights):
            sha.update(f"{name} torch.float32\n".encode())
            sha.update(np.ascontiguousarray(self.weights[name]).data)
        return sha.hexdigest()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self.shape.context_length)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """[N] -> float16 [N, D], unit norm; a row that is not finite, or null, is all NaN.

        The last digit of a vector may depend on the texts beside it.
        """
        ids_NT = self._tokenizer(texts)
        length_N = ids_NT.argmax(axis=1) + 1
        feature_ND = np.empty((len(texts), self._of("text_projection").shape[1]), np.float32)
        order = np.argsort(length_N, kind="stable")
        while order.size:  # the shortest together with those that are hardly longer
            num = min(AT_ONCE, int(np.searchsorted(length_N[order], PADDED * length_N[order[0]], "right")))
            rows, order = order[:num], order[num:]
            feature_ND[rows] = self._features(ids_NT[rows, : length_N[rows[-1]]], length_N[rows])
        norm_N1 = np.linalg.norm(feature_ND, axis=1, keepdims=True)
        norm_N1[~((norm_N1 > 1e-12) & np.isfinite(norm_N1))] = np.nan
        return (feature_ND / norm_N1).astype(np.float16)

    def _features(self, ids_NT: np.ndarray, length_N: np.ndarray) -> np.ndarray:
        """[N, D] at the end tokens, on which later ones have no influence. One row R for each token of all texts: a
        product of few rows takes as long as the weights take to be read."""
        num, tokens = ids_NT.shape
        x_NTW = self._of("token_embedding.weight")[ids_NT] + self._of("positional_embedding")[:tokens]
        x_RW = x_NTW.reshape(num * tokens, -1)
        for number in range(self.shape.layers):
            block = f"transformer.resblocks.{number}."
            x_RW = x_RW + self._attention(f"{block}attn.", self._norm(x_RW, f"{block}ln_1"), num)
            hidden = self._activation(self._linear(self._norm(x_RW, f"{block}ln_2"), f"{block}mlp.c_fc."))
            x_RW = x_RW + self._linear(hidden, f"{block}mlp.c_proj.")
        end_NW = x_RW[np.arange(num) * tokens + length_N - 1]
        return self._norm(end_NW, "ln_final") @ self._of("text_projection")

    def _attention(self, name: str, x_RW: np.ndarray, num: int) -> np.ndarray:
        rows, width = x_RW.shape
        tokens = rows // num
        qkv_NT3HE = self._linear(x_RW, f"{name}in_proj_").reshape(num, tokens, 3, self.shape.heads, -1)
        q_NHTE, k_NHTE, v_NHTE = qkv_NT3HE.transpose(2, 0, 3, 1, 4)
        logit_NHTT = q_NHTE @ k_NHTE.swapaxes(2, 3) / math.sqrt(width // self.shape.heads)
        logit_NHTT = np.where(np.tri(tokens, dtype=bool), logit_NHTT, -np.inf)
        weight_NHTT = np.exp(logit_NHTT - logit_NHTT.max(axis=-1, keepdims=True))
        weight_NHTT /= weight_NHTT.sum(axis=-1, keepdims=True)
        mixed_RW = (weight_NHTT @ v_NHTE).transpose(0, 2, 1, 3).reshape(rows, width)
        return self._linear(mixed_RW, f"{name}out_proj.")

    def _activation(self, x: np.ndarray) -> np.ndarray:
        if self.shape.quick_gelu:
            return x / (1 + np.exp(-1.702 * x))
        return x * np.float32(0.5) * (1 + _erf(x * np.float32(math.sqrt(0.5))))

    def _norm(self, x_RW: np.ndarray, name: str) -> np.ndarray:
        centred = x_RW - x_RW.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + LAYER_NORM_EPS)
        return centred / scale * self._of(f"{name}.weight") + self._of(f"{name}.bias")

    def _linear(self, x_RW: np.ndarray, name: str) -> np.ndarray:
        return x_RW @ self._of(f"{name}weight").T + self._of(f"{name}bias")

    def _of(self, name: str) -> np.ndarray:
        return self.weights[f"{self.shape.prefix}{name}"]


def _erf(x: np.ndarray) -> np.ndarray:
    """The error function within 1.5e-7 (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))


def plain_shape(spec: dict[str, Any], quick_gelu: bool, prefix: str = "") -> Shape | None:
    """The shape of the text tower of a model_cfg; None unless it is the tower of the original CLIP."""
    text = spec.get("text_cfg", {})
    if any(text[name] for name in text.keys() - PLAIN) or text.get("mlp_ratio", 4.0) <= 0:
        return None
    layers, heads, length = text.get("layers", 12), text.get("heads", 8), text.get("context_length", 77)
    return Shape(layers, heads, length, bool(quick_gelu or spec.get("quick_gelu")), prefix)


def read_text_tower(config: BackboneConfig, text_sha256: str) -> TextTower | None:
    """The text tower of a model, without torch; None if only torch can load it, or if it is not that of `text_sha256`.

    text_sha256: of the model that embedded the database; "" = it is not known, and the recipe is taken at its word.
    """
    if config.gated and not text_sha256:
        return None  # what a gated model adds may have changed its text tower, too
    with suppress(BackboneError, StorageError, OSError, SafetensorError, TypeError):  # which torch tells better
        for path, shape in ((_kept(config, text_sha256), None), _named(config)):
            tower = _read(path, shape)
            if tower is not None and text_sha256 in ("", tower.sha256):
                return tower
    return None


def _named(config: BackboneConfig) -> tuple[str, Shape | None]:
    """(the local file of the weights, the shape) of a model whose JSON and .safetensors can be read as they are."""
    uri = find_config(config.name)
    if not uri or config.pretrained == RANDOM:
        return "", None
    spec, _ = read_config(uri, config.name)
    if folder := find_folder(config.pretrained):
        path = weights_in(folder)
    elif config.pretrained:
        path = local_file(config.pretrained) if config.pretrained.endswith(WEIGHT_FILES) else ""
    else:
        path = weights_beside(uri)
    return path, plain_shape(spec, config.quick_gelu)


def _read(path: str, shape: Shape | None) -> TextTower | None:
    """The tower in a .safetensors file; None if there is no file, or if its tensors are not those of a plain tower.

    shape: None = it is in the file, which `keep_text_tower` wrote.
    """
    if not path.endswith(".safetensors") or not os.path.exists(path):
        return None
    with safe_open(path, framework="np") as file:
        if shape is None:
            kept = json.loads((file.metadata() or {}).get(KEY, "null"))
            shape = shaped(kept, Shape, path, "delete it", BackboneError)
        there = set(file.keys())
        if f"{WITHIN}text_projection" in there:
            shape = Shape(shape.layers, shape.heads, shape.context_length, shape.quick_gelu, WITHIN)
        if not there.issuperset(shape.names()) or f"transformer.resblocks.{shape.layers}.ln_1.weight" in there:
            return None
        return TextTower(shape, {name: file.get_tensor(name).astype(np.float32) for name in shape.names()})


def keep_text_tower(backbone: Any, config: BackboneConfig) -> None:
    """Keeps the text tower of a loaded Backbone for the next `read_text_tower` on this machine, if it is a plain one.

    The folder is ~/.cache/react_ray, or what XDG_CACHE_HOME says. Nothing is kept if the tower in NumPy gives other
    vectors than the model itself, or if the folder cannot be written.
    """
    from react_ray.clip.embedder import Embedder  # torch, which has loaded the backbone already
    from react_ray.clip.text import can_truncate

    path, state = _kept(config, backbone.text_sha256), backbone.model.state_dict()
    prefix = WITHIN if f"{WITHIN}text_projection" in state else ""
    shape = plain_shape(backbone.model_cfg, False, prefix)
    if not path or shape is None or not can_truncate(backbone.model) or not set(state).issuperset(shape.names()):
        return
    tower = TextTower(shape, {name: state[name].float().cpu().numpy() for name in shape.names()})
    own, other = tower.embed_texts([PROBE]), Embedder(backbone, 1, backbone.device).embed_texts([PROBE])
    if tower.sha256 != backbone.text_sha256 or np.abs(own.astype(np.float32) - other).max() > AGREES:
        return
    with suppress(OSError):
        folder = Path(path).parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(safetensors.numpy.save(_halved(tower.weights), {KEY: json.dumps(vars(shape))}))
        os.replace(file.name, path)


def _halved(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """In float16 wherever that is exact, as of weights that were published in float16."""
    small = {name: value.astype(np.float16) for name, value in weights.items()}
    return {name: small[name] if (small[name] == value).all() else value for name, value in weights.items()}


def _kept(config: BackboneConfig, text_sha256: str) -> str:
    """The place of a kept tower; "" if weights of the same name may have changed, which only a sha256 would tell."""
    if not text_sha256 and (not config.pretrained or "/" in config.pretrained):
        return ""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(cache) if os.path.isabs(cache) else Path(os.path.expanduser("~/.cache"))
    return str(folder / "react_ray" / f"text-{digest([config.digested(), text_sha256])}.safetensors")
