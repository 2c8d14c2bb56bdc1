"""Plans a build from the embeddings, and checks that an existing index is the one that the recipe asks for."""

from __future__ import annotations

from typing import Any

from react_ray.artifact import Artifact, plan_of
from react_ray.errors import ArtifactMismatch
from react_ray.index.config import AUTO, FLAT, IndexConfig
from react_ray.index.plan import IndexPlan, plan_index
from react_ray.index.shards import check_covers
from react_ray.kinds import EmbeddingsFacts, IndexFacts

# The bytes of an index depend on these fields: neither on how it is searched nor on the budgets it was planned by.
STATED = (
    "kind",
    "num_lists",
    "num_shards",
    "keys",
    "train_sample",
    "calibration_queries",
    "calibration_k",
    "metadata",
)


def plan(
    config: IndexConfig, embeddings: Artifact[EmbeddingsFacts], parts: list[int], settled: dict[str, Any]
) -> IndexPlan:
    """settled: what the first plan of this index decided; {} for the first."""
    receipts = embeddings.receipts()
    num_vectors = sum(receipts[part].rows for part in parts)
    return plan_index(num_vectors, int(embeddings.facts.dim), config.model_copy(update=settled), len(parts))


def stated(config: IndexConfig, seed: int) -> dict[str, Any]:
    """Returns the configuration that an index states in its manifest. config: without open choices such as "auto"."""
    return {name: getattr(config, name) for name in STATED} | {"seed": seed if config.kind != FLAT else 0}


def require_same(
    base: Artifact[IndexFacts], config: IndexConfig, seed: int, embeddings: Artifact[EmbeddingsFacts]
) -> None:
    """Raises ArtifactMismatch if the recipe asks for another index than the base, or if embeddings it covers
    changed."""
    found = plan_of(base.uri)["config"]
    settled: dict[str, Any] = {"train_sample": found["train_sample"]}
    settled |= {"kind": found["kind"]} if config.kind == AUTO else {}
    settled |= {"num_lists": found["num_lists"]} if not config.num_lists else {}
    settled["num_shards"] = min(config.num_shards, len(base.facts.covers)) or found["num_shards"]
    for name, value in stated(config.model_copy(update=settled), seed).items():
        if found.get(name) != value:
            raise ArtifactMismatch(
                f"{base.uri} was built with index.{name}={found.get(name)!r}, now {value!r}; use another `database`, "
                "or delete that directory"
            )
    check_covers(base, embeddings)
