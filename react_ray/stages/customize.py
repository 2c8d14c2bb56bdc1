"""customize: `retrieved/` and its `images/` -> `model/`, by Ray Train and DeepSpeed.

The driver plans, shows progress and seals; what runs on the workers is train_worker.py. Arms that ask for the same
workers train one after another in the same processes, whose start is slow. Checkpoints go to `checkpoints/step_*` below
the arm; a run that was killed, or a worker that died, goes on from the last of them.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.draft import Draft, create
from react_ray.errors import ConfigError, PartFailed
from react_ray.evals.labelled import slices_of
from react_ray.gated.config import CustomizeConfig, needs_caption_vectors, text_trains
from react_ray.gated.load import load_backbone
from react_ray.gated.method import resolved
from react_ray.kinds import EMBEDDINGS, IMAGES, MODEL, QUERIES, RETRIEVED, ModelFacts
from react_ray.manifest import MANIFEST
from react_ray.pairs.source import open_source
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.cluster import nodes
from react_ray.runtime.layout import Layout
from react_ray.runtime.placement import placement
from react_ray.runtime.resources import require_memory
from react_ray.section import digest
from react_ray.stages.retrieval.embed_queries import queries_uri
from react_ray.stages.training.checks import check_deleted, check_resources, check_watching, check_workers, loader_cpus
from react_ray.stages.training.data import class_targets, data_facts, of_backbone, with_captions
from react_ray.stages.training.failures import answer, lost
from react_ray.stages.training.job import Job
from react_ray.stages.training.linear import train_linear
from react_ray.stages.training.online_eval import Watched, Watcher
from react_ray.stages.training.progress_board import ProgressBoard
from react_ray.stages.training.rows import RetrievedRows, SourceRows
from react_ray.storage import arrow_filesystem, join, open_storage
from react_ray.training.batches import Rows, check_batch_size, held_bytes
from react_ray.training.trackers import check_installed

logger = logging.getLogger(__name__)
POLL_S = 1.0
WORKER_GB = 1.5  # besides the rows
STARTING = "starting workers"


@dataclass
class _Arm:
    config: CustomizeConfig
    backbone: dict[str, Any]
    model: Draft[ModelFacts]
    job: Job | None  # None: it is trained already


def run(recipe: Recipe) -> list[Artifact]:
    """Gives the sealed `model` of every arm."""
    arms = [_plan(recipe, name) for name in recipe.arm_names()]
    waiting: dict[tuple[float, ...], list[Job]] = {}
    for arm in arms:
        if arm.job:
            waiting.setdefault(_workers(arm.config), []).append(arm.job)
    check_resources(recipe.cluster, [arm.config for arm in arms if arm.job])
    for jobs in waiting.values():
        _require_memory(recipe, jobs)
        board = ray.remote(ProgressBoard).options(num_cpus=0, **_here()).remote()
        watcher = _watcher(recipe, jobs)
        _fit([replace(job, progress=board, watcher=watcher) for job in jobs], recipe)
    if waiting:
        open_storage(Layout(recipe).run).delete_all(
            "ray_train"
        )  # Ray Train's own state: of no use once the models are there
    return [_seal(arm) for arm in arms]


def _seal(arm: _Arm) -> Artifact[ModelFacts]:
    said = of_backbone(arm.config)
    return arm.model.seal(ModelFacts(arm.backbone, arm.config.method, [said] if said else []))


def _plan(recipe: Recipe, arm: str) -> _Arm:
    layout, wanted = Layout(recipe, arm), recipe.arm(arm)
    config = wanted.customize
    parents: dict[str, Artifact] = {}
    if config.train_on == "retrieved":
        root = layout.retrieved_root()
        retrieved = open_artifact(join(root, "retrieved"), RETRIEVED, "retrieve")
        images = open_artifact(
            join(root, "images"), IMAGES, "retrieve" if recipe.download.of == "pairs" else "download"
        )
        parents = {"retrieved": retrieved, "images": images}
        if not open_storage(layout.of_arm("model")).exists(MANIFEST):
            check_deleted(wanted, retrieved)
    if config.method == "linear" and config.train_on == "source":
        raise ConfigError(
            "customize.method=linear needs retrieved pairs, which know their class; set train_on=retrieved"
        )
    if config.class_loss and config.train_on == "source":
        raise ConfigError(
            "customize.class_loss needs retrieved pairs, which know their class; set it to 0 or train_on=retrieved"
        )
    model_of = load_backbone(wanted.customized, seed=recipe.seed)
    backbone, image_size = model_of.describe(), model_of.image_size
    config = resolved(config, wanted.customized.name, model_of.model)
    if parents:
        config = with_captions(config, parents["retrieved"], backbone, recipe.embed.captions)
        rows: Rows = RetrievedRows(parents["retrieved"], parents["images"], needs_caption_vectors(config))
    else:
        rows = SourceRows(open_source(wanted.ingest), config.every_caption)
    check_installed(config.trackers)
    check_workers(config)
    if config.method != "linear":
        check_batch_size(rows, config.batch_size)
    check_watching(wanted)
    data = {} if parents else wanted.ingest.digested()
    plan = config.digested() | {"backbone": backbone, "seed": recipe.seed, "data": data}
    model = create(layout.of_arm("model"), MODEL, plan, parents, 1)
    queries = queries_uri(recipe, arm)
    if config.method == "linear":
        if not model.sealed and model.pending():
            asked = open_artifact(queries, QUERIES)
            facts = data_facts(parents.get("retrieved"), asked.uri, config, wanted.name)
            info = {"backbone": backbone, "method": "linear", "digest": digest(plan)}
            embeddings = layout.open_database(EMBEDDINGS)
            train_linear(model, parents["retrieved"], embeddings, asked, config, recipe.seed, info, facts)
        return _Arm(config, backbone, model, None)
    job = None
    if not model.sealed and model.pending():
        job = Job(
            backbone=wanted.customized,
            config=config,
            rows=rows,
            class_CD=class_targets(recipe, arm, backbone) if config.class_loss else None,
            **data_facts(parents.get("retrieved"), queries, config, wanted.name),
            seed=recipe.seed,
            arm=arm,
            model=model,
            checkpoints=layout.of_arm("checkpoints"),
            run=layout.run,
            digest=digest([plan, {name: parent.content for name, parent in parents.items()}]),
            recipe_yaml=wanted.yaml(everything=False),
            loaders={"num_cpus": loader_cpus()} | placement(recipe.cluster, "fetch"),
            watched=_watched(wanted, layout) if config.watch_dataset else None,
            rows_gb=held_bytes(rows, config.window_parts, config.cache_gb, image_size, bool(config.augment.auto))
            / 2**30,
        )
    return _Arm(config, backbone, model, job)


def _require_memory(recipe: Recipe, jobs: list[Job]) -> None:
    """Of a worker, and of the processes beside it that hold rows: on one machine all of them together."""
    config, rows_gb = jobs[0].config, max(job.rows_gb for job in jobs)
    loaders = max(1, config.data_workers)
    each_gb = WORKER_GB + rows_gb * loaders if len(nodes()) == 1 or not config.data_workers else max(WORKER_GB, rows_gb)
    hint = "lower customize.window_parts, data_workers or num_workers" if rows_gb * loaders > WORKER_GB else ""
    require_memory(recipe.cluster, each_gb, config.num_workers, "customize", hint)


def _here() -> dict[str, Any]:
    """On the driver's node: a lost worker's may be any other."""
    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}


def _watched(recipe: Recipe, layout: Layout) -> Watched:
    tasks = load_tasks(recipe.tasks)
    name = recipe.customize.watch_dataset
    return Watched(
        backbone=recipe.customized,
        seed=recipe.seed,
        text_trains=text_trains(recipe.customize.method),
        tasks=tuple(tasks),
        dataset=name,
        slices=tuple(slices_of(name, recipe.evaluate.datasets[name], tasks)),
        place=join(layout.of_arm("checkpoints"), "watched"),
    )


def _watcher(recipe: Recipe, jobs: list[Job]) -> Any:
    """One for all arms, which train one after another; it comes back if its process is lost."""
    config = next((job.config for job in jobs if job.watched), None)
    if config is None:
        return None
    options = {"num_cpus": 0, "num_gpus": config.watch_gpus, "max_restarts": -1, "max_task_retries": 3}
    options |= placement(recipe.cluster, "embed")
    return ray.remote(Watcher).options(**options).remote(recipe.evaluate.batch_size, config.threads_per_worker)


def _workers(config: CustomizeConfig) -> tuple[float, ...]:
    return config.num_workers, config.min_workers, config.cpus_per_worker, config.gpus_per_worker


def _fit(jobs: list[Job], recipe: Recipe) -> None:
    """Trains `jobs`, which ask for the same workers, in their order."""
    config = jobs[0].config
    resources = {"CPU": float(config.cpus_per_worker)}
    if config.gpus_per_worker:
        resources["GPU"] = config.gpus_per_worker
    filesystem, path = arrow_filesystem(jobs[0].run)
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"jobs": jobs, "retries": recipe.cluster.part_retries},
        scaling_config=ray.train.ScalingConfig(
            num_workers=(config.min_workers, config.num_workers) if config.min_workers else config.num_workers,  # type: ignore[arg-type]
            use_gpu=config.gpus_per_worker > 0,
            resources_per_worker=resources,
            **placement(recipe.cluster, "train"),
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{digest([job.digest for job in jobs])}",
            storage_path=join(path, "ray_train"),
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(
                max_failures=-1 if config.min_workers else recipe.cluster.part_retries
            ),  # of the whole run
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if config.gpus_per_worker else "gloo"),
    )
    stop = threading.Event()
    watcher = threading.Thread(target=_show, args=(jobs, stop), daemon=True)
    watcher.start()
    try:
        trainer.fit()
    except Exception as error:
        names = ", ".join(job.arm for job in jobs if job.model.pending())
        raise _told(jobs[0].progress) or PartFailed(
            f"customize {names}: {lost(error)}; checkpoints are kept below {jobs[0].run}, run the same command again to go on"
        ) from error
    finally:
        stop.set()
        watcher.join()
    for text in ray.get(jobs[0].progress.warnings.remote()):
        logger.warning("%s", text)
    if problem := ray.get(jobs[0].progress.problem.remote()):
        raise problem


def _told(board: Any) -> Exception | None:
    """What a worker met, as it was before Ray wrapped it."""
    try:
        return ray.get(board.problem.remote(), timeout=60)  # type: ignore[no-any-return]
    except ray.exceptions.RayError:
        return None  # the cluster is gone


def _work(settings: dict[str, Any]) -> None:
    """Imports what only a worker needs there: the controller, which gets this function too, starts seconds sooner."""
    try:
        from react_ray.stages.training.loop import train_worker

        train_worker(settings)
    except Exception as error:
        start = ray.get_runtime_context().get_placement_group_id() or ""  # each start of the workers has its own
        answer(error, settings["jobs"][0].progress, start, settings["retries"])


def _show(jobs: list[Job], stop: threading.Event) -> None:
    """One line for each training, until the next one has begun."""
    for position, job in enumerate(jobs):
        later = {other.arm for other in jobs[position + 1 :]}
        with Progress(
            f"train {job.arm}".strip(), 0, "pairs", unit="steps", note=of_backbone(job.config) or STARTING
        ) as progress:
            while True:
                ended = stop.wait(POLL_S)
                try:
                    states = ray.get(job.progress.read.remote(), timeout=60 if ended else 10)
                except ray.exceptions.GetTimeoutError:
                    if ended:
                        return
                    continue  # a busy machine: ask again
                except ray.exceptions.RayError:
                    return  # the cluster is gone: fit() says why
                step, total, note = states.get(job.arm, (0, 0, STARTING))
                progress.total = total
                progress.advance(
                    rows=(step - progress.done) * job.config.batch_size,
                    done=step - progress.done,
                    note=note or STARTING,
                )
                if later & states.keys():
                    break
                if ended:
                    return
