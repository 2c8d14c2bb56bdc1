"""The rules by which a class list is looked at: the section `retrieve` of the recipe, as a request changes it.

POST /v1/classes selects by it and POST /v1/recipe writes it, so that what was shown is what is retrieved. What a server
cannot do in the time of a request is left out and said.
"""

from __future__ import annotations

from typing import Any

from react_ray.artifact import open_artifact
from react_ray.clip.identity import same_image_tower
from react_ray.index.config import FLAT
from react_ray.kinds import REFERENCES
from react_ray.manifest import MANIFEST
from react_ray.recipe import Recipe
from react_ray.selection.config import DecontaminateConfig, RetrieveConfig
from react_ray.selection.references import References
from react_ray.selection.screen import columns_needed
from react_ray.serving.api import Selecting
from react_ray.serving.class_list import own_tasks
from react_ray.serving.view import View
from react_ray.storage import join, open_storage

PAIRS_PER_CLASS = 200  # where the recipe names no number
MOST_PER_CLASS = 10_000
READ_BYTES = 1 << 30  # of a column of the database, up to which candidates are screened by it
ROW_BYTES = {"url": 100, "sha256": 64, "phash": 8}
OFF: dict[str, dict[str, Any]] = {  # column -> the rules that need it, as they are when off
    "url": {"dedup.url": False, "max_per_domain": 0},
    "sha256": {"dedup.sha256": False},
    "phash": {"dedup.phash": -1, "decontaminate.phash": -1},
    "image": {"dedup.cosine": 0.0, "decontaminate.cosine": 0.0, "min_image_score": -1.0},
}


def rules(recipe: Recipe, view: View, body: Selecting) -> RetrieveConfig:
    """What the served recipe keeps out stays out: pairs that its filters do not pass, or that it excludes."""
    own = recipe.retrieve
    if body.key:
        keys = list(view.database.keys_of(body.key))
    else:
        keys = [key for key in own.keys if key in view.plans] or list(view.keys)
    return own.model_copy(
        update={
            "keys": keys,
            "search": own.search if view.database.index is not None else "exact",
            "prompts": body.prompts or own.prompts,
            "selection": "hits",
            "pairs_per_class": body.pairs_per_class or own.pairs_per_class or PAIRS_PER_CLASS,
            "exclusive": own.exclusive if body.exclusive is None else body.exclusive,
            "min_score": own.min_score if body.min_score is None else max(own.min_score, body.min_score),
            "filters": list(dict.fromkeys([*own.filters, *body.filters])),
            "exclude": [*own.exclude, *sorted(set(body.exclude) - set(own.exclude))],
            "dedup": own.dedup if body.dedup is None else own.dedup.model_copy(update={"cosine": body.dedup}),
        }
    )


def shown_per_class(recipe: Recipe) -> int:
    """The number of pairs of each class that are shown unless a request says otherwise."""
    return min(recipe.retrieve.pairs_per_class or PAIRS_PER_CLASS, most_per_class(recipe))


def most_per_class(recipe: Recipe) -> int:
    return min(recipe.serve.max_k, MOST_PER_CLASS)


def in_time(config: RetrieveConfig, view: View) -> tuple[RetrieveConfig, list[str]]:
    """`config` without the rules for which too much of the database would be read, and a sentence on each of them."""
    facts, told = view.database.embeddings, []
    compares_images = ["image"] if config.min_image_score > -1 else []
    for column in dict.fromkeys([*columns_needed(config), *compares_images]):
        if facts.rows * ROW_BYTES.get(column, 2 * facts.facts.dim) > READ_BYTES:
            for rule, value in OFF[column].items():
                without = _with(config, rule, value)
                if without != config:
                    told.append(
                        f"`retrieve` applies retrieve.{rule}, for which it reads too much for an answer in time."
                    )
                config = without
    return config, told


def _with(config: RetrieveConfig, rule: str, value: Any) -> RetrieveConfig:
    section, _, name = rule.rpartition(".")
    inner = getattr(config, section).model_copy(update={name: value}) if section else value
    return config.model_copy(update={section or name: inner})


def references_of(recipe: Recipe, view: View) -> References | None:
    """The evaluation images that a retrieval of this recipe has embedded; None if none has yet, or others."""
    wanted, place = recipe.retrieve.decontaminate, join(recipe.out, REFERENCES.name)
    if not open_storage(place).exists(MANIFEST):
        return None
    found = open_artifact(place, REFERENCES)
    made = found.manifest.config
    are_wanted = {source for source, _ in made["sets"]} == set(wanted.sources(recipe.evaluate.datasets))
    has_vectors = made["vectors"] and same_image_tower(view.database.embeddings.facts.backbone, made["backbone"])
    return References.load(found) if are_wanted and (has_vectors or not wanted.cosine) else None


def without_references(config: RetrieveConfig) -> tuple[RetrieveConfig, list[str]]:
    told = "`retrieve` leaves out what is near to the sets of retrieve.decontaminate, which it has not embedded yet."
    return config.model_copy(update={"decontaminate": DecontaminateConfig()}), [told]


def differences(recipe: Recipe, view: View, body: Selecting, config: RetrieveConfig) -> list[str]:
    """Sentences on what `retrieve` of the served recipe does otherwise than `config` over these classes."""
    own, told = recipe.retrieve, []
    if own.selection != "hits":
        told.append(f"`retrieve` has retrieve.selection={own.selection}; these are the pairs that a search finds.")
    if own.search == "exact" and view.database.index is not None and view.database.index.facts.kind != FLAT:
        told.append("`retrieve` has retrieve.search=exact; this server searches the approximate index.")
    if body.pairs_per_class is None and config.pairs_per_class != own.pairs_per_class:
        wanted = f"{own.pairs_per_class:,} pairs of a class" if own.pairs_per_class else "all pairs that it hits"
        told.append(f"`retrieve` selects {wanted}; here they are {config.pairs_per_class:,} at most.")
    tasks = [task.name for task in own_tasks(recipe)]
    if body.task in tasks and (len(tasks) > 1 or recipe.tasks.queries or recipe.tasks.seed_images):
        told.append(
            "`retrieve` of this recipe asks for more than this task, and a pair may count for something else there."
        )
    return told
