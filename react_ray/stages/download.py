"""download: `pairs/` of the database, or `retrieved/` of a run, -> `images/` beside it: one row per row, fetched by URL.

Each process has one Fetcher for all its parts, so connections, names and TLS are kept. A part whose receipt a kill took
away while its table was there already is not asked again. `--retry-failed` asks again only the rows whose failure may
pass: it takes the manifest away, puts new tables in the place of the parts that have such rows, and seals. Parts that `pairs`
got since are added.
Next: pairs/download.py, then embed.py.
"""

from __future__ import annotations

import time
from collections import Counter

import pyarrow as pa

from react_ray.artifact import Artifact, Receipt, create, open_artifact, plan_of
from react_ray.errors import ArtifactMismatch, SuccessTooLow
from react_ray.pairs.download import COLUMNS, DownloadConfig, download, retry
from react_ray.pairs.fetch import Fetcher
from react_ray.pairs.status import is_retriable
from react_ray.recipe import Recipe
from react_ray.stages.cluster import thread_pool
from react_ray.stages.layout import Layout
from react_ray.stages.run_parts import ReadPart, Work, run_parts
from react_ray.storage import join


def run(recipe: Recipe, retry_failed: bool = False) -> list[Artifact]:
    """Gives the sealed `images`: of the database, or of each retrieval of the run, by `download.of`."""
    return [_download(recipe, pairs, uri, retry_failed) for pairs, uri in targets(recipe)]


def targets(recipe: Recipe) -> list[tuple[Artifact, str]]:
    """What has URLs, and where its images go. ArtifactMissing or ArtifactMismatch if there is nothing to download."""
    if recipe.download.of == "pairs":
        pairs, uri = Layout(recipe).open_database("pairs", "ingest"), Layout(recipe).database("images")
        if "pairs" not in plan_of(uri).get("parents", {"pairs": ""}):
            raise ArtifactMismatch(
                f"{uri} was made by ingest, of a source that has images: there is nothing to download; go on with `react-ray embed`"
            )
        return [(pairs, uri)]
    roots = dict.fromkeys(Layout(recipe, arm).retrieved_root() for arm in recipe.arm_names())
    return [(open_artifact(join(root, "retrieved"), "retrieved", "retrieve"), join(root, "images")) for root in roots]


def _download(recipe: Recipe, pairs: Artifact, uri: str, retry_failed: bool) -> Artifact:
    config = recipe.download
    images = create(uri, "images", config.digested(), {pairs.kind: pairs}, pairs.num_parts, grows=True)
    failed = [r.part for r in images.receipts() if any(map(is_retriable, r.statuses))] if retry_failed else []
    if images.sealed and not failed:
        return images
    if images.sealed:
        images = images.unseal()
    run_parts(
        "download",
        sorted({*images.pending(), *failed}),
        pairs.num_parts,
        ReadPart(pairs, COLUMNS),
        DownloadPart,
        (config, images, retry_failed),
        recipe.cluster.part_retries,
        "pairs",
        options=thread_pool(recipe.cluster, "fetch", config.num_workers, config.parts_per_worker),
        watch=None if retry_failed else Floor(config, uri),
    )
    return images.seal()


class Download:
    """`pairs` in, `images` out; threads share the Fetcher and so all its limits. What a kill left written is not asked again."""

    def __init__(self, config: DownloadConfig, images: Artifact | None) -> None:
        self.config, self.images = config, images
        self.fetcher = Fetcher(config)

    def __call__(self, part: int, table: pa.Table, retry_failed: bool = False) -> pa.Table:
        images = self.images.written(part) if self.images is not None else None
        if images is None or images["pair_id"] != table["pair_id"]:
            images = download(table, self.fetcher, self.config)
        elif retry_failed:
            images = retry(table, images, self.fetcher, self.config)
        return images.combine_chunks()


class DownloadPart(Work):
    """Lives in an actor, called by several threads."""

    def __init__(self, config: DownloadConfig, images: Artifact, retry_failed: bool) -> None:
        self.download, self.images, self.retry_failed = Download(config, images), images, retry_failed

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        images = self.download(part, table, self.retry_failed)
        return self.images.recommit(part, images, time.monotonic() - began)


class Floor:
    """Stops a download that gives next to nothing, while most of the list has not been asked yet."""

    def __init__(self, config: DownloadConfig, uri: str) -> None:
        self.config, self.uri = config, uri
        self.statuses: Counter[str] = Counter()

    def __call__(self, receipt: Receipt) -> None:
        self.statuses.update(receipt.statuses)
        rows, ok = self.statuses.total(), self.statuses["ok"]
        if rows < self.config.min_success_after or ok >= self.config.min_success * rows:
            return
        counts = ", ".join(f"{status} {count}" for status, count in self.statuses.most_common(8))
        raise SuccessTooLow(
            f"download stopped: {ok} of {rows} rows gave an image, fewer than download.min_success = {self.config.min_success:.1%} ({counts}); "
            f"what is done is kept. `react-ray stats {self.uri}` says which hosts; when the cause is gone, run the same command to go on and "
            "--retry-failed after it, or set download.min_success=0 if the list is as dead as that"
        )
