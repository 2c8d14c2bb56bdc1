"""facts_of: what a database knows of some pairs, in whichever of its artifacts a column lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.search.gather import gather

HOME = {"url": "pairs", "caption": "pairs", "sha256": "images", "phash": "images", "image": "embeddings"}


def facts_of(artifacts: Mapping[str, Artifact], pair_ids: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """artifacts: by the names in HOME. Returns pair_id and these columns, in the order of pair_ids int64 [N]."""
    out = pa.table({"pair_id": pair_ids})
    for home, artifact in artifacts.items():
        here = [column for column in columns if HOME[column] == home]
        if here:
            found = gather(artifact, pair_ids, ["pair_id", *here])
            for column in here:
                out = out.append_column(column, found[column])
    return out
