"""Reckons the stages that make the database: ingest, download, embed and index.

Takes a Survey and Rates, gives a StagePlan each. What is finished is subtracted. Next: run_stages.py.
"""

from __future__ import annotations

from react_ray.errors import ReactRayError
from react_ray.index.plan import FLOP_PER_S, plan_index
from react_ray.pairs.download_config import DownloadConfig
from react_ray.planning.job_plan import StagePlan
from react_ray.planning.machine import Machine
from react_ray.planning.made import Made, made
from react_ray.planning.survey import Survey
from react_ray.planning.throughput import Rates
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.uri import is_local

# Memory of processes before they have any rows, as a run of the demo shows it (proportional set size).
BASE_GB = 1.7  # the driver with its libraries, and Ray's own processes; Ray's object store comes on top
READER_GB = 0.25
MODEL_GB = 0.9  # with torch and open_clip
IMAGE_BYTES = 90e3  # of an image on the web: an assumption, stated where it is used
STORED_BYTES_PER_PIXEL = 0.5  # of a JPEG of quality 95: most are smaller
READ_AT_ONCE = 8 << 20  # bytes per request to S3
REQUESTS_PER_PART = 4  # to S3: the table and its receipt are written, its footer and its columns are read


def database_stages(found: Survey, rates: Rates, machine: Machine) -> list[StagePlan]:
    recipe = found.recipe
    stages = [ingest(found, rates, machine)]
    if not (found.has_images or found.has_vectors) and recipe.download.of == "pairs" and not recipe.fused:
        stages.append(download(found, found.rows, Layout(recipe).database("images")))
    if not found.has_vectors:
        stages.append(embed(found, rates, machine))
    if recipe.retrieve.search == "index":
        stages.append(index(found, rates, machine))
    return stages


def ingest(found: Survey, rates: Rates, machine: Machine) -> StagePlan:
    rows = found.pairs.left_of(found.rows)
    if not rows:
        images = found.attempt(made, Layout(found.recipe).database("images")) if found.has_images else None
        stored = found.pairs.bytes + (images.bytes if images else 0)
        return StagePlan("ingest", "done", found.pairs.rows, bytes_written=stored)
    share, source = rows / max(1, found.rows), found.source
    read = share * source.num_bytes if source else None
    vectors = share * found.rows * found.dim * 4 if found.has_vectors else 0
    part_gb = found.row_bytes * found.recipe.ingest.rows_per_part / 2**30
    seconds = None if rates.read_s is None else rows * rates.read_s / machine.cores
    how = f"{rates.read_s * 1e3:.2f} ms per row and core, " if rates.read_s else ""
    return StagePlan(
        "ingest",
        found.pairs.state(found.rows),
        rows,
        read,
        read if read is None else read + vectors,
        _of_source(found.recipe, read or 0) + _of_parts(found.recipe, rows, 1 + found.has_images + found.has_vectors),
        base_gb(found.recipe) + machine.cores * (READER_GB + 3 * part_gb),
        seconds,
        f"{how}{machine.cores} parts at a time; images are stored as they are",
    )


def download(found: Survey, rows: int, uri: str) -> StagePlan:
    """rows: URLs, at most."""
    there, config = found.attempt(made, uri) or Made(), found.recipe.download
    left = there.left_of(rows)
    if not left:
        return _done("download", there)
    stored = there.bytes / there.rows if there.rows else _stored_bytes(config)
    seconds, how = None, f"{IMAGE_BYTES / 1e3:.0f} kB per image is an assumption; no URL is fetched to find out"
    if there.rows and there.work_s:
        at_once = config.num_workers * config.parts_per_worker
        seconds = left * there.work_s / there.rows / at_once
        how = f"as the {there.rows:,} rows that are done; {IMAGE_BYTES / 1e3:.0f} kB per request is an assumption"
    part_gb = stored * found.recipe.ingest.rows_per_part / 2**30
    return StagePlan(
        "download",
        there.state(rows),
        left,
        left * IMAGE_BYTES,
        left * stored,
        left + _of_parts(found.recipe, left, 1),
        base_gb(found.recipe) + config.num_workers * (READER_GB + 2 * config.parts_per_worker * part_gb),
        seconds,
        how,
    )


def embed(found: Survey, rates: Rates, machine: Machine) -> StagePlan:
    recipe = found.recipe
    there = found.attempt(made, Layout(recipe).database("embeddings")) or Made()
    left = there.left_of(found.rows)
    if not left:
        return _done("embed", there)
    config, cluster = recipe.embed, recipe.cluster
    model = rates.backbone
    seconds = None
    if model:
        each_s = model.image_s * config.images + model.text_s * config.captions
        seconds = left * each_s / machine.at_once(cluster.num_actors, cluster.threads_per_actor, cluster.gpus_per_actor)
    fetched = recipe.fused
    each = IMAGE_BYTES if fetched else image_bytes(found)
    part_gb = (2 + bool(cluster.gpus_per_actor)) * each * recipe.ingest.rows_per_part / 2**30
    how = rates.missing.get("", "")
    if model:
        how = f"{model.image_s * 1e3:.2f} ms per image, {model.text_s * 1e3:.2f} ms per caption, {rates.how}"
    if fetched:
        seconds, how = None, f"the network is not measured; {IMAGE_BYTES / 1e3:.0f} kB per image is an assumption"
    return StagePlan(
        "embed",
        there.state(found.rows),
        left,
        left * each * config.images + left * 100 * config.captions,
        left * found.dim * 2 * (config.images + config.captions),
        left * fetched + _of_parts(recipe, left, 2),
        base_gb(recipe) + cluster.num_actors * (MODEL_GB + found.model_gb + part_gb),
        seconds,
        how,
    )


def index(found: Survey, rates: Rates, machine: Machine) -> StagePlan:
    recipe = found.recipe
    there = found.attempt(made, Layout(recipe).database("index")) or Made()
    if there.sealed or not found.rows or not found.dim:
        return _done("index", there) if there.sealed else StagePlan("index", "to do", how="the vectors are not known")
    num_parts = max(1, -(-found.rows // recipe.ingest.rows_per_part))
    try:
        plan = plan_index(found.rows, found.dim, recipe.index, num_parts)
    except ReactRayError as error:
        found.problem(str(error))
        return StagePlan("index", "to do", found.rows, how="no index can be planned")
    keys = len(recipe.index.keys)
    speed = (rates.flop_per_s or FLOP_PER_S) / FLOP_PER_S
    vectors = found.rows * found.dim * 2 * keys
    at_once = min(machine.cores, plan.num_shards * keys)
    return StagePlan(
        "index",
        there.state(found.rows),
        found.rows * keys,
        vectors,
        keys * plan.disk_bytes,
        _of_parts(recipe, found.rows, 1),
        base_gb(recipe) + at_once * (READER_GB + plan.build_bytes / 2**30),
        keys * plan.core_seconds / speed / at_once,
        f"{plan.kind}, {plan.num_shards} shards for each of {keys} keys; products of matrices at "
        f"{speed * FLOP_PER_S / 1e9:,.0f} GFLOP/s per core",
    )


def base_gb(recipe: Recipe) -> float:
    return BASE_GB + recipe.cluster.object_store_gb


def image_bytes(found: Survey) -> float:
    """Of a stored image, about: those of the database if there are any, else a row of the source."""
    there = found.attempt(made, Layout(found.recipe).database("images")) or Made()
    if there.rows:
        return there.bytes / there.rows
    if found.has_images:
        return found.row_bytes
    return _stored_bytes(found.recipe.download)


def _stored_bytes(config: DownloadConfig) -> float:
    """Of a downloaded image, about; the longer side of a photograph is often 4/3 of the shorter."""
    return STORED_BYTES_PER_PIXEL * config.image_size**2 * (4 / 3 if config.resize_mode == "keep_ratio" else 1)


def _done(stage: str, there: Made) -> StagePlan:
    return StagePlan(stage, "done", there.rows, bytes_written=there.bytes)


def _of_source(recipe: Recipe, num_bytes: float) -> int:
    return 0 if is_local(recipe.ingest.source) else -(-int(num_bytes) // READ_AT_ONCE)


def _of_parts(recipe: Recipe, rows: int, tables: int) -> int:
    """Requests for as many artifacts of so many rows, if the database is on S3."""
    parts = -(-rows // recipe.ingest.rows_per_part)
    return 0 if is_local(recipe.database) else REQUESTS_PER_PART * parts * tables
