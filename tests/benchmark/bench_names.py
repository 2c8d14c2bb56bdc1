"""Compares which names of a class make its prompts: its own, all synonyms, or the most frequent one (as REAL).

As bench_labels.py, whose arms are made of the pairs that each way retrieves. The synonyms of a class are the aliases of
the emoji with its name in the package emoji (`pip install emoji`), if longer than three letters. A name is frequent if
many captions of the database contain it (NameMatch). The last line is one JSON object.

    python -m tests.benchmark.bench_names [--run runs/sample]
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np

from react_ray.clip.embedder import Embedder
from react_ray.selection.name_match import NameMatch
from tests.benchmark.bench_labels import Block, Sample, labels, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/sample", help="folder of a finished demo, with its database in it")
    print(json.dumps(compare_names(Sample(parser.parse_args().run))))


def compare_names(sample: Sample) -> dict[str, Any]:
    names_C = synonyms([name for _, name in sample.classes])
    finder = NameMatch([(i, j, name) for i, names in enumerate(names_C) for j, name in enumerate(names)])
    counts = [np.zeros(len(names), np.int64) for names in names_C]
    for caption in sample.captions:
        for class_id, number in finder.find(caption):
            counts[class_id][number] += 1
    frequent: list[tuple[str, ...]] = [
        (names[int(count.argmax())],) for names, count in zip(names_C, counts, strict=True)
    ]
    changed = sum(names[0] != one[0] for names, one in zip(names_C, frequent, strict=True))
    print(f"{sum(len(names) > 1 for names in names_C)} classes have synonyms, {changed} a more frequent one")
    block, embedder, first_prompts = Block(sample, sample.arms), Embedder(sample.backbone, 64, "cpu"), None
    for way, chosen_names in {"first": [n[:1] for n in names_C], "all": names_C, "most frequent": frequent}.items():
        left = iter(chosen_names)
        tasks = [replace(task, synonyms=tuple(next(left) for _ in task.class_names)) for task in sample.tasks]
        class_CD = np.concatenate([embedder.zero_shot_classifier(task) for task in tasks])
        prompts = sample.prompts(class_CD)
        text, block.out[f"prompts of {way}"] = told(prompts, first_prompts)
        first_prompts = first_prompts or prompts
        print(f"{way}: prompts {text}")
        chosen = sample.retrieve(class_CD.astype(np.float16), sample.recipe.retrieve.pairs_per_class)
        block.line(f"{way}, for retrieval", chosen, labels(sample, chosen))
        if way != "first":
            block.line(f"{way}, for retrieval and evaluation", chosen, labels(sample, chosen), class_CD)
    return block.out


def synonyms(names: list[str]) -> list[tuple[str, ...]]:
    """The name of each class, and the aliases of the emoji with this name."""
    import emoji

    aliases = {}
    for found in emoji.EMOJI_DATA.values():
        if found["status"] == emoji.STATUS["fully_qualified"]:
            aliases[_letters(found["en"])] = [_plain(alias) for alias in found.get("alias", [])]
    out = []
    for name in names:
        known = {_letters(name): name}
        for alias in aliases.get(_letters(name), []):
            if len(alias) > 3 and re.search("[a-z]", alias):
                known.setdefault(_letters(alias), alias)
        out.append(tuple(known.values()))
    return out


def _plain(alias: str) -> str:
    return alias.strip(":").replace("_", " ").removeprefix("flag for ")


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


if __name__ == "__main__":
    main()
