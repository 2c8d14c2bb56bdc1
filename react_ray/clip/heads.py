"""Scores vectors with linear heads (safety, aesthetics, watermark); retrieval can filter by each head's column.

A head is a .safetensors file with `weight` [1, D] or [D] and an optional `bias` [1]. Its metadata may set `key` =
image (default) or text, and `activation` = sigmoid. Stacked linear layers without activations between them are one
linear layer: multiply them before saving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from react_ray import schema
from react_ray.errors import BackboneError, ConfigError
from react_ray.metadata import parse_json
from react_ray.storage import read_bytes

HEADER_BYTES = 8  # a .safetensors file begins with the length of its JSON header


@dataclass(frozen=True)
class LinearHead:
    name: str
    weight_D: np.ndarray  # float32
    bias: float
    key: str
    sigmoid: bool

    def scores(self, vectors: dict[str, np.ndarray]) -> pa.Array:
        """{key: float16 [N, D]} -> float32 [N], null where there is no vector."""
        score_N = vectors[self.key].astype(np.float32) @ self.weight_D + np.float32(self.bias)
        if self.sigmoid:
            score_N = 1 / (1 + np.exp(-score_N))
        return pa.array(score_N, pa.float32(), from_pandas=True)


def load_heads(uris: dict[str, str], dim: int) -> list[LinearHead]:
    """Loads heads in the order of their names.

    Raises ConfigError for the name of an existing column, BackboneError for a file that does not fit.
    """
    taken = sorted(set(uris) & set(schema.embeddings(dim).names))
    if taken:
        raise ConfigError(f"embed.heads.{taken[0]}: every database has such a column; give the head another name")
    return [_load(name, uris[name], dim) for name in sorted(uris)]


def _load(name: str, uri: str, dim: int) -> LinearHead:
    data = read_bytes(uri)
    try:
        tensors = {key: value.astype(np.float32).reshape(-1) for key, value in load_tensors(data).items()}
    except (SafetensorError, KeyError, ValueError) as error:
        raise BackboneError(f"{uri}: not a safetensors file ({error}); check the path or write it again") from error
    metadata = _metadata(data, uri)
    weight_D, bias = tensors.pop("weight", np.zeros(0, np.float32)), tensors.pop("bias", np.zeros(1, np.float32))
    if tensors or weight_D.shape != (dim,) or bias.shape != (1,):
        found = {key: list(value.shape) for key, value in load_tensors(data).items()}
        raise BackboneError(
            f"{uri} is no linear head on {dim} dimensions: it holds {found}; save weight [1, {dim}] and bias [1]"
        )
    key, activation = metadata.get("key", "image"), metadata.get("activation", "")
    if key not in ("image", "text") or activation not in ("", "sigmoid"):
        raise BackboneError(
            f"{uri}: key={key}, activation={activation}; key is image or text, activation empty or sigmoid: save it so"
        )
    return LinearHead(name, weight_D, float(bias[0]), key, activation == "sigmoid")


def _metadata(data: bytes, uri: str) -> dict[str, Any]:
    length = int.from_bytes(data[:HEADER_BYTES], "little")
    header = parse_json(data[HEADER_BYTES : HEADER_BYTES + length], uri, "write it again", BackboneError)
    return header.get("__metadata__") or {}
