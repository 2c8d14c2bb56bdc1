"""What a retrieval would select for a list of classes, to look at before training: POST /v1/classes.

rules.py says by which rules, class_search.py selects by them, and class_matching.py flags classes without a match.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.clip.prompts import TargetTask
from react_ray.recipe import Recipe
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.excluded import excluded_pairs
from react_ray.selection.match_quality import ClassMatch, below
from react_ray.selection.report import SO_MANY, are_many
from react_ray.selection.screen import check_screening
from react_ray.serving.api import ClassesBody
from react_ray.serving.class_columns import ClassColumns
from react_ray.serving.class_list import tasks_of
from react_ray.serving.class_matching import Matching
from react_ray.serving.class_prompts import class_queries, fewer_templates, most_templates, vectors_in_time
from react_ray.serving.class_search import ClassSearch, TooSlow
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
MOST_ENCODING = 0.3  # of the time of a request, after which no further template is embedded


async def classes(service: Service, view: View, body: ClassesBody) -> dict[str, Any]:
    recipe, in_thread = service.recipe, service.in_thread
    tasks = await in_thread(tasks_of, recipe, body)
    config = _checked_rules(recipe, view, body)
    num_prompts = sum(len(synonyms) * len(task.templates) for task in tasks for synonyms in task.synonyms)
    if num_prompts > MOST_PROMPTS:
        said = f"{num_prompts:,} sentences are more than the {MOST_PROMPTS:,} of one request; ask for fewer classes"
        raise Refused(said, field="classes")
    excluded = await in_thread(excluded_pairs, config.exclude)
    finder = Finder(service, view, body.model_copy(update={"filters": config.filters}), excluded)
    await finder.check()
    screening, told = await in_thread(_screening, recipe, view, config)
    most, stored = most_templates(tasks), await in_thread(service.stored_prompts.of, view.database.model.made_by)
    tasks, vectors = await vectors_in_time(service.encoder, tasks, stored, lambda: finder.share_of_time > MOST_ENCODING)
    finder.timer.ends("encode")
    tasks, search, chosen = await _searched(finder, tasks, vectors, screening)
    if most_templates(tasks) < most:
        told.append(f"`retrieve` asks by {most} templates; there was time for {most_templates(tasks)} of them here.")
    matching = Matching(finder, tasks, config)
    await matching.prepare()
    matches = await in_thread(matching.of, chosen)
    dropped = below(matches, config.min_match)
    if dropped:
        chosen = await in_thread(search.without, dropped)
    finder.timer.ends("search")
    spare = await in_thread(search.spare, chosen, dropped)
    names = [synonyms for task in tasks for synonyms in task.synonyms]
    found = await in_thread(ClassColumns.of, chosen, spare, config.exclusive)
    out = await in_thread(_described, body, names, search, found, matches, dropped)
    finder.timer.ends("metadata")
    told = [*differences(recipe, view, body, config), *told, *search.differs, *screening.differs]
    section = config.model_dump(mode="json", exclude_defaults=True, exclude={"exclude"})
    num_unmatched = sum(bool(matches[number].flags) for number in matches)
    advice = f"{SO_MANY.capitalize()}." if are_many(num_unmatched, len(names)) else None
    return {"classes": out, "advice": advice, "retrieve": section, "differs": told, **finder.answer()}


async def _searched(
    finder: Finder, tasks: list[TargetTask], vectors: Mapping[str, np.ndarray], screening: Screening
) -> tuple[list[TargetTask], ClassSearch, pa.Table]:
    """Returns the tasks by as many of their templates as there is time for, their search and what it has chosen."""
    in_thread, averaged = finder.service.in_thread, screening.config.prompts == "averaged"
    while True:
        asked, queries_QD = await in_thread(class_queries, tasks, averaged, vectors)
        count = most_templates(tasks)
        search = ClassSearch(finder, screening.config, asked, queries_QD, screening, count > 1 and not averaged)
        try:
            return tasks, search, await search.chosen()
        except TooSlow as slow:
            tasks = fewer_templates(tasks, max(1, int(slow.share * count)))


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
    found: ClassColumns,
    matches: dict[int, ClassMatch],
    dropped: list[int],
) -> list[dict[str, Any]]:
    """names: of each class."""
    view, first, config = search.finder.view, search.first_of_class, search.config
    of_class = [found.of_class(first[number]) for number in range(len(names))]
    shown = np.concatenate([rows[: body.per_class] for rows in of_class])
    ids, prompts = found.pair_ids[shown], search.queries["prompt"]
    described = zip(
        as_json(view, ids),
        search.screening.folded(ids),
        found.scores[shown].tolist(),
        _z_scores(search, found, shown).tolist(),
        found.is_text[shown].tolist(),
        prompts.take(pa.array(found.query[shown])).to_pylist(),
        strict=True,
    )
    out = []
    for number, (synonyms, rows) in enumerate(zip(names, of_class, strict=True)):
        match, count = matches.get(first[number], ClassMatch()), int((~found.is_spare[rows]).sum())
        hits = [
            pair
            | {"score": score, "z": None if z != z else round(z, 3), "key": "text" if is_text else "image"}
            | {"folded": same, "prompt": prompt}
            for pair, same, score, z, is_text, prompt in islice(described, len(rows[: body.per_class]))
        ]
        out.append(
            {
                "name": synonyms[0],
                "synonyms": list(synonyms[1:]),
                "hits": hits,
                "num_selected": count,
                "scores": np.sort(found.scores[rows])[::-1].tolist(),
                "named": None if match.named is None else round(match.named, 3),
                "z": hits[0]["z"] if hits else None,
                "flagged": _sentence(
                    match, count, first[number] in dropped, first[number] in search.classes_hit, config
                ),
            }
        )
    return out


def _z_scores(search: ClassSearch, found: ClassColumns, rows: np.ndarray) -> np.ndarray:
    """float64 [rows], NaN where it is not known."""
    out, query = np.empty(len(rows)), found.query[rows]
    distinct, at = np.unique(query, return_inverse=True)
    ends = np.tile(np.array([0, 1], np.float32), (len(distinct), 1))  # z is linear in the score
    for key in search.config.keys:
        low, high = search.finder.view.database.key_search(key).z_scores(search.queries_QD[distinct], ends).T
        mine = found.is_text[rows] == (key == "text")
        out[mine] = (low[at] + found.scores[rows] * (high - low)[at])[mine]
    return out


def _sentence(match: ClassMatch, count: int, is_dropped: bool, has_hits: bool, config: RetrieveConfig) -> str | None:
    if is_dropped:
        return f"It gets no pairs, because it does not reach retrieve.min_match={config.min_match:g}. {match.advice[0]}"
    if not count and has_hits:
        others = "other classes match its hits better, or " if config.exclusive else ""
        return f"It gets no pairs: {others}the rules leave them out. Use other names or templates, or relax the rules."
    if not count:
        return "No pair was found for it: relax the filters, or ingest a larger pool."
    if not match.flags:
        return None
    unnamed = "hardly any caption of its pairs names it, and " if match.named is not None else ""
    return f"It may be missing here: {unnamed}its best hit is no nearer than those of random words. {match.advice[0]}"
