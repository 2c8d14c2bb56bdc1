"""EmbedPart: the actor that embeds parts with one model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import torch

from react_ray.clip.config import BackboneConfig, EmbedConfig
from react_ray.clip.embed import embed
from react_ray.clip.embedder import Embedder
from react_ray.clip.heads import load_heads
from react_ray.draft import Draft
from react_ray.gated.load import load_backbone
from react_ray.kinds import EmbeddingsFacts
from react_ray.manifest import Receipt
from react_ray.recipe import Recipe
from react_ray.runtime.device import worker_device
from react_ray.runtime.map_parts import RowWork


class EmbedPart(RowWork):
    """Embeds and commits one part at a time in each thread of an actor; the threads share the model."""

    def __init__(
        self,
        backbone: BackboneConfig,
        config: EmbedConfig,
        seed: int,
        num_threads: int,
        embeddings: Draft[EmbeddingsFacts],
    ) -> None:
        self.backbone, self.config, self.seed, self.num_threads = backbone, config, seed, num_threads
        self.embeddings = embeddings

    def setup(self) -> None:
        torch.set_num_threads(self.num_threads)
        device, config = worker_device(), self.config
        loaded = load_backbone(self.backbone, device=device, seed=self.seed)
        self.embedder = Embedder(loaded, config.batch_size, device, config.compile)
        self.heads = load_heads(config.heads, loaded.dim)
        self.pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="decode")

    def payload(self, table: pa.Table) -> list[str]:
        return ["image", "caption"]

    def make(self, part: int, table: pa.Table) -> dict[str, pa.Table]:
        return {"embeddings": embed(table, self.embedder, self.config, self.heads, self.pool)}

    def commit(self, part: int, table: pa.Table, made: dict[str, pa.Table], seconds: float) -> Receipt:
        facts = {"quarantined": table["error"][0].as_py()} if "error" in table.column_names else {}
        return self.embeddings.commit(part, made["embeddings"], seconds, **facts)


def embedding_backbone(recipe: Recipe) -> BackboneConfig:
    """Returns the recipe's backbone with the precision of this stage."""
    precision = recipe.embed.precision
    if precision == "auto":
        precision = "bf16" if recipe.cluster.gpus_per_actor else recipe.backbone.precision
    return recipe.backbone.model_copy(update={"precision": precision})
