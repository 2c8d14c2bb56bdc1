"""Scores the sample's models on photos, beside what pixels and colours tell without a model.

The photos are those of Debian's package tuxpaint-stamps-default, which is fetched (tests/support/tuxpaint.py): 186 of
seven classes are learned from and tested on in two halves, each photo being tested once, and 213 have captions. The
sample's models were trained on drawings of 64 pixels, so that photos are off target. Figures are in points with their
95 % intervals, by the report's paired bootstrap over images (of few shots, over draws too). The accuracy is the mean
over classes, because mammals are a third of the photos; whoever says "mammal" always has 14.3. Differences are from the
base. Settings are those of `evaluate`; nothing was chosen here. The last line is one JSON object.

    python -m tests.benchmark.bench_photos [--run runs/sample] [--shots 1 4 -1]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.evals.classify import embed_rows
from react_ray.evals.few_shot import draw
from react_ray.evals.image_text import RECALL_AT, Ranks, rank
from react_ray.evals.pixels import shrink
from react_ray.evals.score import ALL_SHOTS
from react_ray.evals.shot_methods import Shots, learn
from react_ray.gated.load import load_backbone, load_customised
from react_ray.gated.trained import trained_models
from react_ray.pairs.image import decode_whole
from react_ray.report.intervals import paired_gain
from react_ray.report.numbers import gain_interval, interval, points
from tests.support import tuxpaint
from tests.support.tuxpaint import Photo

CLASSES = tuple(sorted(tuxpaint.CLASSES.values()))
TASK = TargetTask("photos", CLASSES, ("a {}", "{}"), tuple((name,) for name in CLASSES))
METHODS = ("linear-probe", "tip-adapter")
SEEDS = (0, 1, 2)
BASE = "base"
BINS = 4  # of each colour
Hits = list[np.ndarray]  # of each class, or of all queries: int [draws, images], 1 = right


class Vectors(NamedTuple):
    """Of the photos by one model, or by what is none and has no texts."""

    image_ND: np.ndarray  # unit rows
    text_CD: np.ndarray  # float32; of classes, zero where there are no texts
    caption_ND: np.ndarray | None = None  # one for each photo


def by_model(backbone: Backbone, photos: list[Photo]) -> Vectors:
    embedder = Embedder(backbone, 64, "cpu")
    images: list[bytes | None] = [photo.file.read_bytes() for photo in photos]
    captions = embedder.embed_texts([photo.caption for photo in photos])
    return Vectors(embed_rows(images, embedder, 1), embedder.zero_shot_classifier(TASK), captions)


def by_pixels(photos: list[Photo]) -> Vectors:
    small_ND, good_N = shrink([photo.file.read_bytes() for photo in photos])
    assert good_N.all()
    return _without_texts(small_ND.astype(np.float32) - 128)


def by_colours(photos: list[Photo]) -> Vectors:
    """Roots of the shares of BINS ** 3 colours, whose products are Bhattacharyya's coefficient. The ground is white."""
    found = []
    for photo in photos:
        pixels_ND = np.asarray(decode_whole(photo.file.read_bytes(), 64)).reshape(-1, 3) // (256 // BINS)
        counts = np.bincount(pixels_ND @ [BINS**2, BINS, 1], minlength=BINS**3)
        found.append(np.sqrt(counts / counts.sum()))
    return _without_texts(np.array(found))


def _without_texts(image_ND: np.ndarray) -> Vectors:
    unit_ND = image_ND / np.linalg.norm(image_ND, axis=1, keepdims=True)
    return Vectors(unit_ND.astype(np.float32), np.zeros((len(CLASSES), image_ND.shape[1]), np.float32))


class Halves:
    """Rows and classes of the photos that have a class."""

    def __init__(self, photos: list[Photo]) -> None:
        row = {photo.name: number for number, photo in enumerate(photos)}
        self.rows = [np.array([row[photo.name] for photo in some]) for some in tuxpaint.halves(photos)]
        self.turns = [tuple(self.rows), tuple(self.rows[::-1])]  # rows to test on, and rows to learn from
        place = {name: number for number, name in enumerate(CLASSES)}
        self.label_N = np.array([place.get(photo.label, -1) for photo in photos])

    def zero_shot(self, of: Vectors) -> Hits:
        return self._by_class([of.image_ND[rows].astype(np.float32) @ of.text_CD.T for rows in self.rows])

    def nearest(self, of: Vectors) -> Hits:
        """The class of the most similar photo of the other half."""
        said = []
        for test, train in self.turns:
            found = self.label_N[train][(of.image_ND[test] @ of.image_ND[train].T).argmax(axis=1)]
            said.append(np.eye(len(CLASSES))[found])
        return self._by_class(said)

    def learned(self, of: Vectors, method: str, shots: int) -> Hits:
        seeds = SEEDS[:1] if shots == ALL_SHOTS else SEEDS
        draws = []
        for seed in seeds:
            halves = [self._of_half(of, method, shots, seed, *turn) for turn in self.turns]
            draws.append(self._by_class(halves))
        return [np.concatenate(of_class) for of_class in zip(*draws, strict=True)]

    def _of_half(
        self, of: Vectors, method: str, shots: int, seed: int, test: np.ndarray, train: np.ndarray
    ) -> np.ndarray:
        drawn = train[draw(self.label_N[train], shots, seed, CLASSES, "photos")]
        some = Shots(of.image_ND[drawn], self.label_N[drawn], of.text_CD, seed)
        [found] = learn(method, some, of.image_ND[test], self.label_N[test])  # type: ignore[arg-type]
        return found.score_NC

    def _by_class(self, scores: list[np.ndarray]) -> Hits:
        label_N = self.label_N[np.concatenate(self.rows)]
        right_N = (np.concatenate(scores).argmax(axis=1) == label_N).astype(np.int64)
        return [right_N[None, label_N == label] for label in range(len(CLASSES))]


def recalled(of: Vectors) -> dict[str, Hits]:
    assert of.caption_ND is not None
    ranks: Ranks = rank(of.image_ND, of.caption_ND, np.arange(len(of.image_ND)))
    sides = {"caption finds photo": ranks.image_T, "photo finds caption": ranks.text_N}
    return {f"{name}, R@{k}": [(side < k).astype(np.int64)[None]] for name, side in sides.items() for k in RECALL_AT}


def scored(of: Vectors, halves: Halves, shots: list[int]) -> dict[str, Hits]:
    """By the name of the figure."""
    is_model = of.caption_ND is not None
    found = {"zero-shot": halves.zero_shot(of)} if is_model else {"1-NN, all": halves.nearest(of)}
    for method in METHODS if is_model else METHODS[:1]:
        for number in shots:
            name = f"{method}, {'all' if number == ALL_SHOTS else number}"
            found[name] = halves.learned(of, method, number)
    return found | (recalled(of) if is_model else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="", help="folder of a finished demo, whose customised models are scored too")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, ALL_SHOTS], help="-1 = all")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a classifier of a hundred vectors is too small for two
    with tempfile.TemporaryDirectory() as folder:
        if problem := tuxpaint.fetch(Path(folder)):
            parser.exit(1, f"{problem}\n")
        photos = tuxpaint.photos(Path(folder))
        sample = BackboneConfig(name="sample://base_clip.json", pretrained="sample://base_clip.safetensors")
        vectors = {BASE: by_model(load_backbone(sample), photos)}
        for model in trained_models(given.run) if given.run else []:
            if not model.head:
                vectors[model.arm] = by_model(load_customised(model.uri, model.wise_ft), photos)
        vectors |= {"16x16 pixels": by_pixels(photos), "colours": by_colours(photos)}
    halves, of_base, out = Halves(photos), dict[str, Hits](), dict[str, dict[str, list[float]]]()
    for name, of in vectors.items():
        print(name)
        figures = scored(of, halves, given.shots)
        of_base = of_base or figures
        for figure, hits in figures.items():
            value = paired_gain(hits)
            out.setdefault(name, {})[figure] = [value.value, value.low, value.high]
            over = ""
            if figures is not of_base and figure in of_base:
                gain = paired_gain([one - other for one, other in zip(hits, of_base[figure], strict=True)])
                over = f"  {gain_interval(gain)}"
            print(f"  {figure:26} {points(value.value)} {interval(value)}{over}", flush=True)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
