"""What customize asks of `retrieved/` before anything starts: do its vectors fit, what is in it, how classes weigh.

Takes sealed artifacts, gives plain values that workers get with their job. Next: train_worker.py.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.identity import same_text_tower
from react_ray.errors import ArtifactMismatch
from react_ray.gated.card import LICENSE_COLUMNS, data_card
from react_ray.gated.config import CustomizeConfig, needs_caption_vectors
from react_ray.gated.step import class_weights


def check_text_tower(retrieved: Artifact, backbone: dict[str, Any], config: CustomizeConfig) -> None:
    """ArtifactMismatch if captions' stored vectors are of another model than the one that is trained against them."""
    made_by = retrieved.facts.get("backbone", {})
    if not needs_caption_vectors(config):
        return
    if not same_text_tower(made_by, backbone):
        names = ("name", "tag", "dim", "text_sha256")
        differing = [name for name in names if made_by.get(name) != backbone.get(name)]
        shown = ", ".join(f"{name} {_short(made_by.get(name))} there, {_short(backbone.get(name))} here" for name in differing)
        raise ArtifactMismatch(
            f"the captions of {retrieved.uri} were embedded by another text tower ({shown}); set customize.live_text=true "
            "and extra_captions=0, or embed and retrieve with this backbone"
        )


def data_facts(retrieved: Artifact | None, queries: str, config: CustomizeConfig, name: str) -> dict[str, Any]:
    """`class_weight_C` and `card` of a job."""
    if retrieved is None:
        return {"class_weight_C": None, "card": {"recipe": name}}
    names = _class_names(open_artifact(queries, "queries", "retrieve"))
    first = retrieved.read(0)
    columns = ["class_id", *(set(LICENSE_COLUMNS) & set(first.column_names))]
    tables = [retrieved.read(part, columns) for part in range(retrieved.num_parts)]
    weights = None
    if config.class_weight_power:
        class_ids = pa.concat_tables(tables)["class_id"].fill_null(-1).to_numpy()
        weights = class_weights(class_ids, len(names), config.class_weight_power)
    return {"class_weight_C": weights, "card": data_card(tables, names, retrieved.content, name)}


def _class_names(queries: Artifact) -> list[str]:
    """By class id; classes of several tasks are counted through."""
    names: dict[int, str] = {}
    for table in queries.tables(["class_id", "class_name"]):
        names |= dict(zip(table["class_id"].to_pylist(), table["class_name"].to_pylist(), strict=True))
    return [names.get(number, "") for number in range(max(names, default=-1) + 1)]


def _short(value: Any) -> str:
    return str(value)[:12]
