"""Measures how often a class is wrongly flagged, or wrongly not flagged, as not matching what was asked for.

The pool has all 816 classes of the sample's tasks, so two kinds of absent classes are made:

    held out    each class is asked for in the pool without the pairs that show it or name it
    made up     names whose words are in no caption of the pool: an accordion, and words of the base corpus

Present classes are judged twice: as they are, and as if no caption named them ("unnamed"), as in a pool whose captions
use other words. The threshold of the z-score minimises false alarms (mean of both) plus misses (mean of both) on one
half of the classes, which the checksum of the name decides; the other half and all classes are reported with it.
Held-out classes keep their relatives: without its own pairs, "automobile" still finds cars, which counts as a miss.

The last line is one JSON object: `threshold` is what this half chooses, and all counts are made with the product's own
(`WEAK_BELOW`), which is that number, rounded.

    python tests/benchmark/bench_match.py [--names 100]
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from react_ray import schema
from react_ray.clip.config import BackboneConfig
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask, TasksConfig, load_tasks
from react_ray.gated.load import load_backbone
from react_ray.selection.background import MOST_NAMES, Background, random_names
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.match_quality import UNNAMED_BELOW, WEAK_BELOW, Asked, best_rows, class_matches
from react_ray.selection.name_match import NameMatch, split
from react_ray.selection.select import select
from react_ray.storage import local_file

WANTED = RetrieveConfig(keys=["text"], k=32, pairs_per_class=4)  # as in recipes/sample.yaml
UNSEEN = (
    "accordion banjo harmonica bagpipes oboe cello ukulele clarinet mandolin zither lute bassoon walrus heron "
    "stork hyena vulture panther moose ferret weasel meerkat armadillo platypus beagle dachshund dalmatian "
    "asparagus artichoke rhubarb zucchini cauliflower turnip parsnip quinoa lasagna risotto goulash baklava "
    "gazpacho hovercraft catamaran snowplow excavator chainsaw wheelbarrow thimble corset poncho sombrero "
    "sarong kilt moccasin ziggurat viaduct igloo wigwam forceps defibrillator tourniquet sextant"
)
ABSENT = UNSEEN.split()


@dataclass(frozen=True)
class Judged:
    """What was found of each class: `named` and `z`, float64 [C]."""

    named: np.ndarray
    z: np.ndarray

    def flagged(self, threshold: float, blind: bool = False) -> np.ndarray:
        """blind: as if no caption named its class."""
        return (self.z < threshold) & (blind | (self.named < UNNAMED_BELOW))

    def of(self, half: np.ndarray) -> Judged:
        return Judged(self.named[half], self.z[half])


class Pool:
    def __init__(self, num_names: int) -> None:
        table = pq.read_table(local_file("sample://pool.parquet"), columns=["caption", "key"])
        self.captions, self.keys = table["caption"].to_pylist(), table["key"].to_pylist()
        self.tasks = load_tasks(TasksConfig(file="sample://tasks.json"))
        self.classes = [(task, name) for task in self.tasks for name in task.class_names]
        config = BackboneConfig(name="sample://base_clip.json", pretrained="sample://base_clip.safetensors")
        self.embedder = Embedder(load_backbone(config), 256, "cpu")
        self.text_ND = self.embedder.embed_texts(self.captions).astype(np.float32)
        every = [name for _, name in self.classes]
        names = random_names(self.captions, [*every, *ABSENT], num_names, seed=0)
        self.backgrounds = {
            templates: Background(self.best(self.embed(names, templates)))
            for templates in dict.fromkeys(task.templates for task in self.tasks)
        }

    def embed(self, names: Sequence[str], templates: tuple[str, ...]) -> np.ndarray:
        """float32 [names, D]: the mean of each name's prompts, rounded as queries are."""
        task = TargetTask("", tuple(names), templates, tuple((name,) for name in names))
        return self.embedder.zero_shot_classifier(task).astype(np.float16).astype(np.float32)

    def best(self, queries_QD: np.ndarray) -> np.ndarray:
        return (queries_QD @ self.text_ND.T).max(axis=1)

    def own_rows(self) -> list[np.ndarray]:
        """The rows that show or name each class: by the drawing's key, by its words, or by those of the caption."""
        found: list[set[int]] = [set() for _ in self.classes]
        finder = NameMatch([(number, 0, name) for number, (_, name) in enumerate(self.classes)])
        of_key = defaultdict(set)
        for row, (caption, key) in enumerate(zip(self.captions, self.keys, strict=True)):
            of_key[key].add(row)
            for number, _ in [*finder.find(caption), *finder.find(key)]:
                found[number].add(row)
        test = pq.read_table(local_file("sample://test.parquet"), columns=["task", "label", "key"]).to_pylist()
        drawn = {(row["task"], row["label"]): row["key"] for row in test}
        for number, (task, name) in enumerate(self.classes):
            found[number] |= of_key[drawn[task.name, name]]
            if task.name == "flags":  # whose keys are codes of countries, which captions repeat
                for row in list(found[number]):
                    found[number] |= of_key[self.keys[row]] if len(self.keys[row]) == 2 else set()
        return [np.array(sorted(rows), dtype=np.int64) for rows in found]

    def judge(
        self, names: Sequence[str], templates: Sequence[tuple[str, ...]], without: Sequence[np.ndarray] | None = None
    ) -> Judged:
        """Retrieves for these classes as the demo does. without: the rows that are not in the pool, for each class;
        then each class is asked for alone."""
        vectors = np.empty((len(names), self.text_ND.shape[1]), np.float32)
        for each in dict.fromkeys(templates):
            rows = [i for i, one in enumerate(templates) if one == each]
            vectors[rows] = self.embed([names[i] for i in rows], each)
        score = vectors @ self.text_ND.T
        for number, rows in enumerate(without or ()):
            score[number, rows] = -1
        top = np.argpartition(-score, WANTED.k, axis=1)[:, : WANTED.k]
        top = np.take_along_axis(top, np.argsort(-np.take_along_axis(score, top, 1), axis=1, kind="stable"), 1)
        count, k = top.shape
        hits = pa.table(
            {
                "query_id": np.repeat(np.arange(count), k),
                "pair_id": top.ravel(),
                "score": np.take_along_axis(score, top, 1).ravel(),
                "rank": np.tile(np.arange(k), count),
                "key": ["text"] * (count * k),
            }
        ).cast(schema.HITS)
        queries = pa.table(
            {
                "query_id": pa.array(range(count), pa.int32()),
                "class_id": pa.array(range(count), pa.int32()),
                "task": [str(number) for number in range(count)],
                "class_name": list(names),
                "prompt": list(names),
            }
        )
        z, named = np.full(count, np.nan), np.full(count, np.nan)
        alone = [[number] for number in range(count)] if without is not None else [list(range(count))]
        for group in alone:
            of_group = pa.array(np.isin(hits["query_id"].to_numpy(), group))
            chosen = select(hits.filter(of_group), queries, WANTED)
            best = chosen.take(pa.array(best_rows(chosen)))
            facts = pa.table({"caption": [self.captions[row] for row in best["pair_id"].to_pylist()]})
            asked = {i: Asked((names[i],), self.backgrounds[templates[i]], len(templates[i])) for i in group}
            for number, match in class_matches(best, facts, asked, ["text"]).items():
                z[number], named[number] = match.z, match.named
        return Judged(named, z)


def choose(present: Judged, held: Judged, made_up: Judged) -> float:
    """The z-score with the fewest errors: false alarms and misses each are the mean of their two kinds."""
    grid = np.round(np.arange(-1, 4, 0.05), 2)
    errors = [
        present.flagged(t).mean() + present.flagged(t, blind=True).mean()
        + (~held.flagged(t)).mean() + (~made_up.flagged(t)).mean()
        for t in grid
    ]  # fmt: skip
    return float(grid[int(np.argmin(errors))])


def area(high: np.ndarray, low: np.ndarray) -> float:
    """Area under the ROC curve: how often a value of `high` exceeds one of `low`."""
    order = np.argsort(np.argsort(np.concatenate([high, low])))[: len(high)]
    return float((order.sum() - len(high) * (len(high) - 1) / 2) / len(high) / len(low))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=MOST_NAMES, help="random names of the background")
    pool = Pool(parser.parse_args().names)
    names, templates = [name for _, name in pool.classes], [task.templates for task, _ in pool.classes]
    own = pool.own_rows()
    words = {word for text in [*pool.captions, *pool.keys] for word in split(text)}
    corpus = pq.read_table(local_file("sample://base.parquet"), columns=["captions"])["captions"].to_pylist()
    known = {
        word for captions in corpus for text in captions for word in split(text) if word.isalpha() and len(word) > 3
    }
    absent = [name for name in ABSENT if name not in words] + sorted(known - words - set(ABSENT))
    drawn = dict(zip([task.name for task in pool.tasks], pool.tasks, strict=True))["objects"].templates

    present = pool.judge(names, templates)
    held = pool.judge(names, templates, own)
    made_up = pool.judge(absent, [drawn] * len(absent), [np.empty(0, np.int64)] * len(absent))
    print(f"separation (area under the ROC curve): z-score {area(present.z, held.z):.3f} from held-out classes, "
          f"{area(present.z, made_up.z):.3f} from made-up ones")  # fmt: skip

    def validation(some: Sequence[str]) -> np.ndarray:
        return np.array([zlib.crc32(name.encode()) % 2 == 0 for name in some])

    mine, others = validation(names), validation(absent)
    threshold = choose(present.of(mine), held.of(mine), made_up.of(others))
    print(f"the half for validation chooses z < {threshold:.2f}; the product has {WEAK_BELOW}")
    print(f"{'':34}{'validation':>12}{'other half':>12}{'all':>14}")
    rows = {
        "present, flagged": (present.flagged(WEAK_BELOW), mine),
        "present, flagged if unnamed": (present.flagged(WEAK_BELOW, blind=True), mine),
        "held out, not flagged": (~held.flagged(WEAK_BELOW), mine),
        "made up, not flagged": (~made_up.flagged(WEAK_BELOW), others),
    }
    for what, (wrong, half) in rows.items():
        print(f"{what:34}{_rate(wrong[half]):>12}{_rate(wrong[~half]):>12}{_rate(wrong):>14}")
    wrong = [f"{names[i]} (z {present.z[i]:.1f})" for i in np.flatnonzero(present.flagged(WEAK_BELOW))]
    print("present classes that are flagged:", ", ".join(wrong))
    missed = [absent[i] for i in np.flatnonzero(~made_up.flagged(WEAK_BELOW))]
    print("made-up classes that are not:", ", ".join(missed[:20]))
    print(
        json.dumps(
            {
                "classes": len(names),
                "present": sum(len(rows) > 0 for rows in own),
                "absent": len(names) + len(absent),
                "false_alarms": int(present.flagged(WEAK_BELOW).sum()),
                "misses": int((~held.flagged(WEAK_BELOW)).sum() + (~made_up.flagged(WEAK_BELOW)).sum()),
                "misses_held_out": int((~held.flagged(WEAK_BELOW)).sum()),
                "misses_made_up": int((~made_up.flagged(WEAK_BELOW)).sum()),
                "threshold": threshold,
                "accordion_flagged": bool(made_up.flagged(WEAK_BELOW)[absent.index("accordion")]),
            }
        )
    )


def _rate(wrong: np.ndarray) -> str:
    return f"{int(wrong.sum())} of {len(wrong)}"


if __name__ == "__main__":
    main()
