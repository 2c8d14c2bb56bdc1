"""Launches Ray Train: the workers that train a list of jobs, the actors beside them, and the driver's progress
lines."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from react_ray.errors import PartFailed
from react_ray.gated.config import CustomizeConfig
from react_ray.progress import Progress
from react_ray.recipe import Recipe
from react_ray.runtime.cluster import nodes
from react_ray.runtime.placement import placement
from react_ray.runtime.resources import require_memory
from react_ray.section import digest
from react_ray.stages.training.captions import told_of_backbone
from react_ray.stages.training.failures import EndOfRun, check_getting_on, failure, lost, reason
from react_ray.stages.training.job import Job
from react_ray.stages.training.online_eval import Watcher
from react_ray.stages.training.progress_board import ProgressBoard
from react_ray.storage import arrow_filesystem, join

logger = logging.getLogger(__name__)
POLL_S = 1.0
WORKER_GB = 1.5  # besides the rows
PREEMPTION_GRACE_S = 30.0  # for the upload of the last checkpoint, by a worker whose node stays
STARTING = "starting workers"


def workers_of(config: CustomizeConfig) -> tuple[float, ...]:
    """Jobs for which this is equal can be trained by the same workers."""
    return config.num_workers, config.min_workers, config.cpus_per_worker, config.gpus_per_worker


def fit(jobs: list[Job], recipe: Recipe) -> None:
    """Trains `jobs`, which ask for the same workers, one after another in the same processes, whose start is slow."""
    _require_memory(recipe, jobs)
    board = ray.remote(ProgressBoard).options(num_cpus=0, **_here()).remote()
    watcher = _watcher(recipe, jobs)
    jobs = [replace(job, progress=board, watcher=watcher) for job in jobs]
    try:
        with _shown(jobs, board), _kept_handler():
            _trainer(jobs, recipe).fit()
    except Exception as error:
        names = ", ".join(job.arm for job in jobs if job.model.pending())
        raise reason(error) or PartFailed(
            f"customize {names}: {lost(error)}; checkpoints are kept below {recipe.out}, run the same command again to "
            "go on"
        ) from error
    finally:
        _log_warnings(board)


def _trainer(jobs: list[Job], recipe: Recipe) -> ray.train.torch.TorchTrainer:
    config = jobs[0].config
    elastic = config.min_workers > 0
    resources = {"CPU": float(config.cpus_per_worker)}
    if config.gpus_per_worker:
        resources["GPU"] = config.gpus_per_worker
    filesystem, path = arrow_filesystem(jobs[0].run)
    return ray.train.torch.TorchTrainer(
        _work,
        # Packed: the controller unpickles these settings too, and to import what jobs are made of takes 5 s.
        train_loop_config={
            "jobs": cloudpickle.dumps(jobs),
            "retries": recipe.cluster.part_retries if elastic else None,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=(config.min_workers, config.num_workers) if elastic else config.num_workers,  # type: ignore[arg-type]
            use_gpu=config.gpus_per_worker > 0,
            resources_per_worker=resources,
            **placement(recipe.cluster, "train"),
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{digest([job.digest for job in jobs])}",
            storage_path=join(path, "ray_train"),
            storage_filesystem=filesystem,
            callbacks=[EndOfRun(recipe.cluster.part_retries)],  # type: ignore[list-item]
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]
                max_failures=-1 if elastic else recipe.cluster.part_retries,  # of the whole run
                max_preemption_failures=-1,  # a spot node that is taken back is no failure of the training
                preemption_grace_s=PREEMPTION_GRACE_S,
            ),
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if config.gpus_per_worker else "gloo"),
    )


def _work(settings: dict[str, Any]) -> None:
    """Runs on every worker."""
    try:
        from react_ray.stages.training.loop import train_all

        jobs: list[Job] = cloudpickle.loads(settings["jobs"])
        if settings["retries"] is not None and ray.train.get_context().get_world_rank() == 0:
            starts_in_vain, step = ray.get(jobs[0].progress.begin.remote())
            check_getting_on(starts_in_vain, step, settings["retries"])
        train_all(jobs)
    except Exception as error:
        start = ray.get_runtime_context().get_placement_group_id() or ""  # each start of the workers has its own
        raise failure(error, start) from error


def _require_memory(recipe: Recipe, jobs: list[Job]) -> None:
    """For a worker and the processes beside it that hold rows; on one machine for all of them together."""
    config, rows_gb = jobs[0].config, max(job.rows_gb for job in jobs)
    loaders = max(1, config.data_workers)
    each_gb = WORKER_GB + rows_gb * loaders if len(nodes()) == 1 or not config.data_workers else max(WORKER_GB, rows_gb)
    hint = "lower customize.streams, data_workers or num_workers" if rows_gb * loaders > WORKER_GB else ""
    require_memory(recipe.cluster, each_gb, config.num_workers, "customize", hint)


def _here() -> dict[str, Any]:
    """Places an actor on the driver's node, because any other node may be lost. Ray ignores a soft affinity to a head
    without CPUs."""
    node = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def _watcher(recipe: Recipe, jobs: list[Job]) -> Any:
    """One actor scores for all jobs, which train one after another; it is started again if its process is lost."""
    config = next((job.config for job in jobs if job.watched), None)
    if config is None:
        return None
    options = {"num_cpus": 0, "num_gpus": config.watch_gpus, "max_restarts": -1, "max_task_retries": 3}
    options |= placement(recipe.cluster, "embed")
    return ray.remote(Watcher).options(**options).remote(recipe.evaluate.batch_size, config.threads_per_worker)


@contextmanager
def _kept_handler() -> Iterator[None]:
    """Ray Train puts a handler of its own in the place of the handler of SIGINT, and leaves it there."""
    kept = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, kept)


@contextmanager
def _shown(jobs: list[Job], board: Any) -> Iterator[None]:
    """Shows progress lines, from a thread, until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=_show, args=(jobs, board, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show(jobs: list[Job], board: Any, stop: threading.Event) -> None:
    """One line for each training, until the next one has begun."""
    for position, job in enumerate(jobs):
        later = {other.arm for other in jobs[position + 1 :]}
        note = told_of_backbone(job.config) or STARTING
        with Progress(job.title, 0, "pairs", unit="steps", note=note) as progress:
            while True:
                ended = stop.wait(POLL_S)
                try:
                    states = ray.get(board.read.remote(), timeout=60 if ended else 10)
                except ray.exceptions.GetTimeoutError:
                    if ended:
                        return
                    continue  # a busy machine: ask again
                except ray.exceptions.RayError:
                    return  # the cluster is gone: fit() says why
                step, progress.total, note = states.get(job.arm, (0, 0, STARTING))
                done = step - progress.done
                progress.advance(rows=done * job.config.batch_size, done=done, note=note or STARTING)
                if later & states.keys():
                    break
                if ended:
                    return


def _log_warnings(board: Any) -> None:
    try:
        for text in ray.get(board.warnings.remote(), timeout=60):
            logger.warning("%s", text)
    except ray.exceptions.RayError:
        return  # the cluster is gone
