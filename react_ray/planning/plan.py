"""Plans a whole job: what is there, what is in its way, and what each stage takes on this machine.

Takes a recipe, gives a JobPlan. Nothing is written, no URL is fetched and Ray is not started.
"""

from __future__ import annotations

from react_ray.planning.database import database_stages
from react_ray.planning.job_plan import JobPlan, StagePlan, size
from react_ray.planning.machine import Machine, free_disk, is_elsewhere, this_machine
from react_ray.planning.run_stages import run_stages
from react_ray.planning.survey import Survey, look
from react_ray.planning.throughput import Rates, measure, stated
from react_ray.recipe import Recipe

RUN_STAGES = ("customize", "evaluate", "retrieve")  # that write below `out`; all others write into the database


def plan_job(recipe: Recipe, quick: bool = False) -> JobPlan:
    """quick: nothing is measured, and times follow from stated rates."""
    machine, found = this_machine(recipe.cluster), look(recipe)
    stages, trainings = _stages(found, Rates(""), machine)
    left = not all(stage.is_done for stage in stages)
    if left:
        rates = stated(recipe, found.sample, machine) if quick else measure(recipe, found.sample, machine)
        stages, trainings = _stages(found, rates, machine)
    elsewhere = is_elsewhere(recipe.cluster)
    if not elsewhere and left:
        _memory(found, stages, machine)
        _gpus(found, machine)
    elif left and recipe.cluster.memory_gb:  # of a node that searches
        _memory(found, [stage for stage in stages if stage.stage == "retrieve"], machine)
    _disk(found, stages)
    facts = [*found.facts, ("machine", machine.text())]
    notes = [*found.notes] + ["Ray's start and that of its processes are not counted"] * left
    if elsewhere:
        notes.append(
            "the job runs on the nodes of a cluster; times, memory and GPUs are those of this machine, but retrieve's "
            "memory is that of a node with one of cluster.min_searchers searchers"
        )
    return JobPlan(recipe.name, facts, stages, trainings, notes, found.problems)


def _stages(found: Survey, rates: Rates, machine: Machine) -> tuple[list[StagePlan], list[str]]:
    """(all stages, the lines about each training)"""
    of_run, trainings = run_stages(found, rates, machine)
    return [*database_stages(found, rates, machine), *of_run], trainings


def _memory(found: Survey, stages: list[StagePlan], machine: Machine) -> None:
    free_gb = machine.free_memory / 2**30
    for stage in stages:
        if not stage.is_done and stage.memory_gb is not None and stage.memory_gb > free_gb:
            found.problem(
                f"{stage.stage} needs about {stage.memory_gb:.1f} GB of memory and {free_gb:.1f} GB are free; "
                f"{_hint(stage.stage, found.recipe)}, or use a larger machine"
            )


def _gpus(found: Survey, machine: Machine) -> None:
    recipe = found.recipe
    asked = {"cluster.gpus_per_actor": recipe.cluster.gpus_per_actor}
    asked |= {"customize.gpus_per_worker": max(recipe.arm(a).customize.gpus_per_worker for a in recipe.arm_names())}
    for name, gpus in asked.items():
        if gpus > machine.num_gpus:
            found.problem(
                f"{name}={gpus:g} asks for more GPUs than this machine has ({machine.num_gpus}); set it to 0, or plan "
                "on the machine that will do the work"
            )


def _hint(stage: str, recipe: Recipe) -> str:
    searching = "raise cluster.min_searchers" if is_elsewhere(recipe.cluster) else "lower index.memory_gb"
    hints = {
        "customize": "lower customize.micro_batch_size, num_workers or cache_gb",
        "index": "lower index.build_memory_gb",
        "retrieve": searching,
        "embed": "lower cluster.num_actors or ingest.rows_per_part",
        "evaluate": "lower cluster.num_actors",
        "download": "lower download.num_workers or ingest.rows_per_part",
    }
    return hints.get(stage.split()[0], "lower cluster.num_cpus or ingest.rows_per_part")


def _disk(found: Survey, stages: list[StagePlan]) -> None:
    """What is written, by file system: database and run may share one."""
    needed: dict[str, float] = {}
    free: dict[str, tuple[str, int]] = {}
    for stage in stages:
        in_run = stage.stage.startswith(RUN_STAGES) or (
            stage.stage == "download" and found.recipe.download.of == "retrieved"
        )
        place = found.recipe.out if in_run else found.recipe.database
        disk = free_disk(place)
        if disk is None or stage.is_done:
            continue
        needed[disk[0]] = needed.get(disk[0], 0.0) + (stage.bytes_written or 0)
        free.setdefault(disk[0], (place, disk[1]))
    for device, (place, num_bytes) in free.items():
        found.facts.append(("disk", f"{size(num_bytes)} free at {place}, {size(needed[device])} to write there"))
        if needed[device] > num_bytes:
            found.problem(
                f"the job writes about {size(needed[device])} to the disk of {place}, and {size(num_bytes)} are free; "
                "make room there, or name another `out` and `database`"
            )
