"""What a retrieval would select for a list of classes, to look at before training: POST /v1/classes.

rules.py says by which rules, class_search.py selects by them, and class_matching.py flags classes without a match.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.clip.queries import task_queries
from react_ray.recipe import Recipe
from react_ray.search.database import Hit
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.excluded import excluded_pairs
from react_ray.selection.match_quality import ClassMatch, below
from react_ray.selection.screen import check_screening
from react_ray.serving.api import ClassesBody
from react_ray.serving.class_list import tasks_of
from react_ray.serving.class_matching import Matching, query_vectors
from react_ray.serving.class_search import ClassSearch
from react_ray.serving.finding import Finder, as_json
from react_ray.serving.refusal import Refused
from react_ray.serving.rules import (
    differences,
    in_time,
    most_per_class,
    references_of,
    rules,
    shown_per_class,
    without_references,
)
from react_ray.serving.screening import Screening
from react_ray.serving.service import Service
from react_ray.serving.view import View

MOST_PROMPTS = 200_000


async def classes(service: Service, view: View, body: ClassesBody) -> dict[str, Any]:
    recipe, in_thread = service.recipe, service.in_thread
    tasks = await in_thread(tasks_of, recipe, body)
    config = _checked_rules(recipe, view, body)
    num_prompts = sum(len(synonyms) * len(task.templates) for task in tasks for synonyms in task.synonyms)
    if num_prompts > MOST_PROMPTS:
        said = f"{num_prompts:,} sentences are more than the {MOST_PROMPTS:,} of one request; ask for fewer classes"
        raise Refused(said, field="classes")
    asked = await in_thread(task_queries, tasks, config.prompts == "averaged")
    excluded = await in_thread(excluded_pairs, config.exclude)
    finder = Finder(service, view, body.model_copy(update={"filters": config.filters}), excluded)
    await finder.check()
    screening, told = await in_thread(_screening, recipe, view, config)
    queries_QD = await query_vectors(service.encoder, [query.parts for query in asked])
    finder.timer.ends("encode")
    search = ClassSearch(finder, screening.config, asked, queries_QD, screening)
    chosen = await search.chosen()
    matching = Matching(finder, tasks, config)
    await matching.prepare()
    matches = await in_thread(matching.of, chosen)
    dropped = below(matches, config.min_match)
    if dropped:
        chosen = await in_thread(search.without, dropped)
    finder.timer.ends("search")
    spare = await in_thread(search.spare, chosen, dropped)
    names = [synonyms for task in tasks for synonyms in task.synonyms]
    out = await in_thread(_described, body, names, search, (chosen, spare), matches, dropped)
    finder.timer.ends("metadata")
    told = [*differences(recipe, view, body, config), *told, *search.differs, *screening.differs]
    section = config.model_dump(mode="json", exclude_defaults=True, exclude={"exclude"})
    return {"classes": out, "retrieve": section, "differs": told, **finder.answer()}


def _checked_rules(recipe: Recipe, view: View, body: ClassesBody) -> RetrieveConfig:
    config = rules(recipe, view, body)
    if body.pairs_per_class is None:
        return config.model_copy(update={"pairs_per_class": shown_per_class(recipe)})
    if body.pairs_per_class > (most := most_per_class(recipe)):
        raise Refused(f"pairs_per_class is at most {most:,} here; ask for fewer pairs", field="pairs_per_class")
    return config


def _screening(recipe: Recipe, view: View, config: RetrieveConfig) -> tuple[Screening, list[str]]:
    """The checks that can be made in the time of a request, and sentences on the others."""
    check_screening(config, view.records.images_artifact is not None, "image" in view.plans)
    references = references_of(recipe, view) if config.decontaminate.datasets else None
    told: list[str] = []
    if config.decontaminate.datasets and references is None:
        config, told = without_references(config)
    config, more = in_time(config, view)
    return Screening(view, config, references, recipe.seed), [*told, *more]


def _described(
    body: ClassesBody,
    names: list[tuple[str, ...]],
    search: ClassSearch,
    found: tuple[pa.Table, pa.Table],
    matches: dict[int, ClassMatch],
    dropped: list[int],
) -> list[dict[str, Any]]:
    """names: of each class. found: the chosen pairs, and those that come next (select.MATCHED)."""
    view, first = search.finder.view, search.first_of_class
    chosen, spare = (_hits_of_classes(search, table) for table in found)
    of_class = [chosen.get(first[number], []) + spare.get(first[number], []) for number in range(len(names))]
    shown = [hits[: body.per_class] for hits in of_class]
    ids = np.array([hit.pair_id for hits in shown for hit, _ in hits], np.int64)
    described = zip(as_json(view, ids), search.screening.folded(ids), strict=True)
    out = []
    for number, synonyms in enumerate(names):
        match, count = matches.get(first[number], ClassMatch()), len(chosen.get(first[number], []))
        hits = [
            pair | _found(hit) | {"folded": same, "prompt": prompt}
            for (hit, prompt), (pair, same) in zip(shown[number], described, strict=False)
        ]
        out.append(
            {
                "name": synonyms[0],
                "synonyms": list(synonyms[1:]),
                "hits": hits,
                "num_selected": count,
                "scores": sorted((hit.score for hit, _ in of_class[number]), reverse=True),
                "named": None if match.named is None else round(match.named, 3),
                "z": hits[0]["z"] if hits else None,
                "flagged": _sentence(match, count, search.config.min_match if first[number] in dropped else 0.0),
            }
        )
    return out


def _hits_of_classes(search: ClassSearch, chosen: pa.Table) -> dict[int, list[tuple[Hit, str]]]:
    """class_id -> its hits, best first, each with the prompt that found it."""
    database, is_exclusive = search.finder.view.database, search.config.exclusive
    prompts = zip(search.class_Q.tolist(), search.queries["prompt"].to_pylist(), strict=True)
    of_prompt = {place: row for row, place in enumerate(prompts)}
    ends = np.tile(np.array([0, 1], np.float32), (len(search.class_Q), 1))  # z is linear in the score
    scale = {key: database.key_search(key).z_scores(search.queries_QD, ends) for key in search.config.keys}
    out: dict[int, list[tuple[Hit, str]]] = {}
    for pair, best, matches in zip(*(chosen[n].to_pylist() for n in ("pair_id", "class_id", "matches")), strict=True):
        seen: set[int] = set()
        for match in matches:  # best first
            number = match["class_id"]
            if number in seen or (is_exclusive and number != best):
                continue
            seen.add(number)
            low, high = scale[match["key"]][of_prompt[number, match["prompt"]]]
            z = None if np.isnan(low) else float(low + match["score"] * (high - low))
            hit = Hit(pair, match["score"], z, match["key"], None, None)
            out.setdefault(number, []).append((hit, match["prompt"]))
    for hits in out.values():
        hits.sort(key=lambda one: (-one[0].score, one[0].pair_id))
    return out


def _found(hit: Hit) -> dict[str, Any]:
    return {"score": hit.score, "z": None if hit.z is None else round(hit.z, 3), "key": hit.key}


def _sentence(match: ClassMatch, count: int, min_match: float) -> str | None:
    """min_match: below which the class lies; 0 = it does not."""
    if min_match:
        return f"It gets no pairs, because it does not reach retrieve.min_match={min_match:g}. {match.advice[0]}"
    if not count:
        return "No pair was found for it: relax the filters, or ingest a larger pool."
    if not match.flags:
        return None
    unnamed = "hardly any caption names it, and " if match.named is not None else ""
    return f"It may be missing here: {unnamed}its best hit is no nearer than those of random words. {match.advice[0]}"
