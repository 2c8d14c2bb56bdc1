"""What a retrieval would select for a list of classes, to look at before training: POST /v1/classes.

The classes are asked as `retrieve` asks them and select.py chooses among their hits, so a pair counts for one class if
the request says so, and classes without a match are flagged by the rule of match_quality.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.clip.queries import Query, task_queries
from react_ray.index.config import Key
from react_ray.search.database import BOTH, Hit
from react_ray.selection.background import Background, num_names
from react_ray.selection.match_quality import FEWEST_PAIRS, Asked, ClassMatch, best_rows, class_matches
from react_ray.selection.name_match import split
from react_ray.serving.api import ClassesBody
from react_ray.serving.class_list import tasks_of
from react_ray.serving.class_search import ClassSearch
from react_ray.serving.finding import Finder, as_json
from react_ray.serving.ranked import fold
from react_ray.serving.refusal import Refused
from react_ray.serving.service import Service
from react_ray.serving.view import View
from react_ray.vectors import as_vectors

MOST_PROMPTS = 200_000


async def classes(service: Service, view: View, body: ClassesBody) -> dict[str, Any]:
    tasks = await service.in_thread(tasks_of, service.recipe, body)
    averaged = (body.prompts or service.recipe.retrieve.prompts) == "averaged"
    asked = task_queries(tasks, averaged)
    if (num_prompts := sum(len(query.parts) for query in asked)) > MOST_PROMPTS:
        said = f"{num_prompts:,} sentences are more than the {MOST_PROMPTS:,} of one request; ask for fewer classes"
        raise Refused(said, field="classes")
    if body.pool > service.config.max_k:
        raise Refused(f"pool is at most {service.config.max_k:,} here; ask for fewer hits", field="pool")
    finder = Finder(service, view, body)
    await finder.check()
    keys = view.database.keys_of(body.key) if body.key else _keys_of_recipe(service, view)
    queries_QD = await _vectors(service, asked)
    backgrounds = await _background_vectors(service, view, tasks, averaged)
    finder.timer.ends("encode")
    chosen = await ClassSearch(finder, keys, asked, queries_QD, body.pool, body.exclusive).chosen()
    best_of_random = await _best_of_random(finder, keys, backgrounds)
    finder.timer.ends("search")
    out = await service.in_thread(_described, view, body, tasks, asked, keys, queries_QD, chosen, best_of_random)
    finder.timer.ends("metadata")
    return {"classes": out, **finder.answer()}


def _keys_of_recipe(service: Service, view: View) -> tuple[Key, ...]:
    wanted = tuple(key for key in service.recipe.retrieve.keys if key in view.plans)
    return wanted or view.database.keys_of(BOTH)


async def _vectors(service: Service, asked: Sequence[Query]) -> np.ndarray:
    """float32 [Q, D]: of each query the mean of its sentences, of length 1."""
    texts_PD = await service.encoder.texts([part for query in asked for part in query.parts])
    starts = np.cumsum([0, *(len(query.parts) for query in asked)])[:-1]
    mean_QD = np.add.reduceat(texts_PD.astype(np.float32), starts, axis=0)
    return np.asarray(mean_QD / np.linalg.norm(mean_QD, axis=1, keepdims=True), np.float32)


async def _background_vectors(
    service: Service, view: View, tasks: Sequence[TargetTask], averaged: bool
) -> dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]]:
    """For each set of templates: the vectors of random queries, float32 [R, D], and the random name of each, [R]."""
    names = await service.in_thread(_random_names, view, tasks, service.recipe.seed)
    out = {}
    for templates in dict.fromkeys(task.templates for task in tasks) if names else ():
        task = TargetTask("random", tuple(names), templates, tuple((name,) for name in names))
        queries = task_queries([task], averaged)
        out[templates] = await _vectors(service, queries), np.array([query.class_id for query in queries])
    return out


def _random_names(view: View, tasks: Sequence[TargetTask], seed: int) -> list[str]:
    """Names of two words, none of which is in the name of a class. They are drawn once for all requests, so that their
    vectors are known."""
    pairs = view.database.pairs_artifact
    if pairs.rows < FEWEST_PAIRS or "caption" not in view.records.schema.names:
        return []
    names = [name for task in tasks for synonyms in task.synonyms for name in synonyms]
    own = sum(len(synonyms) * len(task.templates) for task in tasks for synonyms in task.synonyms)
    count = num_names([*dict.fromkeys(task.templates for task in tasks)], own)
    taken = {word for name in names for word in split(name)}
    drawn = view.random_names(seed)
    return [name for name in drawn if not taken & set(split(name))][:count]


async def _best_of_random(
    finder: Finder, keys: Sequence[Key], asked: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]]
) -> dict[tuple[str, ...], Background]:
    out = {}
    for templates, (queries_RD, name_R) in asked.items():
        best = np.full(int(name_R.max()) + 1, -np.inf, np.float32)
        for key in keys:
            hits = await finder.search(key, queries_RD, 1)
            np.maximum.at(best, name_R, hits.scores[:, 0])
        out[templates] = Background(np.where(np.isfinite(best), best, np.nan))
    return out


def _described(
    view: View,
    body: ClassesBody,
    tasks: Sequence[TargetTask],
    asked: Sequence[Query],
    keys: Sequence[Key],
    queries_QD: np.ndarray,
    chosen: pa.Table,
    backgrounds: dict[tuple[str, ...], Background],
) -> list[dict[str, Any]]:
    named = [(task, synonyms) for task in tasks for synonyms in task.synonyms]
    of_class = _hits_of_classes(view, asked, keys, queries_QD, chosen, body.exclusive)
    folded = {number: _folded(view, of_class.get(number, []), body.dedup) for number in range(len(named))}
    shown = {number: some[: body.per_class] for number, some in folded.items()}
    ids = np.array([hit.pair_id for some in shown.values() for hit, _, _ in some], np.int64)
    described = iter(as_json(view, ids))
    matches = _matches(view, chosen, named, backgrounds, [str(key) for key in keys])
    out = []
    for number, (_, synonyms) in enumerate(named):
        match = matches.get(number, ClassMatch())
        hits = [
            next(described) | _found(hit) | {"folded": same, "prompt": prompt} for hit, same, prompt in shown[number]
        ]
        out.append(
            {
                "name": synonyms[0],
                "synonyms": list(synonyms[1:]),
                "hits": hits,
                "num_hits": len(folded[number]),
                "scores": [hit.score for hit, _, _ in folded[number]],
                "named": None if match.named is None else round(match.named, 3),
                "z": hits[0]["z"] if hits else None,
                "flagged": _sentence(match, len(folded[number])),
            }
        )
    return out


def _hits_of_classes(
    view: View,
    asked: Sequence[Query],
    keys: Sequence[Key],
    queries_QD: np.ndarray,
    chosen: pa.Table,
    exclusive: bool,
) -> dict[int, list[tuple[Hit, str]]]:
    """class_id -> its hits, best first, each with the prompt that found it."""
    of_prompt = {(query.class_id, query.prompt): row for row, query in enumerate(asked)}
    scale = {key: view.database.key_search(key).z_scores(queries_QD, _zero_and_one(len(asked))) for key in keys}
    out: dict[int, list[tuple[Hit, str]]] = {}
    for pair, best, matches in zip(*(chosen[n].to_pylist() for n in ("pair_id", "class_id", "matches")), strict=True):
        seen: set[int] = set()
        for match in matches:  # best first
            number = match["class_id"]
            if number in seen or (exclusive and number != best):
                continue
            seen.add(number)
            low, high = scale[match["key"]][of_prompt[number, match["prompt"]]]
            z = None if np.isnan(low) else float(low + match["score"] * (high - low))
            hit = Hit(pair, match["score"], z, match["key"], None, None)
            out.setdefault(number, []).append((hit, match["prompt"]))
    for hits in out.values():
        hits.sort(key=lambda one: (-one[0].score, one[0].pair_id))
    return out


def _zero_and_one(num: int) -> np.ndarray:
    return np.tile(np.array([0, 1], np.float32), (num, 1))


def _folded(view: View, hits: Sequence[tuple[Hit, str]], cosine: float) -> list[tuple[Hit, list[int], str]]:
    if not cosine:
        return [(hit, [], prompt) for hit, prompt in hits]
    kept = fold(view, np.array([hit.pair_id for hit, _ in hits], np.int64), cosine)
    return [(hits[row][0], same, hits[row][1]) for row, same in kept.items()]


def _found(hit: Hit) -> dict[str, Any]:
    return {"score": hit.score, "z": None if hit.z is None else round(hit.z, 3), "key": hit.key}


def _matches(
    view: View,
    chosen: pa.Table,
    named: Sequence[tuple[TargetTask, tuple[str, ...]]],
    backgrounds: dict[tuple[str, ...], Background],
    keys: Sequence[str],
) -> dict[int, ClassMatch]:
    best = chosen.take(pa.array(best_rows(chosen)))
    ids = best["pair_id"].to_numpy()
    captions = view.records.columns_of(ids, ["caption"])["caption"]
    facts = pa.table({"caption": pa.array(captions, pa.string())})
    if "image" in view.plans:
        facts = facts.append_column("image", as_vectors(view.records.vectors(ids, "image")))
    asked = {
        number: Asked(synonyms, backgrounds.get(task.templates), len(task.templates))
        for number, (task, synonyms) in enumerate(named)
    }
    return class_matches(best, facts, asked, keys) if best.num_rows else {}


def _sentence(match: ClassMatch, count: int) -> str | None:
    if not count:
        return "No pair was found for it: relax the filters, or ingest a larger pool."
    if not match.flags:
        return None
    unnamed = "hardly any caption names it, and " if match.named is not None else ""
    return f"It may be missing here: {unnamed}its best hit is no nearer than those of random words. {match.advice[0]}"
