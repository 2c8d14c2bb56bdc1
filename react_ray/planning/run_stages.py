"""Reckons the stages of one run: retrieve, download of what was retrieved, customize and evaluate.

Takes a Survey and Rates, gives a StagePlan each. How many pairs are retrieved is known only afterwards: until then the
most that the recipe allows is planned.
"""

from __future__ import annotations

import math

import numpy as np

from react_ray.clip.architecture import embedding_dim, empty_model, image_numbers
from react_ray.clip.config import BackboneConfig
from react_ray.clip.image_tower import grid_dim
from react_ray.counted import counted
from react_ray.errors import ReactRayError
from react_ray.gated.config import CustomizeConfig, runs_no_model, trains
from react_ray.index.config import IVF_RABITQ
from react_ray.index.plan import SEARCHER_BYTES, plan_index
from react_ray.planning.database import MODEL_GB, READER_GB, base_gb, download, image_bytes
from react_ray.planning.job_plan import StagePlan
from react_ray.planning.machine import Machine, is_elsewhere
from react_ray.planning.made import Made, made
from react_ray.planning.survey import Survey
from react_ray.planning.throughput import NOT_TRIED, ModelRates, Rates
from react_ray.recipe import BASE, Recipe
from react_ray.runtime.layout import HEAD, Layout, models
from react_ray.runtime.most_pairs import most_pairs
from react_ray.selection.config import RetrieveConfig
from react_ray.storage import join
from react_ray.training.augment import num_views
from react_ray.training.labelled_share import copies
from react_ray.training.memory_plan import plan as memory_plan
from react_ray.training.movement import check_movement
from react_ray.training.schedule import from_data, num_steps

TRAINER_GB = 1.5  # of a worker of Ray Train with DeepSpeed, before it has a model or rows
HIT_BYTES = 16  # of a stored hit, compressed


def run_stages(found: Survey, rates: Rates, machine: Machine) -> tuple[list[StagePlan], list[str]]:
    """(the stages, the lines about each training)"""
    recipe = found.recipe
    stages = [retrieve(found, rates, machine)]
    if recipe.download.of == "retrieved" and not found.has_images:
        stages += [download(found, pairs_of(found, arm), join(root, "images")) for root, arm in roots(recipe).items()]
    trainings: dict[str, list[str]] = {}
    for arm in recipe.arm_names():
        stage, told = customize(found, arm, rates, machine)
        stages.append(stage)
        trainings.setdefault(told, []).append(arm)
        if recipe.arm(arm).customize.head:
            stages.append(second_stage(found, arm, rates, machine))
    lines = [f"{', '.join(arms)}: {told}".removeprefix(": ") for told, arms in trainings.items() if told]
    if recipe.evaluate.datasets:
        stages.append(evaluate(found, rates, machine))
    return stages, lines


def roots(recipe: Recipe) -> dict[str, str]:
    """{place of a retrieval: the first arm that trains on it}"""
    found: dict[str, str] = {}
    for arm in recipe.arms_by_dependence():
        found.setdefault(Layout(recipe, arm).retrieved_root(), arm)
    return found


def pairs_of(found: Survey, arm: str) -> int:
    """The pairs that an arm has retrieved, or the most that it can."""
    most = found.attempt(most_pairs, found.recipe, arm)
    return min(most, found.rows) if most and found.rows else found.rows


def retrieve(found: Survey, rates: Rates, machine: Machine) -> StagePlan:
    recipe = found.recipe
    config, left = recipe.retrieve, {}
    there = Made(sealed=True)
    for root, arm in roots(recipe).items():
        if recipe.arm(arm).customize.train_on == "source":
            continue
        one = found.attempt(made, join(root, "retrieved")) or Made()
        there = Made(there.rows + one.rows, there.bytes + one.bytes, sealed=there.sealed and one.sealed)
        if not one.sealed:
            left[root] = pairs_of(found, arm)
    if not left:
        return StagePlan("retrieve", "done", there.rows, bytes_written=there.bytes)
    pairs, keys = sum(left.values()), len(config.keys)
    work = 2.0 * found.num_queries * found.rows * found.dim * keys
    seconds = None
    if rates.backbone and rates.flop_per_s:
        seconds = (work / rates.flop_per_s + found.num_prompts * rates.backbone.text_s) / machine.cores
    stored = image_bytes(found) + 2 * found.dim
    return StagePlan(
        "retrieve",
        "to do",
        pairs,
        found.rows * found.dim * 2 * keys + pairs * stored,
        pairs * stored + _hits(found, config) * HIT_BYTES,
        0,
        base_gb(recipe) + READER_GB + keys * _searcher_gb(found),
        seconds,
        f"{found.num_queries:,} queries against all vectors, which an index shortens; at most {pairs:,} pairs",
    )


def _searcher_gb(found: Survey) -> float:
    """Of the shards of a key that a searcher opens at most. One machine has one searcher."""
    config, cluster = found.recipe.index, found.recipe.cluster
    fewest = min(cluster.min_searchers, cluster.num_searchers) if is_elsewhere(cluster) else 1
    if found.recipe.retrieve.search != "index":
        return 0.5
    try:
        plan = plan_index(found.rows, found.dim, config, max(1, -(-found.rows // found.recipe.ingest.rows_per_part)))
    except ReactRayError:  # said by the stage `index`
        return config.memory_gb
    opened = plan.hot_bytes * math.ceil(plan.num_shards / fewest) / plan.num_shards
    return (opened + (SEARCHER_BYTES if plan.kind == IVF_RABITQ else 0)) / 2**30


def _hits(found: Survey, config: RetrieveConfig) -> int:
    asking = found.num_classes if config.by_class else found.num_queries
    return asking * len(config.keys) * min(config.first_k, found.rows)


def customize(found: Survey, arm: str, rates: Rates, machine: Machine) -> tuple[StagePlan, str]:
    """(the stage, the parameters and the memory of the training as lines; "" for a head)"""
    recipe, name = found.recipe, f"customize {arm}".strip()
    wanted = recipe.arm(arm)
    config, pairs = wanted.customize, pairs_of(found, arm)
    there = found.attempt(made, Layout(recipe, arm).of_arm("model")) or Made()
    if there.sealed:
        return StagePlan(name, "done", pairs, bytes_written=there.bytes), ""
    if not pairs:
        return StagePlan(name, "to do", how="the number of its pairs is not known"), ""
    labelled_N = found.labelled.get(arm)
    pairs, asked = _of_epoch(pairs, labelled_N, config), pairs
    config = from_data(config, pairs if config.labelled_alone else asked)
    if runs_no_model(config.method):
        head, vectors = found.num_classes * found.dim, pairs * found.dim * 2
        epochs = config.epochs if trains(config.method) else 0.0
        seconds = 6 * epochs * pairs * head / rates.flop_per_s if rates.flop_per_s else None
        memory = base_gb(recipe) + (2 * vectors + 20 * head) / 2**30
        told, read = "a head on stored vectors, no model runs", float(vectors)
        written = 8 * head if trains(config.method) else vectors + 4 * head
        if _embeds_its_images(found, arm):
            embedder = rates.backbone
            at_once = machine.at_once(1, recipe.cluster.threads_per_actor, recipe.cluster.gpus_per_actor)
            seconds = seconds + pairs * embedder.image_s / at_once if embedder and seconds is not None else None
            memory += MODEL_GB + found.model_gb
            told, read = "a head on the vectors of the retrieved images, made first", pairs * image_bytes(found)
            written += vectors
        return StagePlan(name, "to do", pairs, read, written, 0, memory, seconds, told), ""
    planned = found.attempt(memory_plan, wanted.customized, config, wanted.backbone)
    if planned is None:
        return StagePlan(name, "to do", pairs, how="the model is not known"), ""
    if config.batch_size > pairs:
        found.problem(
            f"{name}: customize.batch_size {config.batch_size} is larger than the {pairs:,} pairs that there are at "
            "most; make it smaller, or retrieve more"
        )
    elif slow := found.attempt(check_movement, config, pairs, name):
        found.note(f"{name}: {slow}")
    steps = num_steps(config, pairs)
    model = rates.arms.get(arm)
    seconds = None
    if model:  # each worker steps its own optimizer
        at_once = machine.at_once(config.num_workers, config.threads_per_worker, config.gpus_per_worker)
        seconds = steps * (config.batch_size * model.pair_s + config.num_workers * model.optimizer_s) / at_once
    kept = min(config.cache_gb * 2**30 * config.num_workers, pairs * image_numbers(wanted.customized))
    # Weights and AdamW's moments: each checkpoint has both.
    written = 4 * planned.num_trainable * (1 + 3 * config.keep_last)
    trained = f"{counted(steps, 'step')} of {config.batch_size:,} pairs"
    how = f"{trained}; {rates.missing.get(arm, NOT_TRIED)}"
    if model:
        how = f"{trained}, {model.pair_s * 1e3:.1f} ms per pair and core, {rates.how}"
    on_gpu = bool(config.gpus_per_worker)
    host_gb = planned.on_host / 2**30 if on_gpu else planned.peak_gb
    memory = base_gb(recipe) + config.num_workers * (TRAINER_GB + host_gb) + kept / 2**30
    if on_gpu and machine.gpu and planned.peak_gb * 2**30 > machine.gpu_memory * min(1, config.gpus_per_worker):
        found.problem(
            f"{name} needs about {planned.peak_gb:.1f} GB on each GPU, of {machine.gpu_memory / 2**30:.0f} GB; lower "
            "customize.micro_batch_size, or set zero_stage and more workers"
        )
    stage = StagePlan(
        name, "to do", pairs, pairs * (image_bytes(found) + 2 * found.dim), written, 0, memory, seconds, how
    )
    return stage, planned.text()


def _of_epoch(pairs: int, labelled_N: np.ndarray | None, config: CustomizeConfig) -> int:
    """The images of an epoch: the pairs, and the labelled images as often as their share takes."""
    if labelled_N is None or not config.mixes_labels:
        return pairs
    pairs = 0 if config.labelled_alone else pairs
    return pairs + int(copies(labelled_N, pairs, config.labelled_share).sum())


def _embeds_its_images(found: Survey, arm: str) -> bool:
    """True for the first of the arms that need the image vectors of one retrieval, where the database has none."""
    recipe = found.recipe
    root = Layout(recipe, arm).retrieved_root()
    sharing = (one for one in recipe.arm_names() if Layout(recipe, one).retrieved_root() == root)
    first = next(one for one in sharing if runs_no_model(recipe.arm(one).customize.method))
    return first == arm and not (recipe.embed.images or found.has_vectors)


def second_stage(found: Survey, arm: str, rates: Rates, machine: Machine) -> StagePlan:
    """Of an arm with customize.head: the vectors of its retrieved or labelled images, and a head on them."""
    recipe, name = found.recipe, f"customize {arm}{HEAD}"
    wanted = recipe.arm(arm)
    config, pairs = wanted.customize, pairs_of(found, arm)
    if arm in found.labelled:  # on which alone it trains
        pairs = len(found.labelled[arm])
    there = found.attempt(made, Layout(recipe, arm).of_arm("head")) or Made()
    if there.sealed:
        return StagePlan(name, "done", pairs, bytes_written=there.bytes)
    dim = found.attempt(_image_dim, wanted.customized, config.head_grid)
    if dim is None or not pairs:
        return StagePlan(name, "to do", how="its model, or the number of its pairs, is not known")
    images, head = pairs * (1 + num_views(config)), found.num_classes * dim
    model, seconds = rates.arms.get(arm) or rates.backbone, None
    if model and rates.flop_per_s:
        at_once = machine.at_once(recipe.cluster.num_actors, recipe.cluster.threads_per_actor, 0)
        seconds = (images * model.image_s + found.num_prompts * model.text_s) / at_once
        seconds += 6 * config.head_steps * from_data(config, pairs).batch_size * head / rates.flop_per_s
    memory = base_gb(recipe) + recipe.cluster.num_actors * (MODEL_GB + found.model_gb)
    memory += (2 * 2 * images * dim + 20 * head) / 2**30  # all vectors are read into the driver, and joined
    told = f"vectors of {dim:,} numbers of {images:,} images, {rates.how}"
    return StagePlan(
        name, "to do", pairs, pairs * image_bytes(found), 2 * images * dim + 8 * head, 0, memory, seconds, told
    )


def _image_dim(config: BackboneConfig, grid: int) -> int:
    return embedding_dim(config) + grid_dim(empty_model(config.name), grid)


def evaluate(found: Survey, rates: Rates, machine: Machine) -> StagePlan:
    recipe = found.recipe
    left, written, images = [], 0.0, 0
    for model, uri in models(recipe).items():
        there = found.attempt(made, uri) or Made()
        written += there.bytes
        images += there.rows
        left += [] if there.sealed else [model]
    if not left:
        return StagePlan("evaluate", "done", images, bytes_written=written)
    if not all(found.sets.get(name) for name in recipe.evaluate.datasets):
        return StagePlan("evaluate", "to do", how="not all of its sets can be read")
    rows = sum(found.sets.values()) * len(left)
    speeds = [_speed(recipe, model, rates) for model in left]
    seconds = None
    if None not in speeds:
        num_images = sum(found.sets.values())
        work = sum(num_images * one.image_s + found.num_prompts * one.text_s for one in speeds if one)
        cluster = recipe.cluster
        seconds = work / machine.at_once(cluster.num_actors, cluster.threads_per_actor, cluster.gpus_per_actor)
    return StagePlan(
        "evaluate",
        "to do",
        rows,
        rows * image_bytes(found),
        rows * 30,
        0,
        base_gb(recipe) + recipe.cluster.num_actors * (MODEL_GB + 2 * found.model_gb),
        seconds,
        f"{len(left)} models on {sum(found.sets.values()):,} images, {rates.how}",
    )


def _speed(recipe: Recipe, model: str, rates: Rates) -> ModelRates | None:
    """A base that no stage but evaluate runs is about as fast as the arm that started from it."""
    if model.partition(".")[0] != BASE:
        return rates.arms.get(model.removesuffix(HEAD)) or rates.backbone
    if recipe.bases()[model] == recipe.backbone:
        return rates.backbone
    return next((rates.arms.get(arm) for arm in recipe.arm_names() if recipe.base_of(arm) == model), None)
