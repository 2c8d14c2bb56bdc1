"""facts_of: what a database knows of some pairs, in whichever of its artifacts a column lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.errors import ArtifactMismatch
from react_ray.pair_id import part_of
from react_ray.search.gather import gather

HOME = {"url": "pairs", "caption": "pairs", "sha256": "images", "phash": "images", "image": "embeddings"}


def facts_of(artifacts: Mapping[str, Artifact], pair_ids: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """artifacts: by the names in HOME. Returns pair_id and these columns, in the order of pair_ids int64 [N]; null for
    pairs that were added to the database and not to the artifact. ArtifactMismatch if it has no such column."""
    out = pa.table({"pair_id": pair_ids})
    for home, artifact in artifacts.items():
        here = [column for column in columns if HOME[column] == home]
        if here:
            there = part_of(pair_ids) < artifact.num_parts
            found = gather(artifact, pair_ids[there], ["pair_id", *here])
            if missing := [column for column in here if column not in found.column_names]:
                raise ArtifactMismatch(
                    f"{artifact.uri} has no column {missing[0]}; make it again, or turn off the rules that need it"
                )
            if not there.all():
                found = found.take(pa.array(np.cumsum(there) - 1, mask=~there))
            for column in here:
                out = out.append_column(column, found[column])
    return out
