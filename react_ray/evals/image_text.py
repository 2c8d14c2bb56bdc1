"""Image-text retrieval: ranks all images for each caption, and all captions of the set for each image.

Takes unit vectors and the image that each caption belongs to, gives ranks and recalls. An image may have several
captions; its best one counts, as in the tables for Flickr30k and COCO (Karpathy and Fei-Fei, CVPR 2015).

Scores are float64 products of float16 vectors. Such a product is a whole multiple of 2 ** -48, and no sum of them
reaches 32, so that every score is exact: it depends neither on the order of the rows nor on the blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from react_ray.evals.resampled import OfImages, share

RECALL_AT = (1, 5, 10)
ROWS_AT_ONCE = 4096  # whose scores are 128 MB


class Ranks(NamedTuple):
    """Numbers of others that are ranked before the true one, 0 = first. Equal scores rank before the true one."""

    image_T: np.ndarray  # int64 [T]: for each caption, images before its own
    text_N: np.ndarray  # int64 [N]: for each image, captions of other images before the best of its own


def rank(image_ND: np.ndarray, text_TD: np.ndarray, image_of_T: np.ndarray, rows_at_once: int = ROWS_AT_ONCE) -> Ranks:
    """image_ND, text_TD: float16 unit rows; a row of NaN was not embedded: it is never found, and finds nothing.

    image_of_T: int64 [T], the row of each caption's image. Every image has a caption. rows_at_once: of either side, the
    most whose scores are in memory.
    """
    assert image_ND.dtype == text_TD.dtype == np.float16, "only products of float16 are exact"
    images, texts = _blocks(len(image_ND), rows_at_once), _blocks(len(text_TD), rows_at_once)
    own_T = np.concatenate([_own(image_ND[image_of_T[some]], text_TD[some]) for some in texts])
    best_N = np.full(len(image_ND), -np.inf)
    np.fmax.at(best_N, image_of_T, own_T)
    best_N[np.isneginf(best_N)] = np.nan
    # What is counted below has the true one in it, and all captions of an image whose scores equal its best.
    image_T = np.full(len(text_TD), -1)
    text_N = -np.bincount(image_of_T[own_T == best_N[image_of_T]], minlength=len(image_ND))
    for some_T in texts:
        text_BD = text_TD[some_T].astype(np.float64)
        for some_N in images:
            score_BB = image_ND[some_N].astype(np.float64) @ text_BD.T
            image_T[some_T] += (score_BB >= own_T[some_T]).sum(axis=0)
            text_N[some_N] += (score_BB >= best_N[some_N, None]).sum(axis=1)
    image_T[np.isnan(own_T)], text_N[np.isnan(best_N)] = len(image_ND), len(text_TD)
    return Ranks(image_T, text_N)


def recalls(ranks: Ranks) -> list[tuple[str, float, int]]:
    """Returns (metric, value in [0, 1], number of queries); the metrics have the names of CLIP_benchmark.

    `image_retrieval_recall@5` is the share of captions whose image is among the first 5, `text_retrieval_recall@5`
    the share of images with a caption of their own among the first 5.
    """
    sides = {"image": ranks.image_T, "text": ranks.text_N}
    return [
        (f"{found}_retrieval_recall@{k}", float((rank < k).mean()), len(rank))
        for found, rank in sides.items()
        for k in RECALL_AT
    ]


def recalls_of_images(ranks: Ranks, image_of_T: np.ndarray, num_images: int) -> list[OfImages]:
    """The figures of `recalls` as metrics of resamples: images are drawn with their captions, and the set in which they
    are looked for stays whole."""
    num_N = np.bincount(image_of_T, minlength=num_images)
    of_captions = [np.bincount(image_of_T, ranks.image_T < k, num_images) for k in RECALL_AT]
    of_images = [ranks.text_N < k for k in RECALL_AT]
    return [
        *(OfImages(share(found_N, num_N), found_N) for found_N in of_captions),
        *(OfImages(share(found_N), found_N) for found_N in of_images),
    ]


def _own(image_TD: np.ndarray, text_TD: np.ndarray) -> np.ndarray:
    return np.einsum("td,td->t", image_TD.astype(np.float64), text_TD.astype(np.float64))


def _blocks(num_rows: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, num_rows, step)]
