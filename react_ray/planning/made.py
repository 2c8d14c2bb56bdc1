"""How much of an artifact is there: its parts, rows and bytes, finished or not. Only metadata are read."""

from __future__ import annotations

from dataclasses import dataclass

from react_ray.artifact import Parts, kind_named, open_artifact, plan_of
from react_ray.manifest import MANIFEST
from react_ray.storage import open_storage

RECEIPTS_READ = 20  # of an unfinished artifact: they stand for all of its parts


@dataclass(frozen=True)
class Made:
    rows: int = 0
    bytes: float = 0.0
    parts: int = 0
    work_s: float = 0.0  # of the workers, added up
    sealed: bool = False

    def left_of(self, rows: int) -> int:
        return 0 if self.sealed and rows <= self.rows else max(0, rows - self.rows)

    def state(self, rows: int) -> str:
        left = self.left_of(rows)
        if not left and self.sealed:
            return "done"
        return f"{100 * self.rows / rows:.0f} % done" if self.rows and rows else "to do"


def made(uri: str) -> Made:
    """The artifact at `uri`. Rows of an unfinished artifact are reckoned from a few of its receipts."""
    storage = open_storage(uri)
    if storage.exists(MANIFEST):
        manifest = open_artifact(uri).manifest
        return Made(manifest.rows, manifest.bytes, manifest.parts, manifest.seconds, sealed=True)
    plan = plan_of(uri)
    if not plan:
        return Made()
    parts = Parts(storage, kind_named(plan["kind"], uri), plan["parts"])
    done = parts.done()
    if not done:
        return Made()
    receipts = [parts.receipt(part) for part in done[:: -(-len(done) // RECEIPTS_READ)]]
    share = len(done) / len(receipts)
    return Made(
        round(share * sum(receipt.rows for receipt in receipts)),
        share * sum(receipt.bytes for receipt in receipts),
        len(done),
        share * sum(receipt.seconds for receipt in receipts),
    )
