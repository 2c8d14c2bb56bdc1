"""The second stage of customize (customize.head): a linear head on the image vectors of each customised model.

Takes sealed models, gives for each an artifact `head` beside it: trained on the pairs that trained the model, from the
class prompts on. With labelled images (customize.labelled) it is trained on them alone, all classes weighing the same,
from where the classifier of the first stage ended: at the prompts, or at the head of method=linear. SWAT (arXiv
2406.11148) trains a classifier after the tower in this way. It is an artifact of its own, so that a head can be added
to a model that took days, and be trained again without it.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.clip.weights import read_weights
from react_ray.counted import counted
from react_ray.draft import Draft, create
from react_ray.gated.config import HEAD_ALONE, CustomizeConfig, runs_no_model
from react_ray.gated.trained import customised
from react_ray.kinds import FEATURES, HEAD, QUERIES, RETRIEVED, HeadFacts, ModelFacts
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, map_parts
from react_ray.runtime.placement import actor_pool, is_soonest_here, num_threads
from react_ray.section import digest
from react_ray.stages.retrieval.embed_queries import queries_uri
from react_ray.stages.training.features import PROMPTS_FILE, Embedded, EmbedViews, ReadRetrieved
from react_ray.stages.training.labelled_pairs import LabelledPairs
from react_ray.stages.training.stored_vectors import commit_head, trained
from react_ray.stages.training.targets import data_facts
from react_ray.storage import join
from react_ray.training.augment import num_views
from react_ray.training.head_file import HEAD_FILE, read_head
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.step import class_weights
from react_ray.vectors import from_vectors

# What a head is made of, besides the model and its pairs.
OF_HEAD = (*HEAD_ALONE, "head_scale", "augment", "class_weight_power", "weight_decay", "beta1", "beta2", "eps")


class Trained(NamedTuple):
    """A sealed model with its `customize`, in which the batch size is known, and its labelled images."""

    model: Artifact[ModelFacts]
    config: CustomizeConfig
    labelled: LabelledPairs | None = None


def train_heads(recipe: Recipe, models: dict[str, Trained]) -> list[Artifact]:
    """Returns the sealed head of each arm whose recipe has customize.head. models: by the arm's name."""
    stages = [_SecondStage(recipe, arm, found) for arm, found in models.items() if found.config.head]
    waiting = [stage for stage in stages if not stage.head.sealed and stage.head.pending()]
    jobs = [(stage.embedded, part) for stage in waiting for part in stage.features.pending()]
    here = is_soonest_here(recipe.cluster, sum(stage.num_images for stage in waiting))
    embed = MapStage(
        "features",
        ReadRetrieved(jobs),
        EmbedViews(jobs, recipe.seed, recipe.embed.batch_size, num_threads(recipe.cluster, here)),
        noun="images",
        options=actor_pool(recipe.cluster, "embed"),
        retries=recipe.cluster.part_retries,
        here=here,
    )
    map_parts(embed, list(range(len(jobs))), len(jobs))
    for stage in waiting:
        stage.train()
    return [stage.seal() for stage in stages]


class _SecondStage:
    """The features and the head of one arm."""

    def __init__(self, recipe: Recipe, arm: str, trained: Trained) -> None:
        layout, wanted = Layout(recipe, arm), recipe.arm(arm)
        model, config, self.labelled = trained
        self.recipe, self.arm, self.model, self.config, self.wanted = recipe, arm, model, config, wanted
        root, tasks = layout.retrieved_root(), load_tasks(wanted.tasks)
        self.retrieved = open_artifact(join(root, "retrieved"), RETRIEVED)
        rows, images = self.retrieved, open_artifact(join(root, "images"))
        parents: dict[str, Artifact] = {"retrieved": rows, "images": images}
        if self.labelled:
            rows, images = self.labelled.retrieved, self.labelled.images
            parents = self.labelled.parents()
        parents |= {"model": model}
        digested = config.digested()
        self.plan = {name: digested[name] for name in OF_HEAD} | {"seed": recipe.seed, "batch_size": config.batch_size}
        self.plan["tasks"] = [[task.name, list(task.class_names), list(task.templates)] for task in tasks]
        of_features = {name: self.plan[name] for name in ("augment", "head_grid", "head_views", "seed", "tasks")}
        num_parts = rows.num_parts + 1
        self.features = create(layout.of_arm("features"), FEATURES, of_features, parents, num_parts)
        self.head: Draft[HeadFacts] = create(layout.of_arm("head"), HEAD, self.plan, parents, 1)
        self.backbone = customised(wanted.customized, model)
        self.embedded = Embedded(arm, self.backbone, config, tuple(tasks), rows, images, self.features)

    @property
    def num_images(self) -> int:
        return self.embedded.retrieved.rows * (1 + num_views(self.config))

    def train(self) -> None:
        """Commits the head, on the driver, in seconds."""
        began = time.monotonic()
        features = self.features.seal()
        path = features.local_file(self.embedded.prompts_part, PROMPTS_FILE)
        prompt_CD = read_weights(path)["prompts"].numpy()
        classes = [(task.name, name) for task in self.embedded.tasks for name in task.class_names]
        if unused := sum(features.receipt(part).facts["unused"] for part in range(self.embedded.prompts_part)):
            say(f"head: without {counted(unused, 'image')} that cannot be decoded or embedded")
        tables = [features.read(part) for part in range(self.embedded.prompts_part)]
        image_ND = np.concatenate([from_vectors(table["image"]) for table in tables])
        rows = pa.concat_tables([table.select(["class_id", "matched"]) for table in tables])
        start_CD = np.pad(
            prompt_CD, ((0, 0), (0, image_ND.shape[1] - prompt_CD.shape[1]))
        )  # prompts say nothing of cells
        vectors = LabelledVectors.of_matched(image_ND, rows["class_id"].to_numpy(), rows["matched"].to_pylist())
        queries = open_artifact(queries_uri(self.recipe, self.arm), QUERIES)
        facts = data_facts(self.retrieved, queries.uri, self.config, self.wanted.name)
        begin_CD = start_CD
        if self.labelled:
            facts["class_weight_C"] = class_weights(rows["class_id"].to_numpy(), len(classes), 1.0)
            facts["card"] |= {"labelled": self.labelled.card(self.config)}
            begin_CD = self._classifier(start_CD)
        config = self.config.model_copy(update={"lr": self.config.head_lr, "warmup_steps": 0})
        head_CD = trained(
            vectors, begin_CD, classes, config, self.recipe.seed, facts["class_weight_C"], config.head_steps
        )
        arrays, recipe_yaml = {"head": head_CD, "start": start_CD}, self.wanted.yaml(everything=False)
        info: dict[str, Any] = {"backbone": self.model.facts.backbone, "method": f"{self.model.facts.method} + head"}
        info |= {
            "model": self.model.content,
            "grid": self.config.head_grid,
            "digest": digest(self.plan),
            "seed": self.recipe.seed,
        }
        info["backbone_config"] = self.wanted.customized.model_dump()
        commit_head(self.head, arrays, classes, self.config, info, facts["card"], recipe_yaml, began, len(image_ND))

    def _classifier(self, start_CD: np.ndarray) -> np.ndarray:
        """Where the classifier of the first stage ended, float32 as start_CD: at the prompts, or at its own head."""
        if not runs_no_model(self.model.facts.method):
            return start_CD
        head_CD = read_head(self.model.local_file(0, HEAD_FILE)).vectors_CD[: len(start_CD)]
        return np.pad(head_CD, ((0, 0), (0, start_CD.shape[1] - head_CD.shape[1])))

    def seal(self) -> Artifact[HeadFacts]:
        classes = sum(len(task.class_names) for task in self.embedded.tasks)
        on = self.backbone.name if runs_no_model(self.model.facts.method) else self.arm or "the model"
        cells = f" and {self.config.head_grid} x {self.config.head_grid} cells" if self.config.head_grid else ""
        told = f"a head of {classes:,} fixed classes on the image vectors{cells} of {on}"
        if self.labelled:
            told += f", trained on {self.labelled.retrieved.rows:,} labelled images alone"
        return self.head.seal(HeadFacts(self.model.facts.backbone, self.model.facts.method, [told]))
