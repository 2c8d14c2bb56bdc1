"""Measures how often a class is wrongly flagged, or wrongly not flagged, as not matching what was asked for.

The pool has all 816 classes of the sample's tasks, so two kinds of absent classes are made:

    held out    each class in turn is asked for in the pool without the pairs that show it or name it
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

WANTED = RetrieveConfig(keys=["text"], k=32, pairs_per_class=4)  # about as many as a class has in the pool
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
    """What was found of each class: `named` and `z`, float64 [C]. A class that gets no pair has z = -inf: the report
    names it too."""

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

    def queries(self, names: Sequence[str], templates: Sequence[tuple[str, ...]]) -> np.ndarray:
        vectors_CD = np.empty((len(names), self.text_ND.shape[1]), np.float32)
        for each in dict.fromkeys(templates):
            rows = [i for i, one in enumerate(templates) if one == each]
            vectors_CD[rows] = self.embed([names[i] for i in rows], each)
        return vectors_CD

    def scores(self, queries_CD: np.ndarray, without: Sequence[np.ndarray] | None) -> np.ndarray:
        """float32 [C, N]; -1 for the rows that a class must do without."""
        score = queries_CD @ self.text_ND.T
        for number, rows in enumerate(without or ()):
            score[number, rows] = -1
        return score

    def signals(
        self, names: Sequence[str], templates: Sequence[tuple[str, ...]], without: Sequence[np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """What else might tell present classes from absent ones, each float [C]."""
        queries_CD = self.queries(names, templates)
        score = self.scores(queries_CD, without)
        top = np.argsort(-score, axis=1)[:, :4]
        best = score.max(axis=1)
        own = queries_CD @ self.text_ND[np.random.default_rng(0).choice(len(self.text_ND), 20_000, replace=False)].T
        hits_CKD = self.text_ND[top]
        alike = np.einsum("ckd,cjd->c", hits_CKD, hits_CKD)
        to_all = np.einsum("ckd,qd->ckq", hits_CKD, self.queries(*self.everything()))
        mine = np.einsum("ckd,cd->ck", hits_CKD, queries_CD)
        return {
            "z of the best hit among random queries": np.array(
                [self.backgrounds[each].z(float(s)) for each, s in zip(templates, best, strict=True)]
            ),
            "cosine of the best hit": best,
            "mean cosine of the best four": np.sort(score, axis=1)[:, -4:].mean(axis=1),
            "z of the best hit among its query's cosines": (best - own.mean(axis=1)) / own.std(axis=1),
            "likeness of the best four captions": alike,
            "share of the best four whose nearest class it is": (mine >= to_all.max(axis=2) - 1e-6).mean(axis=1),
        }

    def everything(self) -> tuple[list[str], list[tuple[str, ...]]]:
        return [name for _, name in self.classes], [task.templates for task, _ in self.classes]

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

    def hits(self, score_CN: np.ndarray) -> pa.Table:
        """schema.HITS of the best k rows of each class; the query's id is the class's place."""
        count, k = len(score_CN), WANTED.k
        top = np.argsort(-score_CN, axis=1, kind="stable")[:, :k]
        columns = {
            "query_id": np.repeat(np.arange(count), k),
            "pair_id": top.ravel(),
            "score": np.take_along_axis(score_CN, top, 1).ravel(),
            "rank": np.tile(np.arange(k), count),
            "key": ["text"] * (count * k),
        }
        return pa.table(columns).cast(schema.HITS)

    def present(self) -> Judged:
        """Retrieves for all classes together, as the demo does."""
        names, templates = self.everything()
        self.rivals = self.hits(self.scores(self.queries(names, templates), None))
        return self.match(self.rivals, names, templates, list(range(len(names))))

    def absent(
        self, names: Sequence[str], templates: Sequence[tuple[str, ...]], without: Sequence[np.ndarray] | None = None
    ) -> Judged:
        """Retrieves for each of these classes together with all others, in the pool without the rows `without`."""
        mine = self.hits(self.scores(self.queries(names, templates), without))
        others = self.everything()
        judged = []
        for number, (name, each) in enumerate(zip(names, templates, strict=True)):
            own = mine.slice(number * WANTED.k, WANTED.k)
            rivals = self.rivals.filter(pa.array(np.isin(self.rivals["pair_id"], own["pair_id"])))
            if without is not None:  # the class is one of them
                rivals = rivals.filter(pa.array(rivals["query_id"].to_numpy() != number))
            own = own.set_column(0, "query_id", pa.array([len(others[0])] * WANTED.k, pa.int32()))
            hits = pa.concat_tables([rivals, own])
            judged.append(self.match(hits, [*others[0], name], [*others[1], each], [len(others[0])]))
        return Judged(*(np.concatenate([getattr(one, part) for one in judged]) for part in ("named", "z")))

    def match(
        self, hits: pa.Table, names: Sequence[str], templates: Sequence[tuple[str, ...]], wanted: list[int]
    ) -> Judged:
        """Selects the pairs of all classes, and gives what is found of the wanted ones."""
        count = len(names)
        numbers = pa.array(range(count), pa.int32())
        columns = {"query_id": numbers, "class_id": numbers, "task": [str(n) for n in range(count)]}
        chosen = select(hits, pa.table(columns | {"class_name": list(names), "prompt": list(names)}), WANTED)
        chosen = chosen.filter(pa.array(np.isin(chosen["class_id"], wanted)))
        best = chosen.take(pa.array(best_rows(chosen)))
        facts = pa.table(
            {"caption": pa.array([self.captions[row] for row in best["pair_id"].to_pylist()], pa.string())}
        )
        asked = {i: Asked((names[i],), self.backgrounds[templates[i]], len(templates[i])) for i in wanted}
        found = class_matches(best, facts, asked, ["text"])
        pairs = [(found[i].named, found[i].z) if i in found else (0.0, -np.inf) for i in wanted]
        return Judged(*np.array(pairs, np.float64).T)


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
    """How often a value of `high` exceeds one of `low`; a tie counts half."""
    ordered = np.sort(low)
    above = np.searchsorted(ordered, high, side="left") + np.searchsorted(ordered, high, side="right")
    return float(above.mean() / 2 / len(low))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=MOST_NAMES, help="random names of the background")
    pool = Pool(parser.parse_args().names)
    names, templates = pool.everything()
    own = pool.own_rows()
    words = {word for text in [*pool.captions, *pool.keys] for word in split(text)}
    corpus = pq.read_table(local_file("sample://base.parquet"), columns=["caption"])["caption"].to_pylist()
    known = {
        word for captions in corpus for text in captions for word in split(text) if word.isalpha() and len(word) > 3
    }
    absent = [name for name in ABSENT if name not in words] + sorted(known - words - set(ABSENT))
    drawn = dict(zip([task.name for task in pool.tasks], pool.tasks, strict=True))["objects"].templates

    present = pool.present()
    held = pool.absent(names, templates, own)
    made_up = pool.absent(absent, [drawn] * len(absent))
    signals = [pool.signals(names, templates), pool.signals(names, templates, own)]
    signals.append(pool.signals(absent, [drawn] * len(absent)))
    print(f"{'area under the ROC curve against':52}{'held out':>10}{'made up':>10}")
    for what, values in signals[0].items():
        print(f"{what:52}{area(values, signals[1][what]):>10.3f}{area(values, signals[2][what]):>10.3f}")

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
