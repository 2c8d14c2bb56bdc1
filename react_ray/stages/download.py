"""download: `pairs/` of the database, or `retrieved/` of a run -> `images/` beside it, one row per row.

Each process has one Fetcher for all its parts, so that connections, resolved names and TLS sessions are kept. If a kill
left the table of a part without its receipt, its URLs are not requested again. `--retry-failed` fetches only the rows
whose failure may pass: it reopens the artifact, replaces the parts that have such rows, and seals it. Parts that were
added to `pairs` since the last run become further parts.
"""

from __future__ import annotations

from react_ray.artifact import Artifact, open_artifact, plan_of
from react_ray.draft import create
from react_ray.errors import ArtifactMismatch
from react_ray.kinds import IMAGES, PAIRS, RETRIEVED
from react_ray.pairs.download import COLUMNS
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, ReadPart, map_parts
from react_ray.runtime.placement import thread_pool
from react_ray.stages.downloading.download_part import DownloadPart
from react_ray.stages.downloading.success_floor import SuccessFloor
from react_ray.storage import join
from react_ray.web.status import is_retriable


def run(recipe: Recipe, retry_failed: bool = False) -> list[Artifact]:
    """Returns the sealed `images` of the database, or those of each retrieval of the run, as `download.of` says."""
    return [_download(recipe, pairs, uri, retry_failed) for pairs, uri in targets(recipe)]


def targets(recipe: Recipe) -> list[tuple[Artifact, str]]:
    """Returns the artifacts with URLs, and where their images go.

    Raises ArtifactMissing or ArtifactMismatch if there is nothing to download.
    """
    if recipe.download.of == "pairs":
        pairs, uri = Layout(recipe).open_database(PAIRS), Layout(recipe).database("images")
        if "pairs" not in plan_of(uri).get("parents", {"pairs": ""}):
            raise ArtifactMismatch(
                f"{uri} was made by ingest, of a source that has images: there is nothing to download; "
                "go on with `react-ray embed`"
            )
        return [(pairs, uri)]
    roots = dict.fromkeys(Layout(recipe, arm).retrieved_root() for arm in recipe.arm_names())
    return [(open_artifact(join(root, "retrieved"), RETRIEVED, "retrieve"), join(root, "images")) for root in roots]


def _download(recipe: Recipe, pairs: Artifact, uri: str, retry_failed: bool) -> Artifact:
    config = recipe.download
    images = create(uri, IMAGES, config.digested(), {pairs.kind.name: pairs}, pairs.num_parts, grows=True)
    failed = [r.part for r in images.receipts() if any(map(is_retriable, r.statuses))] if retry_failed else []
    if images.sealed and not failed:
        return images.open()
    if images.sealed:
        images = images.reopen()
    stage = MapStage(
        "download",
        ReadPart(pairs, COLUMNS),
        DownloadPart(config, images, retry_failed),
        options=thread_pool(recipe.cluster, "fetch", config.num_workers, config.parts_per_worker),
        retries=recipe.cluster.part_retries,
    )
    wanted = sorted({*images.pending(), *failed})
    map_parts(stage, wanted, pairs.num_parts, watch=None if retry_failed else SuccessFloor(config, uri))
    return images.seal()
