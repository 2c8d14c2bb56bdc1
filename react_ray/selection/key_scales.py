"""key_scales: what makes the cosines of different keys comparable.

Two sentences have higher cosines than a sentence and an image, so a pair's best cosine says more about the key than
about the pair. Most pairs have nothing to do with most queries, so the mean cosine of the queries with pairs from all
over the database, and the standard deviation, are the scale of a key. A z-score says how far above the mean a hit lies.

Next: select.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

QUERIES = 512  # that are compared with the sample, evenly spread over all


def key_scales(
    queries: Mapping[str, np.ndarray], samples: Mapping[str, np.ndarray]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Returns (mean, standard deviation) of the cosines of each kind of query and key; (0, 1) where there is no vector.

    queries: float [Q, D] by modality, "text" or "image". samples: float32 [N, D], vectors of pairs by key.
    """
    found = {}
    for kind, vector_QD in queries.items():
        for key, sample_ND in samples.items():
            some_QD = vector_QD[:: max(1, -(-len(vector_QD) // QUERIES))].astype(np.float64)
            cosine_QN = some_QD @ sample_ND.astype(np.float64).T
            spread = float(cosine_QN.std()) if cosine_QN.size else 0.0
            found[kind, key] = (float(cosine_QN.mean()), spread) if spread > 1e-6 else (0.0, 1.0)
    return found
